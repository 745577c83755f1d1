import type { CallFigures } from "../measure/figures.js";

/** The scale of a chart of nanoseconds. */
export interface NsScale {
  /** Logarithmic where the figures span more than linear bars could show. */
  readonly kind: "logarithmic" | "linear";
  /** The ends, in nanoseconds. */
  readonly from: number;
  readonly to: number;
  /** Values to be marked, both ends included. */
  readonly ticks: readonly number[];
  /** Where a value lies, 0 to 1. */
  at(ns: number): number;
}

/** A linear bar of less than this part of the longest one is hardly seen. */
const LEAST_PART = 1 / 50;

/** No figure is drawn as less, for a logarithm has no zero, and what is less than the loop's own cost tells nothing. */
const LEAST_NS = 1;

/** The scale for rows, the same for all of them. */
export function nsScale(rows: readonly Pick<CallFigures, "nsMedian">[]): NsScale {
  const values = rows.map(({ nsMedian }) => Math.max(LEAST_NS, nsMedian));
  const most = Math.max(1, ...values);
  const least = Math.min(most, ...values);
  if (least / most >= LEAST_PART) {
    const step = 10 ** Math.floor(Math.log10(most));
    const to = Math.ceil(most / step) * step;
    return { kind: "linear", from: 0, to, ticks: [0, to / 2, to], at: (ns) => clamped(ns / to) };
  }
  const first = Math.floor(Math.log10(least));
  const last = Math.ceil(Math.log10(most));
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  const at = (ns: number): number => clamped((Math.log10(Math.max(LEAST_NS, ns)) - first) / (last - first));
  return { kind: "logarithmic", from: 10 ** first, to: 10 ** last, ticks, at };
}

function clamped(part: number): number {
  return Math.min(1, Math.max(0, part));
}
