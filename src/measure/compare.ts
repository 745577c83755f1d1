import type { AgentAbi } from "../agent/protocol.js";
import { FormatError } from "../bytes/error.js";
import type { Via } from "./calls.js";
import { type CallFigures, type Controls, MISLEADING_NS } from "./figures.js";

/** What became of a row since an earlier run. */
export type Change =
  | "faster"
  | "slower"
  /** No more than noise. */
  | "same"
  /** It was not measured then. */
  | "new"
  /** It was measured then, and is refused now or no longer there. */
  | "gone";

/** The figures of a row that are compared. */
export interface ComparedFigures {
  readonly nsMedian: number;
  readonly nsLow: number;
  readonly nsHigh: number;
  /** Absent in runs that do not say. */
  readonly nsP5?: number;
  readonly drift?: number;
}

/** A row of an earlier run. */
export interface EarlierRow extends ComparedFigures {
  readonly abi: AgentAbi;
  readonly call: string;
  readonly via: Via;
}

/** An earlier run: its rows, and what it says of its machine. */
export interface EarlierRun {
  readonly rows: readonly EarlierRow[];
  /** Nanoseconds that the controls took with the loop, by ABI and name; those that it has. */
  readonly controls: ReadonlyMap<string, number>;
  /** `Linux 6.18.44`, the name of the processor, the clocksource: those that it has. */
  readonly host: Readonly<Partial<Record<"system" | "processor" | "clocksource", string>>>;
}

/** A row, then and now. */
export interface RowChange {
  readonly abi: AgentAbi;
  readonly call: string;
  readonly via: Via;
  readonly change: Change;
  readonly before?: ComparedFigures;
  readonly after?: ComparedFigures;
  /** The median now by the median then: more than 1 is slower. */
  readonly ratio?: number;
}

/** A later run, as far as it is compared. */
export interface LaterRun {
  readonly rows: readonly CallFigures[];
  readonly abis: readonly { readonly abi: AgentAbi; readonly controls: Controls }[];
}

/** A difference smaller than this part of the median is none. */
const LEAST_CHANGE = 0.03;

/** Neither is one of so many nanoseconds; of figures from which the loop cannot be told well, of so many. */
const LEAST_NS = 0.5;
const LEAST_NS_OF_FEW = 2;

/** What no kernel has a part in: it tells how fast the machine itself was. */
const MACHINE_CONTROLS = ["emptyReturn", "emptyJump", "cpuid"] as const;

/**
 * What became of each row. It has another speed if
 *
 * - the intervals of the medians do not overlap,
 * - the medians differ by more than 3%, by more than either run drifted while it was made, and by more than the controls
 *   changed, which tell how fast the machine itself was,
 * - and 95 of 100 batches of the slower run were slower than the median of the faster, where both runs say.
 *
 * `wanted` says which of the earlier rows were to be measured again.
 */
export function compareRuns(
  earlier: EarlierRun,
  now: LaterRun,
  wanted: (row: EarlierRow) => boolean = () => true,
): RowChange[] {
  const keyOf = ({ abi, call, via }: EarlierRow): string => `${abi} ${call} ${via}`;
  const before = new Map(earlier.rows.map((row) => [keyOf(row), row]));
  const there = new Set(now.rows.map(keyOf));
  const machine = new Map(now.abis.map(({ abi, controls }) => [abi, machineChange(earlier, abi, controls)]));
  const changes = now.rows.map((row): RowChange => {
    const { abi, call, via } = row;
    const after = figuresIn(row);
    const old = before.get(keyOf(row));
    if (!old) return { abi, call, via, change: "new", after };
    const ratio = old.nsMedian > 0 ? Math.round((1000 * row.nsMedian) / old.nsMedian) / 1000 : undefined;
    const change = changeOf(old, row, machine.get(abi) ?? 0);
    return { abi, call, via, change, before: figuresIn(old), after, ...(ratio !== undefined && { ratio }) };
  });
  const gone = earlier.rows
    .filter((row) => !there.has(keyOf(row)) && wanted(row))
    .map((row): RowChange => {
      const { abi, call, via } = row;
      return { abi, call, via, change: "gone", before: figuresIn(row) };
    });
  return [...changes, ...gone];
}

/** By what part the controls changed most. */
function machineChange({ controls: before }: EarlierRun, abi: AgentAbi, controls: Controls): number {
  const changes = MACHINE_CONTROLS.flatMap((name) => {
    const [then, now] = [before.get(`${abi} ${name}`), controls[name]?.nsRaw];
    return then === undefined || now === undefined || then === 0 ? [] : [Math.abs(now / then - 1)];
  });
  return Math.max(0, ...changes);
}

function figuresIn({ nsMedian, nsLow, nsHigh, nsP5, drift }: ComparedFigures): ComparedFigures {
  return {
    nsMedian,
    nsLow,
    nsHigh,
    ...(nsP5 !== undefined && { nsP5 }),
    ...(drift !== undefined && { drift }),
  };
}

function changeOf(before: ComparedFigures, after: ComparedFigures, machine: number): Change {
  const [slow, fast] = after.nsMedian > before.nsMedian ? [after, before] : [before, after];
  const difference = slow.nsMedian - fast.nsMedian;
  const part = Math.max(LEAST_CHANGE, machine, before.drift ?? 0, after.drift ?? 0);
  const least = Math.max(part * before.nsMedian, slow.nsMedian < MISLEADING_NS ? LEAST_NS_OF_FEW : LEAST_NS);
  const apart = slow.nsLow > fast.nsHigh && (slow.nsP5 ?? slow.nsMedian) > fast.nsMedian;
  if (!apart || difference <= least) return "same";
  return slow === after ? "slower" : "faster";
}

const ABIS: readonly string[] = ["i386", "x86_64"] satisfies AgentAbi[];
const VIAS: readonly string[] = ["vdso", "gate", "syscall", "sysenter", "int80"] satisfies Via[];

/** Most rows of a run: more than there can be. */
const MAX_ROWS = 10_000;

/**
 * Reads what `bench --json` printed. Throws {@link FormatError} where it is something else; its offset is the number of
 * the row.
 */
export function readRun(text: string): EarlierRun {
  const run = parsed(text);
  const { rows, schema, host, abis } = run;
  if (schema !== 1) throw new FormatError("Cannot read an earlier run: it has no schema 1", 0, String(schema));
  if (!Array.isArray(rows)) throw new FormatError("Cannot read an earlier run: it has no rows", 0);
  if (rows.length > MAX_ROWS) throw new FormatError("Cannot read an earlier run: too many rows", MAX_ROWS, rows.length);
  return { rows: rows.map(rowOf), controls: controlsOf(abis), host: hostOf(host) };
}

function parsed(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new FormatError("Cannot read an earlier run: it is no JSON", 0);
  }
  if (!isRecord(value)) throw new FormatError("Cannot read an earlier run: it is no object", 0);
  return value;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function rowOf(row: unknown, index: number): EarlierRow {
  const wrong = (what: string, value?: unknown) =>
    new FormatError(`Cannot read an earlier run: row ${index} has no ${what}`, index, String(value));
  if (!isRecord(row)) throw wrong("fields", row);
  const { abi, call, via, nsP5, drift } = row;
  if (typeof abi !== "string" || !ABIS.includes(abi)) throw wrong("known abi", abi);
  if (typeof call !== "string") throw wrong("call", call);
  if (typeof via !== "string" || !VIAS.includes(via)) throw wrong("known via", via);
  const number = (name: "nsMedian" | "nsLow" | "nsHigh"): number => {
    const value = row[name];
    if (!isAmount(value)) throw wrong(name, value);
    return value;
  };
  return {
    abi: abi as AgentAbi,
    call,
    via: via as Via,
    nsMedian: number("nsMedian"),
    nsLow: number("nsLow"),
    nsHigh: number("nsHigh"),
    ...(isAmount(nsP5) && { nsP5 }),
    ...(isAmount(drift) && { drift }),
  };
}

function isAmount(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0;
}

function controlsOf(abis: unknown): Map<string, number> {
  const controls = new Map<string, number>();
  for (const one of Array.isArray(abis) ? abis.slice(0, ABIS.length) : []) {
    if (!isRecord(one) || !isRecord(one.controls)) continue;
    for (const name of MACHINE_CONTROLS) {
      const control = one.controls[name];
      if (isRecord(control) && isAmount(control.nsRaw)) controls.set(`${one.abi} ${name}`, control.nsRaw);
    }
  }
  return controls;
}

function hostOf(host: unknown): EarlierRun["host"] {
  if (!isRecord(host)) return {};
  return Object.fromEntries(
    (["system", "processor", "clocksource"] as const).flatMap((name) => {
      const value = host[name];
      return typeof value === "string" ? [[name, value] as const] : [];
    }),
  );
}
