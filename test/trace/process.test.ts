import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { TraceResult } from "../../src/verbs/trace.js";
import { runsHere } from "../support/native.js";
import { needs, output } from "../support/referee.js";
import { byName, TraceVerb } from "../support/trace-verb.js";
import { CLOCK_PROGRAM, WAITING_PROGRAM } from "./programs.js";

const scratch = mkdtempSync(join(tmpdir(), "trace-process-test-"));
let verb: TraceVerb;
beforeAll(async () => {
  verb = await TraceVerb.in(scratch);
});
afterAll(() => {
  rmSync(scratch, { recursive: true, force: true });
  verb.verb.remove();
});

const gcc = needs("gcc", "gcc");
const program = join(scratch, "program");
if (gcc) {
  writeFileSync(`${program}.c`, CLOCK_PROGRAM);
  output("gcc", "-O1", "-pthread", "-o", program, `${program}.c`);
}

/** A program that makes the same calls again each time that it is told to. */
class Rounds {
  readonly child: ChildProcess;
  readonly #lines: AsyncIterableIterator<string>;
  readonly #reader: Interface;
  /** How often each thread had slept when all of them waited. */
  #slept: readonly number[] = [];

  constructor(...words: readonly string[]) {
    this.child = spawn(program, ["rounds", String(N), ...words], { stdio: ["ignore", "pipe", "inherit"] });
    this.#reader = createInterface({ input: this.child.stdout as NonNullable<ChildProcess["stdout"]> });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  get pid(): number {
    return this.child.pid as number;
  }

  async line(): Promise<string> {
    return String((await this.#lines.next()).value);
  }

  async round(): Promise<void> {
    this.child.kill("SIGUSR1");
    expect(await this.line()).toBe("done");
  }

  status(field: string): string | undefined {
    return new RegExp(`^${field}:\\s+(\\S+)`, "m").exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))?.[1];
  }

  tracers(): string[] {
    return this.#ofThreads("TracerPid");
  }

  /** A field of the status of each thread. */
  #ofThreads(field: string): string[] {
    const tasks = readdirSync(`/proc/${this.pid}/task`);
    const status = (task: string) => readFileSync(`/proc/${this.pid}/task/${task}/status`, "utf8");
    return tasks.map((task) => new RegExp(`^${field}:\\s+(\\S+)`, "m").exec(status(task))?.[1] ?? "");
  }

  #isWaiting(): boolean {
    return this.#ofThreads("State").every((state) => state === "S");
  }

  #sleeps(): number[] {
    return this.#ofThreads("voluntary_ctxt_switches").map(Number);
  }

  /** Waits until all threads wait for the next round. */
  async waiting(): Promise<void> {
    for (let i = 0; i < 3000 && !this.#isWaiting(); i++) await sleep(10);
    this.#slept = this.#sleeps();
  }

  /**
   * Waits until each thread is stopped at its calls. How often it has slept since it waited tells that: where it was told
   * to stop, where it began to wait once more, and there.
   */
  async traced(): Promise<void> {
    const isTraced = () =>
      !this.tracers().includes("0") &&
      this.#isWaiting() &&
      this.#sleeps().every((times, i) => times >= (this.#slept[i] ?? 0) + 3);
    for (let i = 0; i < 3000 && !isTraced(); i++) await sleep(10);
    expect(isTraced()).toBe(true);
  }

  end(): void {
    this.#reader.close();
    this.child.kill("SIGKILL");
  }
}

const N = 200;
/** The first thread, that which was there, and three that are new, with ten times two calls that the vDSO has not. */
const PER_ROUND = { clock_gettime: N + N + 3 * (N / 2) + 3 * 10, clock_getres: 3 * 10 };

function start(...args: readonly string[]) {
  const child = verb.verb.start({ stdio: ["ignore", "pipe", "pipe"] }, ...args);
  let [text, errors] = ["", ""];
  child.stdout?.on("data", (data) => {
    text += String(data);
  });
  child.stderr?.on("data", (data) => {
    errors += String(data);
  });
  const closed = new Promise<{ text: string; errors: string; status: number | null }>((resolve) =>
    child.once("close", (status) => resolve({ text, errors, status })),
  );
  return { child, closed };
}

describe.skipIf(!(runsHere("x86_64") && gcc))("trace of a process that runs", () => {
  let subject: Rounds;
  const ready = async (...words: string[]) => {
    subject = new Rounds(...words);
    expect(await subject.line()).toBe("ready");
    await subject.waiting();
  };
  afterEach(() => subject.end());

  it("counts the calls of all its threads, those that come meanwhile included, and lets go of it", async () => {
    await ready();
    await subject.round();
    await subject.waiting();
    const { child, closed } = start(String(subject.pid), "--seconds", "60", "--json");
    await subject.traced();
    await subject.round();
    await subject.round();
    child.kill("SIGINT");
    const { text, status } = await closed;
    expect(status).toBe(0);
    const result = JSON.parse(text) as TraceResult;
    expect(Object.fromEntries(byName(result))).toEqual({
      clock_gettime: 2 * PER_ROUND.clock_gettime,
      clock_getres: 2 * PER_ROUND.clock_getres,
    });
    expect(result).toMatchObject({ method: "every call", threads: 2 + 2 * 3, ended: false, pid: subject.pid });
    expect(result.sites.map(({ caller }) => caller?.symbol?.split("+")[0])).toContain("other_raw_calls");
    expect(subject.tracers()).toEqual(["0", "0"]);
    await subject.round();
    // It has said that the round is done, and is on its way to wait for the next.
    await expect.poll(() => subject.status("State")).toBe("S");
  });

  it("ends after its time, and says that all was slowed down", async () => {
    await ready();
    const { text, status } = await start(String(subject.pid), "--seconds", "0.5").closed;
    expect(status).toBe(0);
    expect(text).toMatch(
      /^in [\d.]+ m?s no clock or getcpu call reached the kernel\ncounted by stopping 2 threads at every/,
    );
    await subject.round();
  });

  it.each(["SIGKILL", "SIGTERM"] as const)("leaves it as it was when this is ended by %s", async (signal) => {
    await ready();
    const { child, closed } = start(String(subject.pid), "--seconds", "60");
    await subject.traced();
    await subject.round();
    child.kill(signal);
    await closed;
    for (let i = 0; i < 3000 && subject.tracers().some((tracer) => tracer !== "0"); i++) await sleep(10);
    expect(subject.tracers()).toEqual(["0", "0"]);
    await subject.round();
  });

  it("follows what it executes, and tells when it has ended", async () => {
    await ready("exec");
    const { closed } = start(String(subject.pid), "--seconds", "60", "--json");
    await subject.traced();
    await subject.round();
    const result = JSON.parse((await closed).text) as TraceResult;
    expect(result.ended).toBe(true);
    expect(byName(result).get("getcpu")).toBe(1);
    expect(byName(result).get("clock_gettime")).toBe(PER_ROUND.clock_gettime + 3 * N + N);
  });

  it("lets one that is stopped stay stopped", async () => {
    await ready();
    subject.child.kill("SIGSTOP");
    for (let i = 0; i < 3000 && subject.status("State") !== "T"; i++) await sleep(10);
    const { status } = await start(String(subject.pid), "--seconds", "0.5").closed;
    expect([status, subject.status("State"), subject.tracers()]).toEqual([0, "T", ["0", "0"]]);
    subject.child.kill("SIGCONT");
    await subject.round();
  });

  it("does not disturb waits without a limit", async () => {
    await ready();
    writeFileSync(`${program}-waits.c`, WAITING_PROGRAM);
    output("gcc", "-O1", "-pthread", "-o", `${program}-waits`, `${program}-waits.c`);
    const waits = spawn(`${program}-waits`, { stdio: ["pipe", "pipe", "inherit"] });
    let said = "";
    const ended = new Promise((resolve) => waits.once("close", resolve));
    waits.stdout.on("data", (data) => {
      said += String(data);
    });
    for (let i = 0; i < 3000 && said === ""; i++) await sleep(10);
    const { status } = await start(String(waits.pid), "--seconds", "0.3").closed;
    waits.stdin.end("x");
    expect([status, await ended, said]).toEqual([0, 0, "ready\n1 1 0\n"]);
  });

  it("refuses, and says why, what cannot be traced", async () => {
    await ready();
    const none = await start("4194304").closed;
    expect([none.status, none.errors]).toEqual([2, expect.stringMatching(/^linux-gate: .*no such process/)]);
    const thread = verb.verb.run("2");
    expect([thread.status, thread.errors]).toEqual([
      2,
      expect.stringMatching(/thread of the kernel|no such process|traced|ended/),
    ]);
    const words = verb.verb.run(String(subject.pid), "--no-vdso");
    expect([words.status, words.errors]).toEqual([2, expect.stringMatching(/--no-vdso is for programs/)]);
    expect(verb.verb.run(String(subject.pid), "--seconds", "0").errors).toMatch(/--seconds is "0"/);
  });

  it.skipIf(!needs("strace", "strace"))("refuses one that has a tracer, which it names", async () => {
    await ready();
    const strace = spawn("strace", ["-f", "-o", "/dev/null", "-p", String(subject.pid)], { stdio: "ignore" });
    await subject.traced();
    const { status, errors } = await start(String(subject.pid)).closed;
    expect([status, errors]).toEqual([2, expect.stringMatching(`process ${strace.pid} traces it already`)]);
    strace.kill("SIGKILL");
  });

  it.skipIf(process.geteuid?.() !== 0 || !needs("setpriv", "util-linux"))("refuses another user's", async () => {
    await ready();
    const by = ["setpriv", "--reuid", "65534", "--clear-groups"];
    const { status, errors } = verb.verb.runBy(by, {}, String(subject.pid));
    expect([status, errors]).toEqual([2, expect.stringMatching(/another user \(0\).*CAP_SYS_PTRACE/)]);
  });
});
