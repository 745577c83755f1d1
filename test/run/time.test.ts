import { afterAll, describe, expect, it } from "vitest";
import { ExecVerb } from "../support/exec-verb.js";
import { runsHere } from "../support/native.js";
import { type BuiltProgram, Workshop } from "../support/programs.js";
import { needs } from "../support/referee.js";

const workshop = new Workshop();
const verb = await ExecVerb.bundle();
afterAll(() => {
  verb.remove();
  workshop.remove();
});

// Every way to ask for the time, once before and once behind a pause: "name seconds".
const C_SOURCE = `
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static double of(int clock) {
  struct timespec t = {0};
  clock_gettime(clock, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}
static void show(void) {
  struct timeval v;
  struct timespec raw;
  printf("realtime %.9f\\ncoarse %.9f\\ntai %.9f\\n", of(CLOCK_REALTIME), of(CLOCK_REALTIME_COARSE), of(11));
  gettimeofday(&v, 0);
  printf("gettimeofday %ld.%06ld\\ntime %ld\\n", (long)v.tv_sec, (long)v.tv_usec, (long)time(0));
  printf("monotonic %.9f\\nboottime %.9f\\n", of(CLOCK_MONOTONIC), of(CLOCK_BOOTTIME));
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &raw);
  printf("system call %ld\\n", (long)raw.tv_sec);
}
int main(void) {
  show();
  usleep(100000);
  show();
  return 0;
}
`;

const GO_SOURCE = `
package main

import (
	"fmt"
	"time"
)

func main() {
	for i := 0; i < 2; i++ {
		now := time.Now()
		fmt.Printf("realtime %d.%09d\\n", now.Unix(), now.Nanosecond())
		time.Sleep(100 * time.Millisecond)
	}
}
`;

function programs(): BuiltProgram[] {
  const built = workshop.cPrograms(C_SOURCE);
  if (needs("go", "golang-go")) built.push({ name: "static Go", path: workshop.goProgram("clock", GO_SOURCE) });
  return built;
}

/** What a program showed, by name: before its pause and behind it. */
function shown(path: string, ...options: readonly string[]): ReadonlyMap<string, readonly [number, number]> {
  const { text, errors, status } = verb.run(...options, "--", path);
  expect([errors, status]).toEqual(["", 0]);
  const found = new Map<string, number[]>();
  for (const [, name = "", value] of text.matchAll(/^(.+) ([\d.]+)$/gm)) {
    found.set(name, [...(found.get(name) ?? []), Number(value)]);
  }
  return found as unknown as ReadonlyMap<string, readonly [number, number]>;
}

const now = () => Date.now() / 1000;
const CALENDAR = ["realtime", "coarse", "gettimeofday", "time"];
/** Seconds that a program may take to come to a line, on a busy machine. */
const SLOW = 30;

describe.skipIf(!runsHere("x86_64")).each(programs())("exec --time of $name", ({ path }) => {
  it("shows a date, from which time goes on", () => {
    const clocks = shown(path, "--time", "2038-01-19T03:14:00Z");
    for (const name of CALENDAR) {
      const [first, second] = clocks.get(name) ?? [];
      if (first === undefined || second === undefined) continue;
      expect(first - 2 ** 31, name).toBeGreaterThanOrEqual(-8 - (name === "coarse" ? 0.02 : 0));
      expect(first - 2 ** 31, name).toBeLessThan(-8 + SLOW);
      if (name !== "time") expect(second - first, name).toBeGreaterThan(0.09);
      expect(second - first, name).toBeLessThan(SLOW);
    }
    expect(clocks.get("realtime")).toHaveLength(2);
  });

  it("shows an offset, and stays with the kernel's other clocks and with system calls", () => {
    const before = now();
    const clocks = shown(path, "--time=-10d");
    for (const name of CALENDAR) {
      const value = clocks.get(name)?.[0];
      if (value !== undefined) expect(Math.abs(value + 864_000 - before), name).toBeLessThan(SLOW);
    }
    const [raw] = clocks.get("system call") ?? [];
    if (raw === undefined) return;
    expect(Math.abs(raw - before)).toBeLessThan(SLOW);
    const monotonic = Number(process.hrtime.bigint()) / 1e9;
    expect(Math.abs((clocks.get("monotonic")?.[0] ?? 0) - monotonic)).toBeLessThan(SLOW);
    // The kernel's distance from UTC: 37 seconds where somebody has told it, else none.
    const tai = (clocks.get("tai")?.[0] ?? 0) - (clocks.get("realtime")?.[0] ?? 0);
    expect([0, 37]).toContain(Math.round(tai));
  });

  it("--strict shows it to system calls too, but not twice to those that go on to the kernel from the vDSO", () => {
    const clocks = shown(path, "--time=@5000000000", "--strict");
    for (const [name, values] of clocks) {
      if (name === "monotonic" || name === "boottime") continue;
      expect(Math.abs(values[0] - 5e9), name).toBeLessThan(name === "tai" ? 37 + SLOW : SLOW);
    }
    if (clocks.has("system call")) expect(clocks.get("system call")).toHaveLength(2);
  });

  it("--freeze stops the time, to the nanosecond", () => {
    const clocks = shown(path, "--freeze", "--time", "@1000000000.25");
    for (const name of ["realtime", "coarse", "gettimeofday"]) {
      const values = clocks.get(name);
      if (values) expect(values, name).toEqual([1e9 + 0.25, 1e9 + 0.25]);
    }
    if (clocks.has("time")) expect(clocks.get("time")).toEqual([1e9, 1e9]);
    // The kernel's distance from UTC, in whole seconds.
    expect(Math.round((clocks.get("tai")?.[0] ?? 0.25) * 1e9) % 1e9).toBe(0.25e9);
    if (clocks.has("monotonic")) {
      const [first = 0, second = 0] = clocks.get("monotonic") ?? [];
      expect(second - first).toBeGreaterThan(0.09);
    }
  });

  it("--rate lets it run faster, MONOTONIC with it where that is asked for", () => {
    for (const monotonic of [false, true]) {
      const clocks = shown(path, "--rate", "1000", ...(monotonic ? ["--monotonic"] : []));
      const passed = (name: string): number => {
        const [first = 0, second = 0] = clocks.get(name) ?? [];
        return second - first;
      };
      // Go keeps its own timers by MONOTONIC: at such a rate its pause may be over at once.
      expect(passed("realtime")).toBeGreaterThan(monotonic && !clocks.has("monotonic") ? 0.09 : 90);
      expect(passed("realtime")).toBeLessThan(1000 * SLOW);
      for (const name of ["monotonic", "boottime"]) {
        if (!clocks.has(name)) continue;
        expect(passed(name)).toBeGreaterThan(monotonic ? 90 : 0.09);
        if (!monotonic) expect(passed(name)).toBeLessThan(SLOW);
      }
    }
  });
});

describe.skipIf(!runsHere("x86_64"))("exec", () => {
  it.each([
    [["--time", "yesterday"], /--time is "yesterday"/],
    [["--rate", "2", "--freeze"], /exclude each other/],
    [["--monotonic"], /--monotonic goes with --rate or --freeze/],
    [["--strict"], /--strict goes with --time, --rate or --freeze/],
    [["--follow"], /--follow goes with an option that gives/],
    [["--no-vdso", "--time", "+1d"], /exclude each other/],
    [["--vdso", "self", "--entry", "int80"], /exclude each other/],
  ])("refuses %j as wrongly written", (options, message) => {
    const { errors, status, text } = verb.run(...options, "--", "echo", "ran");
    expect(errors).toMatch(message);
    expect([text, status]).toEqual(["", 2]);
  });

  it("refuses --entry and --count for a program of x86_64, which has no entry, before it runs", () => {
    for (const option of [["--entry", "int80"], ["--count"]]) {
      const { errors, status, text } = verb.run(...option, "--", "echo", "ran");
      expect(errors).toMatch(/the program is of x86_64: only programs of i386/);
      expect([text, status]).toEqual(["", 125]);
    }
  });

  it("--follow gives children the time, and --strict follows by itself", () => {
    const script = "date +%s; date +%s | cat; (exec date +%s)";
    for (const option of ["--follow", "--strict"]) {
      const { text } = verb.run("--freeze", "--time=@4000000000", option, "--", "sh", "-c", script);
      expect([option, text]).toEqual([option, "4000000000\n".repeat(3)]);
    }
    const { text } = verb.run("--freeze", "--time=@4000000000", "--", "sh", "-c", "date +%s");
    expect(text).not.toBe("4000000000\n");
  });

  it("maps the image where --base says", () => {
    const { text } = verb.run("--time", "+1d", "--base", "0x30000000", "--", "cat", "/proc/self/maps");
    expect(text).toMatch(/^30000000-3000\w000 r-xp 00000000 00:00 0 +$/m);
  });
});
