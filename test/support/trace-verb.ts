import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { TraceResult } from "../../src/verbs/trace.js";
import { type Executed, ExecVerb } from "./exec-verb.js";
import { output } from "./referee.js";

/** What trace counted of a program, and how that ended. */
export interface Traced extends Executed {
  readonly result: TraceResult;
}

/** The trace verb as one file, and strace as its referee. */
export class TraceVerb {
  readonly verb: ExecVerb;
  readonly #folder: string;

  private constructor(verb: ExecVerb, folder: string) {
    this.verb = verb;
    this.#folder = folder;
  }

  /** `folder` is where results are written to. */
  static async in(folder: string): Promise<TraceVerb> {
    return new TraceVerb(await ExecVerb.bundle("trace"), folder);
  }

  /** Traces a program; `options` before the words of the program. */
  trace(options: readonly string[], ...words: readonly string[]): Traced {
    const file = join(this.#folder, "result.json");
    const run = this.verb.run("--json", "-o", file, ...options, "--", ...words);
    return { ...run, result: JSON.parse(readFileSync(file, "utf8")) as TraceResult };
  }

  /** How often the same calls are made, by what strace counts. */
  straced(...words: readonly string[]): Map<string, number> {
    return straced(this.#folder, words);
  }
}

/** Calls by name, as strace counts them; the program may end as it likes. */
function straced(folder: string, words: readonly string[]): Map<string, number> {
  const file = join(folder, "strace.txt");
  const calls = "clock_gettime,gettimeofday,time,getcpu,clock_getres";
  output(
    "sh",
    "-c",
    'f=$1 c=$2; shift 2; strace -f -qq -o "$f" -e trace="$c" "$@" >&2; :',
    "sh",
    file,
    calls,
    ...words,
  );
  return callsIn(readFileSync(file, "utf8"));
}

/** Calls by name, in what `strace -f` wrote. */
export function callsIn(text: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const line of text.split("\n")) {
    const name = /^\d+\s+(\w+)\(/.exec(line)?.[1];
    if (name) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

/** The calls that were counted, by name. */
export function byName({ rows }: TraceResult): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { call, calls } of rows) {
    const name = call.replace(/\(.*$/, "");
    counts.set(name, (counts.get(name) ?? 0) + calls);
  }
  return counts;
}
