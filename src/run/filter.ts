import { Writer } from "../bytes/writer.js";

/** A system call that a filter tells of. */
export interface CaughtCall {
  readonly number: number;
  /** Values of its first argument, as 32 bits, for which it does; for any, unless said. */
  readonly firstArguments?: readonly number[];
  /** What the kernel does with it; what it does with all of them, unless said. */
  readonly verdict?: number;
}

/** What a filter tells of, by the numbers of either ABI. */
export type CaughtCalls = Readonly<Record<"x86_64" | "i386", readonly CaughtCall[]>>;

/** What the kernel has a filter decide by: `struct seccomp_data` (include/uapi/linux/seccomp.h), little-endian. */
const DATA = { number: 0, arch: 4, firstArgument: 16 } as const;

export const AUDIT_ARCH_X86_64 = 0xc000_003e;
export const AUDIT_ARCH_I386 = 0x4000_0003;

/** Set in the numbers of calls of x32, which has the layouts of x86-64 for times. */
export const X32_BIT = 0x4000_0000;

/**
 * What the kernel does with a call that a filter catches: asks its listener, stops the process for its tracer, or has the
 * call fail with the error number in the lower half.
 */
export const VERDICT = { notify: 0x7fc0_0000, trace: 0x7ff0_0000, errno: 0x0005_0000 } as const;
const RET_ALLOW = 0x7fff_0000;

/** Codes of classic BPF (include/uapi/linux/bpf_common.h). */
const LOAD_WORD = 0x20;
const AND = 0x54;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;

/** Size of `struct sock_filter`. */
const INSTRUCTION_SIZE = 8;

interface Instruction {
  readonly code: number;
  /** How many instructions to pass over where a comparison holds, and where it does not. */
  readonly onEqual?: number;
  readonly onOther?: number;
  readonly operand: number;
}

const load = (operand: number): Instruction => ({ code: LOAD_WORD, operand });
const allow: Instruction = { code: RETURN, operand: RET_ALLOW };

/**
 * A seccomp filter that gives some system calls a verdict (of {@link VERDICT}; to ask its listener, unless said), and lets
 * all others pass.
 * Gives `struct sock_filter` after `struct sock_filter`, eight bytes each.
 *
 * Throws `RangeError` on a list that is longer than a jump.
 */
export function buildFilter(calls: CaughtCalls, verdict: number = VERDICT.notify): Uint8Array {
  const wide = [load(DATA.number), { code: AND, operand: ~X32_BIT >>> 0 }, ...choose(calls.x86_64, verdict), allow];
  const narrow = [load(DATA.number), ...choose(calls.i386, verdict), allow];
  const all = [load(DATA.arch), ...when(AUDIT_ARCH_X86_64, wide), ...when(AUDIT_ARCH_I386, narrow), allow];
  const out = new Writer({ littleEndian: true });
  for (const { code, onEqual = 0, onOther = 0, operand } of all) {
    out.u16(code).u8(onEqual).u8(onOther).u32(operand);
  }
  return out.finish();
}

/** `struct sock_fprog` of a filter, with the filter behind it, to be put at an address. */
export function filterProgram(filter: Uint8Array, address: bigint, wordSize: 4 | 8): Uint8Array {
  const out = new Writer({ littleEndian: true, wordSize }).u16(filter.length / INSTRUCTION_SIZE).padTo(wordSize);
  return out
    .word(address + BigInt(2 * wordSize))
    .raw(filter)
    .finish();
}

function choose(calls: readonly CaughtCall[], all: number): Instruction[] {
  return calls.flatMap(({ number, firstArguments, verdict = all }) => {
    const caught: Instruction = { code: RETURN, operand: verdict };
    if (!firstArguments) return when(number, [caught]);
    const values = firstArguments.flatMap((value) => when(value >>> 0, [caught]));
    return when(number, [load(DATA.firstArgument), ...values, allow]);
  });
}

/** A block that is passed over unless the word that was loaded last is the value. */
function when(value: number, block: readonly Instruction[]): Instruction[] {
  if (block.length > 255) throw new RangeError(`a filter cannot pass over ${block.length} instructions`);
  return [{ code: JUMP_IF_EQUAL, onOther: block.length, operand: value }, ...block];
}
