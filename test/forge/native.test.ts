import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { boots } from "../support/boot.js";
import type { CpioEntry } from "../support/cpio.js";
import { forged, type PLANS } from "../support/forged.js";
import { debianKernel, programEntries, runInGuest } from "../support/guest.js";
import { runs32, Workshop } from "../support/programs.js";
import { needs } from "../support/referee.js";

const scratch = mkdtempSync(join(tmpdir(), "forge-native-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const gcc = needs("gcc", "gcc") && process.arch === "x64";

/** Compiles a program, runs it with the image of a kind, and gives what it printed. */
function run(program: string, kind: keyof typeof PLANS): { stdout: string; stderr: string; status: number | null } {
  const image = join(scratch, `${kind}.so`);
  writeFileSync(image, forged(kind));
  const { stdout, stderr, status, signal } = spawnSync(program, [image], { encoding: "utf8", timeout: 10_000 });
  return { stdout, stderr: `${stderr}${signal ?? ""}`, status };
}

function compile(name: string, source: string, ...options: readonly string[]): string {
  const [from, to] = [join(scratch, `${name}.c`), join(scratch, name)];
  writeFileSync(from, source);
  const { status, stderr } = spawnSync("gcc", ["-O1", "-o", to, from, ...options, "-ldl"], { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return to;
}

/** Loads the image as a library and compares its clocks with the C library's. */
const CLOCKS = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
static void *image;
static void *find(const char *name) {
  void *at = dlvsym(image, name, "LINUX_2.6");
  if (!at || at != dlsym(image, name)) printf("%s: %s\\n", name, dlerror());
  return at;
}
static long long ns(const struct timespec *t) { return t->tv_sec * 1000000000LL + t->tv_nsec; }
int main(int argc, char **argv) {
  image = dlopen(argv[1], RTLD_NOW);
  if (!image) { puts(dlerror()); return 1; }
  int (*get)(clockid_t, struct timespec *) = find("__vdso_clock_gettime");
  int (*res)(clockid_t, struct timespec *) = find("__vdso_clock_getres");
  int (*day)(struct timeval *, void *) = find("__vdso_gettimeofday");
  time_t (*seconds)(time_t *) = find("__vdso_time");
  if (!get || !res || !day || !seconds) return 1;
  clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID };
  for (int i = 0; i < 4; i++) {
    struct timespec before, now, after, ours, theirs;
    clock_gettime(clocks[i], &before);
    printf("clock %d: %d", clocks[i], get(clocks[i], &now));
    clock_gettime(clocks[i], &after);
    printf(" %s", ns(&before) <= ns(&now) && ns(&now) <= ns(&after) ? "between" : "elsewhere");
    printf(" %d", res(clocks[i], &ours));
    clock_getres(clocks[i], &theirs);
    puts(ns(&ours) == ns(&theirs) ? " same" : " different");
  }
  struct timespec none;
  struct timeval value;
  time_t first = time(0), second, third = seconds(&second);
  printf("no such clock: %d\\n", get(1000, &none));
  printf("gettimeofday: %d %s\\n", day(&value, 0), value.tv_sec - first <= 2 ? "near" : "far");
  printf("time: %s %s\\n", second == third ? "same" : "different", third - first <= 2 ? "near" : "far");
#ifdef __x86_64__
  int (*cpu)(unsigned *, unsigned *, void *) = find("__vdso_getcpu");
  unsigned processor = ~0u, node = ~0u;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(sched_getcpu(), &set);
  sched_setaffinity(0, sizeof set, &set);
  int status = cpu(&processor, &node, 0);
  printf("getcpu: %d %s\\n", status, processor == (unsigned)sched_getcpu() ? "same" : "different");
#else
  long long wide[2] = { 0 };
  int (*get64)(clockid_t, long long *) = find("__vdso_clock_gettime64");
  int status = get64(CLOCK_REALTIME, wide);
  printf("clock_gettime64: %d %s\\n", status, wide[0] - first <= 2 ? "near" : "far");
#endif
  return 0;
}
`;

const clockLines = (last: string): string =>
  [
    ...[0, 1, 7, 2].map((clock) => `clock ${clock}: 0 between 0 same`),
    ...["no such clock: -22", "gettimeofday: 0 near", "time: same near", last, ""],
  ].join("\n");

describe.skipIf(!gcc)("a forged image of x86_64", () => {
  it("is loaded by the C library, and tells the time as it does", () => {
    const program = compile("clocks", CLOCKS);
    expect(run(program, "x86_64")).toEqual({ stdout: clockLines("getcpu: 0 same"), stderr: "", status: 0 });
  });
});

/**
 * Makes system calls through the entry, and lets signal handlers return through the image. A handler lists the return
 * addresses above it: those of the interrupted code are found by the image's unwind tables alone.
 */
const GATE = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
static void *entry;
static long enter(long number, long a, long b, long c, long d, long e, long f) {
  long words[] = { (long)entry, a, b, c, d, e, f }, result;
  asm volatile(
    "push %%ebx\\n push %%ebp\\n push (%[words])\\n"
    "mov 4(%[words]),%%ebx\\n mov 8(%[words]),%%ecx\\n mov 12(%[words]),%%edx\\n"
    "mov 20(%[words]),%%edi\\n mov 24(%[words]),%%ebp\\n mov 16(%[words]),%%esi\\n"
    "call *(%%esp)\\n add $4,%%esp\\n pop %%ebp\\n pop %%ebx"
    : "=a"(result) : "0"(number), [words] "S"(words) : "ecx", "edx", "edi", "memory", "cc");
  return result;
}
struct action { void *handler; unsigned long flags; void *restorer; unsigned long mask[2]; };
static volatile int handled, seen;
static int ends[2];
extern char __start_apart[], __stop_apart[], __start_callers[], __stop_callers[];
__attribute__((noinline, section("apart"))) int interrupted(void) {
  int before = handled;
  for (volatile long i = 0; handled == before && i < 2000000000; i++);
  return handled;
}
static void handler(int number) {
  void *frames[32];
  int count = backtrace(frames, 32);
  for (int i = 0; i < count; i++)
    if ((char *)frames[i] >= __start_apart && (char *)frames[i] < __stop_apart)
      seen += i + 1 < count && (char *)frames[i + 1] >= __start_callers && (char *)frames[i + 1] < __stop_callers;
  handled++;
}
static void write_one(int number) { handled++; write(ends[1], "x", 1); }
static void set(void *function, unsigned long flags, void *restorer) {
  struct action action = { function, flags | 0x04000000, restorer, { 0, 0 } };
  syscall(SYS_rt_sigaction, SIGALRM, &action, 0, 8);
}
static void soon(void) {
  struct itimerval in = { { 0, 0 }, { 0, 30000 } };
  setitimer(ITIMER_REAL, &in, 0);
}
__attribute__((section("callers"))) int main(int argc, char **argv) {
  void *image = dlopen(argv[1], RTLD_NOW);
  if (!image) { puts(dlerror()); return 1; }
  entry = dlvsym(image, "__kernel_vsyscall", "LINUX_2.5");
  void *plain = dlvsym(image, "__kernel_sigreturn", "LINUX_2.5");
  void *with_info = dlvsym(image, "__kernel_rt_sigreturn", "LINUX_2.5");
  void *warm[1];
  backtrace(warm, 1);
  printf("getpid: %d\\n", enter(SYS_getpid, 0, 0, 0, 0, 0, 0) == getpid());
  int file = open(argv[1], O_RDONLY);
  char *page = (char *)enter(SYS_mmap2, 0, 4096, 1, 2, file, 0);
  printf("mmap2: %d\\n", (unsigned long)page < -4095ul && !memcmp(page, "\\177ELF", 4));
  printf("mmap2 beyond: %ld\\n", enter(SYS_mmap2, 0, 4096, 1, 2, 99, 0));
  set(handler, 0, plain);
  soon();
  printf("sigreturn: %d", interrupted());
  printf(" %d\\n", seen);
  set(handler, SA_SIGINFO, with_info);
  soon();
  printf("rt_sigreturn: %d", interrupted());
  printf(" %d\\n", seen);
  char byte;
  pipe(ends);
  set(write_one, SA_RESTART, plain);
  soon();
  long result = enter(SYS_read, ends[0], (long)&byte, 1, 0, 0, 0);
  printf("restarted: %ld %c\\n", result, byte);
  set(write_one, 0, plain);
  soon();
  printf("interrupted: %ld\\n", enter(SYS_read, ends[0], (long)&byte, 1, 0, 0, 0));
  int good = 0;
  for (int i = 0; i < 10000; i++) good += enter(SYS_getppid, 1, 2, 3, 4, 5, 6) == getppid();
  printf("many: %d\\n", good);
  return 0;
}
`;

const workshop = new Workshop();
afterAll(() => workshop.remove());

const narrow = gcc && runs32(workshop).builds && boots("amd64") && needs("busybox", "busybox-static");
const kernel = narrow ? await debianKernel() : undefined;

/** Ways into the kernel that 32-bit code has under a 64-bit kernel, by processor. Source: arch/x86/entry/vdso/vma.c. */
const WAYS = [
  ["Nehalem", ["int80", "sysenter"]],
  ["EPYC", ["int80", "syscall"]],
] as const;

describe.skipIf(!kernel)("a forged image of i386", () => {
  let programs: CpioEntry[];
  beforeAll(() => {
    const clocks = compile("clocks32", CLOCKS, "-m32");
    const gate = compile(
      "gate32",
      GATE,
      "-m32",
      "-fno-pie",
      "-no-pie",
      "-fasynchronous-unwind-tables",
      "-Wl,--no-as-needed,-lgcc_s",
    );
    programs = [...programEntries(clocks, "/clocks32"), ...programEntries(gate, "/gate32")];
  });

  it.each(WAYS)("serves programs on %s, by each way into the kernel that it has", async (cpu, ways) => {
    const images = ways.map((kind) => ({ path: `${kind}.so`, mode: 0o100644, data: forged(kind) }));
    const commands = ways.flatMap((kind) => [`/clocks32 /${kind}.so`, `/gate32 /${kind}.so`]);
    const results = await runInGuest(kernel as string, { cpu, entries: [...programs, ...images], commands });
    const texts = results.map(({ stdout, stderr, status }) => ({ stdout: stdout.toString(), stderr, status }));
    const gate = [
      // A file's page, mapped by a call of six arguments, and an error of such a call.
      ...["getpid: 1", "mmap2: 1", "mmap2 beyond: -9"],
      // Handlers that returned, and how often the interrupted function and its caller were found above one.
      ...["sigreturn: 1 1", "rt_sigreturn: 2 2"],
      ...["restarted: 1 x", "interrupted: -4", "many: 10000", ""],
    ].join("\n");
    const expected = [clockLines("clock_gettime64: 0 near"), gate].map((stdout) => ({ stdout, stderr: "", status: 0 }));
    expect(texts).toEqual(ways.flatMap(() => expected));
  });
});
