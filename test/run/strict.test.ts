import { afterAll, describe, expect, it } from "vitest";
import { AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, buildFilter, VERDICT, X32_BIT } from "../../src/run/filter.js";
import { ExecVerb } from "../support/exec-verb.js";
import { runsHere } from "../support/native.js";
import { Workshop } from "../support/programs.js";
import { needs } from "../support/referee.js";

/**
 * What is asked for: the clocks of real time and of the processor show a second of 2001. With `follow` programs are
 * followed too; with `slow` calls are answered after 5 ms, with `throw` not at all.
 */
const REQUEST = `(options) => ({
  follow: options.includes("follow"),
  ...(options.includes("follow") && { gate: { kind: "none" } }),
  intercept: {
    calls: { x86_64: [{ number: 228, firstArguments: [0, 2] }, { number: 96 }, { number: 201 }], i386: [] },
    answer: async (call) => {
      if (options.includes("slow")) await new Promise((resolve) => setTimeout(resolve, 5));
      if (options.includes("throw")) throw new Error("thrown");
      const second = 1_000_000_000n;
      const seconds = call.number === 201;
      const pointer = call.args[call.number === 228 ? 1 : 0];
      const written = new DataView(new ArrayBuffer(seconds ? 8 : 16));
      written.setBigInt64(0, second, true);
      if (!seconds) written.setBigInt64(8, 5n, true);
      if (pointer !== 0n || call.number === 228) await call.write(pointer, new Uint8Array(written.buffer));
      return { result: seconds ? second : 0n };
    },
  },
})`;

const PROGRAM = `
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static const struct timespec unwritable = {1, 1};
static int clock_is(long id, long seconds) {
  struct timespec t = {0, 0};
  return syscall(SYS_clock_gettime, id, &t) == 0 && t.tv_sec == seconds && t.tv_nsec == 5;
}
static void *hundred(void *arg) {
  for (int i = 0; i < 100; i++) if (!clock_is(0, 1000000000)) arg = "wrong";
  return arg;
}
static int fails(void *where) {
  errno = 0;
  return syscall(SYS_clock_gettime, 0, where) == -1 && errno == EFAULT;
}
static volatile int alarms;
static void count(int signal) { alarms++; (void)signal; }
int main(int argc, char **argv) {
  const char *mode = argv[1];
  struct timespec t;
  struct timeval tv;
  time_t now = 0;
  if (!strcmp(mode, "all")) {
    printf("%d ", clock_is(0, 1000000000));
    printf("%d ", syscall(SYS_gettimeofday, &tv, 0) == 0 && tv.tv_sec == 1000000000);
    printf("%d ", syscall(SYS_time, &now) == 1000000000 && now == 1000000000);
    printf("%d ", syscall(SYS_time, 0) == 1000000000);
    printf("%d ", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t) == 0 && t.tv_sec < 1000000000);
    printf("%d ", fails(0) && fails((void *)8) && fails((void *)&unwritable) && fails((void *)-4096L));
    printf("%d\\n", unwritable.tv_sec == 1);
  } else if (!strcmp(mode, "vdso")) {
    /* The kernel's own image reads real time by itself, and calls the kernel for the processor's. */
    printf("%d ", clock_gettime(CLOCK_REALTIME, &t) == 0 && t.tv_sec > 1500000000);
    printf("%d ", clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0 && t.tv_sec < 100);
    printf("%d\\n", clock_is(CLOCK_PROCESS_CPUTIME_ID, 1000000000));
  } else if (!strcmp(mode, "threads")) {
    pthread_t threads[4];
    void *wrong = 0, *one;
    for (int i = 0; i < 4; i++) pthread_create(threads + i, 0, hundred, 0);
    for (int i = 0; i < 4; i++) { pthread_join(threads[i], &one); if (one) wrong = one; }
    puts(wrong ? "wrong" : "right");
  } else if (!strcmp(mode, "alarms")) {
    struct sigaction action = {0};
    struct itimerval every = {{0, 2000}, {0, 2000}};
    int right = 0;
    action.sa_handler = count;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &every, 0);
    for (int i = 0; i < 40; i++) right += clock_is(0, 1000000000);
    printf("%d %d\\n", right, alarms > 5);
  } else if (!strcmp(mode, "confined")) {
    struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {4, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    errno = 0;
    printf("%d ", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 8, &filter) == -1 && errno == EBUSY);
    printf("%d ", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
    printf("%d ", syscall(SYS_getppid) == -1 && errno == 77);
    printf("%d\\n", clock_is(0, 1000000000));
  } else if (!strcmp(mode, "ever")) {
    for (;;) syscall(SYS_clock_gettime, 0, &t);
  } else return 9;
  fflush(stdout);
  return 0;
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

/** What the kernel does with `struct seccomp_data` under a filter: loads, masks, jumps on equality, and returns. */
function decide(filter: Uint8Array, words: readonly number[]): number {
  const code = new DataView(filter.buffer, filter.byteOffset, filter.byteLength);
  let accumulator = 0;
  for (let at = 0; at < filter.length; at += 8) {
    const operand = code.getUint32(at + 4, true);
    const kind = code.getUint16(at, true);
    if (kind === 0x20) accumulator = words[operand / 4] as number;
    else if (kind === 0x54) accumulator = (accumulator & operand) >>> 0;
    else if (kind === 0x15) at += 8 * code.getUint8(at + (accumulator === operand ? 2 : 3));
    else if (kind === 0x06) return operand;
    else throw new Error(`no instruction: ${kind}`);
  }
  throw new Error("the filter does not return");
}

describe("buildFilter()", () => {
  const caught = 0x7fc0_0000;
  const passed = 0x7fff_0000;
  const calls = {
    x86_64: [{ number: 228, firstArguments: [0, 5] }, { number: 201 }],
    i386: [{ number: 265, firstArguments: [0] }, { number: 13 }],
  };
  const filter = buildFilter(calls, VERDICT.notify);
  const data = (arch: number, number: number, first: number) => [number, arch, 0, 0, first, 0, 0, 0];

  it("tells of the calls of each ABI by their own numbers", () => {
    for (const [number, first, expected] of [
      ...([[228, 0, caught] as const, [228, 5, caught] as const, [228, 1, passed] as const] as const),
      ...([[201, 7, caught] as const, [265, 0, passed] as const, [13, 0, passed] as const] as const),
    ]) {
      expect([number, first, decide(filter, data(AUDIT_ARCH_X86_64, number, first))]).toEqual([
        number,
        first,
        expected,
      ]);
      const x32 = data(AUDIT_ARCH_X86_64, (number | X32_BIT) >>> 0, first);
      expect([number, first, decide(filter, x32)]).toEqual([number, first, expected]);
    }
    for (const [number, first, expected] of [
      ...([[265, 0, caught] as const, [265, 1, passed] as const, [13, 9, caught] as const] as const),
      ...([[228, 0, passed] as const, [201, 0, passed] as const] as const),
    ]) {
      expect([number, first, decide(filter, data(AUDIT_ARCH_I386, number, first))]).toEqual([number, first, expected]);
    }
    expect(decide(filter, data(0xc000_00b7, 228, 0))).toBe(passed);
  });

  it("refuses more than it can jump over", () => {
    const x86_64 = Array.from({ length: 200 }, (_, number) => ({ number }));
    expect(() => buildFilter({ x86_64, i386: [] }, VERDICT.notify)).toThrow(RangeError);
  });
});

describe.skipIf(!(runsHere("x86_64") && program))("system calls that are answered", () => {
  it.each(programs)("are those that bypass the vDSO, with errors as the kernel has them: $name", ({ path }) => {
    expect(run(path, "all").text).toBe("1 1 1 1 1 1 1\n");
    expect(verb.run("follow", "--", path, "all").text).toBe("1 1 1 1 1 1 1\n");
  });

  it("are not those of the kernel's own vDSO, in the first program and in those that it executes", () => {
    expect(run(program as string, "vdso").text).toBe("1 1 1\n");
    expect(run("sh", "-c", `${program} vdso; exec ${program} vdso`).text).toBe("1 1 1\n1 1 1\n");
  });

  it("are those of threads and of many processes at once", () => {
    for (const { path } of programs) expect(run(path, "threads").text).toBe("right\n");
    const many = run("sh", "-c", `seq 20 | xargs -P 10 -n 1 sh -c 'exec ${program} all'`);
    expect(many.text).toBe("1 1 1 1 1 1 1\n".repeat(20));
  });

  it("are not cut short by signals that have handlers", () => {
    expect(verb.run("slow", "--", program as string, "alarms").text).toBe("40 1\n");
  });

  it("go with filters of the program's own, and with those of nobody else who would answer", () => {
    expect(run(program as string, "confined").text).toBe("1 1 1 1\n");
    const twice = run(process.execPath, verb.path, "--", "true");
    expect(twice.status).toBe(125);
    expect(twice.errors).toMatch(/EBUSY/);
  });

  it("are answered to what outlives the first program, whose status counts", () => {
    const outlived = run("sh", "-c", `(sleep 0.5; ${program} all) & exit 4`);
    expect([outlived.text, outlived.status]).toEqual(["1 1 1 1 1 1 1\n", 4]);
  });

  it("may be of programs that are killed while they wait", () => {
    const loop = `for i in $(seq 20); do ${program} ever & sleep 0.01; kill -9 $!; wait $! 2>/dev/null; done; ${program} all`;
    for (const options of [[], ["slow"], ["follow"]]) {
      const killed = verb.run(...options, "--", "sh", "-c", loop);
      expect([killed.text, killed.errors.replace(/^.*Killed.*$/gm, "").trim()]).toEqual(["1 1 1 1 1 1 1\n", ""]);
    }
  });

  it("are left to the kernel where there is no answer, which is said once", () => {
    const { text, errors } = verb.run("throw", "--", "sh", "-c", `${program} all; ${program} all`);
    expect(text).toBe("0 0 0 0 1 1 1\n".repeat(2));
    expect(errors).toMatch(/^linux-gate: a system call of process \d+ is left to the kernel: thrown\n$/);
  });

  it.skipIf(process.geteuid?.() !== 0 || !needs("setpriv", "util-linux"))("are an ordinary user's too", () => {
    const by = ["setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
    const ordinary = verb.runBy(by, {}, "--", program as string, "all");
    expect([ordinary.text, ordinary.errors]).toEqual(["1 1 1 1 1 1 1\n", ""]);
  });
});
