import type { CountedNumber } from "../../run/counter/counter.js";
import { CLOCK_NAMES, syscallNumber } from "../../vdso/syscalls.js";

/** ABIs whose programs are traced. */
export type TracedAbi = "x86_64" | "i386";

/** A system call that a vDSO answers, or would. */
interface ServedCall extends CountedNumber {
  readonly name: string;
}

const SERVED_NAMES = [
  ...["clock_gettime", "clock_gettime64", "gettimeofday", "time", "getcpu"],
  ...["clock_getres", "clock_getres_time64"],
];

function servedCalls(abi: TracedAbi): ServedCall[] {
  return SERVED_NAMES.flatMap((name) => {
    const number = syscallNumber(abi, name);
    return number === undefined ? [] : [{ number, name, byArgument: name.startsWith("clock_get") }];
  });
}

/** The system calls that are counted, by ABI. */
export const SERVED_CALLS: Readonly<Record<TracedAbi, readonly ServedCall[]>> = {
  x86_64: servedCalls("x86_64"),
  i386: servedCalls("i386"),
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
