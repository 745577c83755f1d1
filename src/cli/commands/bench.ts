import { readFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import type { AgentAbi } from "../../agent/protocol.js";
import { FormatError } from "../../bytes/error.js";
import { compareRuns, type EarlierRun, readRun } from "../../measure/compare.js";
import { DEFAULT_MS, measureAbis } from "../../measure/live.js";
import { parseLoad } from "../../measure/machine.js";
import { renderBench } from "../../render/bench.js";
import { host } from "../../targets/host.js";
import { hostAbi } from "../../targets/resolve.js";
import { TargetError } from "../../targets/target.js";
import { parseAbi } from "../../vdso/abi.js";
import { type BenchHost, type BenchResult, benchResult, CALL_NAMES, callFilter, isWorse } from "../../verbs/bench.js";
import { type Command, type Invocation, UsageError } from "../command.js";
import { isTerminal, type Output } from "../output.js";
import { writeWhole } from "../write-file.js";

/** Width of what does not go to a terminal. */
const WIDTH = 120;

export const command: Command = {
  name: "bench",
  summary: "nanoseconds per call by every way into the kernel",
  usage: "[i386|x86_64] [--calls PATTERN] [--time SECONDS] [--cpu N] [--compare FILE] [--html FILE]",
  description:
    "Measures in a fresh process how long a call takes: the system call that does nothing by int $0x80, by\n" +
    "__kernel_vsyscall, by syscall and by sysenter where they work, and each function of the vDSO with every clock beside\n" +
    "the real system call. Without an ABI both are measured where this kernel runs both. The code that is timed is native,\n" +
    "made for this; nothing need be installed. What the figures are worth is told below them.\n" +
    "Exit status 1: with --compare, something is slower than it was, or no longer there.",
  options: {
    calls: {
      type: "string",
      value: "PATTERN",
      help: "only calls with this in their names; * for anything, commas between several",
    },
    time: { type: "string", value: "SECONDS", help: "how long to measure in all; 4 unless said" },
    cpu: { type: "string", value: "N", help: "the processor to run on; the calmest unless said" },
    compare: { type: "string", value: "FILE", help: "an earlier run's --json: say what changed beyond noise" },
    html: { type: "string", value: "FILE", help: "as one self-contained page with a chart; - for standard output" },
    width: { type: "string", value: "COLUMNS", help: "for the text; the terminal's unless said" },
  },
  examples: [
    ["linux-gate bench", "every way into the kernel, in both ABIs"],
    ["linux-gate bench x86_64 --calls MONOTONIC", "one clock and its kin"],
    ["linux-gate bench --json > before.json", "to compare with later: linux-gate bench --compare before.json"],
  ],
  arity: [0, 1],
  run: async (invocation) => {
    const { text, output, json } = invocation;
    const abis = abisOf(invocation.positionals[0]);
    const pattern = text("calls");
    const wanted = pattern === undefined ? () => true : filterOf(pattern);
    const seconds = numberOf("time", text("time"), { least: 0.1, most: 3600, unit: "seconds" });
    const cpu = numberOf("cpu", text("cpu"), { least: 0, most: 8191, unit: "a processor", whole: true });
    const width = numberOf("width", text("width"), { least: 40, most: 10_000, unit: "columns", whole: true });
    const file = text("html");
    if (file === "-" && json) throw new UsageError("--json and --html - exclude each other: both are standard output");
    // Read before measuring: nobody wants to wait to hear that there is nothing to compare with.
    const compare = text("compare");
    const earlier = compare === undefined ? undefined : earlierRun(compare);

    const loadBefore = load();
    const progress = isTerminal(2) ? new Progress(output) : undefined;
    const { measured, unmeasured } = await measureAbis(abis, {
      calls: (call) => wanted(call),
      milliseconds: seconds === undefined ? DEFAULT_MS : (seconds * 1000) / abis.length,
      ...(cpu !== undefined && { cpu }),
      progress: (done) => progress?.show(done),
    }).finally(() => progress?.end());
    const [failure] = unmeasured;
    if (measured.length === 0 && failure) throw failure.error;

    const loadAfter = load();
    const machine: BenchHost = {
      ...host(),
      processors: cpus().length || availableParallelism(),
      ...(loadBefore !== undefined && { loadBefore }),
      ...(loadAfter !== undefined && { loadAfter }),
    };
    const missing = unmeasured.map(({ abi, error }) => ({ abi, why: `${error.message}.` }));
    const plain = benchResult(machine, measured, missing);
    const result: BenchResult = earlier
      ? {
          ...plain,
          compared: compareRuns(earlier, plain, ({ abi, call }) => abis.includes(abi) && wanted(call)),
        }
      : plain;
    if (earlier) remarkOnHost(earlier, machine, output);
    await show(invocation, result, { file, width });
    return isWorse(result) ? 1 : 0;
  },
};

async function show(
  { output, json }: Invocation,
  result: BenchResult,
  { file, width }: { readonly file: string | undefined; readonly width: number | undefined },
): Promise<void> {
  if (file !== undefined) {
    const { renderBenchHtml } = await import("../../render/html/bench.js");
    const page = renderBenchHtml(result);
    if (file === "-") output.text(page);
    else {
      writeWhole(file, new TextEncoder().encode(page));
      output.remark(`${file}: the figures as a page`);
    }
  }
  if (json) output.json(result);
  else if (file === undefined) {
    const columns = width ?? ((isTerminal(1) && process.stdout.columns) || WIDTH);
    output.text(renderBench(result, { width: columns, ascii: !isUtf8Locale(), style: output.style }));
  }
}

function abisOf(word: string | undefined): AgentAbi[] {
  if (process.platform !== "linux") throw new TargetError("bench needs Linux: it runs processes");
  if (word === undefined) return hostAbi === "x86_64" ? ["x86_64", "i386"] : ["i386"];
  const abi = word === "self" ? hostAbi : parseAbi(word);
  if (abi === "i386" || abi === "x86_64") return [abi];
  throw new UsageError(`${JSON.stringify(word)}: bench measures a fresh process of i386 or x86_64`);
}

function filterOf(pattern: string): (call: string) => boolean {
  const filter = callFilter(pattern);
  if (CALL_NAMES.some(filter)) return filter;
  throw new UsageError(`--calls ${JSON.stringify(pattern)} names none of ${CALL_NAMES.join(", ")}`);
}

interface Range {
  readonly least: number;
  readonly most: number;
  readonly unit: string;
  readonly whole?: boolean;
}

function numberOf(name: string, word: string | undefined, { least, most, unit, whole }: Range): number | undefined {
  if (word === undefined) return undefined;
  const value = Number(word);
  const pattern = whole ? /^\d+$/ : /^\d+(\.\d+)?$/;
  if (pattern.test(word) && value >= least && value <= most) return value;
  throw new UsageError(`--${name} is ${JSON.stringify(word)}: it wants ${unit}, ${least} to ${most}`);
}

function earlierRun(file: string): EarlierRun {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`${file}: cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
  try {
    return readRun(text);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new UsageError(`${file}: ${error.message}`, { cause: error });
  }
}

function remarkOnHost({ host: then }: EarlierRun, now: BenchHost, output: Output): void {
  for (const name of ["system", "processor", "clocksource"] as const) {
    const [before, after] = [then[name], now[name]];
    if (before !== undefined && after !== undefined && before !== after) {
      output.remark(`the earlier run is of another ${name}: ${before}, now ${after}`);
    }
  }
}

function load(): number | undefined {
  try {
    return parseLoad(readFileSync("/proc/loadavg", "latin1"));
  } catch {
    return undefined;
  }
}

/** Whether the locale's characters are UTF-8, by the variables in the order in which setlocale(3) looks at them. */
function isUtf8Locale(): boolean {
  const { LC_ALL, LC_CTYPE, LANG } = process.env;
  return /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || "");
}

/** Tells on standard error how far it is, from when it has taken a second. */
class Progress {
  readonly #output: Output;
  readonly #start = performance.now();
  #shown = false;

  constructor(output: Output) {
    this.#output = output;
  }

  show(done: number): void {
    if (performance.now() - this.#start < 1000) return;
    this.#shown = true;
    this.#output.aside(`\rmeasuring: ${Math.floor(done * 100)}% `);
  }

  end(): void {
    if (this.#shown) this.#output.aside("\r\u001b[K");
  }
}
