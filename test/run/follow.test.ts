import type { SpawnOptions } from "node:child_process";
import { chmodSync, readFileSync, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, it } from "vitest";
import { ExecVerb } from "../support/exec-verb.js";
import { runsHere } from "../support/native.js";
import { Workshop } from "../support/programs.js";
import { needs } from "../support/referee.js";

/** What is asked for: without `moved` there is no vDSO; with `alone` programs are not followed. */
const REQUEST = `(options) => ({
  gate: options.includes("moved") ? { kind: "moved", base: 0x10000000n } : { kind: "none" },
  follow: !options.includes("alone"),
})`;

const PROGRAM = `
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
extern char **environ;
static char *self;
static char *words[] = {"program", "show", 0};
static void *become(void *arg) { execv(self, words); return arg; }
static void *fork_ten(void *arg) {
  for (int i = 0; i < 10; i++) {
    int status = 1;
    pid_t pid = i % 2 ? fork() : vfork();
    if (pid == 0) { execv(self, words); _exit(9); }
    waitpid(pid, &status, 0);
    if (status) arg = self;
  }
  return arg;
}
int main(int argc, char **argv) {
  pthread_t threads[8];
  void *bad = 0, *one;
  self = argv[1] && argv[2] ? argv[2] : argv[0];
  const char *mode = argv[1];
  if (!strcmp(mode, "show")) {
    char line[64];
    int size = snprintf(line, sizeof line, "%lx\\n", getauxval(AT_SYSINFO_EHDR));
    return write(1, line, size) == size ? 0 : 1;
  }
  if (!strcmp(mode, "thread")) {
    pthread_create(threads, 0, become, 0);
    pthread_join(threads[0], 0);
    return 8;
  }
  if (!strcmp(mode, "threads")) {
    for (int i = 0; i < 8; i++) pthread_create(threads + i, 0, fork_ten, 0);
    for (int i = 0; i < 8; i++) { pthread_join(threads[i], &one); if (one) bad = one; }
    return bad ? 7 : 0;
  }
  if (!strcmp(mode, "spawn")) {
    int status;
    pid_t pid;
    if (posix_spawn(&pid, self, 0, 0, words, environ)) return 6;
    waitpid(pid, &status, 0);
    return status ? 5 : 0;
  }
  return 4;
}
`;

const workshop = new Workshop();
const verb = await ExecVerb.starter(REQUEST);
afterAll(() => {
  verb.remove();
  workshop.remove();
});

const programs = workshop.cPrograms(PROGRAM, "-pthread");
const [program] = programs.map(({ path }) => path);

const run = (...words: string[]) => verb.run("--", ...words);
const shell = (script: string) => run("sh", "-c", script);
/** Runs a script, which says something as soon as it is ready; `then` is done with its first line. */
async function whileRuns(options: SpawnOptions, script: string, then: (line: string, pid: number) => Promise<void>) {
  const child = verb.start({ stdio: ["ignore", "pipe", "inherit"], ...options }, "--", "sh", "-c", script);
  let text = "";
  const first = new Promise<void>((resolve) => {
    child.stdout?.on("data", (data) => {
      text += String(data);
      resolve();
    });
  });
  const closed = new Promise<number | null>((resolve) => child.once("close", resolve));
  await first;
  await then(text, child.pid as number);
  return { status: await closed, text };
}
const stateOf = (pid: string) => /^State:\t(\w)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
async function until(condition: () => boolean) {
  for (let i = 0; i < 500 && !condition(); i++) await sleep(10);
  expect(condition()).toBe(true);
}

describe.skipIf(!(runsHere("x86_64") && program))("programs that are followed", () => {
  it("have no vDSO under any of the ways to start them, and have one when only the first is held", () => {
    const each = programs.map(({ path }) => `${path} show; (exec ${path} show); ${path} spawn`).join("; ");
    expect(shell(each).text).toBe("0\n".repeat(3 * programs.length));
    expect(verb.run("alone", "--", "sh", "-c", each).text).toMatch(/^(7f[0-9a-f]{10}\n)+$/);
  });

  it.each(programs)("are held when threads execute them, fork and vfork: $name", ({ path }) => {
    const one = run(path, "thread");
    expect([one.text, one.status]).toEqual(["0\n", 0]);
    const many = run(path, "threads");
    expect([many.text, many.status]).toEqual(["0\n".repeat(80), 0]);
  });

  it("are held a hundred at a time", () => {
    const many = shell(`seq 100 | xargs -P 20 -n 1 sh -c 'exec ${program} show'`);
    expect([many.text, many.errors, many.status]).toEqual(["0\n".repeat(100), "", 0]);
  });

  it.skipIf(!needs("make", "make"))("are held under make -j", () => {
    const names = Array.from({ length: 30 }, (_, i) => `t${i}`).join(" ");
    workshop.write("Makefile", `all: ${names}\n${names}:\n\t@${program} show\n`);
    expect(run("make", "-j", "8", "-C", workshop.folder, "--no-print-directory").text).toBe("0\n".repeat(30));
  });

  it("may be killed at any time, by their parents or by each other", () => {
    const loop = `for i in $(seq 60); do ${program} show & kill -9 $!; wait $! 2>/dev/null; done; ${program} show; exit 6`;
    const killed = shell(loop);
    expect(killed.text).toMatch(/^(0\n)+$/);
    expect([killed.status, killed.errors.replace(/^.*Killed.*$/gm, "").trim()]).toEqual([6, ""]);
  });

  it("have their errors as ever: what is not there, or no program", () => {
    const broken = workshop.write("broken", "\x7fELF no program");
    chmodSync(broken, 0o755);
    const { text } = shell(`./no-such-program 2>/dev/null; echo $?; bash -c 'exec ${broken}' 2>/dev/null; echo $?`);
    expect(text).toBe("127\n126\n");
  });

  it("get their signals, stop and go on, and give their status", async () => {
    expect(shell("sh -c 'exit 7'").status).toBe(7);
    expect(run("sh", "-c", "kill -TERM $$").signal).toBe("SIGTERM");
    expect(shell(`sh -c 'trap "echo got" USR1; kill -USR1 $$; ${program} show'`).text).toBe("got\n0\n");
    const script = `trap 'echo trapped; ${program} show; exit 3' TERM; echo $$; while :; do sleep 0.02; done`;
    const stopped = await whileRuns({}, script, async (line) => {
      const pid = line.trim();
      process.kill(Number(pid), "SIGSTOP");
      await until(() => stateOf(pid) === "T" || stateOf(pid) === "t");
      await sleep(100);
      expect(stateOf(pid)).toMatch(/T|t/);
      process.kill(Number(pid), "SIGCONT");
      await until(() => stateOf(pid) === "S" || stateOf(pid) === "R");
      process.kill(Number(pid), "SIGTERM");
    });
    expect(stopped).toEqual({ status: 3, text: expect.stringMatching(/^\d+\ntrapped\n0\n$/) });
  });

  it("stay followed when a terminal's key interrupts all of the group", async () => {
    const script = `trap 'echo got; ${program} show; exit 0' INT; echo ready; while :; do sleep 0.02; done`;
    const { text } = await whileRuns({ detached: true }, script, async (_, pid) => {
      process.kill(-pid, "SIGINT");
    });
    expect(text).toBe("ready\ngot\n0\n");
  });

  it("stop with all of the group, and go on with it", async () => {
    const script = `echo $$; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.05; ${program} show; done`;
    const { text, status } = await whileRuns({ detached: true }, script, async (line, pid) => {
      process.kill(-pid, "SIGSTOP");
      await until(() => /T|t/.test(stateOf(line.trim()) ?? ""));
      await sleep(100);
      process.kill(-pid, "SIGCONT");
    });
    expect([text.replace(/^\d+\n/, ""), status]).toEqual(["0\n".repeat(9), 0]);
  });

  it("run on when their tracer is killed, which is said", async () => {
    let errors = "";
    const script = `echo $$; while [ ! -e ${workshop.path("go")} ]; do sleep 0.02; done; exit 5`;
    const child = verb.start({ stdio: ["ignore", "pipe", "pipe"] }, "--", "sh", "-c", script);
    child.stderr?.on("data", (data) => {
      errors += String(data);
    });
    const closed = new Promise((resolve) => child.once("close", resolve));
    const line = await new Promise<string>((resolve) => child.stdout?.once("data", (data) => resolve(String(data))));
    const tracer = /^TracerPid:\t(\d+)$/m.exec(readFileSync(`/proc/${line.trim()}/status`, "utf8"))?.[1];
    process.kill(Number(tracer), "SIGKILL");
    await until(() => errors !== "");
    workshop.write("go", "");
    expect(await closed).toBe(5);
    // The shell may say before that its sleep, which was just being started, was killed.
    expect(errors).toMatch(/(^|\n)linux-gate: programs are no longer followed: [^\n]+\n$/);
  });

  it("are followed when they outlive the first, whose status counts; the command ends with the last", () => {
    // In a shell's child too, $PPID is the parent of the shell itself.
    const outlived = shell(`(sleep 0.3; ${program} show; kill -0 $PPID && echo there) & exit 4`);
    expect([outlived.text, outlived.errors, outlived.status]).toEqual(["0\nthere\n", "", 4]);
  });

  it("run on, traced by nobody, when this process is killed", async () => {
    const file = workshop.path("runs-on");
    const script = `echo $$; while :; do sleep 0.02; ${program} show >> ${file}; done`;
    await whileRuns({}, script, async (line, driver) => {
      const pid = line.trim();
      try {
        await until(() => (statSync(file, { throwIfNoEntry: false })?.size ?? 0) > 0);
        process.kill(driver, "SIGKILL");
        await until(() => /^TracerPid:\t0$/m.test(readFileSync(`/proc/${pid}/status`, "utf8")));
        await until(() => /^0\n[\s\S]*7f[0-9a-f]{10}\n$/.test(readFileSync(file, "utf8")));
      } finally {
        process.kill(Number(pid), "SIGKILL");
      }
    });
  });

  it("are killed, and that is said, where the gate cannot be put in force", () => {
    workshop.compile(PROGRAM, "-static", "-no-pie", "-Wl,-Ttext-segment=0x10000000", "-pthread", "-o", "taken");
    const taken = workshop.path("taken");
    const { text, errors, status } = verb.run("moved", "--", "sh", "-c", `${program} show; ${taken} show; echo $?`);
    expect([text, status]).toEqual(["10000000\n137\n", 0]);
    expect(errors).toMatch(/taken \(process \d+\) was killed before it ran: 0xf.* is not free/);
  });

  it.skipIf(process.geteuid?.() === 0 && !needs("setpriv", "util-linux"))(
    "lose raised privileges, which is said",
    () => {
      const by = process.geteuid?.() === 0 ? ["setpriv", "--reuid", "65534", "--clear-groups"] : [];
      const { status, errors } = verb.runBy(
        by,
        {},
        "--",
        "sh",
        "-c",
        "mount --version > /dev/null; mount --version > /dev/null",
      );
      expect(status).toBe(0);
      expect(errors).toMatch(/^linux-gate: .*mount: set-user-id \(user 0\): runs without that privilege[^\n]*\n$/);
    },
  );

  it.skipIf(!needs("strace", "strace"))("cannot be traced by others as well", () => {
    const { errors, status } = shell(`strace -o /dev/null ${program} show`);
    expect(errors).toMatch(/Operation not permitted/);
    expect(status).not.toBe(0);
  });

  it("leave no process behind", async () => {
    for (let i = 0; i < 3; i++) expect(shell(`${program} show`).status).toBe(0);
    await sleep(50);
    expect(verb.processes()).toEqual([]);
  });
});
