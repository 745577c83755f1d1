import { once } from "node:events";
import { chmodSync, copyFileSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ExecVerb } from "../support/exec-verb.js";
import { forged } from "../support/forged.js";
import { runsHere } from "../support/native.js";
import { Workshop } from "../support/programs.js";
import { needs, output } from "../support/referee.js";

/** Starts a program for which a system call, by its number, fails with an error. */
const DENYING = `
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int count, char **words) {
  struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, atoi(words[1]), 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | atoi(words[2])),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {4, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 99;
  execvp(words[3], words + 3);
  return 98;
}
`;

/** Forbids itself to ask the kernel for the time, then asks. */
const FORBIDDEN = `
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
int main(void) {
  struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {4, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 99;
  int refused = 0;
  struct timespec now;
  for (int i = 0; i < 100; i++) refused += clock_gettime(CLOCK_MONOTONIC, &now) == -1 && errno == EXDEV;
  printf("%d\\n", refused);
  return 0;
}
`;

const SYS_PTRACE = "101";
const EPERM = "1";

describe.skipIf(!runsHere("x86_64") || !needs("gcc", "gcc"))("exec", () => {
  const workshop = new Workshop();
  const image = workshop.path("forged.so");
  let verb: ExecVerb;
  beforeAll(async () => {
    writeFileSync(image, forged("x86_64"));
    workshop.compile(DENYING, "-o", "denying");
    workshop.compile(FORBIDDEN, "-o", "forbidden");
    verb = await ExecVerb.bundle();
  });
  afterAll(() => {
    verb.remove();
    workshop.remove();
  });

  /** Says that it ran, which none of these may. */
  const RAN = ["sh", "-c", "echo ran"];

  it("has clock calls seen by a seccomp filter where they are system calls, and there alone", () => {
    const path = workshop.path("forbidden");
    for (const [options, refused] of [
      [[], 0],
      [["--vdso", "self"], 0],
      [["--base", "0x20000000"], 0],
      [["--no-vdso"], 100],
      [["--vdso", image], 100],
    ] as const) {
      expect([options, verb.run(...options, "--", path).text]).toEqual([options, `${refused}\n`]);
    }
  });

  it("takes an image that has something behind it", () => {
    const longer = workshop.write("longer.so", forged("x86_64"));
    truncateSync(longer, 1 << 20);
    const run = verb.run("--vdso", longer, "--", ...RAN);
    expect([run.text, run.errors, run.status]).toEqual(["ran\n", "", 0]);
  });

  describe("refuses", () => {
    const asNobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    const isRoot = process.getuid?.() === 0;
    const mayChange = !isRoot || needs("setpriv", "util-linux");
    const ordinary = isRoot ? asNobody : [];

    it.skipIf(!mayChange || !needs("su", "util-linux"))("programs that raise the user's privileges", () => {
      for (const program of ["su", "passwd"]) {
        const run = verb.runBy(ordinary, {}, "--no-vdso", "--", program, "--help");
        expect([run.status, run.text]).toEqual([126, ""]);
        expect(run.errors).toMatch(/^linux-gate: .*set-user-id.*\n$/);
      }
      // What is no such program runs under the same user.
      expect(verb.runBy(ordinary, {}, "--vdso", image, "--", ...RAN).text).toBe("ran\n");
    });

    it.skipIf(!isRoot || !mayChange || !needs("setcap", "libcap2-bin"))("programs with capabilities", () => {
      const program = workshop.path("capable");
      copyFileSync("/bin/echo", program);
      chmodSync(program, 0o755);
      output("setcap", "cap_net_raw+ep", program);
      const run = verb.runBy(asNobody, {}, "--no-vdso", "--", program, "ran");
      expect([run.status, run.text]).toEqual([126, ""]);
      expect(run.errors).toMatch(/^linux-gate: .*capabilities.*\n$/);
    });

    it("where ptrace is forbidden, and says by what", () => {
      const denied = verb.runBy([workshop.path("denying"), SYS_PTRACE, EPERM], {}, "--no-vdso", "--", ...RAN);
      expect([denied.status, denied.text]).toEqual([125, ""]);
      expect(denied.errors).toMatch(/^linux-gate: ptrace is refused: .*filter.*\n$/);
    });

    it.skipIf(!needs("strace", "strace"))("where another traces the program already", () => {
      const traced = verb.runBy(["strace", "-f", "-o", "/dev/null"], {}, "--no-vdso", "--", ...RAN);
      expect([traced.status, traced.text]).toEqual([125, ""]);
      expect(traced.errors).toMatch(/^linux-gate: .*process \d+ traces this already.*\n$/);
    });

    it.skipIf(!isRoot || !needs("unshare", "util-linux"))("where /proc is not mounted", () => {
      const by = ["unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$@"', "sh"];
      const run = verb.runBy(by, {}, "--no-vdso", "--", ...RAN);
      expect([run.status, run.text]).toEqual([125, ""]);
      expect(run.errors).toMatch(/^linux-gate: .*\/proc.*\n$/);
    });

    it("programs of ABIs that this kernel does not run", () => {
      const file = readFileSync("/bin/true");
      // EM_AARCH64.
      file.writeUInt16LE(183, 18);
      const program = workshop.write("of-arm", file);
      chmodSync(program, 0o755);
      const run = verb.run("--no-vdso", "--", program);
      expect([run.status, run.text]).toEqual([126, ""]);
      expect(run.errors).toMatch(/aarch64.*ENOEXEC/);
      if (runsHere("i386")) return;
      // EM_386, in a file of 64 bits: what it is, only the kernel says.
      workshop.compile("int main(void) { return 0; }", "-m32", "-nostdlib", "-static", "-Wl,-e,main", "-o", "of-i386");
      const other = verb.run("--no-vdso", "--", workshop.path("of-i386"));
      expect(other.status).toBe(126);
      expect(other.errors).toMatch(/a program of i386, which this kernel does not run \(ENOEXEC\)/);
    });

    it("images that could be no vDSO", () => {
      workshop.compile("int f(void) { return 1; }", "-shared", "-nostdlib", "-o", "no-symbols.so");
      const large = workshop.write("large.so", forged("x86_64"));
      truncateSync(large, 1 << 25);
      for (const [file, status] of [
        [workshop.write("text", "no image\n"), 2],
        [workshop.write("empty", ""), 2],
        [workshop.write("short.so", forged("x86_64").subarray(0, 1200)), 2],
        ["/dev/null", 2],
        ["/dev/zero", 2],
        [workshop.folder, 2],
        [workshop.path("no-such-file"), 2],
        [workshop.path("no-symbols.so"), 125],
        [large, 125],
      ] as const) {
        const run = verb.run("--vdso", file, "--", ...RAN);
        expect([file, run.text, run.status]).toEqual([file, "", status]);
        expect(run.errors).toMatch(/^linux-gate: [^\n]+\n$/);
      }
    });

    it("bases that are taken, or beyond a program's memory", () => {
      workshop.compile('#include <stdio.h>\nint main(void) { puts("ran"); }', "-static", "-no-pie", "-o", "fixed");
      for (const gate of [[], ["--vdso", image]]) {
        for (const [base, message] of [
          ["0x400000", /not free: .*fixed is at 0x400000/],
          ["0x7ffffffff000", /cannot be (mapped at|moved to) 0x7ffffffff000/],
          ["0xfffffffffffff000", /cannot be/],
        ] as const) {
          const run = verb.run(...gate, "--base", base, "--", workshop.path("fixed"));
          expect([base, run.status, run.text]).toEqual([base, 125, ""]);
          expect(run.errors).toMatch(message);
        }
      }
    });

    it("bases that are no page's start, and zero, by which a program would be told that there is none", () => {
      for (const [base, message] of [
        ["0x400001", /not the start of a page/],
        ["4096", /no address/],
        ["0x0", /no program can be told/],
      ] as const) {
        const run = verb.run("--base", base, "--", ...RAN);
        expect([base, run.status, run.text]).toEqual([base, 2, ""]);
        expect(run.errors).toMatch(message);
      }
    });

    it("an entry that is neither a way into the kernel nor a file, and says which ways there are", () => {
      const run = verb.run("--entry", "int81", "--", ...RAN);
      expect([run.status, run.text]).toEqual([2, ""]);
      expect(run.errors).toMatch(/--entry is "int81", .*int80, sysenter, syscall, historical/);
    });
  });

  it("killed at any moment, leaves a program that runs or none", async () => {
    const left: string[] = [];
    const kill = async (delay: number, gate: readonly string[]): Promise<void> => {
      const child = verb.start({ stdio: "ignore", detached: true }, ...gate, "--", "sleep", "987");
      await sleep(delay);
      child.kill("SIGKILL");
      await once(child, "exit");
      // Those that die with it are given the time to.
      let strange: string[] = [];
      for (let tries = 0; tries < 100; tries++) {
        strange = inGroup(child.pid as number)
          .filter(({ state, name }) => !/^[RS]$/.test(state) || name !== "sleep")
          .map(({ state, name }) => `${delay} ms: ${name} in state ${state}`);
        if (strange.length === 0) break;
        await sleep(10);
      }
      left.push(...strange);
      for (const { pid } of inGroup(child.pid as number)) process.kill(pid, "SIGKILL");
    };
    for (let delay = 0; delay < 200; delay += 8) {
      await Promise.all([kill(delay, ["--no-vdso"]), kill(delay + 4, ["--vdso", image])]);
    }
    expect(left).toEqual([]);
  });
});

/** The processes of a process group. */
function inGroup(group: number): { readonly pid: number; readonly state: string; readonly name: string }[] {
  return readdirSync("/proc").flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid)) return [];
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
      const [state, , own] = stat.slice(stat.lastIndexOf(")") + 2).split(" ") as [string, string, string];
      if (Number(own) !== group || state === "Z") return [];
      return [{ pid, state, name: stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")")) }];
    } catch {
      return [];
    }
  });
}
