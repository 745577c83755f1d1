import { type ClockChange, SECOND } from "../forge/clock.js";

/** The time that clocks of the calendar are to show. */
export type TimeSpec =
  /** This when the program starts: nanoseconds since 1970. */
  | { readonly kind: "absolute"; readonly ns: bigint }
  /** This many nanoseconds more than the kernel's. */
  | { readonly kind: "offset"; readonly ns: bigint };

/** How clocks are to be changed. */
export interface TimeWish {
  /** Absent: the calendar's clocks start from the time that it is. */
  readonly spec?: TimeSpec;
  /** 32 bits of whole and 32 of fraction; 0 stops the clocks. */
  readonly rate: bigint;
  /** Whether the clocks that count from the machine's start go at the rate too. */
  readonly monotonic: boolean;
}

/** Clocks of the calendar, by what each is read from at the start: REALTIME (its coarse and alarm forms too) and TAI. */
const CALENDAR: readonly (readonly [clock: number, readFrom: number])[] = [
  [0, 0],
  [5, 0],
  [8, 0],
  [11, 11],
];

/** Clocks that count from the machine's start: MONOTONIC and its coarse form, MONOTONIC_RAW, BOOTTIME and its alarm form. */
const SINCE_START: readonly (readonly [clock: number, readFrom: number])[] = [
  [1, 1],
  [6, 1],
  [4, 4],
  [7, 7],
  [9, 7],
];

/** The clocks that a wish changes. */
export function changedClocks({ monotonic }: TimeWish): number[] {
  return [...CALENDAR, ...(monotonic ? SINCE_START : [])].map(([clock]) => clock);
}

/**
 * The change that a wish means from now on. `read` gives what a clock shows, in nanoseconds, `undefined` for one that this
 * kernel has not.
 *
 * A clock that counts from the machine's start is never put forward or back: its zero has no meaning.
 */
export async function clockChange(
  { spec, rate, monotonic }: TimeWish,
  read: (clock: number) => Promise<bigint | undefined>,
): Promise<ClockChange> {
  const wanted = new Set([...CALENDAR, ...(monotonic ? SINCE_START : [])].map(([, from]) => from));
  const readings = new Map<number, bigint>();
  for (const clock of wanted) {
    const now = await read(clock);
    if (now !== undefined) readings.set(clock, now);
  }
  const now = readings.get(0) ?? 0n;
  // TAI is whole seconds away; it was read a moment later, which a clock that stands still would show for good.
  const tai = readings.get(11);
  if (tai !== undefined) readings.set(11, now + ((tai - now) / SECOND) * SECOND);
  const shift = spec === undefined ? 0n : spec.kind === "offset" ? spec.ns : spec.ns - now;
  const clocks = new Map<number, { readonly real: bigint; readonly shown: bigint }>();
  const add = (list: typeof CALENDAR, by: bigint): void => {
    for (const [clock, from] of list) {
      const real = readings.get(from);
      if (real !== undefined) clocks.set(clock, { real, shown: real + by });
    }
  };
  add(CALENDAR, shift);
  if (monotonic) add(SINCE_START, 0n);
  return { rate, clocks };
}
