import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { hex } from "../../src/bytes/hex.js";
import { parseImage } from "../../src/vdso/image.js";
import { linuxGate } from "../support/cli.js";
import { ExecVerb } from "../support/exec-verb.js";
import { forged } from "../support/forged.js";
import { BASE } from "../support/gates.js";
import { runsHere } from "../support/native.js";
import { Workshop } from "../support/programs.js";
import { needs, output } from "../support/referee.js";

const workshop = new Workshop();
const bytes = forged("x86_64");
const image = workshop.path("forged.so");
writeFileSync(image, bytes);
const { functions, linkBase } = parseImage(bytes, { mapped: true });

/** Asks for the time, and for the number of the processor, until it is ended. */
const CALLER = `
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
__attribute__((noinline)) int middle(void) {
  struct timespec spec;
  struct timeval val;
  unsigned cpu;
  for (;;) {
    if (clock_gettime(CLOCK_MONOTONIC, &spec) || clock_getres(CLOCK_MONOTONIC, &spec)) return 1;
    if (gettimeofday(&val, 0) || time(0) < 0 || getcpu(&cpu, 0)) return 1;
  }
}
int main(void) {
  puts("ready");
  fflush(stdout);
  return middle();
}
`;

/** Interrupts itself until it was found in the image a hundred times; says whether the way back to main was found too. */
const INTERRUPTED = `
#define _GNU_SOURCE
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
static unsigned long image;
static void *above;
static volatile int inside, found;
__attribute__((noinline)) static void caller(void) {
  struct timespec now;
  above = __builtin_return_address(0);
  while (inside < 100) clock_gettime(CLOCK_MONOTONIC, &now);
}
static void handler(int signal, siginfo_t *info, void *context) {
  unsigned long at = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
  if (at - image >= 4096) return;
  void *frames[32];
  int n = backtrace(frames, 32);
  int interrupted = 0, main_frame = 0;
  for (int i = 0; i < n; i++) {
    if ((unsigned long)frames[i] == at) interrupted = 1;
    if (frames[i] == above) main_frame = interrupted;
  }
  found += main_frame;
  inside++;
}
int main(void) {
  void *frames[4];
  backtrace(frames, 4);
  image = getauxval(AT_SYSINFO_EHDR);
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGALRM, &action, 0);
  struct itimerval often = {{0, 1000}, {0, 1000}};
  setitimer(ITIMER_REAL, &often, 0);
  caller();
  printf("%d of %d\\n", found, inside);
  return 0;
}
`;

const KINDS = [
  { name: "dynamic", flags: [] },
  { name: "static", flags: ["-static"] },
] as const;

describe.skipIf(!runsHere("x86_64") || !needs("gcc", "gcc"))("a program under a forged gate", () => {
  let verb: ExecVerb;
  const started: number[] = [];
  beforeAll(async () => {
    verb = await ExecVerb.bundle();
    for (const { name, flags } of KINDS) {
      // The compiler must not put a jump in place of the last call, so that every function has its frame.
      workshop.compile(CALLER, "-g", "-O1", "-o", `caller-${name}`, ...flags);
      workshop.compile(INTERRUPTED, "-O0", "-o", `interrupted-${name}`, ...flags);
    }
  });
  afterEach(() => {
    for (const pid of started.splice(0)) process.kill(pid, "SIGKILL");
  });
  afterAll(() => {
    verb.remove();
    workshop.remove();
  });

  /** Starts a program that runs on until the test ends; gives its process. */
  async function start(name: string): Promise<string> {
    const path = workshop.path(`caller-${name}`);
    const options = ["--vdso", image, "--base", hex(BASE), "--", path];
    const child = verb.start({ stdio: ["ignore", "pipe", "inherit"] }, ...options);
    await once(child.stdout as NodeJS.ReadableStream, "data");
    const pid = output("pgrep", "-P", String(child.pid), "-f", path).trim();
    started.push(Number(pid));
    return pid;
  }

  describe.each(KINDS)("that is $name", ({ name }) => {
    it.skipIf(!needs("gdb", "gdb"))(
      "has backtraces in gdb from every instruction of the image's functions",
      async () => {
        const pid = await start(name);
        const commands = functions.flatMap((one) => [
          `tbreak *${hex(BASE + one.address - linkBase)}`,
          "continue",
          // In front of the first instruction, of the system call, and of the return.
          ...["stepi", "stepi", "stepi"].flatMap((step) => [`echo === ${one.name}\\n`, "backtrace", step]),
        ]);
        const env = { ...process.env, LC_ALL: "C", DEBUGINFOD_URLS: "" };
        const args = ["-nx", "-batch", "-p", pid, ...commands.flatMap((command) => ["-ex", command])];
        const { stdout } = spawnSync("gdb", args, { encoding: "utf8", env, timeout: 20_000 });
        const traces = stdout.split("=== ").slice(1);
        expect(traces.length).toBe(3 * functions.length);
        for (const trace of traces) {
          const [wanted, ...lines] = trace.split("\n");
          const frames = lines.flatMap((line) => /^#\d+ +(?:0x[0-9a-f]+ in )?(\S+) \(/.exec(line)?.[1] ?? []);
          const own = functions.find((one) => one.name === wanted);
          const names = [wanted, ...(own?.aliases ?? [])];
          expect(names, trace).toContain(frames[0]);
          expect(frames.slice(-2), trace).toEqual(["middle", "main"]);
        }
      },
    );

    it("has the way back to main in a handler that interrupts the image's function", () => {
      const path = workshop.path(`interrupted-${name}`);
      for (const options of [
        ["--vdso", image],
        ["--vdso", image, "--base", hex(BASE)],
      ]) {
        const run = verb.run(...options, "--", path);
        expect([run.text, run.status]).toEqual(["100 of 100\n", 0]);
      }
    });

    it("shows its image to readers of processes", async () => {
      const pid = await start(name);
      const auxv = output("od", "-An", "-v", "-tx8", "-w16", `/proc/${pid}/auxv`);
      expect(auxv).toMatch(new RegExp(`^ 0{14}21 0*${BASE.toString(16)}$`, "m"));
      expect(linuxGate(["auxv", pid]).stdout).toMatch(new RegExp(`AT_SYSINFO_EHDR\\s.*${hex(BASE)}`));
      expect(linuxGate(["maps", pid]).stdout).toContain(BASE.toString(16));
      const symbols = linuxGate(["symbols", pid]);
      expect(symbols.stderr).toBe("");
      for (const one of functions) expect(symbols.stdout).toMatch(new RegExp(`^.*\\b${one.name}\\b`, "m"));
      const dumped = workshop.path(`dumped-${name}.so`);
      expect(linuxGate(["dump", pid, "-o", dumped]).status).toBe(0);
      expect(spawnSync("cmp", ["-n", String(bytes.length), dumped, image]).status).toBe(0);
    });
  });
});
