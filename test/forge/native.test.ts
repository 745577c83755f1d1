import { spawnSync } from "node:child_process";
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ForgePlan, forgeImage, type KernelPlaces } from "../../src/forge/forge.js";
import { searchKernel } from "../../src/kernel/find.js";
import { decompress } from "../../src/kernel/load.js";
import { parseImage, type VdsoImage } from "../../src/vdso/image.js";
import { boots } from "../support/boot.js";
import type { CpioEntry } from "../support/cpio.js";
import { forged, forgeTools, PLANS } from "../support/forged.js";
import { debianKernel, programEntries, runInGuest } from "../support/guest.js";
import { runs32, Workshop } from "../support/programs.js";
import { needs, output } from "../support/referee.js";
import { CLOCK_PROGRAM, clockPlan, clockScript, stubs as stubsOf } from "./clock-program.js";

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
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
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
  struct action action = { function, flags | (restorer ? 0x04000000 : 0), restorer, { 0, 0 } };
  syscall(SYS_rt_sigaction, SIGALRM, &action, 0, 8);
}
static void soon(void) {
  struct itimerval in = { { 0, 0 }, { 0, 30000 } };
  setitimer(ITIMER_REAL, &in, 0);
}
/* The C library's own calls, which go by %gs:0x10, go by the new entry too: the one that writes it goes by none. */
static int write_over(const char *file, char *at) {
  struct stat status;
  int from = open(file, O_RDONLY), count;
  fstat(from, &status);
  if (mprotect(at, status.st_size, PROT_READ | PROT_WRITE | PROT_EXEC)) return -1;
  asm volatile("mov %0,%%gs:0x10" : : "r"(entry));
  asm volatile("int $0x80" : "=a"(count) : "0"(SYS_read), "b"(from), "c"(at), "d"(status.st_size) : "memory");
  close(from);
  return count == status.st_size ? mprotect(at, status.st_size, PROT_READ | PROT_EXEC) : -1;
}
__attribute__((section("callers"))) int main(int argc, char **argv) {
  void *plain = 0, *with_info = 0, *warm[1];
  // What is loaded for it is loaded before the tables are others than the dynamic linker knows.
  backtrace(warm, 1);
  if (argc > 2) {
    char *own = (char *)getauxval(AT_SYSINFO_EHDR);
    entry = own + strtoul(argv[2], 0, 16);
    if (write_over(argv[1], own)) { puts("cannot write over the vDSO"); return 1; }
  } else {
    void *image = dlopen(argv[1], RTLD_NOW);
    if (!image) { puts(dlerror()); return 1; }
    entry = dlvsym(image, "__kernel_vsyscall", "LINUX_2.5");
    plain = dlvsym(image, "__kernel_sigreturn", "LINUX_2.5");
    with_info = dlvsym(image, "__kernel_rt_sigreturn", "LINUX_2.5");
  }
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

/** Where the counted calls below are counted, and how many numbers have a counter. */
const TABLE = { table: 0x2000_0000n, length: 450 };

/** Counts calls in two threads, and others whose numbers are none; each call must keep all registers but %eax. */
const COUNT = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
void *entry;
int spoilt;
long kept(long number);
asm("kept: push %ebx\\n push %esi\\n push %edi\\n push %ebp\\n mov 20(%esp),%eax\\n mov $1,%ebx\\n mov $2,%ecx\\n mov $3,%edx\\n"
    "mov $4,%esi\\n mov $5,%edi\\n mov $6,%ebp\\n call *entry\\n cmp $1,%ebx\\n jne 1f\\n cmp $2,%ecx\\n jne 1f\\n"
    "cmp $3,%edx\\n jne 1f\\n cmp $4,%esi\\n jne 1f\\n cmp $5,%edi\\n jne 1f\\n cmp $6,%ebp\\n je 2f\\n"
    "1: movl $1,spoilt\\n 2: pop %ebp\\n pop %edi\\n pop %esi\\n pop %ebx\\n ret");
static void *work(void *unused) {
  for (int i = 0; i < 20000; i++) kept(SYS_getppid);
  return 0;
}
int main(int argc, char **argv) {
  long long *table = mmap((void *)0x20000000, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  void *image = dlopen(argv[1], RTLD_NOW);
  if (!image) { puts(dlerror()); return 1; }
  entry = dlsym(image, "__kernel_vsyscall");
  table[SYS_getuid] = 0xfffffffeLL;
  table[450] = 0xffffffffLL;
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) pthread_create(&threads[i], 0, work, 0);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], 0);
  for (int i = 0; i < 3; i++) kept(SYS_getuid);
  long numbers[] = { 449, 450, 451, 100000, 0x7fffffff, -1 };
  for (int i = 0; i < 6; i++) kept(numbers[i]);
  int (*time)(long *) = dlsym(image, "__vdso_time");
  time(0);
  for (int i = 0; i <= 451; i++) if (table[i]) printf("%d: %lld\\n", i, table[i]);
  printf("spoilt: %d\\n", spoilt);
  return 0;
}
`;

const workshop = new Workshop();
afterAll(() => workshop.remove());

const narrow = gcc && runs32(workshop).builds && boots("amd64") && needs("busybox", "busybox-static");
const kernel = narrow ? await debianKernel() : undefined;

/** Ways into the kernel that 32-bit code has under a 64-bit kernel, by processor. Source: arch/x86/entry/vdso/vma.c. */
const WAYS = [
  ["Nehalem", ["int80", "sysenter", "historical"]],
  ["EPYC", ["int80", "syscall"]],
] as const;

/** Where the kernel's own image of i386 has what the kernel returns to. */
async function kernelPlaces(path: string): Promise<KernelPlaces> {
  const { images } = await searchKernel(createReadStream(path), { decompress });
  const own = images.find(({ image }) => image.abi === "i386")?.image as VdsoImage;
  const offsetOf = (wanted: string): number =>
    Number((own.functions.find(({ name }) => name === wanted)?.address ?? 0n) - own.linkBase);
  return {
    landing: Buffer.from(own.bytes).indexOf(Buffer.from("cd805d5a59c3", "hex")) + 2,
    sigreturn: offsetOf("__kernel_sigreturn"),
    rtSigreturn: offsetOf("__kernel_rt_sigreturn"),
    size: Math.ceil(Number(own.loadSize) / 4096) * 4096,
  };
}

describe.skipIf(!kernel)("a forged image of i386", () => {
  let programs: CpioEntry[];
  let places: KernelPlaces;
  let stubs: Map<string, bigint>;
  beforeAll(async () => {
    places = await kernelPlaces(kernel as string);
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
    const count = compile("count32", COUNT, "-m32", "-fno-pie", "-no-pie", "-pthread");
    const changed = compile("changed32", CLOCK_PROGRAM, "-m32", "-fno-pie", "-no-pie", "-fno-omit-frame-pointer");
    stubs = stubsOf(output("nm", changed));
    const paths = { clocks, gate, count, changed };
    programs = Object.entries(paths).flatMap(([name, path]) => programEntries(path, `/${name}32`));
  });
  const file = (path: string, data: Uint8Array | string): CpioEntry => ({
    path,
    mode: 0o100644,
    data: Buffer.from(data),
  });
  const gateLines = [
    // A file's page, mapped by a call of six arguments, and an error of such a call.
    ...["getpid: 1", "mmap2: 1", "mmap2 beyond: -9"],
    // Handlers that returned, and how often the interrupted function and its caller were found above one.
    ...["sigreturn: 1 1", "rt_sigreturn: 2 2"],
    ...["restarted: 1 x", "interrupted: -4", "many: 10000", ""],
  ].join("\n");
  const countLines = [
    // The one call of `time`, by the image's own function.
    "13: 1",
    `${0x18}: ${0x1_0000_0001}`,
    ...["64: 40000", "449: 1", `450: ${0x1_0000_0004}`, "spoilt: 0", ""],
  ].join("\n");

  it.each(WAYS)("serves programs on %s, by each way into the kernel that it has", async (cpu, ways) => {
    // The arithmetic is the same on every processor.
    const scripts = cpu === "EPYC" ? (["i386", "i386 before 5.3"] as const) : [];
    const changed = scripts.map((abi) => {
      const script = clockScript(abi, 40, 60);
      const kernel = new Map([...stubs].filter(([name]) => abi === "i386" || name !== "__vdso_clock_gettime64"));
      const name = (i: number): string => `${abi.replaceAll(" ", "-")}-${i}.so`;
      const files = script.changes.map((change, i) => {
        // Every other one is laid out for the kernel's place, in which it need not lie to be called.
        const plan = { ...clockPlan("i386", change, kernel), ...(i % 2 === 1 && { places }) } as ForgePlan;
        return file(name(i), forgeImage(plan, forgeTools));
      });
      const input = script.commands.flatMap((commands, i) => [`i /${name(i)}`, ...commands]);
      const inputName = `${abi.replaceAll(" ", "-")}.txt`;
      files.push(file(inputName, input.map((line) => `${line}\n`).join("")));
      const stdout = script.expected
        .flat()
        .map((line) => `${line}\n`)
        .join("");
      return { files, call: { command: `/changed32 < /${inputName}`, stdout } };
    });
    const images: CpioEntry[] = [];
    const calls: { command: string; stdout: string }[] = [];
    for (const kind of ways) {
      const counted = forgeImage({ ...PLANS[kind], counters: TABLE } as ForgePlan, forgeTools);
      const placed = forgeImage({ ...PLANS[kind], places } as ForgePlan, forgeTools);
      images.push(file(`${kind}.so`, forged(kind)), file(`${kind}-counted.so`, counted));
      images.push(file(`${kind}-placed.so`, placed));
      const entry = parseImage(placed).entry?.address.toString(16);
      if (kind !== "historical")
        calls.push({ command: `/clocks32 /${kind}.so`, stdout: clockLines("clock_gettime64: 0 near") });
      calls.push({ command: `/gate32 /${kind}.so`, stdout: gateLines });
      calls.push({ command: `/gate32 /${kind}-placed.so ${entry}`, stdout: gateLines });
      calls.push({ command: `/count32 /${kind}-counted.so`, stdout: countLines });
    }
    for (const { files, call } of changed) {
      images.push(...files);
      calls.push(call);
    }
    const commands = calls.map(({ command }) => command);
    const results = await runInGuest(kernel as string, { cpu, entries: [...programs, ...images], commands });
    const texts = results.map(({ stdout, stderr, status }, i) => ({
      command: commands[i],
      stdout: stdout.toString(),
      stderr,
      status,
    }));
    expect(texts).toEqual(calls.map((call) => ({ ...call, stderr: "", status: 0 })));
  });
});
