import type { TracedAbi } from "../measure/trace/calls.js";
import { type Cost, costOf, lostNs } from "../measure/trace/costs.js";
import { functionIn, libraryName, type NamedPlace, namedPlace } from "../measure/trace/names.js";
import type { Place, TalliedCall } from "../measure/trace/tally.js";

/** How a call got into the kernel. */
export type Entry =
  /** The vDSO's function did not answer by itself. */
  | "vdso"
  /** A function of the C library, which found no vDSO or does not look for one. */
  | "libc"
  /** The C library's `syscall`, which makes what system call it is told to. */
  | "syscall()"
  /** The dynamic linker's own code. */
  | "dynamic linker"
  /** The caller's own instruction, as in a static program. */
  | "own code";

/** Calls of one kind from one library. */
export interface TraceRow {
  readonly abi: TracedAbi;
  readonly call: string;
  /** The file name of the caller; absent where it is not known. */
  readonly library?: string;
  readonly entry: Entry;
  /** No vDSO answers this call: nothing is lost. */
  readonly byDesign: boolean;
  readonly calls: number;
  readonly perSecond: number;
  /** Of all calls, 0 to 1. */
  readonly share: number;
  /** What all of them took in the kernel, in nanoseconds; absent where the cost of the call was not measured. */
  readonly kernelNs?: number;
  /** What they took more than through the vDSO; absent where that is not known, 0 where nothing would be quicker. */
  readonly lostNs?: number;
}

/** Calls of one kind from one place. */
export interface TraceSite {
  readonly abi: TracedAbi;
  readonly call: string;
  readonly caller?: NamedPlace;
  /** The code that entered the kernel. */
  readonly entered: NamedPlace;
  readonly entry: Entry;
  readonly calls: number;
}

/** Something to know, or to do. */
export interface TraceFinding {
  readonly id: "vdso-falls-back" | "libc-without-vdso" | "syscall-function" | "own-system-call" | "by-design";
  readonly calls: number;
  /** Absent where it is not known. */
  readonly lostNs?: number;
  /** Who makes the calls, the most frequent first. */
  readonly libraries: readonly string[];
  /** Which calls, the most frequent first. */
  readonly kinds: readonly string[];
}

/** What was traced, and how. */
export interface TraceSubject {
  /** The words of a program that was started, or the id of a process. */
  readonly command?: readonly string[];
  readonly pid: number;
  readonly seconds: number;
  /** By a filter for these calls, or by a stop at every system call of whatever kind, which slows down all. */
  readonly method: "filter" | "every call";
  /** Whether programs ran without the right to get privileges. */
  readonly noNewPrivileges?: boolean;
  /** Whether the programs were given no vDSO, as was asked for. */
  readonly withoutVdso?: boolean;
  /** Threads that were looked at, of a process that was running. */
  readonly threads?: number;
  /** Whether that process ended meanwhile. */
  readonly ended?: boolean;
}

/** All that was traced. */
export interface TraceResult extends TraceSubject {
  readonly calls: number;
  /** Of those for which it is known. */
  readonly lostNs: number;
  readonly rows: readonly TraceRow[];
  readonly sites: readonly TraceSite[];
  readonly findings: readonly TraceFinding[];
  /** What single calls cost here. */
  readonly costs: readonly Cost[];
}

/** Makes a result of what was counted. `symbolOf` names the function at a place. */
export function traceResult(
  subject: TraceSubject,
  tallied: readonly TalliedCall[],
  { costs, symbolOf }: { readonly costs: readonly Cost[]; symbolOf(place: Place): string | undefined },
): TraceResult {
  const total = tallied.reduce((sum, { calls }) => sum + calls, 0);
  const rows = new Map<string, TraceRow>();
  const sites: TraceSite[] = [];
  for (const one of tallied) {
    const { abi, call, byDesign, calls } = one;
    const entered = namedPlace(one.entered, symbolOf);
    const caller = one.caller && namedPlace(one.caller, symbolOf);
    const entry = entryOf(one, entered);
    sites.push({ abi, call, ...(caller && { caller }), entered, entry, calls });
    const library = caller && libraryName(caller.file);
    const key = [abi, call, library ?? "", entry].join("\n");
    const all = calls + (rows.get(key)?.calls ?? 0);
    rows.set(key, {
      abi,
      call,
      ...(library !== undefined && { library }),
      entry,
      byDesign,
      calls: all,
      perSecond: subject.seconds > 0 ? all / subject.seconds : 0,
      share: all / total,
      ...timesOf(one, all, costs),
    });
  }
  const sorted = [...rows.values()].sort((a, b) => b.calls - a.calls);
  return {
    ...subject,
    calls: total,
    lostNs: sumOf(sorted, ({ lostNs: lost }) => lost ?? 0),
    rows: sorted,
    sites,
    findings: findingsOf(sorted),
    costs,
  };
}

function timesOf(call: TalliedCall, calls: number, costs: readonly Cost[]): Pick<TraceRow, "kernelNs" | "lostNs"> {
  const cost = costOf(costs, call);
  const each = call.byDesign ? 0 : cost && lostNs(cost);
  return {
    ...(cost && { kernelNs: Math.round(cost.realNs * calls) }),
    ...(each !== undefined && { lostNs: Math.round(each * calls) }),
  };
}

function entryOf({ entered: { role } }: TalliedCall, { symbol }: NamedPlace): Entry {
  switch (role) {
    case "vdso":
      return "vdso";
    case "libc":
      return functionIn(symbol) === "syscall" ? "syscall()" : "libc";
    case "dynamic linker":
      return "dynamic linker";
    default:
      return "own code";
  }
}

const FINDINGS: Readonly<Record<Entry, TraceFinding["id"]>> = {
  vdso: "vdso-falls-back",
  libc: "libc-without-vdso",
  "dynamic linker": "libc-without-vdso",
  "syscall()": "syscall-function",
  "own code": "own-system-call",
};

function findingsOf(rows: readonly TraceRow[]): TraceFinding[] {
  const byId = new Map<TraceFinding["id"], TraceRow[]>();
  for (const row of rows) {
    const id = row.byDesign ? "by-design" : FINDINGS[row.entry];
    byId.set(id, [...(byId.get(id) ?? []), row]);
  }
  return [...byId].map(([id, all]) => {
    const known = all.every(({ lostNs: lost }) => lost !== undefined);
    return {
      id,
      calls: sumOf(all, ({ calls }) => calls),
      ...(known && { lostNs: sumOf(all, ({ lostNs: lost }) => lost ?? 0) }),
      libraries: [...new Set(all.flatMap(({ library }) => library ?? []))],
      kinds: [...new Set(all.map(({ call }) => call))],
    };
  });
}

function sumOf(rows: readonly TraceRow[], of: (row: TraceRow) => number): number {
  return rows.reduce((sum, row) => sum + of(row), 0);
}
