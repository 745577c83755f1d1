import type { AgentAbi } from "../agent/protocol.js";
import { realVia, type Via } from "./calls.js";
import { type Summary, summarize } from "./statistics.js";

/** Why figures are not to be trusted to their last digit. */
export type Noise =
  /** The interval of the median is wide. */
  | "wide"
  /** The median of the second half of the batches is another than that of the first. */
  | "drift";

/** What was measured of one thing: nanoseconds per call, the loop's own cost taken off. */
export interface Figures {
  readonly nsMedian: number;
  /** The bootstrap interval of the median, 95%. */
  readonly nsLow: number;
  readonly nsHigh: number;
  /** 5 and 95 of 100 batches lie below these. */
  readonly nsP5: number;
  readonly nsP95: number;
  /** The median with the loop's cost in it. */
  readonly nsRaw: number;
  /** The median in ticks of the processor's time stamp counter; absent where it was not to be used. */
  readonly cycles?: number;
  /** How many batches, and how many calls each had. */
  readonly batches: number;
  readonly calls: number;
  /** Between the medians of the two halves of the batches, as a part of the median. */
  readonly drift: number;
  readonly noise: readonly Noise[];
}

/** One row: a call, made in one way in one ABI. */
export interface CallFigures extends Figures {
  readonly abi: AgentAbi;
  /** `null`, `clock_gettime(MONOTONIC)`, `getcpu`. */
  readonly call: string;
  readonly via: Via;
  /**
   * How many times the cost of the real system call this is: less than 1 is faster. Of i386's real calls that by the
   * gate. Absent for it itself and where it was not measured.
   */
  readonly ratio?: number;
}

/** A call that was not measured, for the kernel or the processor refuses it. */
export interface RefusedCall {
  readonly abi: AgentAbi;
  readonly call: string;
  readonly via: Via;
  /** The name of the kernel's error (`ENOSYS`), or of the signal by which the process ended (`SIGILL`). */
  readonly refused: string;
}

/** Things measured beside the calls: what the loop costs, and instructions that a virtual machine may trap. */
export interface Controls {
  /** The loop around a function's call, and around one that comes back by a jump, nothing taken off. */
  readonly emptyReturn: Figures;
  readonly emptyJump: Figures;
  /** Absent where the process ended of it. */
  readonly cpuid?: Figures;
  readonly rdtsc?: Figures;
}

/** What was measured in one ABI. */
export interface Measured {
  readonly abi: AgentAbi;
  readonly rows: readonly CallFigures[];
  readonly refused: readonly RefusedCall[];
  readonly controls: Controls;
  /** What batches were timed with: the processor's time stamp counter, or the kernel's clock by a system call. */
  readonly clock: "tsc" | "system call";
  /** Ticks of the time stamp counter in a nanosecond; absent where it was not used. */
  readonly ticksPerNs?: number;
  /** The processor that it ran on; absent where it was not tied to one. */
  readonly cpu?: number;
  /** What went wrong or was refused, in sentences. */
  readonly problems: readonly string[];
}

/** An interval wider than this part of the median, or halves that differ by more, are noise. */
const NOISE = 0.05;

/** Nanoseconds that matter to nobody. */
const NEGLIGIBLE_NS = 0.5;

/** Below this many nanoseconds the loop and the call overlap in the processor, and their difference is no cost. */
export const MISLEADING_NS = 5;

/** How ticks become nanoseconds. */
export interface Scale {
  readonly nsPerTick: number;
  /** Whether ticks are those of the time stamp counter. */
  readonly tsc: boolean;
}

/** Ticks of a job's batches, in the order in which they were done. */
export interface Samples {
  readonly ticks: Float64Array;
  /** Calls in a batch. */
  readonly calls: number;
}

/** Figures of a job; `loopTicks` is what the loop costs by itself, for each call. */
export function figuresOf({ ticks, calls }: Samples, { nsPerTick, tsc }: Scale, loopTicks = 0): Figures {
  const perCall = ticks.map((each) => Math.max(0, each / calls - loopTicks) * nsPerTick);
  const summary = summarize(perCall);
  const { median, low, high, p5, p95, count, drift } = summary;
  return {
    nsMedian: rounded(median),
    nsLow: rounded(low),
    nsHigh: rounded(high),
    nsP5: rounded(p5),
    nsP95: rounded(p95),
    nsRaw: rounded(median + loopTicks * nsPerTick),
    ...(tsc && { cycles: rounded(median / nsPerTick) }),
    batches: count,
    calls,
    drift: rounded(drift),
    noise: noiseIn(summary),
  };
}

/** To a thousandth: no clock tells more. */
function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

function noiseIn({ median, low, high, drift }: Summary): Noise[] {
  const matters = (width: number): boolean => width > NEGLIGIBLE_NS && width > NOISE * median;
  return [...(matters(high - low) ? ["wide" as const] : []), ...(matters(drift * median) ? ["drift" as const] : [])];
}

/** The rows with the ratio of each to the real system call. */
export function withRatios(rows: readonly CallFigures[]): CallFigures[] {
  return rows.map((row) => {
    const same = rows.filter(({ abi, call }) => abi === row.abi && call === row.call);
    const via = realVia(
      row.abi,
      same.map((one) => one.via),
    );
    const real = same.find((one) => one.via === via);
    return real && real !== row && real.nsMedian > 0 ? { ...row, ratio: rounded(row.nsMedian / real.nsMedian) } : row;
  });
}
