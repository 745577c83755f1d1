import { NULL_CALL, type Via } from "../measure/calls.js";
import type { RowChange } from "../measure/compare.js";
import { type CallFigures, MISLEADING_NS, type RefusedCall } from "../measure/figures.js";
import type { BenchRemark, BenchResult } from "../verbs/bench.js";
import { list } from "./words.js";

/** Nanoseconds as people read them: three figures, or all before the point. */
export function nsText(ns: number): string {
  if (ns === 0) return "0";
  if (ns < 9.95) return ns.toFixed(2);
  if (ns < 99.95) return ns.toFixed(1);
  return wholeText(ns);
}

/** A number without decimals, thousands divided. */
export function wholeText(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ",");
}

/** How many times the real call. */
export function ratioText(ratio: number): string {
  if (ratio < 0.00095) return ratio.toFixed(4);
  return ratio < 0.0995 ? ratio.toFixed(3) : ratio < 9.95 ? ratio.toFixed(2) : ratio.toFixed(1);
}

/** Half the width of the interval, as a part of the median: `±0.4%`. */
export function toleranceText({ nsMedian, nsLow, nsHigh }: CallFigures): string {
  const part = nsMedian === 0 ? 0 : (50 * (nsHigh - nsLow)) / nsMedian;
  return `±${part < 9.95 ? part.toFixed(1) : part.toFixed(0)}%`;
}

/** The ways, in the words of a key. */
export const VIA_WORDS: Readonly<Record<Via, string>> = {
  vdso: "the vDSO's function",
  gate: "__kernel_vsyscall",
  syscall: "syscall",
  sysenter: "sysenter",
  int80: "int $0x80",
};

/** A call as a heading: `clock_gettime(REALTIME)` is `REALTIME` among those of clock_gettime. */
export interface CallName {
  /** The function, of calls that name a clock. */
  readonly group?: string;
  readonly name: string;
}

/** Divides the name of a call. */
export function callName(call: string): CallName {
  const [, group, name] = /^(clock_\w+)\((.+)\)$/.exec(call) ?? [];
  return group === undefined || name === undefined ? { name: call } : { group, name };
}

/** A row that was measured, or one that was refused, where it stands among the others. */
export type BenchRow = CallFigures | RefusedCall;

/** The rows of an ABI, with those that were refused behind the last of the same call. */
export function rowsOf({ rows, refused }: BenchResult, abi: CallFigures["abi"]): BenchRow[] {
  const all: BenchRow[] = rows.filter((row) => row.abi === abi);
  for (const one of refused.filter((row) => row.abi === abi)) {
    const last = all.findLastIndex(({ call }) => call === one.call);
    all.splice(last < 0 ? all.length : last + 1, 0, one);
  }
  return all;
}

/** Whether a row was refused. */
export function isRefused(row: BenchRow): row is RefusedCall {
  return "refused" in row;
}

/** What a refusal means. */
export function refusalWords({ refused }: RefusedCall): string {
  return refused.startsWith("SIG") ? `ends the process (${refused})` : `refused (${refused})`;
}

/** What the machine was, and how busy. */
export function conditionWords({ host, abis }: BenchResult): string[] {
  const { processors, loadBefore, loadAfter } = host;
  const cpus = [...new Set(abis.map(({ cpu }) => cpu))];
  const [cpu] = cpus;
  const where =
    cpus.length === 1 && cpu !== undefined
      ? `on processor ${cpu} of ${processors}`
      : `on any of ${processors} processors`;
  const load =
    loadBefore === undefined || loadAfter === undefined ? [] : [`load ${loadBefore} before, ${loadAfter} after`];
  return [where, ...load];
}

/** Marks of a row: `~` for noise, `*` where a subtraction misleads. */
export function marksOf({ noise, nsMedian }: CallFigures): string {
  return `${noise.length > 0 ? "~" : ""}${nsMedian < MISLEADING_NS ? "*" : ""}`;
}

/** What was taken off the figures, and of what call the null call is. */
export function methodWords({ abis, rows }: BenchResult): string[] {
  const sentences = abis.map(({ abi, controls, clock, ticksPerNs }) => {
    const loops = `${nsText(controls.emptyReturn.nsMedian)} ns (${nsText(controls.emptyJump.nsMedian)} where a system call comes back)`;
    const by =
      clock === "tsc" && ticksPerNs !== undefined
        ? `timed by the time stamp counter at ${ticksPerNs.toFixed(3)} GHz`
        : "timed by a system call";
    return `${abi}: the loop's own ${loops} are taken off; ${by}.`;
  });
  const none = rows.some(({ call }) => call === NULL_CALL);
  return [
    "Each figure is the median of batches, with its 95% interval; p5–p95 is where nine of ten batches lie; × is how many times the real system call it takes.",
    ...(none ? ["null is getppid, the system call that does next to nothing."] : []),
    ...sentences,
  ];
}

/** A remark in a sentence. */
export function remarkWords(remark: BenchRemark, { host }: BenchResult): string {
  switch (remark.kind) {
    case "problem":
      return `${remark.abi}: ${remark.text}.`;
    case "noisy": {
      const { loadAfter, processors } = host;
      const busy = loadAfter !== undefined && loadAfter > processors / 2;
      const why = busy ? `; the machine is busy (load ${loadAfter} on ${processors} processors)` : "";
      return `The figures are noisy: ${remark.rows} of ${remark.of} have wide intervals or drift (marked ~)${why}.`;
    }
    case "virtual machine": {
      const int80 = remark.int80
        ? " int $0x80 costs about as much, so it may be trapped too: on bare hardware it is cheaper."
        : "";
      return `${remark.abi}: cpuid takes ${nsText(remark.ns)} ns: a virtual machine traps it.${int80}`;
    }
    case "trapped tsc":
      return `${remark.abi}: reading the time stamp counter takes ${nsText(remark.ns)} ns: a virtual machine traps it, and every clock that is read through it pays.`;
    case "misleading": {
      const names = remark.rows.map(({ call, nsRaw }) => `${call} ${nsText(nsRaw)}`);
      return `${remark.abi}: below ${MISLEADING_NS} ns (marked *) a subtraction misleads, for the loop runs beside what it calls. With the loop: ${list(names)} ns.`;
    }
  }
}

/** What became of a row, with the figures. */
export function changeWords({ change, before, after, ratio }: RowChange): string {
  const percent = ratio === undefined ? "" : ` (${ratio >= 1 ? "+" : "−"}${Math.abs((ratio - 1) * 100).toFixed(0)}%)`;
  switch (change) {
    case "faster":
    case "slower":
      return `${change}${percent}`;
    case "same":
      return "same within the noise";
    case "new":
      return after ? "not measured then" : "";
    case "gone":
      return before ? "no longer there" : "";
  }
}

/** The interval of a median. */
export function intervalText({ nsLow, nsHigh }: { readonly nsLow: number; readonly nsHigh: number }): string {
  return rangeText(nsLow, nsHigh);
}

/** Two figures and what lies between. */
export function rangeText(low: number, high: number): string {
  return `${nsText(low)}–${nsText(high)}`;
}

/** How many rows of a comparison became what. */
export function comparisonWords(changes: readonly RowChange[]): string {
  const count = (change: RowChange["change"]): number => changes.filter((one) => one.change === change).length;
  const parts = (
    [
      ["slower", "slower"],
      ["gone", "no longer there"],
      ["faster", "faster"],
      ["same", "same within the noise"],
      ["new", "not measured then"],
    ] as const
  ).flatMap(([change, words]) => (count(change) > 0 ? [`${count(change)} ${words}`] : []));
  return parts.length > 0 ? parts.join(", ") : "nothing to compare";
}
