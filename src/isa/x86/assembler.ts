import type * as Iced from "iced-x86";
import { joined } from "../../bytes/joined.js";

/** The module `iced-x86`, which is loaded by whoever needs it and handed down. */
export type IcedModule = typeof Iced;

/** An instruction form as iced-x86 names it: `Mov_r64_rm64`. It fixes the opcode and the sizes of the operands. */
export type CodeName = keyof typeof Iced.Code;

/** A register in lower case, without `%`. */
export type RegisterName = Lowercase<keyof typeof Iced.Register>;

/**
 * A memory operand. Its size is part of the instruction form.
 *
 * `label` is the address of a label: relative to the instruction pointer in 64-bit code, absolute in 32-bit code. It
 * stands alone, without registers.
 */
export type Memory =
  | {
      readonly base?: RegisterName;
      readonly index?: RegisterName;
      /** 1 unless said. */
      readonly scale?: 1 | 2 | 4 | 8;
      /** Added to the registers; without any register, or with `rip`, the address itself. 0 unless said. */
      readonly displacement?: number | bigint;
      /** Segment override: `fs`, `gs`. */
      readonly segment?: RegisterName;
    }
  | { readonly label: string };

/** A register, an immediate or memory; destination first, as iced-x86 and Intel's manuals have it. */
export type AsmOperand = RegisterName | number | bigint | Memory;

/** Mnemonics of {@link Assembler.branch}: they have a form for either word size, all but `call` in two lengths. */
export type Branch =
  | "jmp"
  | "call"
  | `j${"o" | "no" | "b" | "ae" | "e" | "ne" | "be" | "a" | "s" | "ns" | "p" | "np" | "l" | "ge" | "le" | "g"}`;

/** What {@link Assembler.assemble} makes. */
export interface Assembled {
  readonly bytes: Uint8Array;
  /** Address of every label. */
  readonly labels: ReadonlyMap<string, bigint>;
}

/** One part of a program; only what depends on addresses is worked out anew with each layout. */
type Item =
  | { readonly kind: "label"; readonly name: string }
  | { readonly kind: "data"; readonly bytes: Uint8Array }
  | { readonly kind: "align"; readonly alignment: number; readonly fill: number }
  | { readonly kind: "op"; readonly code: CodeName; readonly operands: readonly AsmOperand[] }
  | { readonly kind: "branch"; readonly mnemonic: Branch; readonly label: string };

/**
 * An x86 assembler: the encoder of iced-x86, and labels.
 *
 * ```ts
 * new Assembler(iced, 64)
 *   .op("Mov_r32_imm32", "ecx", 10)
 *   .label("again")
 *   .op("Dec_rm32", "ecx")
 *   .branch("jne", "again")
 *   .op("Retnq")
 *   .assemble(0n).bytes;
 * ```
 *
 * iced-x86 has a block encoder of its own, but it says nothing of where instructions ended up, knows neither data nor
 * alignment, and encodes a branch to an address that is no instruction without a word. Here each label has a name, one
 * place, and an address in the result.
 */
export class Assembler {
  readonly bits: 32 | 64;
  readonly #iced: IcedModule;
  readonly #items: Item[] = [];
  readonly #labels = new Set<string>();

  constructor(iced: IcedModule, bits: 32 | 64) {
    this.#iced = iced;
    this.bits = bits;
  }

  /** Names the place of what comes next. Throws `RangeError` where the name is taken. */
  label(name: string): this {
    if (this.#labels.has(name)) throw new RangeError(`label ${name} is defined twice`);
    this.#labels.add(name);
    this.#items.push({ kind: "label", name });
    return this;
  }

  /**
   * An instruction. What does not fit its form (an immediate too large, a register of another size, a form of the
   * other word size) is found by {@link Assembler.assemble}.
   */
  op(code: CodeName, ...operands: readonly AsmOperand[]): this {
    this.#items.push({ kind: "op", code, operands });
    return this;
  }

  /** A jump or call to a label, in the shortest form that reaches it. */
  branch(mnemonic: Branch, label: string): this {
    this.#items.push({ kind: "branch", mnemonic, label });
    return this;
  }

  /** Bytes as they are. */
  data(bytes: Uint8Array): this {
    this.#items.push({ kind: "data", bytes: bytes.slice() });
    return this;
  }

  /** Bytes of `fill` (`nop` unless said) up to an address that is a multiple of `alignment`. */
  align(alignment: number, fill = 0x90): this {
    if (!Number.isSafeInteger(alignment) || alignment < 1) throw new RangeError(`alignment is ${alignment}`);
    this.#items.push({ kind: "align", alignment, fill });
    return this;
  }

  /**
   * The machine code, to be run at `address`. Throws `RangeError` on a label that is nowhere defined and on a branch
   * or displacement that cannot reach, and passes on what iced-x86 says of an instruction that has no encoding.
   */
  assemble(address: bigint): Assembled {
    // Every branch begins short. A layout that leaves one out of reach makes it long for good, so that this ends after
    // as many layouts as there are branches at the most.
    const long = new Set<Item>();
    let last = this.#layout(address, long);
    for (;;) {
      const count = long.size;
      const next = this.#layout(address, long, last.labels);
      if (long.size === count && sameAddresses(last.labels, next.labels)) return next;
      last = next;
    }
  }

  /**
   * Encodes everything with the addresses that an earlier layout gave the labels; without one, with the start in place
   * of each, which gives all instructions their sizes. Adds to `long` the branches that do not reach otherwise.
   */
  #layout(start: bigint, long: Set<Item>, known?: ReadonlyMap<string, bigint>): Assembled {
    const labels = new Map<string, bigint>();
    const encoder = new this.#iced.Encoder(this.bits);
    const parts: Uint8Array[] = [];
    let at = start;
    const addressOf = (label: string): bigint => {
      if (!this.#labels.has(label)) throw new RangeError(`label ${label} is not defined`);
      return labels.get(label) ?? known?.get(label) ?? at;
    };
    try {
      for (const item of this.#items) {
        let part: Uint8Array;
        switch (item.kind) {
          case "label":
            labels.set(item.name, at);
            continue;
          case "data":
            part = item.bytes;
            break;
          case "align":
            part = new Uint8Array(padding(at, BigInt(item.alignment))).fill(item.fill);
            break;
          case "op":
            part = this.#encode(encoder, at, item.code, item.operands.length, () =>
              this.#instruction(item.code, item.operands, addressOf),
            );
            break;
          case "branch": {
            const target = addressOf(item.label);
            const distance = target - (at + 2n);
            if (item.mnemonic === "call" || distance < -128n || distance > 127n) long.add(item);
            const name = branchCode(item.mnemonic, long.has(item), this.bits);
            part = this.#encode(encoder, at, name, 1, () =>
              this.#iced.Instruction.createBranch(this.#iced.Code[name], target),
            );
          }
        }
        parts.push(part);
        at += BigInt(part.length);
      }
    } finally {
      encoder.free();
    }
    return { bytes: joined(parts), labels };
  }

  /** Makes an instruction, encodes it and frees it, as nothing else gives back memory of WebAssembly. */
  #encode(
    encoder: Iced.Encoder,
    at: bigint,
    name: CodeName,
    operands: number,
    make: () => Iced.Instruction,
  ): Uint8Array {
    let instruction: Iced.Instruction | undefined;
    try {
      instruction = make();
      // The encoder looks only at as many operands as the form has.
      if (instruction.opCount !== operands) throw new RangeError(`${operands} operands, not ${instruction.opCount}`);
      encoder.encode(instruction, at);
      return encoder.takeBuffer();
    } catch (cause) {
      throw new RangeError(`Cannot encode ${name}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    } finally {
      instruction?.free();
    }
  }

  #instruction(
    name: CodeName,
    operands: readonly AsmOperand[],
    addressOf: (label: string) => bigint,
  ): Iced.Instruction {
    const { Instruction, Code } = this.#iced;
    const code = Code[name];
    if (code === undefined) throw new RangeError(`there is no instruction form ${name}`);
    const reg = (index: number): Iced.Register => this.#register(operands[index] as RegisterName);
    const imm = (index: number): number => immediate32(operands[index] as number | bigint);
    const imm64 = (index: number): bigint => immediate64(operands[index] as number | bigint);
    // The constructor that is given the memory operand frees it.
    const mem = (index: number): Iced.MemoryOperand => this.#memory(operands[index] as Memory, addressOf);
    // Immediates beyond the signed range need the unsigned constructors: they would arrive as negative numbers, and
    // a form with a short immediate would take them for one that fits.
    switch (operands.map(shape).join(" ")) {
      case "":
        return Instruction.create(code);
      case "r":
        return Instruction.createReg(code, reg(0));
      case "m":
        return Instruction.createMem(code, mem(0));
      case "i":
        return imm(0) > MAX_I32 ? Instruction.createU32(code, imm(0)) : Instruction.createI32(code, imm(0));
      case "r r":
        return Instruction.createRegReg(code, reg(0), reg(1));
      case "r m":
        return Instruction.createRegMem(code, reg(0), mem(1));
      case "m r":
        return Instruction.createMemReg(code, mem(0), reg(1));
      case "r i":
        return imm64(1) > MAX_I64
          ? Instruction.createRegU64(code, reg(0), imm64(1))
          : Instruction.createRegI64(code, reg(0), imm64(1));
      case "m i":
        return imm(1) > MAX_I32
          ? Instruction.createMemU32(code, mem(0), imm(1))
          : Instruction.createMemI32(code, mem(0), imm(1));
      case "r r i":
        return imm(2) > MAX_I32
          ? Instruction.createRegRegU32(code, reg(0), reg(1), imm(2))
          : Instruction.createRegRegI32(code, reg(0), reg(1), imm(2));
      case "r m i":
        return imm(2) > MAX_I32
          ? Instruction.createRegMemU32(code, reg(0), mem(1), imm(2))
          : Instruction.createRegMemI32(code, reg(0), mem(1), imm(2));
      default:
        throw new RangeError(`${name} cannot be given these ${operands.length} operands`);
    }
  }

  #register(name: RegisterName): Iced.Register {
    const { Register } = this.#iced;
    const key = (name === "none" ? "None" : name.toUpperCase()) as keyof typeof Register;
    const register = Register[key];
    if (register === undefined) throw new RangeError(`there is no register ${name}`);
    return register;
  }

  #memory(memory: Memory, addressOf: (label: string) => bigint): Iced.MemoryOperand {
    const { MemoryOperand, Register } = this.#iced;
    const wide = this.bits / 8;
    if ("label" in memory) {
      const base = this.bits === 64 ? Register.RIP : Register.None;
      return new MemoryOperand(base, Register.None, 1, addressOf(memory.label), wide, false, Register.None);
    }
    const { base = "none", index = "none", scale = 1, segment = "none" } = memory;
    const displacement = BigInt(memory.displacement ?? 0);
    // 1 lets the encoder choose between one byte and four; without a register there is no one-byte form.
    const size = base === "none" && index === "none" ? wide : displacement === 0n ? 0 : 1;
    const reg = (name: RegisterName): Iced.Register => this.#register(name);
    return new MemoryOperand(reg(base), reg(index), scale, displacement, size, false, reg(segment));
  }
}

const MAX_I32 = 0x7fffffff;
const MAX_I64 = (1n << 63n) - 1n;

function shape(operand: AsmOperand): "r" | "i" | "m" {
  if (typeof operand === "string") return "r";
  return typeof operand === "object" ? "m" : "i";
}

function immediate32(value: number | bigint): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < -MAX_I32 - 1 || number > 0xffffffff) {
    throw new RangeError(`immediate ${value} does not fit 32 bits`);
  }
  return number;
}

function immediate64(value: number | bigint): bigint {
  const whole = BigInt(value);
  if (whole < -MAX_I64 - 1n || whole > 2n * MAX_I64 + 1n) {
    throw new RangeError(`immediate ${value} does not fit 64 bits`);
  }
  return whole;
}

/** Bytes from an address to the next multiple of `alignment`. */
function padding(address: bigint, alignment: bigint): number {
  return Number((alignment - (address % alignment)) % alignment);
}

/** `jne` → `Jne_rel8_64`. In 32-bit code the forms end in `_32`. */
function branchCode(mnemonic: Branch, long: boolean, bits: 32 | 64): CodeName {
  const name = `${mnemonic.charAt(0).toUpperCase()}${mnemonic.slice(1)}_rel${long ? 32 : 8}_${bits}`;
  return name as CodeName;
}

function sameAddresses(one: ReadonlyMap<string, bigint>, other: ReadonlyMap<string, bigint>): boolean {
  return [...one].every(([name, address]) => other.get(name) === address);
}
