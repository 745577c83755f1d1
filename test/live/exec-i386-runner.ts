import { execFile, execFileSync } from "node:child_process";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { main } from "../../src/cli/main.js";

/** A call of the command line program on the machine on which programs of i386 run. */
export interface PlannedCall {
  readonly name: string;
  /** What stands behind `linux-gate`. */
  readonly words: readonly string[];
  /** Shell commands for before and behind the call. */
  readonly before?: string;
  readonly after?: string;
  /**
   * Shell commands for when the program that was started sleeps; `$pid` is its process. It has to write its process id
   * as its first line, and to end of itself when they have ended.
   */
  readonly meanwhile?: readonly string[];
}

/** How it ended. */
export interface CalledBack {
  readonly name: string;
  readonly status: number;
  /** Of the command and the program that it started, which share them. */
  readonly stdout: string;
  readonly stderr: string;
  /** What each of the commands in between wrote to both of its outputs. */
  readonly meanwhile: readonly string[];
}

/**
 * Makes the calls of a plan one after the other in one process, because a guest takes long to start each. Its own outputs
 * are files, opened to append, whose names it is given: what is in them behind a call is that call's.
 */
const [plan, results, stdout, stderr] = process.argv.slice(2) as [string, string, string, string];
const made: CalledBack[] = [];
// The command ends with the process, and leaves a listener for that.
process.setMaxListeners(0);
for (const call of JSON.parse(readFileSync(plan, "utf8")) as PlannedCall[]) {
  // What hangs is seen there.
  writeFileSync("/dev/console", `${call.words.join(" ")}\n`);
  for (const file of [stdout, stderr]) truncateSync(file);
  if (call.before) execFileSync("sh", ["-c", call.before]);
  const ending = main(call.words, () => "0");
  const meanwhile = call.meanwhile ? await runMeanwhile(call.meanwhile, ending) : [];
  const status = await ending;
  if (call.after) execFileSync("sh", ["-c", call.after]);
  made.push({
    name: call.name,
    status,
    stdout: readFileSync(stdout, "utf8"),
    stderr: readFileSync(stderr, "utf8"),
    meanwhile,
  });
  writeFileSync(results, JSON.stringify(made));
}

async function runMeanwhile(commands: readonly string[], ending: Promise<number>): Promise<string[]> {
  let ended = false;
  void ending.finally(() => {
    ended = true;
  });
  for (let pid = ""; !ended; await sleep(20)) {
    pid = /^(\d+)\n/.exec(readFileSync(stdout, "latin1"))?.[1] ?? "";
    if (pid !== "" && sleeps(pid)) return await runAll(commands, pid);
  }
  return [];
}

function sleeps(pid: string): boolean {
  try {
    return / S /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    // It has ended.
    return false;
  }
}

async function runAll(commands: readonly string[], pid: string): Promise<string[]> {
  const outputs: string[] = [];
  for (const command of commands) {
    outputs.push(
      await new Promise((resolve) => {
        execFile("sh", ["-c", command], { env: { ...process.env, pid } }, (_error, out, err) => resolve(out + err));
      }),
    );
  }
  return outputs;
}
