import type { NamedPlace } from "../measure/trace/names.js";
import { libraryName } from "../measure/trace/names.js";
import type { Entry, TraceFinding, TraceResult, TraceRow, TraceSite } from "../verbs/trace.js";
import { wholeText } from "./bench-words.js";
import { wrap } from "./explain.js";
import { plainStyle, type Style } from "./style.js";
import { table } from "./table.js";
import { visible } from "./visible.js";

const ENTRIES: Readonly<Record<Entry, string>> = {
  vdso: "from inside the vDSO",
  libc: "by the C library",
  "syscall()": "by syscall()",
  "dynamic linker": "by the dynamic linker",
  "own code": "by an instruction of its own",
};

/** Places that are listed; JSON has all. */
const MOST_SITES = 10;

/** Names that are listed in a sentence. */
const MOST_NAMES = 3;

/** The calls as a table, the places that make most of them, and what it comes to. */
export function renderTrace(result: TraceResult, style: Style = plainStyle): string {
  return [...parts(result, style)].join("\n");
}

function* parts(result: TraceResult, style: Style): Generator<string> {
  if (result.rows.length > 0) {
    yield table(result.rows.map(rowCells), {
      header: ["calls", "a second", "share", "in the kernel", "lost", "call", "library", "made"],
      right: [0, 1, 2, 3, 4],
      style,
    });
    yield `${style.bold("where")}\n${table(result.sites.slice(0, MOST_SITES).map(siteCells), { right: [0], style })}${moreSites(result)}`;
  }
  const findings = result.findings.map(
    (finding) => `${style.bold(visible(title(finding)))}\n${wrap(advice(finding, result), "  ")}`,
  );
  yield `${wrap(verdict(result))}${findings.join("")}${method(result)
    .map((sentence) => wrap(sentence))
    .join("")}`;
}

function rowCells(row: TraceRow): string[] {
  return [
    wholeText(row.calls),
    wholeText(row.perSecond),
    `${(row.share * 100).toFixed(1)}%`,
    row.kernelNs === undefined ? "?" : time(row.kernelNs),
    row.byDesign ? "by design" : row.lostNs === undefined ? "?" : time(row.lostNs),
    row.abi === "i386" ? `${row.call} of i386` : row.call,
    row.library ?? "?",
    ENTRIES[row.entry],
  ];
}

function siteCells({ calls, call, caller, entered, entry }: TraceSite): string[] {
  const through = entry === "own code" ? "" : `through ${place(entered)}`;
  return [wholeText(calls), call, caller ? place(caller) : "?", through];
}

function moreSites({ sites }: TraceResult): string {
  const more = sites.length - MOST_SITES;
  return more > 0 ? `and ${wholeText(more)} more, which --json lists\n` : "";
}

function place({ file, offset, symbol }: NamedPlace): string {
  if (file === "") return libraryName(file);
  const name = `${libraryName(file)}+0x${offset.toString(16)}`;
  return symbol === undefined ? name : `${name} (${symbol})`;
}

function verdict({ calls, lostNs, seconds, rows, ended, pid }: TraceResult): string {
  const gone = ended ? `process ${pid} has ended; ` : "";
  const within = `in ${time(seconds * 1e9)}`;
  if (calls === 0) return `${gone}${within} no clock or getcpu call reached the kernel`;
  const unknown = rows.some((row) => row.lostNs === undefined) ? ", not counting those marked ?" : "";
  return `${gone}${callsText(calls)} ${within} reached the kernel; untraced, about ${time(lostNs)} are lost by that${unknown}`;
}

function callsText(calls: number): string {
  return `${wholeText(calls)} ${calls === 1 ? "call" : "calls"}`;
}

function title({ id, calls, libraries, lostNs }: TraceFinding): string {
  const lost = id === "by-design" || lostNs === undefined ? "" : `, about ${time(lostNs)} lost`;
  return `${id}: ${callsText(calls)}${libraries.length > 0 ? ` of ${some(libraries)}` : ""}${lost}`;
}

function advice({ id, kinds }: TraceFinding, { withoutVdso }: TraceResult): string {
  switch (id) {
    case "vdso-falls-back":
      return `the vDSO was called and entered the kernel for ${some(kinds)}: a clocksource that it cannot read is the usual cause; linux-gate doctor says which, and what to do`;
    case "libc-without-vdso":
      if (withoutVdso) return "the C library made the system call, as it was to: the program was given no vDSO";
      return "the C library made the system call: it was given no vDSO, or does not look for one (old or static); linux-gate doctor PID tells which";
    case "syscall-function":
      return `syscall() never uses the vDSO: call ${some([...new Set(kinds.map((kind) => kind.replace(/\(.*$/, "")))])} of the C library instead`;
    case "own-system-call":
      if (withoutVdso) return "the code made the system call itself: the program was given no vDSO";
      return "the code makes the system call itself: it has no vDSO, or does not look for one, as some static programs and runtimes; linux-gate doctor PID tells which";
    case "by-design":
      return `no vDSO answers ${some(kinds)}, on any machine: nothing is lost, but each call costs as much as any system call`;
  }
}

function method({ method: by, noNewPrivileges, threads, costs }: TraceResult): string[] {
  const how =
    by === "filter"
      ? "counted by a filter that stops the program at these calls alone: they took far longer than untraced, all else ran at full speed"
      : `counted by stopping ${threads === undefined ? "the program" : `${wholeText(threads)} ${threads === 1 ? "thread" : "threads"}`} at every system call, of whatever kind: it was slowed down, and makes more calls a second untraced`;
  const each = costs.map(
    ({ call, realNs, vdsoNs }) => `${call} ${single(realNs)}${vdsoNs === undefined ? "" : ` / ${single(vdsoNs)}`}`,
  );
  const privileges = noNewPrivileges
    ? "; programs could not get privileges (no_new_privs), which a filter asks of users"
    : "";
  const measured = `times are counts times what calls cost here untraced, as system call / by the vDSO: ${each.join(", ")}`;
  return [`${how}${privileges}`, ...(each.length > 0 ? [measured] : [])];
}

/** What one call costs: `23 ns`. */
function single(ns: number): string {
  return ns < 0.5 ? "<1 ns" : `${ns.toFixed(0)} ns`;
}

function some(names: readonly string[]): string {
  const more = names.length - MOST_NAMES;
  return `${names.slice(0, MOST_NAMES).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

/** Nanoseconds in the unit that leaves one to three figures before the point. */
function time(ns: number): string {
  for (const [unit, size] of [
    ["s", 1e9],
    ["ms", 1e6],
    ["µs", 1e3],
  ] as const) {
    if (ns >= size) return `${(ns / size).toFixed(ns / size < 10 ? 2 : ns / size < 100 ? 1 : 0)} ${unit}`;
  }
  return `${Math.round(ns)} ns`;
}
