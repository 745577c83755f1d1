/** Kinds of prefix byte. Of each kind only the last one can have an effect. */
export type PrefixKind = "segment" | "operand-size" | "address-size" | "lock" | "repne" | "rep" | "rex";

/** One prefix byte and its offset in the instruction. */
export interface Prefix {
  readonly kind: PrefixKind;
  readonly at: number;
  readonly byte: number;
}

/** The parts of an encoded instruction that its text depends on beyond what it means. */
export interface Encoding {
  readonly prefixes: readonly Prefix[];
  /** Offset of the first byte of the opcode (or of a VEX, EVEX or XOP prefix). */
  readonly opcode: number;
}

const KINDS: ReadonlyMap<number, PrefixKind> = new Map<number, PrefixKind>([
  [0x26, "segment"],
  [0x2e, "segment"],
  [0x36, "segment"],
  [0x3e, "segment"],
  [0x64, "segment"],
  [0x65, "segment"],
  [0x66, "operand-size"],
  [0x67, "address-size"],
  [0xf0, "lock"],
  [0xf2, "repne"],
  [0xf3, "rep"],
]);

const SEGMENTS: ReadonlyMap<number, string> = new Map([
  [0x26, "es"],
  [0x2e, "cs"],
  [0x36, "ss"],
  [0x3e, "ds"],
  [0x64, "fs"],
  [0x65, "gs"],
]);

/** The opcode of `fwait`, which GNU takes for a prefix. */
export const FWAIT = 0x9b;

/** No instruction is longer. */
export const MAX_LENGTH = 15;

/** Finds the prefixes of the instruction that starts at `start`, and its opcode. Source: Intel SDM volume 2, 2.1.1. */
export function scanPrefixes(bytes: Uint8Array, start: number, bits: 16 | 32 | 64): Encoding {
  const prefixes: Prefix[] = [];
  let at = 0;
  for (; at < MAX_LENGTH; at++) {
    const byte = bytes[start + at];
    if (byte === undefined) break;
    const kind = KINDS.get(byte) ?? (bits === 64 && byte >= 0x40 && byte <= 0x4f ? "rex" : undefined);
    if (kind === undefined) break;
    prefixes.push({ kind, at, byte });
  }
  return { prefixes, opcode: at };
}

/**
 * Place of a REX prefix that another prefix or `fwait` follows, which makes it one without effect. GNU takes it and what stands
 * before it for an instruction of its own.
 */
export function idleRex({ prefixes }: Encoding, opcode: number): number | undefined {
  const at = prefixes.findIndex(({ kind }) => kind === "rex");
  return at >= 0 && (at < prefixes.length - 1 || opcode === FWAIT) ? at : undefined;
}

/** Bytes of the opcode with its VEX, EVEX or XOP prefix: the offset from its first byte of a ModRM byte. */
export function opcodeSize(bytes: Uint8Array, opcode: number, bits: 16 | 32 | 64): number {
  const first = bytes[opcode];
  const second = bytes[opcode + 1] ?? 0;
  const vector = bits === 64 || second >= 0xc0;
  if (first === 0xc5 && vector) return 3;
  if (first === 0xc4 && vector) return 4;
  if (first === 0x62 && vector) return 5;
  if (first === 0x8f && (second & 0x1f) >= 8) return 4;
  if (first !== 0x0f) return 1;
  return second === 0x38 || second === 0x3a ? 3 : 2;
}

/**
 * How much of something that is no instruction GNU takes for its opcode: less than all of it where already the map
 * that a VEX, EVEX or XOP prefix names does not exist.
 */
export function invalidSize(
  bytes: Uint8Array,
  { prefixes, opcode }: Encoding,
  start: number,
  bits: 16 | 32 | 64,
): number {
  const at = start + opcode;
  const [first = 0, second = 0, third = 0] = bytes.subarray(at, at + 3);
  const size = opcodeSize(bytes, at, bits);
  // Of 3DNow!, whose opcode stands last, GNU takes only the first byte.
  if (first === 0x0f && second === 0x0f) return 1;
  if (first === 0x0f || isX87(first)) return Math.max(size, 2);
  if (size < 3) return 1;
  if (prefixes.some(({ kind }) => kind === "rex")) return 1;
  if (first === 0x62) {
    if (![1, 2, 3, 5, 6].includes(second & 0x0f)) return 1;
    return third & 4 ? size : 2;
  }
  const map = second & 0x1f;
  if (first === 0xc4 && (map < 1 || map > 3)) return 1;
  if (first === 0x8f && map > 10) return 1;
  return size;
}

/** Whether the byte is the first of an x87 instruction. */
export function isX87(opcode: number): boolean {
  return opcode >= 0xd8 && opcode <= 0xdf;
}

/** The SIB byte of an instruction that addresses memory with 32 or 64 bits, where it has one. */
export function sibOf(bytes: Uint8Array, opcode: number, bits: 16 | 32 | 64): number | undefined {
  const first = bytes[opcode] ?? 0;
  if (first >= 0xa0 && first <= 0xa3) return undefined;
  const at = opcode + opcodeSize(bytes, opcode, bits);
  const modrm = bytes[at] ?? 0;
  return modrm >> 6 !== 3 && (modrm & 7) === 4 ? bytes[at + 1] : undefined;
}

/** The ModRM byte, if the instruction has one; else whatever byte stands there. */
export function modrmOf(bytes: Uint8Array, opcode: number, bits: 16 | 32 | 64): number {
  return bytes[opcode + opcodeSize(bytes, opcode, bits)] ?? 0;
}

/** How GNU objdump names a prefix that the instruction has no use for. */
export function prefixName({ kind, byte }: Prefix, bits: 16 | 32 | 64): string {
  switch (kind) {
    case "segment":
      return SEGMENTS.get(byte) as string;
    case "operand-size":
      return bits === 16 ? "data32" : "data16";
    case "address-size":
      return bits === 32 ? "addr16" : "addr32";
    case "lock":
      return "lock";
    case "repne":
      return "repnz";
    case "rep":
      return "repz";
    case "rex": {
      const letters = ["W", "R", "X", "B"].filter((_, i) => byte & (8 >> i)).join("");
      return letters === "" ? "rex" : `rex.${letters}`;
    }
  }
}
