import { ForgeError } from "./error.js";

/** How clocks are changed: `shown(t) = shown + ((t - real) * rate >> 32)`, in nanoseconds, for each clock listed. */
export interface ClockChange {
  /** 32.32 fixed point, up to 2^48: `1n << 32n` only shifts, `0n` freezes. */
  readonly rate: bigint;
  /** By clock id (CLOCK_REALTIME is 0): its reading at the start, and what is shown then; both in nanoseconds. */
  readonly clocks: ReadonlyMap<number, { readonly real: bigint; readonly shown: bigint }>;
}

/** What an image with changed clocks is made from. */
export interface ClockPlan {
  readonly change: ClockChange;
  /**
   * The functions of the kernel's own image by the names that it exports, aliases too, with their addresses in the
   * process for which the image is made: they are called, so they must stay mapped.
   */
  readonly kernel: ReadonlyMap<string, bigint>;
}

/** What is done to a clock's reading. */
export type ClockAction =
  /** Added; the nanoseconds are less than a second, and not negative. */
  | { readonly kind: "shift"; readonly seconds: bigint; readonly nanoseconds: number }
  /** Told in its place. */
  | { readonly kind: "freeze"; readonly seconds: bigint; readonly nanoseconds: number }
  /** `(t * rate + offset) >> 32`, in nanoseconds. */
  | { readonly kind: "rate"; readonly rate: bigint; readonly offset: bigint };

/** Clocks to which the same is done. */
export interface ClockGroup {
  readonly clocks: readonly number[];
  readonly action: ClockAction;
}

/** Nanoseconds of a second. */
export const SECOND = 1_000_000_000n;

/** What a clock that runs at its own rate has. */
const SAME_RATE = 1n << 32n;

/** Limits within which the products and sums of the machine code fit 128 bits, and the quotients 64. */
const MAX_RATE = 1n << 48n;
const MAX_REAL = 1n << 63n;
const MAX_SHOWN = 1n << 79n;

/**
 * Seconds that are added before a division and taken off behind it, so that what is divided is not negative: within
 * the limits above, a reading is less than 2^81 nanoseconds away from zero.
 */
export const BIAS_SECONDS = 1n << 52n;

/** What a changed clock shows at a real reading, in nanoseconds; `undefined` for a clock that is not changed. */
export function shownTime(change: ClockChange, clock: number, real: bigint): bigint | undefined {
  const start = change.clocks.get(clock);
  return start && start.shown + (((real - start.real) * change.rate) >> 32n);
}

/** The changed clocks, those together to which the same is done. Throws `ForgeError` on numbers beyond the limits. */
export function clockGroups(change: ClockChange): ClockGroup[] {
  const { rate } = change;
  if (rate < 0n || rate > MAX_RATE) throw new ForgeError(`a clock cannot run at ${rate}/2^32 of its rate`);
  const groups: { clocks: number[]; action: ClockAction }[] = [];
  for (const [clock, { real, shown }] of change.clocks) {
    if (!Number.isInteger(clock) || clock < -0x8000_0000 || clock > 0x7fff_ffff) {
      throw new ForgeError(`${clock} is no number of a clock`);
    }
    if (beyond(real, MAX_REAL)) throw new ForgeError(`clock ${clock} cannot have read ${real} nanoseconds`);
    if (beyond(shown, MAX_SHOWN)) throw new ForgeError(`clock ${clock} cannot show ${shown} nanoseconds`);
    const action = actionFor(rate, real, shown);
    const group = groups.find((one) => sameAction(one.action, action));
    if (group) group.clocks.push(clock);
    else groups.push({ clocks: [clock], action });
  }
  return groups;
}

/** What is done to a clock, if anything is. */
export function actionOn(groups: readonly ClockGroup[], clock: number): ClockAction | undefined {
  return groups.find(({ clocks }) => clocks.includes(clock))?.action;
}

function beyond(value: bigint, limit: bigint): boolean {
  return value < -limit || value >= limit;
}

function actionFor(rate: bigint, real: bigint, shown: bigint): ClockAction {
  if (rate === SAME_RATE) return { kind: "shift", ...split(shown - real) };
  if (rate === 0n) return { kind: "freeze", ...split(shown) };
  return { kind: "rate", rate, offset: (shown << 32n) - real * rate };
}

/** Whole seconds, rounded down, and the rest. */
function split(nanoseconds: bigint): { seconds: bigint; nanoseconds: number } {
  const rest = ((nanoseconds % SECOND) + SECOND) % SECOND;
  return { seconds: (nanoseconds - rest) / SECOND, nanoseconds: Number(rest) };
}

function sameAction(one: ClockAction, other: ClockAction): boolean {
  if (one.kind === "rate") return other.kind === "rate" && one.offset === other.offset;
  return other.kind !== "rate" && one.seconds === other.seconds && one.nanoseconds === other.nanoseconds;
}

/** A function of the kernel's image that is to have its like in ours. */
export interface KernelFunction {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly address: bigint;
}

/** The kernel's functions with all names of each; `__kernel_*` are not among them, as an image has its own. */
export function kernelFunctions(kernel: ReadonlyMap<string, bigint>): KernelFunction[] {
  const byAddress = new Map<bigint, string[]>();
  for (const [name, address] of kernel) {
    if (name.startsWith("__kernel_")) continue;
    const names = byAddress.get(address) ?? [];
    byAddress.set(address, names);
    if (name.startsWith("__vdso_")) names.unshift(name);
    else names.push(name);
  }
  return [...byAddress].map(([address, [name = "", ...aliases]]) => ({ name, aliases, address }));
}

/** The address of a function that the others need. Throws `ForgeError` where the kernel's image has none of the names. */
export function kernelAddress(kernel: ReadonlyMap<string, bigint>, ...names: readonly string[]): bigint {
  for (const name of names) {
    const address = kernel.get(name);
    if (address !== undefined) return address;
  }
  throw new ForgeError(`the kernel's image has no ${names.join(" and no ")}`);
}
