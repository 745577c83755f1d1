import { SERVED_CALLS, tracedCall } from "../../measure/trace/calls.js";
import { measureCosts, symbolFinder } from "../../measure/trace/live.js";
import { Tally } from "../../measure/trace/tally.js";
import { renderTrace } from "../../render/trace.js";
import { countCallsOf } from "../../run/attach.js";
import type { Counting } from "../../run/counter/counter.js";
import { isRunError } from "../../run/error.js";
import { type TraceResult, type TraceSubject, traceResult } from "../../verbs/trace.js";
import { type Command, type Invocation, UsageError } from "../command.js";
import { SCHEMA, toJson } from "../output.js";
import { runProgram } from "../run-program.js";
import { writeWhole } from "../write-file.js";

/** Exit status where a process cannot be traced. */
const REFUSED = 2;

const DEFAULT_SECONDS = 5;
const MOST_SECONDS = 86_400;

export const command: Command = {
  name: "trace",
  summary: "the clock and getcpu calls of a program that reach the kernel, and what makes them",
  usage: "PID [--seconds N] | [--no-vdso] -- PROGRAM [ARGUMENT …]",
  description:
    "Counts the calls of clock_gettime, gettimeofday, time, getcpu and clock_getres that a program makes as system calls,\n" +
    "which the vDSO should have answered: by the library that makes them, with an estimate of the time lost.\n" +
    "\n" +
    "A program that is started runs under a filter that stops it at these calls alone, its children and threads included;\n" +
    "what it wants of the kernel otherwise is as quick as ever. The table goes to standard error when the last of them has\n" +
    "ended. Should this command be killed, they are too: their clocks would fail under the filter.\n" +
    "\n" +
    "A process that runs already is stopped at each of its system calls, of whatever kind: it is slowed down for as long as\n" +
    "this takes, and then runs on as before, as it does when this command is killed. Its children are not looked at.\n" +
    "\n" +
    "The exit status is the program's; after a signal, the same signal ends this. 125, 126 and 127 are as with exec. For a\n" +
    "process it is 0, or 2 where it cannot be traced.",
  options: {
    seconds: {
      type: "string",
      value: "N",
      help: `of a process: how long; ${DEFAULT_SECONDS} unless said, or until ^C`,
    },
    "no-vdso": { type: "boolean", help: "of a program: give it no vDSO, so that all such calls are system calls" },
    output: { type: "string", short: "o", value: "FILE", help: "write the result to a file" },
  },
  examples: [
    ["linux-gate trace -- ./server", "does it ask the kernel for the time, and who in it?"],
    ["linux-gate trace 1234 --seconds 10", "the same of a process that runs"],
    ["linux-gate trace --no-vdso -- date", "all clock calls of date, those that the vDSO answers included"],
    ["linux-gate trace --json -o calls.json -- make check", "for all that make starts, as JSON"],
  ],
  arity: [1, Number.POSITIVE_INFINITY],
  run: async (invocation) => {
    const { positionals, text, flag, output, json } = invocation;
    const [word] = positionals;
    // Behind `--` a number is the name of a program.
    const isProcess = positionals.length === 1 && /^\d+$/.test(word as string) && !process.argv.includes("--");
    try {
      if (isProcess && flag("no-vdso")) throw new UsageError("--no-vdso is for programs that are started");
      if (isProcess) return await traceProcess(Number(word), invocation);
      if (text("seconds") !== undefined) throw new UsageError("--seconds is for processes that run already");
      return await traceProgram(invocation);
    } catch (error) {
      if (!isRunError(error)) throw error;
      output.remark(error.message);
      if (json) output.json({ error: error.message });
      return isProcess ? REFUSED : error.status;
    }
  },
};

async function traceProgram(invocation: Invocation): Promise<number> {
  const { positionals, flag, text, json, output } = invocation;
  const tally = new Tally();
  const start = performance.now();
  const gate = flag("no-vdso") ? { kind: "none" as const } : undefined;
  return runProgram(invocation, { ...(gate && { gate }), count: countingTo(tally) }, async ({ pid, counted }) => {
    const seconds = (performance.now() - start) / 1000;
    const subject: TraceSubject = {
      command: positionals,
      pid,
      seconds,
      method: counted?.sight ?? "filter",
      noNewPrivileges: counted?.noNewPrivileges ?? false,
      withoutVdso: gate !== undefined,
    };
    const result = await resultOf(subject, tally, "/");
    const written = json ? jsonOf(result) : renderTrace(result);
    const file = text("output");
    if (file === undefined) output.aside(written);
    else writeWhole(file, new TextEncoder().encode(written));
  });
}

async function traceProcess(pid: number, invocation: Invocation): Promise<number> {
  const { text, json, output } = invocation;
  const seconds = secondsOf(text("seconds"));
  const tally = new Tally();
  const enough = new Enough(seconds);
  let subject: TraceSubject;
  try {
    const { threads, ended, seconds: taken } = await countCallsOf(pid, countingTo(tally), () => enough.wait());
    subject = { pid, seconds: taken, method: "every call", threads, ended };
  } finally {
    enough.forget();
  }
  const result = await resultOf(subject, tally, subject.ended ? "/" : `/proc/${pid}/root`);
  const file = text("output");
  if (file !== undefined) {
    writeWhole(file, new TextEncoder().encode(json ? jsonOf(result) : renderTrace(result)));
  } else if (json) output.json(result);
  else output.text(renderTrace(result, output.style));
  return 0;
}

function countingTo(tally: Tally): Counting {
  return {
    calls: SERVED_CALLS,
    count: ({ abi, number, firstArgument }, site, times) => {
      const call = tracedCall(abi, number, firstArgument);
      if (call) tally.add(call, site, times);
    },
  };
}

async function resultOf(subject: TraceSubject, tally: Tally, root: string): Promise<TraceResult> {
  const calls = tally.calls();
  return traceResult(subject, calls, { costs: await measureCosts(calls), symbolOf: symbolFinder(root) });
}

function jsonOf(result: TraceResult): string {
  return `${toJson({ schema: SCHEMA, ...result })}\n`;
}

function secondsOf(word: string | undefined): number {
  if (word === undefined) return DEFAULT_SECONDS;
  const seconds = Number(word);
  if (/^\d+(\.\d+)?$/.test(word) && seconds > 0 && seconds <= MOST_SECONDS) return seconds;
  throw new UsageError(
    `--seconds is ${JSON.stringify(word)}: it wants seconds, more than 0 and at most ${MOST_SECONDS}`,
  );
}

/** Waits for the end of a time, or for the user to end it sooner (SIGINT, SIGTERM). */
class Enough {
  readonly #seconds: number;
  readonly #reached: Promise<void>;
  #end = (): void => {};
  #timer: NodeJS.Timeout | undefined;

  constructor(seconds: number) {
    this.#seconds = seconds;
    this.#reached = new Promise((resolve) => {
      this.#end = resolve;
    });
    process.on("SIGINT", this.#end);
    process.on("SIGTERM", this.#end);
  }

  /** The time begins. */
  wait(): Promise<void> {
    this.#timer = setTimeout(this.#end, this.#seconds * 1000);
    return this.#reached;
  }

  forget(): void {
    clearTimeout(this.#timer);
    process.off("SIGINT", this.#end);
    process.off("SIGTERM", this.#end);
  }
}
