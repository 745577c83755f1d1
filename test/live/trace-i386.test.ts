import { mkdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TraceResult } from "../../src/verbs/trace.js";
import { debianKernel, fileEntry, programEntries } from "../support/guest.js";
import { runs32, Workshop } from "../support/programs.js";
import { needs } from "../support/referee.js";
import { byName, callsIn } from "../support/trace-verb.js";
import { unfetched } from "../support/unfetched.js";
import { CLOCK_PROGRAM } from "../trace/programs.js";
import { PlanGuest } from "./exec-i386-place.js";

/** Time for a boot and what is done then, on a machine that is busy. */
const BOOT_MS = 240_000;

const CALLS =
  "clock_gettime,?clock_gettime64,gettimeofday,time,getcpu,clock_getres,?clock_getres_time64,?clock_gettime32";

const workshop = new Workshop();
afterAll(() => workshop.remove());

const PROGRAMS = {
  glibc: [],
  glibc64: ["-D_TIME_BITS=64", "-D_FILE_OFFSET_BITS=64"],
  "glibc-static": ["-static"],
} as const;
const MODES = ["mixed", "threads", "children", "signals"];
const runs = Object.keys(PROGRAMS).flatMap((library) => MODES.map((mode) => ({ path: `/clock-${library}`, mode })));

const guest = await findGuest();

async function findGuest(): Promise<PlanGuest | undefined> {
  const installed = [needs("busybox", "busybox-static"), needs("qemu-system-x86_64", "qemu-system-x86")];
  const there = [...installed, needs("strace", "strace"), needs("gcc", "gcc") && runs32(workshop).builds];
  const kernel = there.every(Boolean) ? await debianKernel() : undefined;
  if (!kernel) return undefined;
  const folder = workshop.path("tree");
  mkdirSync(folder);
  const programs = Object.entries(PROGRAMS).flatMap(([library, options]) => {
    const name = `clock-${library}`;
    workshop.compile(CLOCK_PROGRAM, "-m32", "-O1", "-pthread", "-o", name, ...options);
    const path = workshop.path(name);
    return library === "glibc" ? programEntries(path, name) : [fileEntry(path, name)];
  });
  return PlanGuest.of(kernel, folder, [...programs, ...programEntries("/usr/bin/strace", "usr/bin/strace")]);
}

if (guest) {
  describe.each(["EPYC", "Nehalem"])("trace of programs of i386 on %s", (cpu) => {
    let ended: Awaited<ReturnType<PlanGuest["run"]>>;
    beforeAll(async () => {
      const call = (...words: string[]) => ({ name: words.join(" "), words: ["trace", "--json", ...words] });
      ended = await guest.run(
        [
          ...runs.map(({ path, mode }) => call("--", path, mode, "20")),
          call("--no-vdso", "--", "/clock-glibc", "mixed", "20"),
        ],
        {
          cpu,
          commands: runs.map(
            ({ path, mode }) => `strace -f -qq -o /tmp/s -e trace=${CALLS} ${path} ${mode} 20 >&2; cat /tmp/s`,
          ),
        },
      );
    }, BOOT_MS);
    const resultOf = (name: string): TraceResult => {
      const { stderr } = ended.calls.find((call) => call.name === name) ?? { stderr: "" };
      return JSON.parse(stderr.slice(stderr.indexOf("{"))) as TraceResult;
    };

    it.each(runs)("counts as strace does: $path $mode", ({ path, mode }) => {
      const result = resultOf(`-- ${path} ${mode} 20`);
      // While the guest is young its kernel may change the clocksource, so that the vDSO cannot read the clock for a moment.
      const sure = ended.outputs[runs.findIndex((one) => one.path === path && one.mode === mode)]?.replace(
        /^.*(?:CLOCK_REALTIME|gettimeofday|gettime64\(CLOCK_MONOTONIC).*$/gm,
        "",
      );
      const rows = result.rows.filter(({ call }) => !/REALTIME|gettimeofday|gettime64\(MONOTONIC/.test(call));
      expect(rows.length).toBeGreaterThan(0);
      expect(byName({ ...result, rows })).toEqual(callsIn(sure ?? ""));
      expect(result.rows.map(({ abi }) => abi)).not.toContain("x86_64");
    });

    it("tells what the vDSO's functions could not answer from what went through its gate", () => {
      const { sites } = resultOf("-- /clock-glibc mixed 20");
      const found = sites.map(({ call, caller, entry, calls }) => [calls, call, caller?.symbol?.split("+")[0], entry]);
      expect(found).toContainEqual([40, "clock_gettime(MONOTONIC)", "other_raw_calls", "syscall()"]);
      expect(found).toContainEqual([20, expect.stringMatching(/PROCESS_CPUTIME_ID/), "library_calls", "vdso"]);
    });

    it("shows all of them without a vDSO, by the C library's own int $0x80", () => {
      const { rows, findings } = resultOf("--no-vdso -- /clock-glibc mixed 20");
      expect(rows.find(({ call }) => /gettime.*REALTIME/.test(call))).toMatchObject({ entry: "libc", calls: 40 });
      expect(findings.map(({ id }) => id)).toContain("libc-without-vdso");
    });
  });
} else {
  unfetched("Debian's kernel, or gdb: trace of programs of i386");
}
