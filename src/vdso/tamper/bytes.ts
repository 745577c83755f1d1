import * as C from "../../elf/constants.js";
import { RECORD_SIZE } from "../../elf/header.js";
import { functionAt } from "../boot/alternatives.js";
import type { VdsoFunction, VdsoImage } from "../image.js";
import { syscallName } from "../syscalls.js";
import { type Finding, type FindingId, MAX_SHOWN, type Mark, TECHNIQUE } from "./finding.js";
import { AT_SITE, type Difference, OUTSIDE, type Reference, SITE_DIFFERS } from "./reference.js";

/** What is known around the bytes of an image that is judged. */
export interface BytesContext {
  /** Address of its first byte in the process. */
  readonly base: bigint;
  /** Who traces the process; absent where nobody does. */
  readonly tracer?: Tracer;
  /**
   * Whether an instruction of the reference starts at an offset; absent where its instructions are not decoded. A
   * breakpoint lies there and nowhere else.
   */
  readonly startsInstruction?: (offset: number) => boolean;
}

/** The process that traces another (TracerPid). */
export interface Tracer {
  readonly pid: number;
  /** Absent where it is outside of the pid namespace. */
  readonly comm?: string;
}

/** Equal bytes between two differences that are still one finding: an instruction that was put there may share some. */
const MAX_GAP = 7;

/** Instructions that debuggers put in the place of others. */
const BREAKPOINTS: Readonly<Record<number, readonly number[]>> = {
  [C.EM_386]: [0xcc],
  [C.EM_X86_64]: [0xcc],
  // brk #0
  [C.EM_AARCH64]: [0x00, 0x00, 0x20, 0xd4],
};

/** The findings and marks of bytes that differ from a reference, by address. */
export function judgeBytes(
  found: Uint8Array,
  reference: Reference,
  difference: Difference,
  context: BytesContext,
): { findings: Finding[]; marks: Mark[] } {
  const { image } = reference;
  const wrong = difference.wrong.slice();
  const findings: Finding[] = [];
  const marks: Mark[] = [];
  const place = (offset: number) => placeOf(image, offset, context.base);

  for (const offset of breakpoints(found, image, difference, context)) {
    const size = (BREAKPOINTS[image.elf.header.e_machine] as readonly number[]).length;
    wrong.fill(0, offset, offset + size);
    if (context.tracer) {
      marks.push({ kind: "breakpoint", ...marked(place(offset)), detail: tracerText(context.tracer) });
    } else {
      findings.push({
        id: "breakpoint-without-tracer",
        severity: "medium",
        technique: TECHNIQUE,
        ...place(offset),
        ...shown(found, difference, offset, offset + size),
      });
    }
  }
  for (const target of replacedBySystemCall(found, image, wrong, context.tracer)) {
    const offset = offsetOf(image, target);
    wrong.fill(0, offset, offset + RR_SIZE);
    marks.push({ kind: "rr", ...marked(place(offset)), detail: "the function was made its own system call" });
  }
  for (const [start, end] of ranges(wrong, image)) {
    const jump = jumpAt(found, image, start, context.base);
    const id = idOf(jump !== undefined, wrong.subarray(start, end));
    findings.push({
      id,
      severity: id === "site-differs" ? "medium" : "high",
      technique: TECHNIQUE,
      ...place(start),
      ...shown(found, difference, start, end),
      ...(jump?.target !== undefined && { leadsTo: jump.target }),
    });
  }
  findings.sort((a, b) => ((a.offset ?? 0) < (b.offset ?? 0) ? -1 : 1));
  return { findings, marks };
}

function idOf(jump: boolean, wrong: Uint8Array): FindingId {
  if (jump) return "function-hooked";
  if (wrong.includes(OUTSIDE)) return "bytes-changed";
  return wrong.includes(AT_SITE) ? "site-changed" : "site-differs";
}

/** `traced by process 42 (gdb)`. */
export function tracerText({ pid, comm }: Tracer): string {
  return `traced by process ${pid}${comm === undefined ? "" : ` (${comm})`}`;
}

function marked({
  address,
  function: name,
}: Pick<Finding, "address" | "function">): Pick<Mark, "address" | "function"> {
  return { ...(address !== undefined && { address }), ...(name !== undefined && { function: name }) };
}

function shown(
  found: Uint8Array,
  { expected }: Difference,
  start: number,
  end: number,
): Pick<Finding, "size" | "expected" | "found"> {
  const last = Math.min(end, start + MAX_SHOWN);
  return { size: end - start, expected: expected.slice(start, last), found: found.slice(start, last) };
}

/** Where an offset of the image lies. */
function placeOf(
  image: VdsoImage,
  offset: number,
  base: bigint,
): Pick<Finding, "address" | "offset" | "function" | "part"> {
  const target = functionAt(image.functions, image.linkBase + BigInt(offset));
  const part = target ? undefined : partAt(image, offset);
  return {
    address: base + BigInt(offset),
    offset,
    ...(target && { function: target.name }),
    ...(part !== undefined && { part }),
  };
}

function partAt(image: VdsoImage, offset: number): string | undefined {
  const { header } = image.elf;
  const sizes = RECORD_SIZE[header.class];
  if (offset < sizes.header) return "ELF header";
  const within = (start: number, count: number, size: number) => offset >= start && offset < start + count * size;
  if (within(header.e_phoff, header.e_phnum, sizes.segment)) return "program headers";
  if (within(header.e_shoff, header.e_shnum, sizes.section)) return "section headers";
  const section = image.elf.sections.find(
    ({ sh_offset, sh_size, sh_type }) =>
      sh_type !== C.SHT_NOBITS && offset >= sh_offset && offset < sh_offset + sh_size,
  );
  if (section?.name) return section.name;
  return offset >= Math.max(image.bytes.length, Number(image.loadSize)) ? "behind the image" : undefined;
}

function offsetOf(image: VdsoImage, target: VdsoFunction): number {
  return Number(target.address - image.linkBase);
}

/** Offsets at which a breakpoint instruction lies over the first byte of one of the reference. */
function breakpoints(
  found: Uint8Array,
  image: VdsoImage,
  { wrong }: Difference,
  { startsInstruction }: BytesContext,
): number[] {
  const instruction = BREAKPOINTS[image.elf.header.e_machine];
  if (!instruction) return [];
  const offsets: number[] = [];
  for (let offset = 0; offset + instruction.length <= found.length; offset++) {
    if (!instruction.some((_, i) => wrong[offset + i] !== 0)) continue;
    if (!instruction.every((byte, i) => found[offset + i] === byte)) continue;
    // A run of them is what fills the room behind a hook, not what a debugger leaves.
    const neighbours = [offset - 1, offset + instruction.length].some((at) => (wrong[at] ?? 0) !== 0);
    if (!neighbours && inCode(image, offset) && (startsInstruction?.(offset) ?? true)) offsets.push(offset);
  }
  return offsets;
}

function inCode(image: VdsoImage, offset: number): boolean {
  const code = image.elf.codeSections;
  if (code.length > 0)
    return code.some(({ sh_offset, sh_size }) => offset >= sh_offset && offset < sh_offset + sh_size);
  return functionAt(image.functions, image.linkBase + BigInt(offset)) !== undefined;
}

/** Bytes of what rr puts at the start of a function: `mov $number,%eax; syscall; nop; nop; nop; ret`. */
const RR_SIZE = 11;

/**
 * Functions whose start was replaced by the system call that they stand for: harmless in itself, and what rr does to
 * the programs that it records, to see their calls (it traces them).
 */
function replacedBySystemCall(
  found: Uint8Array,
  image: VdsoImage,
  wrong: Uint8Array,
  tracer: Tracer | undefined,
): VdsoFunction[] {
  if (!tracer || image.abi !== "x86_64") return [];
  return image.functions.filter((target) => {
    const start = offsetOf(image, target);
    if (start + RR_SIZE > found.length || !wrong.subarray(start, start + RR_SIZE).some((how) => how !== 0))
      return false;
    const view = new DataView(found.buffer, found.byteOffset, found.byteLength);
    const name = syscallName("x86_64", view.getUint32(start + 1, true));
    if (found[start] !== 0xb8 || name === undefined || !target.name.endsWith(`_${name}`)) return false;
    return [0x0f, 0x05, 0x90, 0x90, 0x90, 0xc3].every((byte, i) => found[start + 5 + i] === byte);
  });
}

/** Runs of wrong bytes of the same function or part, those with a few equal ones between as one. */
function ranges(wrong: Uint8Array, image: VdsoImage): [start: number, end: number][] {
  const runs: [number, number][] = [];
  const owner = (offset: number) => functionAt(image.functions, image.linkBase + BigInt(offset));
  for (let i = 0; i < wrong.length; i++) {
    if (wrong[i] === 0) continue;
    const last = runs.at(-1);
    const joined = last && i - last[1] <= MAX_GAP && owner(last[0]) === owner(i);
    // One change may reach into a site and out of it; another choice of the kernel's is a thing of its own.
    if (joined && (wrong[last[0]] === SITE_DIFFERS) === (wrong[i] === SITE_DIFFERS)) last[1] = i + 1;
    else runs.push([i, i + 1]);
  }
  return runs;
}

/** How far behind the start of a function a jump is still its hook: an `endbr64` may be left before it. */
const HOOK_DEPTH = 5;

/** A jump that was put at the start of a function: what every inline hook begins with. */
function jumpAt(
  found: Uint8Array,
  image: VdsoImage,
  start: number,
  base: bigint,
): { readonly target: bigint | undefined } | undefined {
  if (image.abi !== "x86_64" && image.abi !== "i386" && image.abi !== "x32") return undefined;
  const owner = functionAt(image.functions, image.linkBase + BigInt(start));
  if (!owner) return undefined;
  const first = offsetOf(image, owner);
  for (const at of [first, first + 4]) {
    if (start < at || start - at > HOOK_DEPTH) continue;
    const jump = decodeJump(found, at, base, image.abi !== "i386");
    const inside = jump?.target !== undefined && jump.target >= base && jump.target < base + BigInt(found.length);
    if (jump && !inside) return jump;
  }
  return undefined;
}

/** The encodings with which hooks leave a function. */
function decodeJump(
  found: Uint8Array,
  at: number,
  base: bigint,
  wide: boolean,
): { readonly target: bigint | undefined } | undefined {
  const view = new DataView(found.buffer, found.byteOffset, found.byteLength);
  const has = (offset: number, ...bytes: number[]) => bytes.every((byte, i) => found[at + offset + i] === byte);
  const address = (value: bigint) => BigInt.asUintN(wide ? 64 : 32, value);
  if (at + 5 <= found.length && has(0, 0xe9)) {
    return { target: address(base + BigInt(at + 5 + view.getInt32(at + 1, true))) };
  }
  if (wide && at + 12 <= found.length && has(0, 0x48, 0xb8) && has(10, 0xff, 0xe0)) {
    return { target: view.getBigUint64(at + 2, true) };
  }
  if (at + 7 <= found.length && has(0, 0xb8) && has(5, 0xff, 0xe0))
    return { target: BigInt(view.getUint32(at + 1, true)) };
  if (at + 6 <= found.length && has(0, 0x68) && has(5, 0xc3)) return { target: BigInt(view.getUint32(at + 1, true)) };
  // Through memory: where it leads is not in these bytes, unless the address lies in them.
  if (at + 6 <= found.length && has(0, 0xff, 0x25)) {
    const operand = view.getInt32(at + 2, true);
    const slot = wide ? at + 6 + operand : Number(BigInt(operand >>> 0) - base);
    if (slot >= 0 && slot + (wide ? 8 : 4) <= found.length) {
      return { target: wide ? view.getBigUint64(slot, true) : BigInt(view.getUint32(slot, true)) };
    }
    return { target: undefined };
  }
  return undefined;
}
