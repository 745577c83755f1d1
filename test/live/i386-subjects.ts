import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { CommandOutput } from "../support/guest.js";

/** A program that waits until it is ended. */
export interface Subject {
  readonly pid: number;
  readonly program: string;
  /** What it wrote to standard output. */
  readonly shown: string;
}

/** Where things lie on the machine on which the checks run. */
export interface SubjectPaths {
  /** For the checks' own files; made. */
  readonly folder: string;
  /** The command line program of linux-gate. */
  readonly program: string;
  /** Folder of the 32-bit C library, as in Debian's libc6-i386. */
  readonly lib32: string;
}

/** What the checks look at, and by what: two programs that are not ours, the command line, and referees. */
export class Subjects {
  readonly folder: string;
  /** The 32-bit dynamic linker, with a program loaded, before it loads libraries. */
  readonly i386: Subject;
  readonly x86_64: Subject;
  readonly #program: string;
  readonly #children: readonly ChildProcess[];
  #gdb: Promise<unknown> = Promise.resolve();

  private constructor(paths: SubjectPaths, i386: Subject, x86_64: Subject, children: readonly ChildProcess[]) {
    this.folder = paths.folder;
    this.i386 = i386;
    this.x86_64 = x86_64;
    this.#program = paths.program;
    this.#children = children;
  }

  static async start(paths: SubjectPaths): Promise<Subjects> {
    rmSync(paths.folder, { recursive: true, force: true });
    mkdirSync(paths.folder, { recursive: true });
    const linker = join(paths.lib32, "ld-linux.so.2");
    // Opening a FIFO to which nobody writes blocks: the dynamic linker waits there for a library to load.
    const fifo = join(paths.folder, "fifo");
    await run("mkfifo", [fifo]);
    const shown = join(paths.folder, "shown");
    const output = openSync(shown, "w");
    const loading = spawn(linker, [join(paths.lib32, "libc.so.6")], {
      env: { LD_SHOW_AUXV: "1", LD_PRELOAD: fifo },
      stdio: ["ignore", output, "inherit"],
    });
    closeSync(output);
    const sleeping = spawn("sleep", ["1000"], { stdio: "ignore" });
    await Promise.all([asleep(loading), asleep(sleeping)]);
    return new Subjects(
      paths,
      { pid: loading.pid as number, program: linker, shown: readFileSync(shown, "utf8") },
      { pid: sleeping.pid as number, program: "sleep", shown: "" },
      [loading, sleeping],
    );
  }

  /** Runs linux-gate; throws where its status is not 0. */
  linuxGate(...words: readonly string[]): Promise<CommandOutput> {
    return this.linuxGateEnding(0, ...words);
  }

  /** Runs linux-gate; throws where its status is not this one. */
  linuxGateEnding(status: number, ...words: readonly string[]): Promise<CommandOutput> {
    return run(process.execPath, [...process.execArgv, this.#program, ...words], status);
  }

  /** Runs a referee; throws where its status is not 0. */
  run(command: string, ...words: readonly string[]): Promise<CommandOutput> {
    return run(command, words);
  }

  /** What gdb prints for commands, attached to a process: one gdb at a time, as the kernel lets only one attach. */
  gdb(pid: number, ...commands: readonly string[]): Promise<string> {
    const words = ["-nx", "-batch", "-p", `${pid}`, ...commands.flatMap((command) => ["-ex", command])];
    const result = this.#gdb.then(() => run("gdb", words));
    this.#gdb = result.catch(() => {});
    return result.then(({ stdout }) => stdout.toString());
  }

  async stop(): Promise<void> {
    await Promise.all(
      this.#children.map(async (child) => {
        const ended = once(child, "exit");
        child.kill("SIGKILL");
        await ended;
      }),
    );
  }
}

/** Resolves when a child has become its program, and sleeps. */
async function asleep(child: ChildProcess): Promise<void> {
  const waiting = `(${basename(child.spawnfile)}) S `;
  for (let tries = 0; tries < 1000 && child.exitCode === null; tries++) {
    if (readFileSync(`/proc/${child.pid}/stat`, "latin1").includes(waiting)) return;
    await sleep(10);
  }
  throw new Error(`${child.spawnfile} does not wait`);
}

function run(command: string, words: readonly string[], expected = 0): Promise<CommandOutput> {
  return new Promise((resolve, reject) => {
    execFile(command, words, { encoding: "buffer", maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      const text = stderr.toString();
      const status = error ? error.code : 0;
      if (status === expected) resolve({ stdout, stderr: text, status });
      else reject(new Error(`${command} ${words.join(" ")}: ${error?.message ?? "status 0"}\n${stdout}${text}`));
    });
  });
}
