import { hex } from "../../bytes/hex.js";
import type { Instruction, MemoryOperand, Operand } from "../instruction.js";
import { isX87 } from "./prefixes.js";

/** Width to which objdump fills prefixes and mnemonic before the operands. */
const MNEMONIC_WIDTH = 6;

/** GNU calls the debug registers `%db0` and so on. */
function registerText(name: string): string {
  return `%${name.replace(/^dr(?=\d)/, "db")}`;
}

/** iced writes the size even where GNU takes it as understood: the word size of the code, or 32 bits for far ones. */
const UNDERSTOOD_SIZE = /^((push|pop|call|jmp)[lq]|(lret|iret|lcall|ljmp)l)$/;

/** Instructions whose `%dx` is the number of a port. */
const PORT_INSTRUCTION = /^(in|out|ins[bwl]?|outs[bwl]?)$/;

/** Instructions that only old coprocessors had, which GNU says with the name. */
const OBSOLETE: ReadonlyMap<string, string> = new Map([
  ["fneni", "fneni(8087 only)"],
  ["fndisi", "fndisi(8087 only)"],
  ["fnsetpm", "fnsetpm(287 only)"],
  ["frstpm", "frstpm(287 only)"],
]);

/** Instructions of which GNU writes the registers that they imply; `address` is `%rax` as wide as an address. */
const IMPLIED_REGISTERS: ReadonlyMap<string, readonly string[]> = new Map([
  ["monitor", ["address", "ecx", "edx"]],
  ["monitorx", ["address", "ecx", "edx"]],
  ["mwait", ["eax", "ecx"]],
  ["mwaitx", ["eax", "ecx", "ebx"]],
]);

/** Instructions (but not their VEX forms) that take a mask from `%xmm0` without saying so. */
const IMPLIED_XMM0 = /^(sha256rnds2|blendvp[sd]|pblendvb)$/;

/** GNU's mnemonic for one of iced's. `sal` is the undocumented twin of `shl`. */
export function gnuMnemonic(mnemonic: string): string {
  const obsolete = OBSOLETE.get(mnemonic);
  if (obsolete !== undefined) return obsolete;
  if (UNDERSTOOD_SIZE.test(mnemonic)) return mnemonic.slice(0, -1);
  return mnemonic.replace(/^sal(?=[bwlq]?$)/, "shl");
}

/** Instructions that iced knows and GNU does not: undocumented ones, and twins of x87 instructions. */
export function isUnknownToGnu(mnemonic: string, opcode: number, modrm: number): boolean {
  if (mnemonic === "salc") return true;
  const group = modrm & 0xf8;
  switch (opcode) {
    case 0xd9:
      return group === 0xd8;
    case 0xdc:
      return group === 0xd0 || group === 0xd8;
    case 0xdd:
      return group === 0xc8;
    case 0xde:
      return group === 0xd0;
    case 0xdf:
      return group === 0xc8 || group === 0xd0 || group === 0xd8;
    default:
      return false;
  }
}

/**
 * The order in which GNU writes the operands, by their numbers, from the order in which iced does.
 *
 * iced leaves out operands that an assembler would fill in (`fxch`, `imul` by two operands, shifts by the other form of
 * the opcode); GNU writes what the encoding says.
 */
export function gnuOperandOrder(
  mnemonic: string,
  opcode: number,
  count: number,
  order: readonly (number | undefined)[],
): number[] {
  const encoded = Array.from({ length: count }, (_, i) => count - 1 - i);
  if (/^(fxch|fu?comp?)$/.test(mnemonic) && count === 2) return [1];
  if (mnemonic === "bound" || mnemonic === "enter") return encoded.reverse();
  // Of the no-operations that Intel reserved, iced gives the register field too.
  if (mnemonic === "nop" && count === 2) return [0];
  if (mnemonic === "imul" || isX87(opcode)) return encoded;
  if (opcode === 0xd0 || opcode === 0xd1) return [0];
  return order.filter((operand) => operand !== undefined);
}

/**
 * GNU's operands where they differ from those that iced decodes.
 *
 * `66 90` is an exchange of `%ax` with itself, `arpl` compares 16 bits, `xlat` adds `%al` to an address without saying
 * so. `%st` is the top of the x87 stack where the opcode implies it, `%st(0)` where it was encoded.
 */
export function gnuOperands(
  mnemonic: string,
  opcode: number,
  operands: Operand[],
  addressBits: 16 | 32 | 64,
): Operand[] {
  const monitored = IMPLIED_REGISTERS.get(mnemonic);
  if (monitored !== undefined) {
    const address = { 16: "ax", 32: "eax", 64: "rax" }[addressBits];
    return monitored.map((name) => ({ kind: "register", name: name === "address" ? address : name }));
  }
  if (mnemonic === "xchg" && operands.length === 0) {
    const ax: Operand = { kind: "register", name: "ax" };
    return [ax, ax];
  }
  if (mnemonic === "arpl") {
    return operands.map((operand) =>
      operand.kind === "register" ? { ...operand, name: operand.name.replace(/^e/, "") } : operand,
    );
  }
  if (mnemonic === "xlat") {
    return operands.map((operand) => {
      if (operand.kind !== "memory") return operand;
      const { index: _, segment = "ds", ...rest } = operand;
      return { ...rest, segment };
    });
  }
  if (IMPLIED_XMM0.test(mnemonic)) return [{ kind: "register", name: "xmm0" }, ...operands];
  if (isX87(opcode) && operands.length === 2) {
    const implied = opcode === 0xdc || opcode === 0xde ? 0 : 1;
    return operands.map((operand, i) => (i === implied ? { kind: "register", name: "st" } : operand));
  }
  return operands;
}

function memoryText(operand: MemoryOperand): string {
  const { segment, base, index, scale, displacement, displacementSize, decoration = "" } = operand;
  let text = segment === undefined ? "" : `${registerText(segment)}:`;
  if (base === undefined && index === undefined) return `${text}${hex(displacement)}${decoration}`;
  if (displacementSize > 0) text += hex(displacement);
  text += "(";
  if (base !== undefined) text += registerText(base);
  if (index !== undefined) text += `,${registerText(index)}`;
  // The pairs of registers of 16-bit addressing have no scale.
  if (index !== undefined && index !== "si" && index !== "di") text += `,${scale}`;
  return `${text})${decoration}`;
}

/**
 * The text of an instruction as GNU objdump 2.40 writes it, in AT&T syntax.
 *
 * `symbolize` gives what stands in angle brackets behind an address; where it gives nothing, the address is written as
 * objdump writes it in a file without symbols.
 */
export function gnuText(
  instruction: Instruction,
  symbolize: (address: bigint) => string | undefined = () => undefined,
): string {
  const { prefixes, mnemonic, operands, flow } = instruction;
  const head = [...prefixes, mnemonic].join(" ");
  if (operands.length === 0) return head;
  const [first] = operands;
  if (mnemonic === ".byte" && first?.kind === "immediate") return `${head} ${hex(first.value)}`;

  const address = (value: bigint) => {
    const symbol = symbolize(value);
    return symbol === undefined ? hex(value) : `${value.toString(16)} <${symbol}>`;
  };
  const operandText = (operand: Operand): string => {
    switch (operand.kind) {
      case "register":
        if (PORT_INSTRUCTION.test(mnemonic) && operand.name === "dx") return "(%dx)";
        return `${registerText(operand.name)}${operand.decoration ?? ""}`;
      case "immediate":
        return `$${hex(operand.value)}`;
      case "target":
        return address(operand.address);
      case "modifier":
        return operand.text;
      case "memory":
        return memoryText(operand);
    }
  };
  const indirect = (flow === "indirect-jump" || flow === "indirect-call") && operands.length === 1 ? "*" : "";
  let text = `${head.padEnd(MNEMONIC_WIDTH)} ${indirect}${operands.map(operandText).join(",")}`;
  for (const operand of operands) {
    if (operand.kind === "memory" && (operand.base === "rip" || operand.base === "eip")) {
      text += `        # ${address(operand.address ?? 0n)}`;
    }
  }
  return text;
}
