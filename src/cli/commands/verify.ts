import { findingWords, renderChange, renderVerify } from "../../render/verify.js";
import { hostAbi } from "../../targets/resolve.js";
import { TargetError } from "../../targets/target.js";
import type { Abi } from "../../vdso/abi.js";
import { Verifier, type VerifyPass } from "../../verbs/verify/live.js";
import { installedImage } from "../../verbs/verify/load.js";
import { isFinding, type ProcessVerdict, signature, type VerifySummary } from "../../verbs/verify/result.js";
import { type Command, type Invocation, isExpected, UsageError } from "../command.js";
import { quickDecoderFor } from "../decoder.js";
import { toJson } from "../output.js";
import { referencesOf } from "../reference-images.js";
import { everySoOften } from "../watch.js";

export const command: Command = {
  name: "verify",
  summary: "whether the vDSO of processes is what the kernel put there",
  usage: "[PID…] [--all] [--against KERNEL|FILE|build-id:HEX] [--watch SECONDS]",
  description:
    "Looks at each process's vDSO: every byte must be the kernel's own or, at a place that is patched at boot, a permitted\n" +
    "alternative; mapped once, where the auxiliary vector says, not writable, in pages that nobody has written to, with\n" +
    "its data before it. Without --against the images of a fresh process and of all processes are the reference, and a\n" +
    "file of the same build-id that the distribution installed. Breakpoints of debuggers and processes restored by CRIU\n" +
    "are told apart. Reads only: no process is stopped or attached to. What cannot be looked at is counted.\n" +
    "--json prints one object a line: each process, then a summary. Exit status 1: something was found.",
  options: {
    all: { type: "boolean", help: "every process of the machine" },
    against: {
      type: "string",
      value: "TARGET",
      help: "hold the bytes against this kernel file, image or build-id:HEX",
    },
    watch: { type: "string", value: "SECONDS", help: "look again every so often, and tell of changes only" },
  },
  examples: [
    ["linux-gate verify 1234", "one process"],
    ["linux-gate verify --all --against /boot/vmlinuz-6.1.0-50-amd64", "all, against the kernel's own file"],
    ["linux-gate verify --all --json --watch 60", "for a log pipeline"],
  ],
  arity: [0, 10_000],
  run: async (invocation) => {
    const { positionals, flag, text, output } = invocation;
    if (flag("all") && positionals.length > 0) throw new UsageError("--all and process ids exclude each other");
    if (process.platform !== "linux") throw new TargetError("verify needs Linux: it looks at processes");
    const pids = flag("all") ? undefined : pidsOf(positionals);
    const seconds = secondsOf(text("watch"));
    const given = await referencesOf(text("against"), output);
    const verifier = new Verifier({
      given,
      fresh: freshProcess,
      installed: installedImage,
      decoder: quickDecoderFor,
      again: seconds !== undefined,
    });
    try {
      const first = await verifier.pass(pids);
      tell(invocation, first);
      if (seconds === undefined) return statusOf(first, pids !== undefined);
      return await watch(invocation, verifier, first, { pids, seconds });
    } finally {
      verifier.close();
    }
  },
};

/** Ids of processes, as written, each once; none: this process. */
function pidsOf(words: readonly string[]): number[] {
  if (words.length === 0) return [process.pid];
  const pids = words.map((word) => {
    if (word === "self") return process.pid;
    const pid = Number(word);
    if (!/^\d{1,7}$/.test(word) || pid === 0) throw new UsageError(`${JSON.stringify(word)} is no process id`);
    return pid;
  });
  return [...new Set(pids)];
}

/** Longest time between two looks: beyond it, timers fire at once. */
const MAX_SECONDS = 2_000_000;

function secondsOf(word: string | undefined): number | undefined {
  if (word === undefined) return undefined;
  const seconds = Number(word);
  if (!/^\d+(\.\d+)?$/.test(word) || seconds <= 0 || seconds > MAX_SECONDS) {
    throw new UsageError(`--watch is ${JSON.stringify(word)}: it wants a number of seconds above 0`);
  }
  return seconds;
}

/** A process of an ABI that does nothing; `undefined` where none can be started. */
async function freshProcess(abi: Abi): Promise<{ pid: number; close(): void } | undefined> {
  if ((abi !== "i386" && abi !== "x86_64") || (hostAbi !== "x86_64" && hostAbi !== "i386")) return undefined;
  const { startAgent } = await import("../../agent/live.js");
  try {
    const agent = await startAgent(abi);
    return { pid: agent.pid, close: () => agent.kill() };
  } catch (error) {
    if (isExpected(error)) return undefined;
    throw error;
  }
}

/** One object on one line, as log pipelines want it. */
function jsonLine(value: object): string {
  // The writer puts line breaks between members only: in strings they are escaped.
  return `${toJson({ schema: 1, ...value }).replace(/\n */g, "")}\n`;
}

function processJson(verdict: ProcessVerdict, time: string): string {
  const findings = verdict.findings.map((finding) => ({ ...finding, what: findingWords(finding) }));
  return jsonLine({ kind: "process", time, ...verdict, findings });
}

function summaryJson(summary: VerifySummary, time: string): string {
  return jsonLine({ kind: "summary", time, ...summary });
}

function now(): string {
  return new Date().toISOString();
}

function tell({ output, json }: Invocation, { verdicts, summary }: VerifyPass): void {
  if (json) {
    const time = now();
    output.text(verdicts.map((verdict) => processJson(verdict, time)).join("") + summaryJson(summary, time));
  } else {
    output.text(renderVerify(verdicts, summary, output.style));
  }
}

/** 1 where something was found; 2 where a process that was named, or every one, cannot be looked at. */
function statusOf({ verdicts }: VerifyPass, named: boolean): number {
  if (verdicts.some(({ verdict }) => isFinding(verdict))) return 1;
  const unreadable = ({ verdict }: ProcessVerdict) =>
    verdict === "refused" || verdict === "unreadable" || (named && verdict === "vanished");
  return (named ? verdicts.some(unreadable) : verdicts.length > 0 && verdicts.every(unreadable)) ? 2 : 0;
}

interface WatchOptions {
  readonly pids: readonly number[] | undefined;
  readonly seconds: number;
}

/** Looks again until it is told to stop, and tells of changes; the status is 1 where anything was ever found. */
async function watch(
  { output, json }: Invocation,
  verifier: Verifier,
  first: VerifyPass,
  { pids, seconds }: WatchOptions,
): Promise<number> {
  const isBad = ({ verdicts }: VerifyPass) => verdicts.some(({ verdict }) => isFinding(verdict));
  let found = isBad(first);
  let before = signatures(first);
  await everySoOften(seconds, async () => {
    const next = await verifier.pass(pids);
    const time = now();
    for (const verdict of next.verdicts) {
      if (signature(verdict) === (before.get(verdict.pid) ?? "")) continue;
      output.text(json ? processJson(verdict, time) : renderChange(verdict, time, output.style));
    }
    found ||= isBad(next);
    before = signatures(next);
  });
  return found ? 1 : 0;
}

function signatures({ verdicts }: VerifyPass): Map<number, string> {
  return new Map(verdicts.map((verdict) => [verdict.pid, signature(verdict)]));
}
