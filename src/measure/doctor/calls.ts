import type { AgentAbi } from "../../agent/protocol.js";
import { CLOCK_NAMES, syscallNumber } from "../../vdso/syscalls.js";
import { RANDOM_BYTES } from "../calls.js";

export { RANDOM_BYTES } from "../calls.js";

/** What a function of the vDSO needs, to answer without entering the kernel. */
export type Need =
  /** The counter of the clocksource: lost where that cannot be read by programs. */
  | "counter"
  /** The same, for clocks that vDSOs of x86 serve since Linux 5.3 only. */
  | "newer counter"
  /** What the kernel wrote to the data page: never lost. */
  | "data page"
  /** A register of the processor. */
  | "processor"
  /** State for random bytes that the program keeps. */
  | "random state"
  /** The kernel itself, always: its accounting, or a timer's device. */
  | "kernel";

/** One call of which is asked whether it enters the kernel. */
export interface ProvedCall {
  /** `clock_gettime(MONOTONIC)`. */
  readonly call: string;
  /** The function of the vDSO. */
  readonly function: string;
  readonly need: Need;
  /** The clock, for functions that take one. */
  readonly clock?: number;
}

/** Clocks by what they need, as numbers of include/uapi/linux/time.h. */
const CLOCKS: readonly (readonly [clock: number, need: Need])[] = [
  [0, "counter"],
  [1, "counter"],
  [4, "newer counter"],
  [7, "newer counter"],
  [11, "newer counter"],
  [5, "data page"],
  [6, "data page"],
  [2, "kernel"],
  [3, "kernel"],
  [8, "kernel"],
  [9, "kernel"],
];

/** The clocks whose resolution is asked: one of each kind. */
const RESOLUTIONS = new Set([1, 6, 2]);

function clockCalls(name: string, only?: ReadonlySet<number>): ProvedCall[] {
  return CLOCKS.filter(([clock]) => only?.has(clock) ?? true).map(([clock, need]) => ({
    call: `${name}(${CLOCK_NAMES[clock]})`,
    function: `__vdso_${name}`,
    // A resolution is a constant of the kernel's: where a clock is served, no counter is read for it.
    need: only && need !== "kernel" ? "data page" : need,
    clock,
  }));
}

const COMMON: readonly ProvedCall[] = [
  ...clockCalls("clock_gettime"),
  { call: "gettimeofday", function: "__vdso_gettimeofday", need: "counter" },
  { call: "time", function: "__vdso_time", need: "data page" },
  ...clockCalls("clock_getres", RESOLUTIONS),
  { call: "getcpu", function: "__vdso_getcpu", need: "processor" },
];

/** The calls that are asked of each ABI. */
export const PROVED_CALLS: Readonly<Record<AgentAbi, readonly ProvedCall[]>> = {
  x86_64: [...COMMON, { call: `getrandom(${RANDOM_BYTES})`, function: "__vdso_getrandom", need: "random state" }],
  i386: [...COMMON, ...clockCalls("clock_gettime64"), ...clockCalls("clock_getres_time64", RESOLUTIONS)],
};

/** The system calls that these functions make where they do not answer. */
const REAL_NAMES = [
  ...["clock_gettime", "clock_getres", "gettimeofday", "time", "getcpu", "getrandom"],
  ...["clock_gettime64", "clock_getres_time64"],
];

function realCalls(abi: AgentAbi): (readonly [name: string, number: number])[] {
  return REAL_NAMES.flatMap((name) => {
    const number = syscallNumber(abi, name);
    return number === undefined ? [] : [[name, number] as const];
  });
}

/** The same, with their numbers in the ABI. */
export const REAL_CALLS: Readonly<Record<AgentAbi, readonly (readonly [name: string, number: number])[]>> = {
  x86_64: realCalls("x86_64"),
  i386: realCalls("i386"),
};
