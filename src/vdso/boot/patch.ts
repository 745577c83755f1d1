import type { Alternative, Site } from "./alternatives.js";
import { addNops, addOneNop } from "./nops.js";
import type { PatchRules } from "./rules.js";
import { type X86Shape, x86Shape } from "./x86-length.js";

const NOP = 0x90;
const CALL = 0xe8;
const JUMP_NEAR = 0xe9;
const JUMP_SHORT = 0xeb;
const BREAKPOINT = 0xcc;
const PAUSE_PREFIX = 0xf3;

/** How far a replacement is stored behind the site: what relative jumps in it change by. */
function distance(record: Alternative): number {
  return Number(BigInt.asIntN(32, record.replacementAddress - record.address));
}

/**
 * The bytes of an x86 site after boot: the records are gone through in order, as the kernel does it, and what each
 * leaves is the next one's start.
 *
 * `original` has the site's bytes before; `applies[i]` says whether the i-th record of the site is applied.
 * Source: arch/x86/kernel/alternative.c of Linux 5.10, 5.15, 6.6 and 7.1.
 */
export function patchX86(
  site: Site,
  original: Uint8Array,
  applies: readonly boolean[],
  rules: PatchRules,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(original.subarray(0, site.length));
  site.alternatives.forEach((record, i) => {
    // Of nested alternatives, the outer one may have more padding; from 6.11 on all have as much.
    const length = rules.optimising === "in a copy" ? site.length : record.length;
    if (applies[i]) bytes.set(replacementOf(record, length, rules));
    else leaveOut(bytes, record, length, rules);
    if (rules.optimising === "runs") optimiseRuns(bytes, length, rules);
  });
  return bytes;
}

/** What a record that is not applied does to its site. */
function leaveOut(bytes: Uint8Array, record: Alternative, length: number, rules: PatchRules): void {
  if (rules.optimising === "padding") {
    const padding = paddingOf(record);
    // These kernels look for padding at the start of the site, so that only a site that is all padding has any.
    if (padding > 1 && bytes.subarray(0, padding).every((byte) => byte === NOP)) {
      addNops(bytes, length - padding, length, rules.nops);
    }
  } else if (rules.optimising === "in place") optimiseInPlace(bytes, length, rules);
  else if (rules.optimising === "in a copy") optimiseCopy(bytes, length, rules);
}

/** Of a record of 13 bytes: how much of its length is padding. */
function paddingOf(record: Alternative): number {
  return record.padding ?? 0;
}

/** The bytes that a record puts at its site. */
function replacementOf(record: Alternative, length: number, rules: PatchRules): Uint8Array {
  const bytes = new Uint8Array(length).fill(NOP);
  bytes.set(record.replacement);
  const size = record.replacement.length;
  switch (rules.optimising) {
    case "never":
    case "padding":
      moveAlone(bytes, record, rules);
      addNops(bytes, size, length, rules.nops);
      break;
    case "runs":
      moveAlone(bytes, record, rules);
      break;
    case "in place":
      moveAll(bytes, record, rules, true);
      break;
    case "in a copy":
      moveAll(bytes, record, rules, false);
      optimiseCopy(bytes, length, rules);
      break;
  }
  return bytes;
}

/** Up to 6.4: only a replacement that is one call or jump of five bytes is moved. */
function moveAlone(bytes: Uint8Array, record: Alternative, rules: PatchRules): void {
  if (record.replacement.length !== 5) return;
  const view = new DataView(bytes.buffer);
  const operand = view.getInt32(1, true);
  const [opcode] = bytes;
  if (opcode === CALL) view.setInt32(1, operand + distance(record), true);
  if ((opcode !== JUMP_NEAR && opcode !== JUMP_SHORT) || rules.optimising === "never") return;
  const target = operand + 5 + distance(record);
  // Backwards the kernel never finds the short jump good enough: it compares as if the distance had no sign.
  if (target >= 0 && target - 2 <= 127) {
    bytes[0] = JUMP_SHORT;
    view.setInt8(1, target - 2);
    addNops(bytes, 2, 5, rules.nops);
  } else {
    bytes[0] = JUMP_NEAR;
    view.setInt32(1, target - 5, true);
  }
}

/** From 6.5: every relative jump, call and operand that leads out of the replacement is moved. */
function moveAll(bytes: Uint8Array, record: Alternative, rules: PatchRules, optimising: boolean): void {
  const by = distance(record);
  const state: JumpBefore = { at: 0, target: 0 };
  for (let at = 0; at < bytes.length; ) {
    const shape = x86Shape(bytes, at, rules.width);
    if (!shape) return;
    const next = at + shape.length;
    if (optimising) {
      const end = optimiseStep(bytes, bytes.length, at, shape, state, rules);
      if (end !== undefined) {
        at = end;
        continue;
      }
    }
    if (isRelativeJump(shape)) moveJump(bytes, at, shape, record.replacement.length, by);
    if (shape.relative) moveField(bytes, at + shape.relative.at, 4, next, record.replacement.length, by);
    at = next;
  }
}

function isRelativeJump({ opcode, second }: X86Shape): boolean {
  if (opcode === 0x0f) return second !== undefined && second >= 0x80 && second <= 0x8f;
  return (opcode >= 0x70 && opcode <= 0x7f) || opcode === JUMP_SHORT || opcode === JUMP_NEAR || opcode === CALL;
}

function moveJump(bytes: Uint8Array, at: number, shape: X86Shape, size: number, by: number): void {
  const field = shape.immediate;
  if (!field) return;
  const next = at + shape.length;
  const operand = readField(bytes, at + field.at, field.size);
  moveField(bytes, at + field.at, field.size, next, size, by);
  if (shape.opcode !== JUMP_NEAR) return;
  const short = operand + by + 3;
  if (short < -128 || short > 127) return;
  bytes.fill(BREAKPOINT, at, next);
  bytes[at] = JUMP_SHORT;
  bytes[at + 1] = short & 0xff;
}

/** Moves an operand unless it leads to a place inside the replacement. */
function moveField(bytes: Uint8Array, at: number, width: number, next: number, size: number, by: number): void {
  const operand = readField(bytes, at, width);
  const target = next + operand;
  if (target >= 0 && target <= size) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (width === 1) view.setInt8(at, operand + by);
  else if (width === 2) view.setInt16(at, operand + by, true);
  else view.setInt32(at, operand + by, true);
}

function readField(bytes: Uint8Array, at: number, width: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return width === 1 ? view.getInt8(at) : width === 2 ? view.getInt16(at, true) : view.getInt32(at, true);
}

/** 5.13 to 6.4: runs of single-byte NOPs become long ones. */
function optimiseRuns(bytes: Uint8Array, length: number, rules: PatchRules): void {
  for (let at = 0; at < length; ) {
    const shape = x86Shape(bytes, at, rules.width);
    if (!shape) return;
    if (shape.length !== 1 || shape.opcode !== NOP) {
      at += shape.length;
      continue;
    }
    let end = at;
    while (end < length && bytes[end] === NOP) end += 1;
    if (end - at > 1) addNops(bytes, at, end, rules.nops);
    at = end;
  }
}

function isNop({ opcode, second, prefix }: X86Shape): boolean {
  return (opcode === NOP && prefix !== PAUSE_PREFIX) || (opcode === 0x0f && second === 0x1f);
}

function skipNops(bytes: Uint8Array, from: number, length: number, rules: PatchRules): number {
  let at = from;
  while (at < length) {
    const shape = x86Shape(bytes, at, rules.width);
    if (!shape || !isNop(shape)) break;
    at += shape.length;
  }
  return at;
}

/** 6.5 to 6.9: the last jump seen, for the NOPs that it jumps over become part of one that is jumped over. */
interface JumpBefore {
  at: number;
  target: number;
}

/** Where a run of NOPs at `at` was made one, its end. */
function optimiseStep(
  bytes: Uint8Array,
  length: number,
  at: number,
  shape: X86Shape,
  jump: JumpBefore,
  rules: PatchRules,
): number | undefined {
  const next = at + shape.length;
  if ((shape.opcode === JUMP_SHORT || shape.opcode === JUMP_NEAR) && shape.immediate) {
    jump.at = at;
    jump.target = next + readField(bytes, at + shape.immediate.at, shape.immediate.size);
    return undefined;
  }
  if (!isNop(shape)) {
    jump.target = 0;
    return undefined;
  }
  const end = Math.min(skipNops(bytes, next, length, rules), length);
  addOneNop(bytes, jump.target !== 0 && end === jump.target ? jump.at : at, end, rules.nops);
  return end;
}

function optimiseInPlace(bytes: Uint8Array, length: number, rules: PatchRules): void {
  const jump: JumpBefore = { at: 0, target: 0 };
  for (let at = 0; at < length; ) {
    const shape = x86Shape(bytes, at, rules.width);
    if (!shape) return;
    at = optimiseStep(bytes, length, at, shape, jump, rules) ?? at + shape.length;
  }
}

/** From 6.10: every run of NOPs becomes one, but for a single one at the end. */
function optimiseCopy(bytes: Uint8Array, length: number, rules: PatchRules): void {
  for (let at = 0; at < length; ) {
    const shape = x86Shape(bytes, at, rules.width);
    if (!shape) return;
    let next = at + shape.length;
    if (isNop(shape)) {
      if (next === length) return;
      next = Math.min(skipNops(bytes, next, length, rules), length);
      addOneNop(bytes, at, next, rules.nops);
    }
    at = next;
  }
}

/**
 * The bytes of an arm64 site after boot: whole instructions are copied, and branches that lead out of the replacement
 * are moved. NOPs stay as they are.
 *
 * Source: arch/arm64/kernel/alternative.c.
 */
export function patchArm64(site: Site, original: Uint8Array, applies: readonly boolean[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(original.subarray(0, site.length));
  site.alternatives.forEach((record, i) => {
    if (!applies[i]) return;
    const copy = new Uint8Array(record.replacement);
    const view = new DataView(copy.buffer);
    for (let at = 0; at + 4 <= copy.length; at += 4) {
      view.setUint32(at, movedBranch(view.getUint32(at, true), at, copy.length, distance(record)), true);
    }
    bytes.set(copy);
  });
  return bytes;
}

/** Kinds of branches by mask and pattern, and where their distance in instructions lies. */
const BRANCHES: readonly (readonly [mask: number, pattern: number, shift: number, bits: number])[] = [
  [0x7c000000, 0x14000000, 0, 26],
  [0xff000010, 0x54000000, 5, 19],
  [0x7e000000, 0x34000000, 5, 19],
  [0x7e000000, 0x36000000, 5, 14],
];

function movedBranch(word: number, at: number, size: number, by: number): number {
  const kind = BRANCHES.find(([mask, pattern]) => (word & mask) >>> 0 === pattern);
  if (!kind) return word;
  const [, , shift, bits] = kind;
  const unused = 32 - bits;
  const offset = (((word >>> shift) << unused) >> unused) * 4;
  const target = at + offset;
  if (target >= 0 && target <= size) return word;
  const field = ((1 << bits) - 1) << shift;
  return ((word & ~field) | ((((offset + by) >> 2) << shift) & field)) >>> 0;
}
