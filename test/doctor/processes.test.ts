import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { needs, output } from "../support/referee.js";
import { CLOCK_C, ids, Surgery } from "./surgery.js";

const surgery = new Surgery();
beforeAll(() => surgery.open());
afterAll(() => surgery.close());
afterEach(() => surgery.clear());

describe.skipIf(process.arch !== "x64")("doctor PID", () => {
  it("sees a process of Node's: its libraries, what they import, and the C library that looks for the vDSO", async () => {
    const pid = await surgery.start("node", process.execPath, "-e", "setInterval(() => {}, 1000)");
    const result = surgery.look([String(pid)]);
    expect(ids(result)).toEqual(expect.arrayContaining(["looks-at-vdso", "clock-imports"]));
    expect(result.facts.process).toMatchObject({
      pid,
      name: "node",
      abi: "x86_64",
      announced: true,
      sameImage: true,
      unread: [],
    });
    expect(result.facts.process?.runtime).toMatch(/^(glibc \d+\.\d+|musl)$/);
    const exe = result.facts.process?.objects.find(({ path }) => path.endsWith("/node"));
    expect(exe?.imports).toContain("clock_gettime");
    if (!needs("nm", "binutils")) return;
    const listed = output("nm", "-D", "--undefined-only", exe?.path ?? "");
    const wanted = listed.matchAll(
      / U (clock_gettime|clock_getres|gettimeofday|time|sched_getcpu|getcpu|getrandom)(@|$)/gm,
    );
    expect(exe?.imports).toEqual([...new Set([...wanted].map(([, name]) => name))].sort());
  });

  it("sees a program of Go", async () => {
    if (!needs("go", "golang-go")) return;
    const path = join(surgery.folder, "clock-go");
    writeFileSync(
      `${path}.go`,
      'package main\nimport "time"\nfunc main() { for { _ = time.Now(); time.Sleep(50 * time.Millisecond) } }\n',
    );
    const built = spawnSync("go", ["build", "-o", path, `${path}.go`], {
      encoding: "utf8",
      env: { ...process.env, CGO_ENABLED: "0" },
    });
    expect(built.stderr).toBe("");
    const result = surgery.look([String(await surgery.start("clock-go", path))]);
    expect(result.facts.process?.runtime).toMatch(/^Go \d+\.\d+/);
    expect(result.facts.process?.static).toBe(true);
    expect(result.facts.process?.objects[0]?.looksFor).toContain("__vdso_clock_gettime");
    expect(ids(result)).toContain("looks-at-vdso");
  }, 60_000);

  it.each([
    ["musl-gcc", undefined],
    ["gcc", "glibc"],
  ])("sees a static program of %s", async (compiler, runtime) => {
    const path = surgery.compiled(`static-${compiler}`, CLOCK_C, compiler, "-static");
    if (path === undefined) return;
    const result = surgery.look([String(await surgery.start(`static-${compiler}`, path))]);
    expect(result.facts.process).toMatchObject({ static: true, ...(runtime && { runtime }) });
    expect(ids(result)).toContain("looks-at-vdso");
  });

  it("sees that a program makes its clock calls without looking for the vDSO", async () => {
    const source = `static long call(long n, long a, long b) {
  long r; __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b) : "rcx", "r11", "memory"); return r; }
void _start(void) { long t[2] = {0, 50000000}; for (;;) { long now[2];
  __asm__ volatile("mov $228, %%eax; syscall" : : "D"(1L), "S"(now) : "rax", "rcx", "r11", "memory");
  call(35, (long)t, 0); } }`;
    const path = surgery.compiled("own-calls", source, "gcc", "-O1", "-nostdlib", "-static", "-ffreestanding", "-s");
    if (path === undefined) return;
    const result = surgery.look([String(await surgery.start("own-calls", path))]);
    expect(result.status).toBe(1);
    expect(ids(result)).toContain("never-looks");
    expect(result.facts.process?.objects).toMatchObject([{ systemCalls: ["clock_gettime"] }]);
    expect(result.verdict).toMatch(/never looks at its vDSO/);
  });

  it("sees that a process was started without a vDSO", async () => {
    const path = surgery.compiled("clock-hidden", CLOCK_C);
    if (path === undefined) return;
    const hide = [process.execPath, surgery.program, "exec", "--no-vdso", "--"];
    const result = surgery.look([String(await surgery.start("clock-hidden", ...hide, path))]);
    expect(result.status).toBe(1);
    expect(ids(result)[0]).toBe("process-no-vdso");
    expect(result.verdict).toMatch(/has no vDSO, and its clock calls enter the kernel$/);
    expect(ids(result)).toContain("fast-path");
  });

  it("sees a time namespace, and makes the proof in it", async () => {
    const path = surgery.compiled("clock-elsewhere", CLOCK_C);
    const root = process.geteuid?.() === 0;
    const can =
      root && needs("unshare", "util-linux") && spawnSync("unshare", ["-T", "--boottime", "1", "true"]).status === 0;
    if (path === undefined || !can) return;
    const pid = await surgery.start(
      "clock-elsewhere",
      "unshare",
      "-T",
      "--boottime",
      "1000",
      "--monotonic",
      "-1",
      path,
    );
    const result = surgery.look([String(pid)]);
    expect(ids(result)).toContain("time-namespace");
    expect(ids(result)).not.toContain("namespace-unproved");
    expect(result.facts.process?.timeNamespace).toEqual({
      other: true,
      offsets: ["monotonic -1.000000000", "boottime 1000.000000000"],
    });
  });

  it("sees seccomp filters", async () => {
    const source = `#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void) { struct sock_filter allow = {0x06, 0, 0, 0x7fff0000}; struct sock_fprog program = {1, &allow};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
  prctl(PR_SET_NAME, "is-filtered"); for (;;) sleep(1); }`;
    const path = surgery.compiled("filtered", source);
    if (path === undefined) return;
    const result = surgery.look([String(await surgery.start("is-filtered", path))]);
    expect(result.facts.process?.seccomp).toBe(2);
    expect(ids(result)).toContain(result.lost ? "fallback-filtered" : "seccomp-filters");
  });

  it("sees valgrind between a program and its vDSO", async () => {
    const path = surgery.compiled("clock-valgrind", CLOCK_C);
    if (path === undefined || !needs("valgrind", "valgrind")) return;
    // Its launcher executes the tool, which unmaps the vDSO as it loads the program, and takes that one's name.
    const pid = await surgery.start("none-amd64-linu", "valgrind", "--tool=none", path);
    const isLoaded = () => {
      const maps = readFileSync(`/proc/${pid}/maps`, "latin1");
      return maps.includes(path) && !maps.includes("[vdso]");
    };
    for (let i = 0; i < 2400 && !isLoaded(); i++) await sleep(25);
    const result = surgery.look([String(pid)]);
    expect(result.facts.process?.runner).toBe("valgrind");
    expect(ids(result)).toContain("run-by-tool");
  });

  it("shows what may be seen of a process of another user, and says what may not", async () => {
    const path = surgery.compiled("clock-refused", CLOCK_C);
    if (path === undefined || process.geteuid?.() !== 0 || !needs("setpriv", "util-linux")) return;
    const pid = await surgery.start("clock-refused", path);
    // The folders of this test are root's alone.
    spawnSync("chmod", ["755", surgery.folder]);
    const wrapper = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    const result = surgery.look([String(pid)], wrapper);
    expect(ids(result)).toContain("process-unread");
    expect(result.facts.process?.unread).toContainEqual({ what: `/proc/${pid}/auxv`, why: "EACCES" });
    expect(result.facts.process?.name).toBe("clock-refused");
    expect(result.facts.abis[0]?.proof).not.toEqual([]);
    if (!result.lost) expect(result.verdict).toMatch(/is not known: its auxiliary vector may not be read$/);
  });
});
