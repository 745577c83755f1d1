import { I386_SYSCALLS } from "../linux/i386-syscalls.js";
import type { Abi } from "./abi.js";

/**
 * Numbers of system calls on the ABIs whose code is decoded: on i386, whose entry is for all of them, all; on x86_64 those
 * that a vDSO can fall back to (arch/x86/entry/syscalls/syscall_64.tbl).
 */
const SYSCALLS: Partial<Record<Abi, Readonly<Record<number, string | undefined>>>> = {
  i386: I386_SYSCALLS,
  x86_64: {
    15: "rt_sigreturn",
    96: "gettimeofday",
    201: "time",
    228: "clock_gettime",
    229: "clock_getres",
    309: "getcpu",
    318: "getrandom",
  },
};

/** Marks an x32 system call among the numbers of x86-64. */
const X32_SYSCALL_BIT = 0x4000_0000;

/** The name of a system call; `undefined` where the table has none. */
export function syscallName(abi: Abi, number: number): string | undefined {
  return abi === "x32" ? SYSCALLS.x86_64?.[number & ~X32_SYSCALL_BIT] : SYSCALLS[abi]?.[number];
}

const NUMBERS = {
  i386: numbersByName("i386"),
  x86_64: numbersByName("x86_64"),
} as const;

function numbersByName(abi: "i386" | "x86_64"): ReadonlyMap<string, number> {
  return new Map(Object.entries(SYSCALLS[abi] ?? {}).map(([number, name]) => [name ?? "", Number(number)]));
}

/** The number of a system call that a vDSO can fall back to; `undefined` in an ABI that has it not. */
export function syscallNumber(abi: "i386" | "x86_64", name: string): number | undefined {
  return NUMBERS[abi].get(name);
}

/** Names of the clocks that clock_gettime takes, by number (include/uapi/linux/time.h). */
export const CLOCK_NAMES: readonly string[] = [
  "REALTIME",
  "MONOTONIC",
  "PROCESS_CPUTIME_ID",
  "THREAD_CPUTIME_ID",
  "MONOTONIC_RAW",
  "REALTIME_COARSE",
  "MONOTONIC_COARSE",
  "BOOTTIME",
  "REALTIME_ALARM",
  "BOOTTIME_ALARM",
  "SGI_CYCLE",
  "TAI",
  // Numbers 12 to 15 are not assigned.
  ...["clock 12", "clock 13", "clock 14", "clock 15"],
  ...Array.from({ length: 8 }, (_, i) => `AUX${i}`),
];
