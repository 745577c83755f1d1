import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { agentImages } from "../../src/agent/images.js";
import type { AgentAbi } from "../../src/agent/protocol.js";
import type { FindingId } from "../../src/verbs/doctor.js";
import { doctorKernel, type Visit, visits } from "./doctor-place.js";
import { buildTree } from "./i386-place.js";

/** Time for all boots and what is done then, on a machine that is busy. */
const BOOT_MS = 300_000;

const scratch = mkdtempSync(join(tmpdir(), "linux-gate-doctor-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
await buildTree(scratch);
const kernel = await doctorKernel();

/** Boots at a time: each keeps a processor busy. */
const AT_ONCE = 2;
let running = 0;
const waiting: (() => void)[] = [];

/** Boots a guest when its turn comes; all are waiting from the start, so that they overlap with the tests before. */
async function inTurn(machine: Parameters<typeof visits>[2]): Promise<Visit[]> {
  if (running === AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  running++;
  try {
    return await visits(kernel as string, scratch, machine);
  } finally {
    running--;
    waiting.shift()?.();
  }
}

/** The ids of the findings of an ABI, or of the machine where none is named; those that are no news are left out. */
function ids({ result }: Visit, abi?: AgentAbi): FindingId[] {
  return result.findings.filter((one) => one.abi === abi && one.severity !== "info").map(({ id }) => id);
}

/** Calls that the proof of an ABI says entered the kernel without having to. */
function fallen({ result }: Visit, abi: AgentAbi): string[] {
  const proof = result.facts.abis.find((one) => one.abi === abi)?.proof ?? [];
  return proof.filter(({ answer, need }) => answer === "kernel" && need !== "kernel").map(({ call }) => call);
}

const CLOCKS = ["REALTIME", "MONOTONIC", "MONOTONIC_RAW", "BOOTTIME", "TAI"];
const of = (name: string) => CLOCKS.map((clock) => `${name}(${clock})`);
const FALLEN = {
  x86_64: [...of("clock_gettime"), "gettimeofday"],
  i386: [...of("clock_gettime"), "gettimeofday", ...of("clock_gettime64")],
};

/** Every precise clock of both ABIs is lost, and coarse clocks, time and getcpu are not. */
function expectLost(visit: Visit): void {
  expect(visit.status).toBe(1);
  expect(visit.result.lost).toBe(true);
  for (const abi of ["x86_64", "i386"] as const) {
    expect(ids(visit, abi)).toEqual(["clock-falls-back"]);
    expect(fallen(visit, abi)).toEqual(FALLEN[abi]);
  }
  // Measured, too; what an emulator on a busy machine makes of the figures is no test.
  const { figures } = visit.result.facts.abis[0] as Visit["result"]["facts"]["abis"][number];
  const ways = figures.filter(({ call }) => call === "clock_gettime(MONOTONIC)").map(({ via }) => via);
  expect(ways.sort()).toEqual(["syscall", "vdso"]);
}

function expectFast(visit: Visit): void {
  expect(visit.result.lost).toBe(false);
  expect(visit.status).toBe(0);
  for (const abi of ["x86_64", "i386"] as const) {
    expect(ids(visit, abi)).toEqual(["fast-path"]);
    expect(fallen(visit, abi)).toEqual([]);
  }
}

function remedyOf({ result }: Visit, id: FindingId): string | undefined {
  return result.findings.find((one) => one.id === id)?.remedy;
}

function evidenceOf({ result }: Visit, id: FindingId, abi?: AgentAbi): string {
  return result.findings.find((one) => one.id === id && one.abi === abi)?.evidence.join("\n") ?? "";
}

const SWITCH = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/** Starts an i386 process that waits: the agent's own program, whose requests never come. */
const START_I386 = `mkfifo /tmp/fifo; echo ${agentImages.i386} | base64 -d > /tmp/waits; chmod +x /tmp/waits
  /tmp/waits 3<>/tmp/fifo 4>/dev/null &
  until [ "$(cat /proc/$!/comm)" = waits ]; do sleep 1; done`;

describe.skipIf(!kernel)("doctor in a guest", () => {
  const guests = kernel
    ? {
        plain: inTurn({
          cpu: "EPYC",
          looks: [
            {},
            { before: `echo acpi_pm > ${SWITCH}` },
            { before: `echo tsc > ${SWITCH}; echo 0 > /proc/sys/abi/vsyscall32` },
            { before: `echo 1 > /proc/sys/abi/vsyscall32; ${START_I386}`, words: "$!" },
          ],
        }),
        acpiPm: inTurn({ cpu: "EPYC", append: "clocksource=acpi_pm" }),
        hpet: inTurn({ cpu: "EPYC", append: "clocksource=hpet" }),
        unstable: inTurn({ cpu: "EPYC", append: "tsc=unstable" }),
        vdso: inTurn({ cpu: "EPYC", append: "vdso=0" }),
        vdso32: inTurn({ cpu: "EPYC", append: "vdso32=0" }),
        // Linux's own number of the feature SYSCALL32: without it and on a processor of AMD, 32-bit programs are left
        // with int $0x80.
        noFastEntry: inTurn({ cpu: "EPYC", append: "clearcpuid=110" }),
      }
    : undefined;
  // A boot that fails is told of by the test that waits for it.
  for (const boot of Object.values(guests ?? {})) boot.catch(() => {});
  type Guests = NonNullable<typeof guests>;
  const visit = async (name: keyof Guests, index = 0): Promise<Visit> => {
    const found = (await (guests as Guests)[name])[index] as Visit;
    expect(found.stderr).toBe("");
    return found;
  };

  it(
    "finds nothing wrong in a plain one",
    async () => {
      const plain = await visit("plain");
      expect(plain.clocksource).toBe("tsc");
      expectFast(plain);
      expect(ids(plain)).toEqual(["clocksource-fast"]);
    },
    BOOT_MS,
  );

  it(
    "notices that the clocksource was switched while it ran, names the remedy, and sees that it helps",
    async () => {
      const switched = await visit("plain", 1);
      expect(switched.clocksource).toBe("acpi_pm");
      expectLost(switched);
      expect(ids(switched)).toEqual(["clocksource-slow", "tsc-not-used"]);
      expect(remedyOf(switched, "clocksource-slow")).toMatch(
        `at once: echo tsc > ${SWITCH}; for good: boot with clocksource=tsc`,
      );
      expect(ids(await visit("plain", 2), "x86_64")).toEqual(["fast-path"]);
    },
    BOOT_MS,
  );

  it(
    "looks at an i386 process, in which nothing looks for the vDSO that it has",
    async () => {
      const process = await visit("plain", 3);
      expect(process.status).toBe(0);
      expect(process.result.facts.process).toMatchObject({
        name: "waits",
        abi: "i386",
        announced: true,
        mapped: true,
        sameImage: true,
        static: true,
        unread: [],
      });
      expect(process.result.facts.abis.map(({ abi }) => abi)).toEqual(["i386"]);
      expect(ids(process, "i386")).toEqual(["may-not-look", "fast-path"]);
    },
    BOOT_MS,
  );

  it(
    "finds that abi.vsyscall32 takes the vDSO from 32-bit programs alone",
    async () => {
      const off = await visit("plain", 2);
      expect(off.status).toBe(1);
      expect(ids(off, "x86_64")).toEqual(["fast-path"]);
      expect(ids(off, "i386")).toEqual(["no-vdso"]);
      expect(evidenceOf(off, "no-vdso", "i386")).toMatch(/the sysctl abi\.vsyscall32 is 0/);
      expect(remedyOf(off, "no-vdso")).toBe("sysctl -w abi.vsyscall32=1");
    },
    BOOT_MS,
  );

  it.each(["acpiPm", "hpet"] as const)(
    "finds the clocksource that was forced on it slow (%s)",
    async (name) => {
      const forced = await visit(name);
      const clocksource = name === "hpet" ? "hpet" : "acpi_pm";
      expect(forced.clocksource).toBe(clocksource);
      expectLost(forced);
      expect(ids(forced)).toEqual(["clocksource-slow", "tsc-not-used"]);
      expect(evidenceOf(forced, "boot-parameters")).toMatch(`clocksource=${clocksource}: `);
      expect(remedyOf(forced, "clocksource-slow")).toMatch(
        `for good: remove clocksource=${clocksource} from the kernel's command line`,
      );
    },
    BOOT_MS,
  );

  it(
    "finds that the time-stamp counter was given up",
    async () => {
      const unstable = await visit("unstable");
      expect(["hpet", "acpi_pm"]).toContain(unstable.clocksource);
      expectLost(unstable);
      expect(ids(unstable)).toEqual(["clocksource-slow", "tsc-unstable"]);
      expect(evidenceOf(unstable, "tsc-unstable")).toMatch(/Marking TSC unstable due to boot parameter/);
      expect(remedyOf(unstable, "tsc-unstable")).toBe("for good: remove tsc=unstable from the kernel's command line");
    },
    BOOT_MS,
  );

  it(
    "finds that 64-bit programs were denied the vDSO, and 32-bit ones were not",
    async () => {
      const none = await visit("vdso");
      expect(none.shellHasVdso).toBe(false);
      expect(none.status).toBe(1);
      expect(ids(none, "x86_64")).toEqual(["no-vdso"]);
      expect(ids(none, "i386")).toEqual(["fast-path"]);
      expect(ids(none)).toEqual(["clocksource-fast"]);
      expect(evidenceOf(none, "no-vdso", "x86_64")).toMatch(/the kernel's command line has vdso=0/);
      expect(remedyOf(none, "no-vdso")).toBe("remove vdso=0 from the kernel's command line");
    },
    BOOT_MS,
  );

  it(
    "finds that 32-bit programs were denied the vDSO, and 64-bit ones were not",
    async () => {
      const none = await visit("vdso32");
      expect(none.shellHasVdso).toBe(true);
      expect(none.status).toBe(1);
      expect(ids(none, "x86_64")).toEqual(["fast-path"]);
      expect(ids(none, "i386")).toEqual(["no-vdso"]);
      expect(evidenceOf(none, "no-vdso", "i386")).toMatch(/the kernel's command line has vdso32=0/);
    },
    BOOT_MS,
  );

  it(
    "finds that 32-bit programs have no fast way into the kernel, which costs their clocks nothing",
    async () => {
      const slow = await visit("noFastEntry");
      expect(slow.status).toBe(0);
      expect(ids(slow, "x86_64")).toEqual(["fast-path"]);
      expect(ids(slow, "i386")).toEqual(["gate-int80", "fast-path"]);
      expect(evidenceOf(slow, "boot-parameters")).toMatch("clearcpuid=110");
      expect(slow.result.facts.abis.map(({ image }) => image?.gate)).toEqual([undefined, "int $0x80"]);
    },
    BOOT_MS,
  );
});
