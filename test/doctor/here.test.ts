import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DocumentedFinding } from "../../src/verbs/doctor.js";
import { runsHere } from "../support/native.js";
import { needs } from "../support/referee.js";
import { parseExposition } from "./exposition.js";
import { ids, Surgery } from "./surgery.js";

const surgery = new Surgery();
beforeAll(() => surgery.open());
afterAll(() => surgery.close());

describe.skipIf(process.arch !== "x64")("doctor on this machine", () => {
  it("says for each call what strace sees of a program that makes them all", () => {
    const source = `#define _GNU_SOURCE
#include <sched.h>
#include <sys/time.h>
#include <time.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
  static const int clocks[] = {0, 1, 4, 7, 11, 5, 6, 2, 3, 8, 9};
  struct timespec t; struct timeval v;
  for (int i = 0; i < 11; i++) { dprintf(2, "clock %d\\n", clocks[i]); clock_gettime(clocks[i], &t); }
  dprintf(2, "gettimeofday\\n"); gettimeofday(&v, 0);
  dprintf(2, "time\\n"); time(0);
  dprintf(2, "getcpu\\n"); sched_getcpu();
  dprintf(2, "end\\n");
}`;
    const path = surgery.compiled("all-calls", source);
    if (path === undefined || !needs("strace", "strace")) return;
    const { stderr: log } = spawnSync("strace", ["-e", "trace=write,clock_gettime,gettimeofday,time,getcpu", path], {
      encoding: "utf8",
    });
    const steps = [...log.matchAll(/write\(2, "([^"]*)\\n".*\n((?:(?!write\(2)[\s\S])*)/g)];
    const real = (step: string): boolean => {
      const [, , after = ""] = steps.find(([, name]) => name === step) ?? [];
      return /^(clock_gettime|gettimeofday|time|getcpu)\(/m.test(after);
    };
    const { facts, status } = surgery.look([]);
    const proof = facts.abis.find(({ abi }) => abi === "x86_64")?.proof ?? [];
    const clocks = [
      "REALTIME",
      "MONOTONIC",
      "PROCESS_CPUTIME_ID",
      "THREAD_CPUTIME_ID",
      "MONOTONIC_RAW",
      "REALTIME_COARSE",
      "MONOTONIC_COARSE",
      "BOOTTIME",
      "REALTIME_ALARM",
      "BOOTTIME_ALARM",
      "",
      "TAI",
    ];
    expect(steps).toHaveLength(15);
    for (const [, step = ""] of steps.slice(0, -1)) {
      const clock = /^clock (\d+)$/.exec(step)?.[1];
      const call = clock === undefined ? step : `clock_gettime(${clocks[Number(clock)]})`;
      const row = proof.find((one) => one.call === call);
      expect(row?.answer, call).toBe(real(step) ? "kernel" : "vdso");
    }
    const slow = proof.some(({ answer, need }) => answer === "kernel" && need === "counter");
    expect(status).toBe(slow ? 1 : 0);
  });

  it("measures the calls as well, and gives the clocksource as /sys has it", () => {
    const { facts } = surgery.look([]);
    const [native] = facts.abis;
    const figure = native?.figures.find(
      ({ call, via }) => call === "clock_gettime(MONOTONIC_COARSE)" && via === "vdso",
    );
    expect(figure?.nsMedian).toBeGreaterThan(0);
    const path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    if (existsSync(path)) expect(facts.machine.clocksource?.current).toBe(readFileSync(path, "utf8").trim());
    expect(facts.abis.find(({ abi }) => abi === "i386")?.notRun === undefined).toBe(runsHere("i386"));
  });

  it("writes metrics that a strict reader takes, as a file that others may read, and leaves nothing beside it", () => {
    const folder = mkdtempSync(join(surgery.folder, "textfile-"));
    const file = join(folder, "linux-gate.prom");
    const { status, stderr } = surgery.run(["doctor", "--prometheus", file]);
    expect(stderr).toBe("");
    const families = parseExposition(readFileSync(file, "utf8"));
    expect(families.find(({ name }) => name === "linux_gate_doctor_fast_path_lost")?.samples[0]?.value).toBe(status);
    expect(readdirSync(folder)).toEqual(["linux-gate.prom"]);
    expect(statSync(file).mode & 0o044).toBe(0o044 & ~process.umask());
  });

  it("documents every finding", () => {
    const { stdout, status } = surgery.run(["doctor", "--list", "--json"]);
    expect(status).toBe(0);
    const { findings } = JSON.parse(stdout) as { findings: readonly DocumentedFinding[] };
    const text = surgery.run(["doctor", "--list"]).stdout;
    const document = readFileSync(new URL("../../docs/doctor.md", import.meta.url), "utf8");
    for (const { id, severity, meaning } of findings) {
      expect(id).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/);
      expect(text).toMatch(new RegExp(`^${severity} +${id}$`, "m"));
      expect(document, id).toMatch(`| \`${id}\` | ${severity} | ${meaning}`);
    }
  });

  it("ends with status 2 for what is no process, and says so in a line", () => {
    for (const [words, message] of [
      [["4194303"], /no such process/],
      [["0"], /"0" is no process id/],
      [["2"], /kernel thread|no such process|^$/],
      [["--list", "1"], /--list stands alone/],
      [["--list", "--prometheus", "x"], /exclude each other/],
      [["--prometheus", "/nonexistent/x"], /no such file or directory/],
    ] as const) {
      const { status, stderr } = surgery.run(["doctor", ...words]);
      expect(stderr).toMatch(message);
      if (stderr !== "") expect(stderr).toMatch(/^linux-gate: [^\n]*\n$/);
      if (stderr !== "") expect(status).toBe(2);
    }
  });

  it("says that nothing is proved where the kernel takes no filter, and what was measured instead", () => {
    const source = `#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int count, char **words) {
  struct sock_filter refuse[] = {{0x20, 0, 0, 0}, {0x15, 0, 3, 157}, {0x20, 0, 0, 16}, {0x15, 0, 1, 22}, {0x06, 0, 0, 0x50001}, {0x06, 0, 0, 0x7fff0000}};
  struct sock_fprog program = {6, refuse};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 9;
  execvp(words[1], words + 1);
  return 8;
}`;
    const path = surgery.compiled("refuse", source);
    if (path === undefined) return;
    const result = surgery.look([], [path]);
    expect(ids(result)).toContain("unproved");
    expect(ids(result)).toContain(result.lost ? "measured-slow" : "measured-fast");
    expect(result.facts.abis[0]?.unproved).toMatch(/takes no seccomp filter \(EPERM\)/);
    expect(result.lost).toBe(surgery.look([]).lost);
  });
});
