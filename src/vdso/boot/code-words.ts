import { hexBytes } from "../../bytes/hex.js";
import type { Abi } from "../abi.js";
import { x86Shape } from "./x86-length.js";

/** What alternatives are made of, by bytes; a call ends in its distance. */
const WORDS: readonly (readonly [bytes: readonly number[], text: string])[] = [
  [[0x0f, 0xae, 0xe8], "lfence"],
  [[0x0f, 0xae, 0xf0], "mfence"],
  [[0x0f, 0x01, 0xf9], "rdtscp"],
  [[0x0f, 0x31], "rdtsc"],
  [[0xf3, 0x0f, 0xc7, 0xf8], "rdpid"],
  [[0x0f, 0x03], "lsl"],
  [[0x0f, 0x34], "sysenter"],
  [[0x0f, 0x05], "syscall"],
  [[0xcd, 0x80], "int $0x80"],
  [[0x3e, 0x3e, 0x3e, 0xcd, 0x80], "int $0x80"],
  [[0x89, 0xe5], "mov %esp,%ebp"],
  [[0x89, 0xcd], "mov %ecx,%ebp"],
  [[0xc3], "ret"],
  [[0xe8], "call"],
  [[0xe9], "jmp"],
  [[0xeb], "jmp"],
];

/** Prefixes that make NOPs longer. */
const LENGTHENING: ReadonlySet<number> = new Set([0x2e, 0x3e, 0x66]);

/** NOPs of all kinds that kernels write, but for such prefixes and for displacements. */
const PADDING: readonly (readonly number[])[] = [
  [0x90],
  [0x0f, 0x1f],
  [0x89, 0xf6],
  [0x8b, 0xc0],
  [0x8d, 0x76, 0x00],
  [0x8d, 0x74, 0x26, 0x00],
  [0x8d, 0xb6],
  [0x8d, 0xb4],
  [0x8d, 0x04, 0x20],
  [0x8d, 0x44, 0x20, 0x00],
  [0x8d, 0x80],
  [0x8d, 0x04, 0x05],
  [0xcc],
];

const startsWith = (bytes: Uint8Array, start: readonly number[]): boolean =>
  bytes.length >= start.length && start.every((byte, i) => bytes[i] === byte);

function isPadding(instruction: Uint8Array): boolean {
  const opcode = instruction.findIndex((byte) => !LENGTHENING.has(byte));
  const bare = instruction.subarray(Math.max(opcode, 0));
  return PADDING.some((start) => startsWith(bare, start));
}

/** Instructions of arm64 among alternatives, by mask and pattern; the register does not matter. */
const ARM_WORDS: readonly (readonly [mask: number, pattern: number, text: string])[] = [
  [0xffffffff, 0xd503201f, ""],
  [0xffffffff, 0xd5033fdf, "isb"],
  [0xffffffe0, 0xd53be040, "mrs cntvct_el0"],
  [0xffffffe0, 0xd53be0c0, "mrs cntvctss_el0"],
];

function armSiteCode(bytes: Uint8Array): string {
  const words: string[] = [];
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    const word = new DataView(bytes.buffer, bytes.byteOffset + at, 4).getUint32(0, true);
    const known = ARM_WORDS.find(([mask, pattern]) => (word & mask) >>> 0 === pattern);
    const text = known ? known[2] : hexBytes(bytes.subarray(at, at + 4));
    if (text !== "") words.push(text);
  }
  return words.length === 0 ? "nop" : words.join("; ");
}

/**
 * What bytes at a site (of x86 or arm64) do, in a few words and without a decoder: `lfence; rdtsc`. What only fills is
 * left out, and what is not known stays as bytes.
 */
export function siteCode(bytes: Uint8Array, abi: Abi): string {
  if (abi === "aarch64") return armSiteCode(bytes);
  const words: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = x86Shape(bytes, at, 32)?.length ?? bytes.length - at;
    const instruction = bytes.subarray(at, at + length);
    at += length;
    if (isPadding(instruction)) continue;
    const known = WORDS.findLast(([start]) => startsWith(instruction, start));
    words.push(known?.[1] ?? hexBytes(instruction));
  }
  return words.length === 0 ? "nop" : words.join("; ");
}
