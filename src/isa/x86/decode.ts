import type { Decoder, Flow, Instruction, MemoryOperand, Operand } from "../instruction.js";
import { gnuMnemonic, gnuOperandOrder, gnuOperands, gnuText, isUnknownToGnu } from "./gnu.js";
import { FlowControl, type Iced, type IcedDecoder, OpKind } from "./iced.js";
import {
  type Encoding,
  FWAIT,
  idleRex,
  invalidSize,
  isX87,
  MAX_LENGTH,
  modrmOf,
  type Prefix,
  prefixName,
  scanPrefixes,
  sibOf,
} from "./prefixes.js";

type Bits = 16 | 32 | 64;

/** Bits of each kind of immediate, as written; those that are sign-extended have the width of their destination. */
const IMMEDIATE_BITS: ReadonlyMap<number, number> = new Map<number, number>([
  [OpKind.immediate8, 8],
  [OpKind.immediate8Second, 8],
  [OpKind.immediate16, 16],
  [OpKind.immediate32, 32],
  [OpKind.immediate64, 64],
  [OpKind.immediate8to16, 16],
  [OpKind.immediate8to32, 32],
  [OpKind.immediate8to64, 64],
  [OpKind.immediate32to64, 64],
]);

/** Registers that the operands of string instructions address through. */
const STRING_BASE: ReadonlyMap<number, string> = new Map<number, string>([
  [OpKind.memorySegSi, "si"],
  [OpKind.memorySegEsi, "esi"],
  [OpKind.memorySegRsi, "rsi"],
  [OpKind.memorySegDi, "di"],
  [OpKind.memorySegEdi, "edi"],
  [OpKind.memorySegRdi, "rdi"],
  [OpKind.memoryEsDi, "di"],
  [OpKind.memoryEsEdi, "edi"],
  [OpKind.memoryEsRdi, "rdi"],
]);

/** The x87 instructions that have a form without `fwait` and one with it. */
const NO_WAIT = /^fn(?=(clex|init|save|stcw|stenv|stsw)$)/;

const ROUNDING = ["", "rn", "rd", "ru", "rz"];

/** First byte of an instruction of AVX-512, the only ones with masks, rounding and broadcasts (`bound` has it too). */
const EVEX = 0x62;

/** Opcodes of string instructions that only write through `%es`, which no prefix changes. */
const STRING_DESTINATION: ReadonlySet<number> = new Set([0x6c, 0x6d, 0xaa, 0xab, 0xae, 0xaf]);
/** Opcodes of those (and of `xlat`) that read through a segment that a prefix may change, and GNU always writes. */
const STRING_SOURCE: ReadonlySet<number> = new Set([0x6e, 0x6f, 0xa4, 0xa5, 0xa6, 0xa7, 0xac, 0xad, 0xd7]);

/** The hint that a segment prefix gives a conditional jump: not taken, taken. */
function hintOf(bytes: Uint8Array, { prefixes, opcode }: Encoding): string {
  const first = bytes[opcode] ?? 0;
  const conditional = first >> 4 === 7 || (first === 0x0f && (bytes[opcode + 1] ?? 0) >> 4 === 8);
  const prefix = conditional && prefixes.findLast(({ kind }) => kind === "segment");
  return prefix && prefix.byte === 0x2e ? ",pn" : prefix && prefix.byte === 0x3e ? ",pt" : "";
}

/** Whether the instruction is a near jump, call or return, of which an F2 prefix makes one that checks its bounds. */
function checksBounds(bytes: Uint8Array, opcode: number): boolean {
  const [first = 0, second = 0] = bytes.subarray(opcode, opcode + 2);
  if (first >> 4 === 7 || [0xc2, 0xc3, 0xe8, 0xe9, 0xeb].includes(first)) return true;
  if (first === 0xff) return [2, 4].includes((second >> 3) & 7);
  return first === 0x0f && second >> 4 === 8;
}

/** The size that GNU adds to a no-operation on memory. */
function nopSuffix([operand]: readonly Operand[]): string {
  return operand?.kind === "memory" ? (SIZE_SUFFIX.get(operand.size) ?? "") : "";
}

const SIZE_SUFFIX: ReadonlyMap<number, string> = new Map([
  [2, "w"],
  [4, "l"],
  [8, "q"],
]);

/** Instructions that enter the kernel. */
const GATES: ReadonlySet<string> = new Set(["int", "sysenter", "syscall"]);

function flowOf(control: number, mnemonic: string, direct: boolean): Flow {
  if (GATES.has(mnemonic)) return "gate";
  if (mnemonic === "hlt") return "stop";
  switch (control) {
    case FlowControl.unconditionalBranch:
      return direct ? "jump" : "indirect-jump";
    case FlowControl.indirectBranch:
      return "indirect-jump";
    case FlowControl.conditionalBranch:
      return "branch";
    case FlowControl.return:
      return "return";
    case FlowControl.call:
      return direct ? "call" : "next";
    case FlowControl.indirectCall:
      return "indirect-call";
    // int3 and int1 call a debugger, where there is one.
    case FlowControl.interrupt:
      return mnemonic === "into" ? "next" : "stop";
    case FlowControl.transaction:
      return direct ? "branch" : "next";
    case FlowControl.exception:
      return "stop";
    default:
      return "next";
  }
}

/** Decodes one piece of code. */
class Disassembly {
  readonly #iced: Iced;
  readonly #bits: Bits;
  readonly #code: Uint8Array;
  readonly #address: bigint;
  readonly #source: IcedDecoder;
  readonly #useful: Map<number, boolean>;

  constructor(iced: Iced, bits: Bits, code: Uint8Array, address: bigint, useful: Map<number, boolean>) {
    this.#iced = iced;
    this.#bits = bits;
    this.#code = code;
    this.#address = address;
    this.#source = iced.decoder(bits, code);
    this.#useful = useful;
  }

  free(): void {
    this.#source.free();
  }

  at(start: number): Instruction {
    return this.#waiting(start) ?? this.#single(start);
  }

  /** `fwait` and the x87 instruction behind it, which GNU takes as one: `fstcw` is `fwait` and `fnstcw`. */
  #waiting(start: number): Instruction | undefined {
    if (this.#code[start] !== FWAIT) return undefined;
    const { opcode } = scanPrefixes(this.#code, start + 1, this.#bits);
    if (!isX87(this.#code[start + 1 + opcode] ?? 0)) return undefined;
    const waited = this.#single(start + 1);
    const mnemonic = waited.mnemonic.replace(NO_WAIT, "f");
    const prefixes = mnemonic === waited.mnemonic ? ["fwait", ...waited.prefixes] : waited.prefixes;
    const bytes = this.#code.subarray(start, start + 1 + waited.bytes.length);
    return { ...waited, address: this.#addressAt(start), bytes, mnemonic, prefixes };
  }

  #addressAt(start: number): bigint {
    return BigInt.asUintN(this.#bits === 64 ? 64 : 32, this.#address + BigInt(start));
  }

  #single(start: number): Instruction {
    const address = this.#addressAt(start);
    this.#source.decodeAt(start, address);
    const encoding = scanPrefixes(this.#code, start, this.#bits);
    const idle = idleRex(encoding, this.#code[start + encoding.opcode] ?? 0);
    if (idle !== undefined) {
      const names = encoding.prefixes.slice(0, idle + 1).map((prefix) => prefixName(prefix, this.#bits));
      const bytes = this.#code.subarray(start, start + names.length);
      return { address, bytes, mnemonic: names.join(" "), prefixes: [], operands: [], flow: "next" };
    }
    if (this.#source.code === 0) return this.#invalid(start, address, encoding);

    const source = this.#source;
    const bytes = this.#code.subarray(start, start + source.length);
    const wide = encoding.prefixes.some(({ kind, byte }) => kind === "rex" && byte & 8);
    const mnemonic =
      wide && source.opCount === 0 && bytes.at(-1) === 0x90
        ? "nop"
        : gnuMnemonic(source.mnemonic) + hintOf(bytes, encoding);
    const opcode = bytes[encoding.opcode] ?? 0;
    if (isUnknownToGnu(mnemonic, opcode, bytes[encoding.opcode + 1] ?? 0))
      return this.#invalid(start, address, encoding);
    const operands = this.#operands(mnemonic, bytes, address, encoding);
    const target = operands.find((operand) => operand.kind === "target")?.address;
    const flow = flowOf(source.flowControl, mnemonic, target !== undefined);
    return {
      address,
      bytes,
      mnemonic: mnemonic === "nop" ? mnemonic + nopSuffix(operands) : mnemonic,
      prefixes: this.#prefixes({ address, bytes, mnemonic, operands, flow }, encoding),
      operands,
      flow,
      ...(target !== undefined && { target }),
    };
  }

  /** What objdump makes of bytes that are no instruction: the prefixes and one byte more are `(bad)`. */
  #invalid(start: number, address: bigint, encoding: Encoding): Instruction {
    const { prefixes, opcode } = encoding;
    const rest = this.#code.length - start;
    if (this.#source.truncated && rest < MAX_LENGTH) {
      const bytes = this.#code.subarray(start, start + 1);
      const [first] = prefixes;
      const name = first && prefixName(first, this.#bits);
      const value = BigInt(bytes[0] as number);
      return name === undefined
        ? { address, bytes, mnemonic: ".byte", prefixes: [], operands: [{ kind: "immediate", value }], flow: "invalid" }
        : { address, bytes, mnemonic: name, prefixes: [], operands: [], flow: "invalid" };
    }
    const size = invalidSize(this.#code, encoding, start, this.#bits);
    const bytes = this.#code.subarray(start, start + Math.min(opcode + size, MAX_LENGTH));
    const names = prefixes.map((prefix) => prefixName(prefix, this.#bits));
    return { address, bytes, mnemonic: "(bad)", prefixes: names, operands: [], flow: "invalid" };
  }

  #operands(mnemonic: string, bytes: Uint8Array, address: bigint, encoding: Encoding): Operand[] {
    const opcode = bytes[encoding.opcode] ?? 0;
    const order = gnuOperandOrder(mnemonic, opcode, this.#source.opCount, this.#source.operandOrder());
    const decoded = order.flatMap((operand) => this.#operand(operand, bytes, address, encoding));
    const operands = gnuOperands(mnemonic, opcode, decoded, this.#addressBits(encoding));
    const rounding = opcode === EVEX ? this.#rounding() : "";
    if (rounding === "") return operands;
    // Stands where the registers begin.
    const immediates = operands.filter(({ kind }) => kind === "immediate");
    return [...immediates, { kind: "modifier", text: rounding }, ...operands.slice(immediates.length)];
  }

  /** The rounding that AVX-512 gives an instruction on registers. */
  #rounding(): string {
    const rounding = this.#source.roundingControl;
    if (rounding > 0) return `{${ROUNDING[rounding]}-sae}`;
    return this.#source.suppressesExceptions ? "{sae}" : "";
  }

  #operand(operand: number, bytes: Uint8Array, address: bigint, encoding: Encoding): Operand[] {
    const source = this.#source;
    const kind = source.opKind(operand);
    const immediateBits = IMMEDIATE_BITS.get(kind);
    if (immediateBits !== undefined) {
      return [{ kind: "immediate", value: BigInt.asUintN(immediateBits, source.immediate(operand)) }];
    }
    switch (kind) {
      case OpKind.register: {
        const decoration = operand === 0 && bytes[encoding.opcode] === EVEX ? this.#mask() : "";
        const name = this.#iced.registerName(source.opRegister(operand));
        return [{ kind: "register", name, ...(decoration !== "" && { decoration }) }];
      }
      case OpKind.nearBranch16:
      case OpKind.nearBranch32:
      case OpKind.nearBranch64:
        return [{ kind: "target", address: source.nearBranchTarget }];
      case OpKind.farBranch16:
      case OpKind.farBranch32:
        return [
          { kind: "immediate", value: BigInt(source.farBranchSelector) },
          { kind: "immediate", value: BigInt(source.farBranchOffset) },
        ];
      case OpKind.memory:
        return [this.#memory(operand, bytes, address, encoding)];
      default: {
        const segment = kind >= OpKind.memoryEsDi ? "es" : (this.#override(encoding) ?? "ds");
        const base = STRING_BASE.get(kind) as string;
        const size = source.memorySize;
        return [{ kind: "memory", segment, base, scale: 1, displacement: 0n, displacementSize: 0, size }];
      }
    }
  }

  /** Bits with which memory is addressed. */
  #addressBits({ prefixes }: Encoding): 16 | 32 | 64 {
    const resized = prefixes.some(({ kind }) => kind === "address-size");
    if (this.#bits === 64) return resized ? 32 : 64;
    return resized === (this.#bits === 32) ? 16 : 32;
  }

  /** The segment that a prefix names; in 64-bit code only `fs` and `gs` are left. */
  #override({ prefixes }: Encoding): string | undefined {
    const prefix = prefixes.findLast(({ kind }) => kind === "segment");
    return prefix && (this.#bits !== 64 || prefix.byte >= 0x64) ? prefixName(prefix, this.#bits) : undefined;
  }

  /** The mask that AVX-512 puts on a destination. */
  #mask(): string {
    const mask = this.#source.opMask;
    return `${mask > 0 ? `{%${this.#iced.registerName(mask)}}` : ""}${this.#source.zeroingMasking ? "{z}" : ""}`;
  }

  #memory(operand: number, bytes: Uint8Array, address: bigint, encoding: Encoding): MemoryOperand {
    const { prefixes, opcode } = encoding;
    const source = this.#source;
    const name = (register: number) => (register === 0 ? undefined : this.#iced.registerName(register));
    const base = name(source.memoryBase);
    const relative = base === "rip" || base === "eip";
    let index = name(source.memoryIndex);
    let scale = source.memoryIndexScale;
    let displacement = source.memoryDisplacement;

    const resized = prefixes.some(({ kind }) => kind === "address-size");
    const addressBits = this.#addressBits(encoding);
    const sib = addressBits === 16 || relative ? undefined : sibOf(bytes, opcode, this.#bits);
    if (sib !== undefined && index === undefined && ((sib & 7) !== 4 || sib >> 6 !== 0)) {
      // GNU names the index that is none wherever the SIB byte itself would otherwise not be seen.
      if (base !== undefined || this.#bits !== 64 || resized || sib >> 6 !== 0) {
        index = addressBits === 64 ? "riz" : "eiz";
        scale = 1 << (sib >> 6);
      }
    }

    let fixed: bigint | undefined;
    if (relative) {
      fixed = BigInt.asUintN(addressBits, displacement);
      displacement = BigInt.asIntN(32, displacement - address - BigInt(bytes.length));
    } else {
      const alone = base === undefined && index === undefined;
      displacement = alone ? BigInt.asUintN(addressBits, displacement) : BigInt.asIntN(addressBits, displacement);
    }
    const segment = this.#override(encoding);
    if (!relative && base === undefined && source.memoryIndex === 0 && segment === undefined) {
      fixed = BigInt.asUintN(addressBits, displacement);
    }
    const decoration = bytes[opcode] === EVEX ? `${operand === 0 ? this.#mask() : ""}${source.broadcast}` : "";
    return {
      kind: "memory",
      ...(segment !== undefined && { segment }),
      ...(base !== undefined && { base }),
      ...(index !== undefined && { index }),
      scale,
      displacement,
      displacementSize: source.memoryDisplSize,
      ...(fixed !== undefined && { address: fixed }),
      size: source.memorySize,
      ...(decoration !== "" && { decoration }),
    };
  }

  /** The prefixes that objdump writes, in the order of their bytes: those without effect, and those with a name. */
  #prefixes(instruction: Omit<Instruction, "prefixes">, encoding: Encoding): string[] {
    if (encoding.prefixes.length === 0) return [];
    const last = new Map(encoding.prefixes.map((prefix) => [prefix.kind, prefix]));
    const names: string[] = [];
    for (const prefix of encoding.prefixes) {
      const name =
        last.get(prefix.kind) === prefix ? this.#nameOf(prefix, instruction, encoding) : prefixName(prefix, this.#bits);
      if (name !== undefined) names.push(name);
    }
    return names;
  }

  #nameOf(prefix: Prefix, instruction: Omit<Instruction, "prefixes">, encoding: Encoding): string | undefined {
    const { bytes, address, mnemonic, operands, flow } = instruction;
    const source = this.#source;
    const name = prefixName(prefix, this.#bits);
    const opcode = bytes[encoding.opcode] ?? 0;
    switch (prefix.kind) {
      case "segment": {
        if (prefix.byte === 0x3e && (flow === "indirect-jump" || flow === "indirect-call")) return "notrack";
        if (mnemonic.includes(",")) return undefined;
        if (STRING_DESTINATION.has(opcode)) return name;
        if (STRING_SOURCE.has(opcode)) return undefined;
        const used = operands.some((operand) => operand.kind === "memory");
        return used && (this.#bits !== 64 || prefix.byte >= 0x64) ? undefined : name;
      }
      case "rep":
        if (source.hasXrelease) return "xrelease";
        if (!source.hasRepe) return undefined;
        // The string instructions that compare (cmps, scas) repeat while equal; the others just repeat.
        return (opcode >= 0x6c && opcode <= 0x6f) || [0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad].includes(opcode)
          ? "rep"
          : name;
      case "repne":
        if (source.hasXacquire) return "xacquire";
        if (!source.hasRepne) return undefined;
        return checksBounds(bytes, encoding.opcode) ? "bnd" : name;
      case "address-size":
        // GNU does not count the address that an opcode contains as using the prefix.
        if (opcode >= 0xa0 && opcode <= 0xa3) return name;
        return this.#matters(prefix, [], bytes, address, encoding) ? undefined : name;
      case "operand-size":
        return this.#matters(prefix, [], bytes, address, encoding) ? undefined : name;
      case "rex": {
        if (prefix.at !== encoding.opcode - 1) return name;
        const bits = [1, 2, 4, 8].filter((bit) => prefix.byte & bit).map((bit) => prefix.byte & ~bit);
        const changes = bits.length > 0 ? bits.map((byte) => [byte]) : [[]];
        return changes.every((change) => this.#matters(prefix, change, bytes, address, encoding)) ? undefined : name;
      }
      default:
        return name;
    }
  }

  /** Whether the instruction is another one with `replacement` in the place of a prefix byte. */
  #matters(
    prefix: Prefix,
    replacement: readonly number[],
    bytes: Uint8Array,
    address: bigint,
    { opcode, prefixes }: Encoding,
  ): boolean {
    const modrm = modrmOf(bytes, opcode, this.#bits);
    // The opcode form, the prefix, what takes its place and the form of the operands decide.
    const others = prefixes.some(({ kind, byte }) => kind === "rex" && byte & 8) ? 1 : 0;
    const form = (this.#source.code * 256 + modrm) * 2 + others;
    const key = (form * 256 + prefix.byte) * 257 + (replacement[0] ?? 256);
    const known = this.#useful.get(key);
    if (known !== undefined) return known;

    // The others of its kind have no effect now, but would have in its absence.
    const rest = prefixes.filter(({ kind, at }) => kind !== prefix.kind || at === prefix.at);
    const before = rest.flatMap(({ at, byte }) => (at === prefix.at ? replacement : [byte]));
    const changed = [...before, ...bytes.subarray(opcode)];
    const probe = this.#iced.decoder(this.#bits, Uint8Array.from(changed));
    try {
      // At the address that keeps the next instruction, and with it all relative addresses, where they are.
      probe.decodeAt(0, address + BigInt(bytes.length - changed.length));
      const matters = !probe.isSameAs(this.#source);
      this.#useful.set(key, matters);
      return matters;
    } finally {
      probe.free();
    }
  }
}

/** A decoder of x86 code of a word size, on a module that `loadIced` has loaded. Its text is GNU objdump's. */
export function createX86Decoder(iced: Iced, bits: 16 | 32 | 64): Decoder {
  const useful = new Map<number, boolean>();
  return {
    decode(bytes, address, goOn) {
      const disassembly = new Disassembly(iced, bits, bytes, address, useful);
      try {
        const instructions: Instruction[] = [];
        for (let at = 0; at < bytes.length; ) {
          const instruction = disassembly.at(at);
          instructions.push(instruction);
          if (goOn && !goOn(instruction)) break;
          at += instruction.bytes.length;
        }
        return instructions;
      } finally {
        disassembly.free();
      }
    },
    text(instruction, symbolize) {
      return gnuText(instruction, symbolize);
    },
  };
}
