/** A table of instructions that do nothing: at `n`, the bytes of the one (or two) of `n` bytes. */
export interface NopTable {
  readonly name: NopName;
  readonly longest: number;
  readonly bytes: readonly (readonly number[])[];
}

/**
 * The tables that kernels have had. Up to 5.12 the processor decides (`k8`, `k7`, `p6`, `generic`), afterwards the
 * width of the kernel alone.
 */
export type NopName = "k8" | "k7" | "p6" | "generic" | "32-bit" | "64-bit" | "64-bit, long";

const ONE = [0x90];

/** The LEA and MOV of 32-bit code, up to the sizes on which the two generations differ. */
const lea4 = [0x8d, 0x74, 0x26, 0x00];
const lea6 = [0x8d, 0xb6, 0, 0, 0, 0];
const lea7 = [0x8d, 0xb4, 0x26, 0, 0, 0, 0];
const generic = (prefix: number): number[][] => [
  [],
  ONE,
  [0x89, 0xf6],
  [0x8d, 0x76, 0x00],
  lea4,
  [prefix, ...lea4],
  lea6,
  lea7,
  [prefix, ...lea7],
];

const nopl: readonly (readonly number[])[] = [
  [],
  ONE,
  [0x66, 0x90],
  [0x0f, 0x1f, 0x00],
  [0x0f, 0x1f, 0x40, 0x00],
  [0x0f, 0x1f, 0x44, 0x00, 0x00],
  [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
  [0x0f, 0x1f, 0x80, 0, 0, 0, 0],
  [0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0],
];
const nopl8 = nopl[8] as readonly number[];

const osp = (count: number): number[] => [...Array<number>(count - 1).fill(0x66), 0x90];
const k7lea4 = [0x8d, 0x44, 0x20, 0x00];
const k7lea7 = [0x8d, 0x04, 0x05, 0, 0, 0, 0];

function tableOf(name: NopName, bytes: readonly (readonly number[])[]): NopTable {
  return { name, longest: bytes.length - 1, bytes };
}

/** By name. Source: arch/x86/include/asm/nops.h of Linux 5.10, 5.15 and 6.6. */
export const NOPS: Readonly<Record<NopName, NopTable>> = {
  generic: tableOf("generic", generic(0x90)),
  k8: tableOf("k8", [
    [],
    ONE,
    osp(2),
    osp(3),
    osp(4),
    [...osp(3), ...osp(2)],
    [...osp(3), ...osp(3)],
    [...osp(4), ...osp(3)],
    [...osp(4), ...osp(4)],
  ]),
  k7: tableOf("k7", [
    [],
    ONE,
    [0x8b, 0xc0],
    [0x8d, 0x04, 0x20],
    k7lea4,
    [...k7lea4, 0x90],
    [0x8d, 0x80, 0, 0, 0, 0],
    k7lea7,
    [...k7lea7, 0x90],
  ]),
  p6: tableOf("p6", nopl),
  "32-bit": tableOf("32-bit", generic(0x3e)),
  "64-bit": tableOf("64-bit", nopl),
  "64-bit, long": tableOf("64-bit, long", [
    ...nopl,
    [0x2e, ...nopl8],
    [0x66, 0x2e, ...nopl8],
    [0x66, 0x66, 0x2e, ...nopl8],
  ]),
};

/** Fills a range with the longest instructions of a table, one behind the other (kernels up to 6.4). */
export function addNops(bytes: Uint8Array, from: number, to: number, table: NopTable): void {
  for (let at = from; at < to; ) {
    const length = Math.min(to - at, table.longest);
    bytes.set(table.bytes[length] as readonly number[], at);
    at += length;
  }
}

const JUMP_SHORT = 0xeb;
const JUMP_NEAR = 0xe9;
const BREAKPOINT = 0xcc;

/** Fills a range with one instruction: of a table, or a jump over breakpoints where none is that long (from 6.5). */
export function addOneNop(bytes: Uint8Array, from: number, to: number, table: NopTable): void {
  const length = to - from;
  if (length <= table.longest) {
    bytes.set(table.bytes[length] as readonly number[], from);
    return;
  }
  bytes.fill(BREAKPOINT, from, to);
  if (length < 128) bytes.set([JUMP_SHORT, length - 2], from);
  else bytes.set([JUMP_NEAR, length - 5, 0, 0, 0], from);
}
