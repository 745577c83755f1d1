import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runsHere } from "../support/native.js";
import { needs } from "../support/referee.js";
import { byName, TraceVerb } from "../support/trace-verb.js";
import { clockPrograms } from "./built.js";

const scratch = mkdtempSync(join(tmpdir(), "trace-test-"));
let verb: TraceVerb;
beforeAll(async () => {
  verb = await TraceVerb.in(scratch);
});
afterAll(() => {
  rmSync(scratch, { recursive: true, force: true });
  verb.verb.remove();
});

const programs = clockPrograms(scratch);
const dynamic = programs[0]?.path ?? "";

describe.skipIf(!(runsHere("x86_64") && dynamic))("trace of a program that is started", () => {
  it("tells who makes the calls, by which function, and which clocks no vDSO reads", () => {
    const { result, status } = verb.trace([], dynamic, "mixed", "100");
    expect(status).toBe(7);
    const found = result.sites.map(({ call, caller, entry, calls }) => [
      calls,
      call,
      caller?.symbol?.split("+")[0],
      entry,
    ]);
    expect(found).toContainEqual([200, "clock_gettime(MONOTONIC)", "other_raw_calls", "syscall()"]);
    expect(found).toContainEqual([100, "clock_gettime(MONOTONIC)", "raw_calls", "syscall()"]);
    expect(found).toContainEqual([100, "clock_gettime(PROCESS_CPUTIME_ID)", "library_calls", "vdso"]);
    expect(found).toContainEqual([100, "clock_getres(THREAD_CPUTIME_ID)", "library_calls", "vdso"]);
    expect(found).toContainEqual([1, "getcpu", "main", "syscall()"]);
    expect(found).toContainEqual([1, "clock_getres(BOOTTIME)", "main", "syscall()"]);
    expect(found.length).toBe(7);
    const row = (call: string) => result.rows.find((one) => one.call === call);
    expect(row("clock_gettime(MONOTONIC)")).toMatchObject({ calls: 300, library: "program-0", byDesign: false });
    expect(row("clock_gettime(MONOTONIC)")?.kernelNs).toBeGreaterThan(0);
    expect(row("clock_gettime(PROCESS_CPUTIME_ID)")).toMatchObject({ byDesign: true, lostNs: 0 });
    expect(result.findings.map(({ id }) => id).sort()).toEqual(["by-design", "syscall-function"]);
  });

  it.each(programs)("--no-vdso shows all clock calls: $name", ({ path }) => {
    const { result } = verb.trace(["--no-vdso"], path, "mixed", "30");
    expect(byName(result).get("gettimeofday") ?? 0).toBe(path.endsWith("0") || path.endsWith("1") ? 30 : 0);
    // musl's gettimeofday is its clock_gettime.
    expect([...byName(result).values()].reduce((sum, calls) => sum + calls, 0)).toBe(30 + 60 + 4 * 30 + 3);
    const ids = result.findings.map(({ id }) => id);
    expect(ids).toContain(path.endsWith("0") || path.endsWith("2") ? "libc-without-vdso" : "own-system-call");
  });

  it("passes on the status, the signal, the streams, and says nothing of calls where there are none", () => {
    const killed = verb.trace([], dynamic, "killed", "5");
    expect([killed.signal, killed.result.calls]).toEqual(["SIGTERM", 5]);
    const cat = verb.verb.runWith({ input: "through" }, "--", "cat");
    expect([cat.text, cat.status]).toEqual(["through", 0]);
    expect(cat.errors).toMatch(/^in .* no clock or getcpu call reached the kernel\n/);
    const none = verb.verb.run("--", "/no/such/program");
    expect([none.status, none.errors]).toEqual([127, expect.stringMatching(/^linux-gate: \/no\/such\/program: /)]);
  });

  it("writes its table to standard error, where the program's own output is not", () => {
    const { text, errors } = verb.verb.run("--", "sh", "-c", `echo mine; ${dynamic} mixed 10`);
    expect(text).toBe("mine\n");
    expect(errors).toMatch(/^ *calls +a second +share +in the kernel +lost +call +library +made\n/);
    expect(errors).toMatch(/\n *30 +[\d,]+ +56\.6% .* clock_gettime\(MONOTONIC\) +program-0 +by syscall\(\)\n/);
    expect(errors).toMatch(/\nsyscall-function: 33 calls of program-0, about /);
  });

  it("follows programs that are executed by hundreds", () => {
    const { result } = verb.trace([], "sh", "-c", `for i in $(seq 100); do ${dynamic} mixed 2; done`);
    expect(result.calls).toBe(100 * (2 + 4 + 4 + 3));
    expect(result.sites.length).toBe(7);
  });

  it("counts a flood", () => {
    const { result } = verb.trace([], dynamic, "mixed", "20000");
    expect(result.calls).toBe(20_000 * 5 + 3);
  });

  it.skipIf(process.geteuid?.() !== 0 || !needs("setpriv", "util-linux"))(
    "works for those without privileges, who lose the ways to them, which is said",
    () => {
      const run = verb.verb.runBy(
        ["setpriv", "--reuid", "65534", "--clear-groups"],
        {},
        "--",
        "sh",
        "-c",
        "grep NoNewPrivs /proc/self/status; date > /dev/null",
      );
      expect(run.text).toBe("NoNewPrivs:\t1\n");
      expect(run.errors).not.toMatch(/^linux-gate/);
      expect(run.errors).toContain("(no_new_privs)");
    },
  );

  it("does not leave behind, when it is killed, a program whose clocks would fail", async () => {
    const child = verb.verb.start({ stdio: ["ignore", "pipe", "ignore"] }, "--", "sh", "-c", "echo $$; sleep 60");
    const pid = await new Promise<string>((resolve) =>
      child.stdout?.once("data", (data) => resolve(String(data).trim())),
    );
    child.kill("SIGKILL");
    for (let i = 0; i < 2000 && existsSync(`/proc/${pid}`); i++) await sleep(10);
    expect(existsSync(`/proc/${pid}`)).toBe(false);
  });
});
