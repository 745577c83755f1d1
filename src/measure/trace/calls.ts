import type { CountedNumber } from "../../run/counter/counter.js";
import { CLOCK_NAMES } from "../../vdso/syscalls.js";

/** ABIs whose programs are traced. */
export type TracedAbi = "x86_64" | "i386";

/** A system call that a vDSO answers, or would. */
interface ServedCall extends CountedNumber {
  readonly name: string;
}

/** The system calls that are counted, by ABI (arch/x86/entry/syscalls). */
export const SERVED_CALLS: Readonly<Record<TracedAbi, readonly ServedCall[]>> = {
  x86_64: [
    { number: 228, name: "clock_gettime", byArgument: true },
    { number: 96, name: "gettimeofday", byArgument: false },
    { number: 201, name: "time", byArgument: false },
    { number: 309, name: "getcpu", byArgument: false },
    { number: 229, name: "clock_getres", byArgument: true },
  ],
  i386: [
    { number: 265, name: "clock_gettime", byArgument: true },
    { number: 403, name: "clock_gettime64", byArgument: true },
    { number: 78, name: "gettimeofday", byArgument: false },
    { number: 13, name: "time", byArgument: false },
    { number: 318, name: "getcpu", byArgument: false },
    { number: 266, name: "clock_getres", byArgument: true },
    { number: 406, name: "clock_getres_time64", byArgument: true },
  ],
};

/** Clocks that a vDSO reads by itself, where the clocksource lets it. All others only the kernel knows. */
const FAST_CLOCKS: ReadonlySet<string> = new Set([
  "REALTIME",
  "MONOTONIC",
  "MONOTONIC_RAW",
  "REALTIME_COARSE",
  "MONOTONIC_COARSE",
  "BOOTTIME",
  "TAI",
]);

/** A call as results have it. */
export interface TracedCall {
  readonly abi: TracedAbi;
  /** `clock_gettime(MONOTONIC)`, `getcpu`. */
  readonly call: string;
  /** By what name its cost is measured: that of one clock stands for `clock_getres` of all. */
  readonly measuredAs: string;
  /** No vDSO answers this, whatever the machine: clocks of processor time, of alarms, of devices. */
  readonly byDesign: boolean;
}

/** What a system call with this number is, and this first argument, of which 32 bits count. */
export function tracedCall(abi: TracedAbi, number: number, firstArgument: bigint): TracedCall | undefined {
  const served = SERVED_CALLS[abi].find((one) => one.number === number);
  if (!served) return undefined;
  const { name } = served;
  if (!served.byArgument) return { abi, call: name, measuredAs: name, byDesign: false };
  const clock = clockName(Number(BigInt.asIntN(32, firstArgument)));
  const call = `${name}(${clock})`;
  const measuredAs = name.startsWith("clock_getres") ? `${name}(MONOTONIC)` : call;
  return { abi, call, measuredAs, byDesign: !FAST_CLOCKS.has(clock) };
}

/**
 * The name of a clock. Negative ones are made from the id of a process or thread, or a descriptor
 * (include/linux/posix-timers_types.h); of those only the kind is told, so that they stay few.
 */
function clockName(id: number): string {
  if (id >= 0) return CLOCK_NAMES[id] ?? "unknown clock";
  const CLOCK_OF_DEVICE = 3;
  const PER_THREAD = 4;
  if ((id & 7) === CLOCK_OF_DEVICE) return "clock of a device";
  return id & PER_THREAD ? "processor time of a thread" : "processor time of a process";
}
