import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { DoctorResult, FindingId } from "../../src/verbs/doctor.js";
import { buildTree } from "../live/i386-place.js";
import { needs } from "../support/referee.js";

/** The program, bundled from the sources, and the processes that it is to look at. */
export class Surgery {
  readonly folder = mkdtempSync(join(tmpdir(), "linux-gate-doctor-"));
  readonly program = join(this.folder, "tree/bin/linux-gate");
  readonly #started: number[] = [];

  async open(): Promise<void> {
    await buildTree(join(this.folder, "tree"));
  }

  run(words: readonly string[], wrapper: readonly string[] = []) {
    const [command = "", ...rest] = [...wrapper, process.execPath, this.program, ...words];
    return spawnSync(command, rest, { encoding: "utf8", maxBuffer: 1 << 26 });
  }

  /** What `doctor --json` says. */
  look(words: readonly string[], wrapper: readonly string[] = []): DoctorResult & { readonly status: number | null } {
    const { stdout, stderr, status } = this.run(["doctor", "--json", ...words], wrapper);
    expect(stderr).toBe("");
    return { ...(JSON.parse(stdout) as DoctorResult), status };
  }

  /** Compiles C; `undefined` where the compiler is missing. */
  compiled(name: string, source: string, ...command: readonly string[]): string | undefined {
    const [compiler = "gcc", ...flags] = command;
    if (!needs(compiler, compiler === "musl-gcc" ? "musl-tools" : "gcc")) return undefined;
    const path = join(this.folder, name);
    const args = ["-x", "c", "-", "-o", path, ...flags];
    const { status, stderr } = spawnSync(compiler, args, { input: source, encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
    return path;
  }

  /** Starts a program, and waits until it is called `name`: what is started by another takes a while. Gives its id. */
  async start(name: string, ...command: readonly string[]): Promise<number> {
    const [first = "", ...rest] = command;
    const child: ChildProcess = spawn(first, rest, { stdio: "ignore" });
    const pid = child.pid as number;
    this.#started.push(pid);
    for (let i = 0; i < 2400; i++) {
      if (commOf(pid) === name) return pid;
      const own = childrenOf(pid).find((one) => commOf(one) === name);
      if (own !== undefined) {
        this.#started.unshift(own);
        return own;
      }
      await sleep(25);
    }
    throw new Error(`${command.join(" ")} does not become ${name}`);
  }

  /** Ends what was started. */
  clear(): void {
    for (const pid of this.#started.splice(0)) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
  }

  close(): void {
    this.clear();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The name of a process's program; `undefined` where it has ended. */
function commOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  } catch {
    return undefined;
  }
}

function childrenOf(pid: number): number[] {
  const { stdout } = spawnSync("ps", ["-o", "pid=", "--ppid", String(pid)], { encoding: "utf8" });
  return stdout
    .trim()
    .split(/\s+/)
    .filter((word) => word !== "")
    .map(Number);
}

/** The ids of all findings, the worst first. */
export function ids({ findings }: DoctorResult): FindingId[] {
  return findings.map(({ id }) => id);
}

/** A program that asks for the time again and again. */
export const CLOCK_C = `#include <time.h>
#include <unistd.h>
int main(void) { struct timespec t; for (;;) { clock_gettime(CLOCK_MONOTONIC, &t); usleep(50000); } }`;
