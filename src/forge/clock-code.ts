import type { RegisterName } from "../isa/x86/assembler.js";
import { actionOn, type ClockAction, type ClockGroup, type ClockPlan, clockGroups, kernelFunctions } from "./clock.js";
import type { FunctionCode, FunctionPlan } from "./code.js";

/** A number of nanoseconds below 2^32, times this and without the lowest {@link MICROSECOND_SHIFT} bits: microseconds. */
export const MICROSECOND_FACTOR = 274_877_907;

/** See {@link MICROSECOND_FACTOR}, which is 2^38 / 1000 rounded up. */
export const MICROSECOND_SHIFT = 38;

/**
 * Goes by the clock whose number is in a register: to what `write` writes for the group that it is in, or else to the
 * kernel's function.
 */
export function dispatchClock(
  code: FunctionCode,
  register: RegisterName,
  { kernel, groups }: { readonly kernel: bigint; readonly groups: readonly ClockGroup[] },
  write: (action: ClockAction, index: number) => void,
): void {
  const labelOf = (index: number): string => code.local(`group ${index}`);
  groups.forEach(({ clocks }, i) => {
    for (const clock of clocks) {
      const short = clock >= -0x80 && clock < 0x80;
      code.op(short ? "Cmp_rm32_imm8" : "Cmp_rm32_imm32", register, clock).branch("je", labelOf(i));
    }
  });
  code.jumpTo(kernel);
  groups.forEach(({ action }, i) => {
    code.label(labelOf(i));
    write(action, i);
  });
}

/** What writes the code of functions that tell changed clocks, in an ABI. `kernel` is where the kernel's own function is. */
export interface ClockWriters {
  clockGettime(code: FunctionCode, kernel: bigint, groups: readonly ClockGroup[]): void;
  /** Where `clock_gettime` has seconds of 32 bits. */
  clockGettime64?(code: FunctionCode, kernel: bigint, groups: readonly ClockGroup[]): void;
  gettimeofday(code: FunctionCode, kernel: bigint, realtime: ClockAction): void;
  time(code: FunctionCode, clock: number, action: ClockAction): void;
}

const REALTIME = 0;
const REALTIME_COARSE = 5;

/** The functions of an image that changes clocks: all that the kernel's has but its gate; most jump to the kernel's. */
export function changedFunctions({ change, kernel }: ClockPlan, writers: ClockWriters): FunctionPlan[] {
  const groups = clockGroups(change);
  return kernelFunctions(kernel).map(({ name, aliases, address }) => ({
    name,
    aliases,
    version: "LINUX_2.6",
    signal: false,
    write: writerOf(name.replace(/^__vdso_/, ""), address, groups, writers) ?? ((code) => code.jumpTo(address)),
  }));
}

function writerOf(
  name: string,
  kernel: bigint,
  groups: readonly ClockGroup[],
  writers: ClockWriters,
): ((code: FunctionCode) => void) | undefined {
  const realtime = actionOn(groups, REALTIME);
  const coarse = actionOn(groups, REALTIME_COARSE);
  const { clockGettime64 } = writers;
  switch (name) {
    case "clock_gettime":
      return (code) => writers.clockGettime(code, kernel, groups);
    case "clock_gettime64":
      return clockGettime64 && ((code) => clockGettime64(code, kernel, groups));
    case "gettimeofday":
      return realtime && ((code) => writers.gettimeofday(code, kernel, realtime));
    case "time":
      // The kernel's own tells the coarse clock.
      if (coarse) return (code) => writers.time(code, REALTIME_COARSE, coarse);
      return realtime && ((code) => writers.time(code, REALTIME, realtime));
    default:
      return undefined;
  }
}
