import type { AgentAbi } from "../agent/protocol.js";
import { CALLS, NULL_CALL } from "../measure/calls.js";
import type { RowChange } from "../measure/compare.js";
import { type CallFigures, type Measured, MISLEADING_NS, type RefusedCall } from "../measure/figures.js";
import type { Host } from "../targets/host.js";

/** Beyond so many nanoseconds, an instruction is not done by the processor alone: a virtual machine traps it. */
const TRAPPED_NS = { rdtsc: 200, cpuid: 400 } as const;

/** Something to know about the figures. */
export type BenchRemark =
  /** `cpuid`, which every virtual machine traps, takes `ns`; `int80` if `int $0x80` takes as long as that, and so may be too. */
  | { readonly kind: "virtual machine"; readonly abi: AgentAbi; readonly ns: number; readonly int80: boolean }
  /** Reading the time stamp counter is trapped. */
  | { readonly kind: "trapped tsc"; readonly abi: AgentAbi; readonly ns: number }
  /** So many of the rows have wide intervals or drift. */
  | { readonly kind: "noisy"; readonly rows: number; readonly of: number }
  /** Rows of an ABI so fast that what is left after taking off the loop says little. */
  | { readonly kind: "misleading"; readonly abi: AgentAbi; readonly rows: readonly CallFigures[] }
  /** What was refused or went wrong, in a sentence. */
  | { readonly kind: "problem"; readonly abi: AgentAbi; readonly text: string };

/** The machine that was measured, and how busy it was. */
export interface BenchHost extends Host {
  readonly processors: number;
  /** Load averages of the last minute before and after; absent where the system does not tell. */
  readonly loadBefore?: number;
  readonly loadAfter?: number;
}

/** What of an ABI is not in the rows. */
export type BenchAbi = Pick<Measured, "abi" | "controls" | "clock" | "ticksPerNs" | "cpu">;

/** A whole run. */
export interface BenchResult {
  readonly host: BenchHost;
  readonly rows: readonly CallFigures[];
  readonly refused: readonly RefusedCall[];
  readonly abis: readonly BenchAbi[];
  /** ABIs that were not measured, and why, in a sentence. */
  readonly missing: readonly { readonly abi: AgentAbi; readonly why: string }[];
  readonly remarks: readonly BenchRemark[];
  /** What became of the rows of an earlier run. */
  readonly compared?: readonly RowChange[];
}

/** So many of the rows must be noisy before the run is called so. */
const NOISY_PART = 0.1;

/** Makes a run of what was measured. */
export function benchResult(
  host: BenchHost,
  measured: readonly Measured[],
  missing: BenchResult["missing"],
): BenchResult {
  const rows = measured.flatMap((one) => one.rows);
  return {
    host,
    rows,
    refused: measured.flatMap((one) => one.refused),
    abis: measured.map(({ abi, controls, clock, ticksPerNs, cpu }) => ({
      abi,
      controls,
      clock,
      ...(ticksPerNs !== undefined && { ticksPerNs }),
      ...(cpu !== undefined && { cpu }),
    })),
    missing,
    remarks: [...noiseRemarks(rows), ...measured.flatMap(remarksOn)],
  };
}

function noiseRemarks(rows: readonly CallFigures[]): BenchRemark[] {
  const noisy = rows.filter(({ noise }) => noise.length > 0).length;
  return noisy > NOISY_PART * rows.length ? [{ kind: "noisy", rows: noisy, of: rows.length }] : [];
}

function remarksOn({ abi, rows, controls, problems }: Measured): BenchRemark[] {
  const { cpuid, rdtsc } = controls;
  const int80 = rows.find(({ call, via }) => call === NULL_CALL && via === "int80");
  const fast = rows.filter(({ nsMedian }) => nsMedian < MISLEADING_NS);
  const remarks: BenchRemark[] = problems.map((text) => ({ kind: "problem", abi, text }));
  if (cpuid && cpuid.nsMedian > TRAPPED_NS.cpuid) {
    const alike = int80 !== undefined && int80.nsMedian > cpuid.nsMedian / 2;
    remarks.push({ kind: "virtual machine", abi, ns: cpuid.nsMedian, int80: alike });
  }
  if (rdtsc && rdtsc.nsMedian > TRAPPED_NS.rdtsc) remarks.push({ kind: "trapped tsc", abi, ns: rdtsc.nsMedian });
  if (fast.length > 0) remarks.push({ kind: "misleading", abi, rows: fast });
  return remarks;
}

/** Whether a comparison is bad news: something became slower, or can no longer be called. */
export function isWorse({ compared = [] }: BenchResult): boolean {
  return compared.some(({ change }) => change === "slower" || change === "gone");
}

/**
 * Whether a call is among those that a pattern names: words with commas between, each a part of the call's name or, with
 * `*` for anything, the whole of it. Case does not count.
 */
export function callFilter(pattern: string): (call: string) => boolean {
  const words = pattern
    .toLowerCase()
    .split(",")
    .map((word) => word.trim());
  const tests = words
    .filter((word) => word !== "")
    .map((word): ((call: string) => boolean) => {
      if (!word.includes("*")) return (call) => call.includes(word);
      const parts = word.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
      const whole = new RegExp(`^${parts.join(".*")}$`);
      return (call) => whole.test(call);
    });
  return (call) => tests.some((test) => test(call.toLowerCase()));
}

/** Names of all calls, for a message. */
export const CALL_NAMES: readonly string[] = CALLS.map(({ call }) => call);
