import type { Mechanism } from "../gate.js";
import type { VdsoImage } from "../image.js";
import { x86Shape } from "./x86-length.js";

/** Longest entry that is followed, in instructions. */
const MAX_STEPS = 32;

/**
 * The way into the kernel that the entry takes, told without a decoder: the first of the three instructions that is
 * reached. `bytes` are the image's, perhaps patched; `undefined` where it has no entry, or none of them is reached.
 */
export function wayIn(image: VdsoImage, bytes: Uint8Array): Mechanism | undefined {
  if (!image.entry) return undefined;
  const start = image.elf.offsetOf(image.entry.address);
  if (start === undefined) return undefined;
  for (let at = start, step = 0; step < MAX_STEPS; step++) {
    const shape = x86Shape(bytes, at, 32);
    if (!shape) return undefined;
    const { opcode, second } = shape;
    if (opcode === 0x0f && second === 0x34) return "sysenter";
    if (opcode === 0x0f && second === 0x05) return "syscall";
    if (opcode === 0xcd && bytes[at + shape.length - 1] === 0x80) return "int $0x80";
    if (opcode === 0xc3) return undefined;
    at += shape.length;
    // Before 2.6.16 or so the way in lay behind a jump.
    if (opcode === 0xeb) at += (((bytes[at - 1] as number) << 24) >> 24) | 0;
  }
  return undefined;
}
