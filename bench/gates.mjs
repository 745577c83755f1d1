// What a program pays for another gate, and to be started under one.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { has, median, ms, ours, quick, race, row } from "./measure.mjs";

/** Prints the nanoseconds that a call takes, the best of many batches, for each of the calls that it makes. */
const CLOCKS = `
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static double now(void) {
  struct timespec t;
  syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}
#define MEASURE(name, calls, call) do { \\
  double best = 1e18; \\
  for (int batch = 0; batch < 60; batch++) { \\
    double start = now(); \\
    for (int i = 0; i < calls; i++) call; \\
    double taken = (now() - start) / calls; \\
    if (taken < best) best = taken; \\
  } \\
  printf("%s %.3f\\n", name, best); \\
} while (0)
int main(void) {
  struct timespec t;
  MEASURE("realtime", 10000, clock_gettime(CLOCK_REALTIME, &t));
  MEASURE("monotonic", 10000, clock_gettime(CLOCK_MONOTONIC, &t));
  MEASURE("system call", 2000, syscall(SYS_clock_gettime, CLOCK_REALTIME, &t));
  return 0;
}
`;

/** A program that makes a million system calls, as many as it can in its time, by the C library's way in. */
const CALLS = `
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>
int main(void) {
  for (int i = 0; i < 300000; i++) syscall(SYS_getppid);
  return 0;
}
`;

export function gates() {
  startsUnderAGate();
  if (!has("gcc")) {
    console.log("\nno gcc: programs under changed clocks and other entries are not measured");
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), "linux-gate-bench-"));
  try {
    changedClocks(compile(folder, "clocks", CLOCKS));
    entries(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function startsUnderAGate() {
  console.log("\nA program started under another gate, beyond a bare node -e 0");
  const starts = [["--no-vdso"], ["--time", "+1d"], ["--base", "0x10000000"]];
  const [bare, program, ...times] = race([
    [process.execPath, "-e", "0"],
    ["true"],
    ...starts.map((options) => [process.execPath, ours, "exec", ...options, "--", "true"]),
  ]);
  console.log(`  bare node ${ms(bare)}, the program alone ${ms(program)}`);
  starts.forEach((options, i) => {
    const more = times[i] - bare;
    // The ratio of what it costs to what it may cost.
    row(`exec ${options.join(" ")} -- true`, `+${ms(more)}`, more / 60, i === 0 ? 1 : undefined);
  });
}

function compile(folder, name, source, ...options) {
  const path = join(folder, name);
  const { status, stderr } = spawnSync("gcc", ["-O2", "-x", "c", "-", "-o", path, ...options], {
    input: source,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(stderr);
  return path;
}

function changedClocks(program) {
  const ways = [[], ["--time", "+1d"], ["--rate", "2"], ["--freeze"], ["--no-vdso"]];
  const rounds = Array.from({ length: quick ? 3 : 7 }, () =>
    ways.map((options) => {
      const words = options.length === 0 ? [program] : [process.execPath, ours, "exec", ...options, "--", program];
      const { stdout } = spawnSync(words[0], words.slice(1), { encoding: "utf8" });
      return new Map([...stdout.matchAll(/^(.+) ([\d.]+)$/gm)].map(([, name, ns]) => [name, Number(ns)]));
    }),
  );
  const of = (way, name) => median(rounds.map((round) => round[way].get(name)));
  const own = of(0, "realtime");
  console.log("\nNanoseconds of clock_gettime(CLOCK_REALTIME) in one program (C), beside the kernel's own vDSO");
  const ns = (value) => `${value.toFixed(1)} ns`;
  row("the kernel's vDSO", ns(own), 1);
  ways.slice(1).forEach((options, i) => {
    const time = of(i + 1, "realtime");
    row(`exec ${options.join(" ")}`, ns(time), time / own, options[0] === "--time" ? 1.5 : undefined);
  });
  row("exec --time +1d: CLOCK_MONOTONIC, unchanged", ns(of(1, "monotonic")), of(1, "monotonic") / of(0, "monotonic"));
  row("the real system call", ns(of(0, "system call")), of(0, "system call") / own);
  row("… beside exec --time +1d", ns(of(1, "realtime")), of(0, "system call") / of(1, "realtime"), 4, true);
}

/** The article's claim, on a whole program. */
function entries(folder) {
  console.log("\nOne 32-bit program with 300,000 system calls, by each way into the kernel");
  if (spawnSync(process.execPath, [ours, "maps", "i386"], { stdio: "ignore" }).status !== 0) {
    console.log("  this kernel runs no 32-bit programs");
    return;
  }
  let program;
  try {
    program = compile(folder, "calls", CALLS, "-m32");
  } catch {
    console.log("  gcc makes no 32-bit programs (gcc-multilib)");
    return;
  }
  const works = (way) =>
    spawnSync(process.execPath, [ours, "exec", "--entry", way, "--", program], { stdio: "ignore" }).status === 0;
  const ways = ["int80", "sysenter", "syscall"].filter(works);
  const command = (options) => [process.execPath, ours, "exec", ...options, "--", program];
  const [own, counted, ...times] = race([
    command([]),
    command(["--count"]),
    ...ways.map((way) => command(["--entry", way])),
  ]);
  row("the kernel's own entry", ms(own), 1);
  ways.forEach((way, i) => {
    row(`--entry ${way}`, ms(times[i]), times[i] / own);
  });
  row("--count", ms(counted), counted / own);
}
