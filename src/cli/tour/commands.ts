import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { type CommandRun, shellWords } from "../../verbs/tour/exhibit.js";
import type { Run } from "../../verbs/tour/workshop.js";
import { WriteError, writeError } from "../output.js";

/** Longest run of one command, after which it is ended: the tour has none that takes a tenth of it on a machine at rest. */
const LIMIT_MS = 10_000;

/** Most of what one command prints that is kept. */
const OUTPUT_LIMIT = 1 << 20;

/** Debian's packages of the programs that the tour runs. */
const PACKAGES: Readonly<Record<string, string>> = {
  cat: "coreutils",
  dd: "coreutils",
  file: "file",
  find: "findutils",
  grep: "grep",
  ldd: "libc-bin",
  objdump: "binutils",
  od: "coreutils",
};

/** Runs the tour's commands in a folder of their own. */
export interface CommandRunner {
  readonly run: Run;
  /** What runs now, as typed. */
  readonly running: ReadonlySet<string>;
  /** Ends what runs, and removes the folder. */
  close(): Promise<void>;
}

/** Makes the folder. `changed` is called when a command begins or ends. Throws {@link WriteError}. */
export function createRunner(changed: () => void = () => {}): CommandRunner {
  const program = realpathSync(process.argv[1] ?? "");
  const folder = scratchFolder();
  const running = new Set<string>();
  const children = new Map<ChildProcess, Promise<CommandRun>>();
  return {
    running,
    run: async (words, environment = {}) => {
      const command = shellWords(words, environment);
      const [name = "", ...rest] = words;
      const [path, args] = name === "linux-gate" ? [process.execPath, [program, ...rest]] : [name, rest];
      // The messages of 2005 were English ones.
      const child = spawn(path, args, {
        cwd: folder,
        env: { ...process.env, LC_ALL: "C", ...environment },
        stdio: ["ignore", "pipe", "pipe"],
      });
      running.add(command);
      changed();
      const ended = endOf(child, command, name);
      children.set(child, ended);
      const run = await ended;
      children.delete(child);
      running.delete(command);
      changed();
      return run;
    },
    close: async () => {
      for (const child of children.keys()) child.kill("SIGTERM");
      await Promise.all(children.values());
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function scratchFolder(): string {
  const parent = tmpdir();
  try {
    return mkdtempSync(join(parent, "linux-gate-tour-"));
  } catch (error) {
    const refusal = writeError(parent, error);
    throw refusal instanceof WriteError ? new WriteError(`${refusal.message}; name another folder in TMPDIR`) : refusal;
  }
}

function endOf(child: ChildProcess, command: string, name: string): Promise<CommandRun> {
  return new Promise((resolve) => {
    const pieces: Buffer[] = [];
    const results: Buffer[] = [];
    let size = 0;
    let late = false;
    const limit = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, LIMIT_MS);
    const end = (how: Pick<CommandRun, "status" | "trouble">): void => {
      clearTimeout(limit);
      resolve({ command, output: Buffer.concat(pieces).toString(), stdout: Buffer.concat(results).toString(), ...how });
    };
    const take = (piece: Buffer, into: readonly Buffer[][]): void => {
      size += piece.length;
      if (size <= OUTPUT_LIMIT) for (const list of into) list.push(piece);
    };
    child.stdout?.on("data", (piece: Buffer) => take(piece, [pieces, results]));
    child.stderr?.on("data", (piece: Buffer) => take(piece, [pieces]));
    child.once("error", (error: NodeJS.ErrnoException) => end({ trouble: startTrouble(error, name) }));
    child.once("close", (status, signal) => {
      if (late) end({ trouble: `did not end within ${LIMIT_MS / 1000} seconds` });
      else if (status !== null) end({ status });
      else end({ trouble: `ended by ${signal} (${constants.signals[signal as NodeJS.Signals]})` });
    });
  });
}

function startTrouble({ code, message }: NodeJS.ErrnoException, name: string): string {
  if (code !== "ENOENT") return message;
  const debian = PACKAGES[name];
  return `${name} is not installed here${debian ? ` (Debian has it in ${debian})` : ""}`;
}
