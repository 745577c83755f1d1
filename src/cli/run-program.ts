import { readFileSync } from "node:fs";
import { isRunError, RunError } from "../run/error.js";
import { type Running, type RunRequest, startProgram } from "../run/live.js";
import { type Invocation, isExpected, UsageError } from "./command.js";
import { endBySignal, forwardSignals } from "./signals.js";

/** What is asked for beyond the program, its environment and its place. */
export type RunWish = Omit<RunRequest, "words" | "environment" | "onProcess" | "onRelease" | "onRemark">;

/**
 * Runs the program that the words behind the verb name, in this process's place, with all that it starts where that is
 * followed. Calls `settled` when all is done, and resolves to the program's status; where a signal ended it, that signal
 * ends this process. Throws {@link RunError} where it is not started.
 */
export async function runProgram(
  { positionals, output }: Invocation,
  wish: RunWish,
  settled: (running: Running) => void | Promise<void>,
): Promise<number> {
  const signals = forwardSignals();
  const request: RunRequest = {
    ...wish,
    words: programWords(positionals),
    environment: ownEnvironment(),
    onProcess: signals.begun,
    onRelease: signals.to,
    onRemark: (text) => output.remark(text),
  };
  let running: Running;
  try {
    running = await startProgram(request);
  } catch (error) {
    // A key that ended the program's process may have been heard of there first.
    await new Promise((resolve) => setImmediate(resolve));
    signals.stop();
    const [signal] = signals.received;
    // What was to end the program came before there was one.
    if (signal !== undefined) return endBySignal(signal);
    if (isRunError(error) || !isExpected(error)) throw error;
    throw new RunError(error.message, undefined, { cause: error });
  }
  const { code, signal } = await running.exited;
  // From here on the keys end this command; what the program has started runs on.
  signals.stop();
  await running.settled;
  await settled(running);
  return signal === undefined ? (code ?? 128) : endBySignal(signal);
}

/** The strings in a /proc file in which each ends with a zero byte. */
function zeroEnded(path: string): Uint8Array[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new RunError(`${path} cannot be read (${code}): a program is started through /proc`, undefined, {
      cause: error,
    });
  }
  const strings: Uint8Array[] = [];
  for (let from = 0; from < bytes.length; ) {
    const zero = bytes.indexOf(0, from);
    const end = zero < 0 ? bytes.length : zero;
    strings.push(bytes.subarray(from, end));
    from = end + 1;
  }
  return strings;
}

/** The environment as this process was given it: Node's own view of it has no bytes that are not UTF-8. */
function ownEnvironment(): Uint8Array[] {
  return zeroEnded("/proc/self/environ").filter(({ length }) => length > 0);
}

/** The program and its arguments, byte for byte: they are the last words of this process, which Node has as UTF-8. */
function programWords(positionals: readonly string[]): RunRequest["words"] {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const words = zeroEnded("/proc/self/cmdline").slice(-positionals.length);
  const same = words.length === positionals.length && words.every((word, i) => decoder.decode(word) === positionals[i]);
  const [program, ...rest] = same ? words : positionals.map((word) => new TextEncoder().encode(word));
  if (!program) throw new UsageError("no program is named");
  return [program, ...rest];
}
