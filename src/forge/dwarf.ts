import { Writer } from "../bytes/writer.js";

/** Numbers of the registers in i386 unwind tables. Source: System V psABI for i386, "DWARF Register Number Mapping". */
export const I386_REGISTERS = { eax: 0, ecx: 1, edx: 2, ebx: 3, esp: 4, ebp: 5, esi: 6, edi: 7, eip: 8 } as const;

/** A register of i386 code that unwind tables know. */
export type I386Register = keyof typeof I386_REGISTERS;

/** Numbers of the registers that x86-64 tables need here. Source: psABI for x86-64, "DWARF Register Number Mapping". */
export const X86_64_REGISTERS = { rbx: 3, rsp: 7, rip: 16 } as const;

/** A register of x86-64 code that unwind tables know. */
export type X86_64Register = keyof typeof X86_64_REGISTERS;

const DW_CFA_ADVANCE_LOC = 0x40;
const DW_CFA_ADVANCE_LOC1 = 0x02;
const DW_CFA_ADVANCE_LOC2 = 0x03;
const DW_CFA_OFFSET = 0x80;
const DW_CFA_RESTORE = 0xc0;
const DW_CFA_DEF_CFA = 0x0c;
const DW_CFA_DEF_CFA_OFFSET = 0x0e;
const DW_CFA_DEF_CFA_EXPRESSION = 0x0f;
const DW_CFA_EXPRESSION = 0x10;

const DW_OP_DEREF = 0x06;
const DW_OP_BREG0 = 0x70;

/** Call frame instructions, as they are written. Source: DWARF 5, 6.4.2 and 7.24. */
export class FrameInstructions {
  readonly #out = new Writer();

  /** The bytes so far. */
  get bytes(): Uint8Array {
    return this.#out.finish();
  }

  /** What follows is so from `count` bytes of code later on. Throws `RangeError` beyond two bytes' reach. */
  advance(count: number): this {
    if (count < 0 || count > 0xffff) throw new RangeError(`cannot advance by ${count} bytes of code`);
    if (count < 0x40) this.#out.u8(DW_CFA_ADVANCE_LOC | count);
    else if (count <= 0xff) this.#out.u8(DW_CFA_ADVANCE_LOC1).u8(count);
    else this.#out.u8(DW_CFA_ADVANCE_LOC2).u16(count);
    return this;
  }

  /** The frame's address is a register plus `offset`. */
  cfa(register: number, offset: number): this {
    this.#out.u8(DW_CFA_DEF_CFA).raw(unsigned(register)).raw(unsigned(offset));
    return this;
  }

  /** The frame's address is `offset` from the register that it was from before. */
  cfaOffset(offset: number): this {
    this.#out.u8(DW_CFA_DEF_CFA_OFFSET).raw(unsigned(offset));
    return this;
  }

  /** A register was saved `words` words below the frame's address. */
  saved(register: number, words: number): this {
    this.#out.u8(DW_CFA_OFFSET | register).raw(unsigned(words));
    return this;
  }

  /** A register has its caller's value again. */
  restored(register: number): this {
    this.#out.u8(DW_CFA_RESTORE | register);
    return this;
  }

  /** The frame's address is what lies in memory at `offset` from `base`. */
  cfaInMemory(base: number, offset: number): this {
    return this.#block(DW_CFA_DEF_CFA_EXPRESSION, [], [...baseOffset(base, offset), DW_OP_DEREF]);
  }

  /** A register's value lies in memory at `offset` from `base`. */
  savedInMemory(register: number, base: number, offset: number): this {
    return this.#block(DW_CFA_EXPRESSION, unsigned(register), baseOffset(base, offset));
  }

  #block(opcode: number, operand: ArrayLike<number>, expression: readonly number[]): this {
    this.#out
      .u8(opcode)
      .raw(Uint8Array.from(operand))
      .raw(unsigned(expression.length))
      .raw(Uint8Array.from(expression));
    return this;
  }

  /** Instructions that were written elsewhere. */
  append(bytes: Uint8Array): this {
    this.#out.raw(bytes);
    return this;
  }
}

function baseOffset(base: number, offset: number): number[] {
  return [DW_OP_BREG0 + base, ...signed(offset)];
}

/** ULEB128. */
export function unsigned(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return Uint8Array.from(bytes);
}

/** SLEB128. */
export function signed(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    // The last byte's bit 6 is the sign.
    const last = low & 0x40 ? rest === -1 : rest === 0;
    bytes.push(last ? low : low | 0x80);
    if (last) return Uint8Array.from(bytes);
  }
}
