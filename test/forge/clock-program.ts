import fc from "fast-check";
import { type ClockChange, shownTime } from "../../src/forge/clock.js";
import type { ForgePlan } from "../../src/forge/forge.js";

/**
 * Has functions in place of the kernel's, whose addresses an image is made for, and calls those of images. Its standard
 * input names an image (`i FILE`), or what the kernel's clock is to say and what is to be called then; each call makes
 * one line of output.
 *
 *     c CLOCK SECONDS NANOSECONDS STATUS     clock_gettime
 *     C CLOCK SECONDS NANOSECONDS STATUS     clock_gettime64
 *     d CLOCK SECONDS NANOSECONDS STATUS PARTS  gettimeofday; 1: with a time, 2: with a zone, 4: no zone is to be had
 *     t CLOCK SECONDS NANOSECONDS STATUS POINTER  time
 *     o                                      the others
 *
 * The functions overwrite all that a function may, their arguments on the stack too, and find out whether the stack is
 * at a multiple of 16; calls find out whether all registers that a function must keep were kept.
 */
export const CLOCK_PROGRAM = `
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#ifdef __x86_64__
#define SPOIL asm volatile("mov $-1,%%rax\\n mov %%rax,%%rcx\\n mov %%rax,%%rdx\\n mov %%rax,%%rsi\\n mov %%rax,%%rdi\\n" \\
  "mov %%rax,%%r8\\n mov %%rax,%%r9\\n mov %%rax,%%r10\\n mov %%rax,%%r11" ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", \\
  "r9", "r10", "r11")
#define FRAME 0
asm("checked: push %rbx\\n push %rbp\\n push %r12\\n push %r13\\n push %r14\\n push %r15\\n sub $8,%rsp\\n"
    "mov %rdi,%rax\\n mov %rsi,%rdi\\n mov %rdx,%rsi\\n mov %rcx,%rdx\\n mov %r8,%rcx\\n mov %r9,%r8\\n"
    "mov $1,%ebx\\n mov $2,%ebp\\n mov $3,%r12d\\n mov $4,%r13d\\n mov $5,%r14d\\n mov $6,%r15d\\n call *%rax\\n"
    "cmp $1,%rbx\\n jne 1f\\n cmp $2,%rbp\\n jne 1f\\n cmp $3,%r12\\n jne 1f\\n cmp $4,%r13\\n jne 1f\\n"
    "cmp $5,%r14\\n jne 1f\\n cmp $6,%r15\\n je 2f\\n"
    "1: movl $1,spoilt\\n 2: add $8,%rsp\\n"
    "pop %r15\\n pop %r14\\n pop %r13\\n pop %r12\\n pop %rbp\\n pop %rbx\\n ret");
#else
#define SPOIL asm volatile("mov $-1,%%eax\\n mov %%eax,%%ecx\\n mov %%eax,%%edx" ::: "eax", "ecx", "edx")
#define FRAME 8
asm("checked: push %ebx\\n push %esi\\n push %edi\\n push %ebp\\n sub $28,%esp\\n"
    "mov 52(%esp),%eax\\n mov %eax,(%esp)\\n mov 56(%esp),%eax\\n mov %eax,4(%esp)\\n mov 60(%esp),%eax\\n"
    "mov %eax,8(%esp)\\n mov 64(%esp),%eax\\n mov %eax,12(%esp)\\n mov 68(%esp),%eax\\n mov %eax,16(%esp)\\n"
    "mov $1,%ebx\\n mov $2,%esi\\n mov $3,%edi\\n mov $4,%ebp\\n call *48(%esp)\\n"
    "cmp $1,%ebx\\n jne 1f\\n cmp $2,%esi\\n jne 1f\\n cmp $3,%edi\\n jne 1f\\n cmp $4,%ebp\\n je 2f\\n"
    "1: movl $1,spoilt\\n 2: add $28,%esp\\n pop %ebp\\n pop %edi\\n pop %esi\\n pop %ebx\\n ret");
#endif
int spoilt, crooked;
static int clock_now, status_now, parts;
static long long seconds_now, nanoseconds_now;
#define ENTER if (((unsigned long)__builtin_frame_address(0) & 15) != FRAME) crooked = 1
int kernel_clock_gettime(int clock, struct timespec *t) {
  ENTER;
  int status = clock != clock_now ? -99 : status_now;
  if (status == 0) { t->tv_sec = seconds_now; t->tv_nsec = nanoseconds_now; }
  *(volatile int *)&clock = -1;
  *(struct timespec *volatile *)&t = 0;
  SPOIL;
  return status;
}
int kernel_clock_gettime64(int clock, long long *t) {
  ENTER;
  int status = clock != clock_now ? -99 : status_now;
  if (status == 0) { t[0] = seconds_now; t[1] = nanoseconds_now; }
  *(volatile int *)&clock = -1;
  *(long long *volatile *)&t = 0;
  SPOIL;
  return status;
}
int kernel_gettimeofday(struct timeval *tv, struct timezone *tz) {
  ENTER;
  int status = tv || !tz ? -98 : parts & 4 ? -97 : 0;
  if (status == 0) { tz->tz_minuteswest = 7; tz->tz_dsttime = 9; }
  SPOIL;
  return status;
}
long kernel_time(long *t) { ENTER; if (t) *t = 1234; return 1234; }
long kernel_other(long a, long b, long c, long d, long e) { ENTER; return a + 10 * b + 100 * c + 1000 * d + 10000 * e; }
long checked(void *, long, long, long, long, long);
int main(void) {
  void *image = 0;
  char line[300];
  setvbuf(stdout, 0, _IOFBF, 1 << 16);
  while (fgets(line, sizeof line, stdin)) {
    char kind = line[0];
    if (kind == 'i') {
      line[strcspn(line, "\\n")] = 0;
      image = dlopen(line + 2, RTLD_NOW);
      if (!image) { puts(dlerror()); return 1; }
      continue;
    }
    parts = 0;
    if (kind != 'o' && sscanf(line + 2, "%d %lld %lld %d %d", &clock_now, &seconds_now, &nanoseconds_now, &status_now,
                              &parts) < 4) return 1;
    struct timespec t = { -1, -1 };
    long long wide[2] = { -1, -1 };
    struct timeval tv = { -1, -1 };
    struct timezone tz = { -1, -1 };
    long seconds = -1, status;
    int errors = spoilt + crooked;
    switch (kind) {
    case 'c':
      status = (int)checked(dlsym(image, "__vdso_clock_gettime"), clock_now, (long)&t, 0, 0, 0);
      printf("%ld %lld %lld", status, (long long)t.tv_sec, (long long)t.tv_nsec);
      break;
    case 'C':
      status = (int)checked(dlsym(image, "__vdso_clock_gettime64"), clock_now, (long)wide, 0, 0, 0);
      printf("%ld %lld %lld", status, wide[0], wide[1]);
      break;
    case 'd':
      status = (int)checked(dlsym(image, "__vdso_gettimeofday"), (long)(parts & 1 ? &tv : 0),
                            (long)(parts & 6 ? &tz : 0), 0, 0, 0);
      printf("%ld %lld %lld %d %d", status, (long long)tv.tv_sec, (long long)tv.tv_usec, tz.tz_minuteswest,
             tz.tz_dsttime);
      break;
    case 't':
      status = checked(dlsym(image, "__vdso_time"), (long)(parts & 1 ? &seconds : 0), 0, 0, 0, 0);
      printf("%ld %ld", status, seconds);
      break;
    case 'o':
      printf("%ld", checked(dlsym(image, "__vdso_getrandom"), 1, 2, 3, 4, 5));
      printf(" %ld", checked(dlsym(image, "__vdso_clock_getres"), 5, 4, 3, 2, 1));
      break;
    }
    puts(spoilt + crooked == errors ? "" : " spoilt");
  }
  return 0;
}
`;

/** The functions of {@link CLOCK_PROGRAM} by the kernel's names, as `nm` has them of the program. */
export function stubs(symbols: string): Map<string, bigint> {
  const found = new Map<string, bigint>();
  for (const [, address, name] of symbols.matchAll(/^([0-9a-f]+) T kernel_(\w+)$/gm)) {
    if (name === undefined) continue;
    const at = BigInt(`0x${address}`);
    if (name !== "other") found.set(`__vdso_${name}`, at);
    else for (const other of ["getrandom", "clock_getres"]) found.set(`__vdso_${other}`, at);
  }
  return found;
}

/** The functions of a program with `nm`'s list of symbols for each of the changes, for images of an ABI. */
export function clockPlan(abi: "x86_64" | "i386", change: ClockChange, kernel: ReadonlyMap<string, bigint>): ForgePlan {
  const common = { kernelVersion: 0x06_12_2c, clocks: { change, kernel } };
  return abi === "x86_64" ? { ...common, abi } : { ...common, abi, entry: "int $0x80" };
}

const SECOND = 1_000_000_000n;

/** Nanoseconds of a real clock: not before 1970, and up to the year 2262. */
const reading = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 63n) - 1n }),
  fc.bigInt({ min: 1_700_000_000n * SECOND, max: 1_900_000_000n * SECOND }),
);

/** Changes of clocks of every kind, with the ends of what is possible among them. */
const changes: fc.Arbitrary<ClockChange> = fc
  .record({
    rate: fc.oneof(
      fc.constantFrom(0n, 1n, 1n << 31n, (1n << 32n) - 1n, 1n << 32n, 1n << 33n, 1n << 48n),
      fc.constant(1n << 32n),
      fc.bigInt({ min: 0n, max: 1n << 34n }),
      fc.bigInt({ min: 0n, max: 1n << 48n }),
    ),
    clocks: fc.uniqueArray(
      fc.tuple(
        fc.constantFrom(0, 5, 1, 11, 8, 200, -7),
        reading,
        fc.oneof(
          fc.bigInt({ min: -(1n << 79n), max: (1n << 79n) - 1n }),
          fc.bigInt({ min: -(1n << 62n), max: 1n << 63n }),
          fc.bigInt({ min: 0n, max: 4_000_000_000n * SECOND }),
          fc.constantFrom(0n, -1n, SECOND - 1n, -(1n << 79n), (1n << 79n) - 1n),
        ),
      ),
      { selector: ([clock]) => clock, minLength: 1, maxLength: 5 },
    ),
  })
  .map(({ rate, clocks }) => ({
    rate,
    clocks: new Map(clocks.map(([clock, real, shown]) => [clock, { real, shown }])),
  }));

/** What {@link CLOCK_PROGRAM} is told to do with images, and what it must write. */
export interface Script {
  readonly changes: readonly ClockChange[];
  /** Commands for the image of each change. */
  readonly commands: readonly (readonly string[])[];
  readonly expected: readonly (readonly string[])[];
}

/** An ABI, or that of kernels before Linux 5.3, which have no `clock_gettime64`. */
type ScriptAbi = "x86_64" | "i386" | "i386 before 5.3";

/** Random changes, and random readings under each. */
export function clockScript(abi: ScriptAbi, images: number, readings: number): Script {
  const all = fc.sample(changes, images);
  const parts = all.map((change) => {
    const lines = fc.sample(lineFor(abi, change), readings);
    return { commands: lines.map(([command]) => command), expected: lines.map(([, expected]) => expected) };
  });
  return {
    changes: all,
    commands: parts.map(({ commands }) => commands),
    expected: parts.map(({ expected }) => expected),
  };
}

/** Commands with what must be written. */
function lineFor(abi: ScriptAbi, change: ClockChange): fc.Arbitrary<readonly [string, string]> {
  const starts = [...change.clocks.values()].map(({ real }) => real);
  const real = fc.oneof(
    reading,
    fc
      .tuple(fc.constantFrom(...starts), fc.bigInt({ min: -3n * SECOND, max: 1_000_000n * SECOND }))
      .map(([start, after]) => (start + after < 0n ? 0n : start + after) % (1n << 63n)),
  );
  const status = fc.oneof(
    { weight: 5, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.constantFrom(-22, -14) },
  );
  const clock = fc.oneof(fc.constantFrom(...change.clocks.keys()), fc.constantFrom(0, 1, 5, 9999));
  const mask = fc.constantFrom(0, 1, 2, 3, 6, 7);
  const kinds = abi === "i386" ? (["c", "C", "d", "t", "o"] as const) : (["c", "d", "t", "o"] as const);
  // Such a kernel tells no more seconds than fit 32 bits with a sign.
  const told = abi === "i386 before 5.3" ? real.map((value) => value % (SECOND << 31n)) : real;
  return fc
    .record({ kind: fc.constantFrom(...kinds), clock, real: told, status, mask })
    .map((call) => [commandOf(call), outcomeOf(abi, change, call)] as const);
}

interface Call {
  readonly kind: "c" | "C" | "d" | "t" | "o";
  readonly clock: number;
  readonly real: bigint;
  readonly status: number;
  readonly mask: number;
}

/** The clock that a function of no clock in particular is to read. */
const READ_BY = { d: [0], t: [5, 0] } as const;

function commandOf({ kind, clock, real, status, mask }: Call): string {
  const reading = `${real / SECOND} ${real % SECOND} ${status}`;
  switch (kind) {
    case "c":
    case "C":
      return `${kind} ${clock} ${reading}`;
    case "d":
      return `d 0 ${reading} ${mask}`;
    case "t":
      // The program's clock says an error of its own to who asks for another.
      return `t ${mask & 4 ? 0 : 5} ${reading} ${mask & 1}`;
    case "o":
      return "o";
  }
}

/** What the program must write: the arithmetic is that of {@link shownTime}. */
function outcomeOf(abi: ScriptAbi, change: ClockChange, call: Call): string {
  const { kind, clock, real, status, mask } = call;
  const long = (value: bigint): bigint => BigInt.asIntN(abi === "x86_64" ? 64 : 32, value);
  const show = (shown: bigint): [seconds: bigint, nanoseconds: bigint] => {
    const nanoseconds = ((shown % SECOND) + SECOND) % SECOND;
    return [(shown - nanoseconds) / SECOND, nanoseconds];
  };
  const frozen = change.rate === 0n;
  switch (kind) {
    case "c":
    case "C": {
      const shown = shownTime(change, clock, real);
      if (status !== 0 && !(frozen && shown !== undefined)) return `${status} -1 -1`;
      const [seconds, nanoseconds] = show(shown ?? real);
      return `0 ${kind === "c" ? long(seconds) : BigInt.asIntN(64, seconds)} ${nanoseconds}`;
    }
    case "d": {
      const [clock0] = READ_BY.d;
      const shown = shownTime(change, clock0, real);
      const zone = mask & 6;
      // The kernel's own, in the program, is none that tells a time.
      if (shown === undefined) {
        const fails = mask & 1 || !zone ? -98 : mask & 4 ? -97 : 0;
        return `${fails} -1 -1 ${fails === 0 ? "7 9" : "-1 -1"}`;
      }
      if (mask & 4) return "-97 -1 -1 -1 -1";
      const told = zone ? "7 9" : "-1 -1";
      if (!(mask & 1)) return `0 -1 -1 ${told}`;
      if (status !== 0 && !frozen) return `${status} -1 -1 ${told}`;
      const [seconds, nanoseconds] = show(shown);
      return `0 ${long(seconds)} ${nanoseconds / 1000n} ${told}`;
    }
    case "t": {
      const asked = READ_BY.t.find((one) => change.clocks.has(one));
      if (asked === undefined) return mask & 1 ? "1234 1234" : "1234 -1";
      const has = mask & 4 ? 0 : 5;
      const fails = frozen ? 0 : asked !== has ? -99 : status;
      if (fails !== 0) return `${fails} -1`;
      const seconds = long(show(shownTime(change, asked, real) as bigint)[0]);
      return `${seconds} ${mask & 1 ? seconds : -1n}`;
    }
    case "o":
      return "54321 12345";
  }
}
