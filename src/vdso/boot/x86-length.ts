/** A field of an instruction: an immediate or a displacement. */
export interface Field {
  /** In bytes from the start of the instruction. */
  readonly at: number;
  readonly size: number;
}

/** What the kernel's patching looks at in an instruction. */
export interface X86Shape {
  readonly length: number;
  /** First byte of the opcode. */
  readonly opcode: number;
  /** Second byte of the opcode, behind 0x0f. */
  readonly second: number | undefined;
  /** First prefix; 0xf3 makes `nop` a `pause`. */
  readonly prefix: number | undefined;
  readonly immediate: Field | undefined;
  /** A displacement that is relative to the next instruction (64-bit code only). */
  readonly relative: Field | undefined;
}

const MAX_LENGTH = 15;

/** Expands `00-03 62` to a set of bytes. */
function bytesIn(text: string): ReadonlySet<number> {
  const set = new Set<number>();
  for (const part of text.split(" ")) {
    const [from, to = from] = part.split("-").map((digits) => Number.parseInt(digits, 16)) as [number, number?];
    for (let byte = from; byte <= to; byte++) set.add(byte);
  }
  return set;
}

const PREFIXES = bytesIn("26 2e 36 3e 64-67 f0 f2 f3");
const MODRM = bytesIn(
  "00-03 08-0b 10-13 18-1b 20-23 28-2b 30-33 38-3b 62-63 69 6b 80-8f c0-c1 c4-c7 d0-d3 d8-df f6-f7 fe-ff",
);
const IMMEDIATE_8 = bytesIn("04 0c 14 1c 24 2c 34 3c 6a-6b 70-80 82-83 a8 b0-b7 c0-c1 c6 cd d4-d5 e0-e7 eb");
const IMMEDIATE_Z = bytesIn("05 0d 15 1d 25 2d 35 3d 68-69 81 a9 b8-bf c7 e8-e9");
const NOT_IN_64 = bytesIn("06-07 0e 16-17 1e-1f 27 2f 37 3f 60-61 82 9a ce d4-d6 ea");
const SECOND_WITHOUT_MODRM = bytesIn("05-09 0b 0e 30-37 77 80-8f a0-a2 a8-aa c8-cf");
const SECOND_IMMEDIATE_8 = bytesIn("0f 70-73 a4 ac ba c2 c4-c6");

/**
 * Length and fields of the x86 instruction at an offset; `undefined` where the bytes end before it does or it is none.
 *
 * The kernel decodes what it patches as code of its own width, even in the image for 32-bit programs; so does this.
 * Source of the encoding: Intel's manual, volume 2, appendix A.
 */
export function x86Shape(bytes: Uint8Array, start: number, width: 32 | 64): X86Shape | undefined {
  const end = Math.min(bytes.length, start + MAX_LENGTH);
  let at = start;
  let operand16 = false;
  let address16 = false;
  let wide = false;
  while (at < end && PREFIXES.has(bytes[at] as number)) {
    operand16 ||= bytes[at] === 0x66;
    address16 ||= bytes[at] === 0x67;
    at += 1;
  }
  const prefix = at > start ? bytes[start] : undefined;
  if (width === 64 && at < end && ((bytes[at] as number) & 0xf0) === 0x40) {
    wide = ((bytes[at] as number) & 8) !== 0;
    at += 1;
  }
  if (at >= end) return undefined;
  const opcode = bytes[at] as number;
  at += 1;
  if (width === 64 && NOT_IN_64.has(opcode)) return undefined;

  let second: number | undefined;
  let modrm: boolean;
  let immediateSize = 0;
  const z = operand16 ? 2 : 4;
  const vector = (opcode === 0xc4 || opcode === 0xc5 || opcode === 0x62) && (width === 64 || (bytes[at] ?? 0) >= 0xc0);
  if (vector) {
    const payload = opcode === 0xc5 ? 1 : opcode === 0xc4 ? 2 : 3;
    const map = opcode === 0xc5 ? 1 : (bytes[at] ?? 0) & (opcode === 0xc4 ? 0x1f : 7);
    at += payload + 1;
    if (at > end) return undefined;
    second = bytes[at - 1];
    modrm = !(map === 1 && second === 0x77);
    immediateSize = map === 3 || (map === 1 && SECOND_IMMEDIATE_8.has(second as number)) ? 1 : 0;
  } else if (opcode === 0x0f) {
    if (at >= end) return undefined;
    second = bytes[at] as number;
    at += 1;
    modrm = !SECOND_WITHOUT_MODRM.has(second);
    if (second === 0x38 || second === 0x3a) {
      at += 1;
      immediateSize = second === 0x3a ? 1 : 0;
    } else if (SECOND_IMMEDIATE_8.has(second)) immediateSize = 1;
    else if (second >= 0x80 && second <= 0x8f) immediateSize = width === 64 ? 4 : z;
  } else {
    modrm = MODRM.has(opcode);
    if (IMMEDIATE_8.has(opcode)) immediateSize = 1;
    else if (opcode === 0xe8 || opcode === 0xe9) immediateSize = width === 64 ? 4 : z;
    else if (opcode >= 0xb8 && opcode <= 0xbf && wide) immediateSize = 8;
    else if (IMMEDIATE_Z.has(opcode)) immediateSize = z;
    else if (opcode === 0xc2 || opcode === 0xca) immediateSize = 2;
    else if (opcode === 0xc8) immediateSize = 3;
    else if (opcode === 0x9a || opcode === 0xea) immediateSize = z + 2;
    else if (opcode >= 0xa0 && opcode <= 0xa3) {
      immediateSize = width === 64 ? (address16 ? 4 : 8) : address16 ? 2 : 4;
    }
  }

  let relative: Field | undefined;
  if (modrm) {
    if (at >= end) return undefined;
    const byte = bytes[at] as number;
    at += 1;
    const mod = byte >> 6;
    const rm = byte & 7;
    // Test, the first two of the group, has an immediate; the others of it have none.
    if ((opcode === 0xf6 || opcode === 0xf7) && (byte & 0x38) < 0x10) immediateSize = opcode === 0xf6 ? 1 : z;
    let displacement = mod === 1 ? 1 : mod === 2 ? 4 : 0;
    if (width === 32 && address16) {
      displacement = mod === 2 || (mod === 0 && rm === 6) ? 2 : mod === 1 ? 1 : 0;
    } else if (mod !== 3 && rm === 4) {
      if (at >= end) return undefined;
      if (mod === 0 && ((bytes[at] as number) & 7) === 5) displacement = 4;
      at += 1;
    } else if (mod === 0 && rm === 5) {
      displacement = 4;
      if (width === 64) relative = { at: at - start, size: 4 };
    }
    at += displacement;
  }
  const immediate = immediateSize > 0 ? { at: at - start, size: immediateSize } : undefined;
  at += immediateSize;
  return at > end ? undefined : { length: at - start, opcode, second, prefix, immediate, relative };
}
