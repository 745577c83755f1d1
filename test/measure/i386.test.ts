import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readRun } from "../../src/measure/compare.js";
import type { BenchResult } from "../../src/verbs/bench.js";
import { buildTree, GUEST_NODE } from "../live/i386-place.js";
import { type CommandOutput, debianKernel, folderEntries, programEntries, runInGuest } from "../support/guest.js";
import { needs } from "../support/referee.js";

/** Time for a boot and what is done then, on a machine that is busy. */
const BOOT_MS = 180_000;

const scratch = mkdtempSync(join(tmpdir(), "measure-i386-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const referee = join(scratch, "referee");
const source = fileURLToPath(new URL("../../bench/measure-calls.c", import.meta.url));

/** Whether gcc makes a program of i386 that loads libraries. */
function builds(): boolean {
  if (!needs("gcc", "gcc")) return false;
  const { status } = spawnSync("gcc", ["-m32", "-no-pie", "-O2", "-o", referee, source, "-ldl"]);
  if (status !== 0) process.stderr.write("skipping tests: gcc -m32 makes no program: install gcc-multilib\n");
  return status === 0;
}

const installed = [needs("busybox", "busybox-static"), needs("qemu-system-x86_64", "qemu-system-x86")].every(Boolean);
const kernel = installed && builds() ? await debianKernel() : undefined;

interface Figures {
  readonly ours: BenchResult;
  /** `call via` → nanoseconds. */
  readonly theirs: ReadonlyMap<string, number>;
}

/** Measures i386 in a guest, and, where there is a vDSO, has the C program do it. */
async function measuredOn(cpu: string, append: string): Promise<Figures> {
  const tree = join(scratch, "tree");
  const commands = [
    `${GUEST_NODE} /linux-gate/bin/linux-gate bench i386 --json --time 1 --calls null,MONOTONIC,time,getcpu`,
    append === "" ? "/referee 0 15" : "true",
  ];
  const entries = [
    ...programEntries(process.execPath, "usr/bin/node"),
    ...folderEntries(tree, "/linux-gate"),
    ...programEntries(referee, "/referee"),
  ];
  const outputs = await runInGuest(kernel as string, { cpu, append, entries, commands });
  const [ours, theirs] = outputs as [CommandOutput, CommandOutput];
  expect(ours.status, ours.stderr).toBe(0);
  const lines = theirs.stdout
    .toString()
    .split("\n")
    .filter((line) => line !== "");
  const figures = lines.map((line) => /^(.*) (\S+)$/.exec(line)?.slice(1) as [string, string]);
  return {
    ours: JSON.parse(ours.stdout.toString()) as BenchResult,
    theirs: new Map(figures.map(([key, ns]) => [key, Number(ns)])),
  };
}

const find = ({ rows }: BenchResult, name: string, way: string) =>
  rows.find(({ call, via }) => call === name && via === way);

describe.skipIf(!kernel)("bench i386, in guests", () => {
  const figures = new Map<string, Figures>();
  beforeAll(async () => {
    await buildTree(join(scratch, "tree"));
    const boots = [
      ["EPYC", ""],
      ["Nehalem", ""],
      ["EPYC", "vdso32=0"],
    ] as const;
    for (const [cpu, append] of boots) figures.set(`${cpu} ${append}`.trim(), await measuredOn(cpu, append));
  }, 3 * BOOT_MS);

  it.each(["EPYC", "Nehalem"])(
    "on %s has the vDSO, the gate and int $0x80 of each call, one of them the real one",
    (cpu) => {
      const { ours } = figures.get(cpu) as Figures;
      for (const call of ["clock_gettime(MONOTONIC)", "clock_gettime64(MONOTONIC)", "time"]) {
        for (const via of ["vdso", "gate", "int80"]) expect(find(ours, call, via), `${call} ${via}`).toBeDefined();
        expect(find(ours, call, "vdso")?.ratio).toBeGreaterThanOrEqual(0);
        expect(find(ours, call, "gate")?.ratio).toBeUndefined();
      }
      expect(readRun(JSON.stringify(ours)).rows).toHaveLength(ours.rows.length);
    },
  );

  it("makes the null call by the instruction that the kernel put into its gate, and by no other that is not safe", () => {
    const ways = (key: string) => {
      const { rows, refused } = (figures.get(key) as Figures).ours;
      return [...rows, ...refused].filter(({ call }) => call === "null").map(({ via }) => via);
    };
    expect(ways("EPYC")).toEqual(["gate", "syscall", "sysenter", "int80"]);
    // This processor has no syscall in 32-bit code, and its emulator goes astray there.
    expect(ways("Nehalem")).toEqual(["gate", "sysenter", "int80"]);
    expect(find((figures.get("Nehalem") as Figures).ours, "null", "sysenter")).toBeDefined();
  });

  it("without a vDSO measures int $0x80, and outlives what ends for want of a place to return to", () => {
    const { rows, refused } = (figures.get("EPYC vdso32=0") as Figures).ours;
    expect(new Set(rows.map(({ via }) => via))).toEqual(new Set(["int80"]));
    expect(refused).toMatchObject([{ call: "null", via: "sysenter", refused: "SIGSEGV" }]);
  });

  // What an emulator makes of either's loops is no measure: npm run bench compares figures, on a real processor.
  it.each(["EPYC", "Nehalem"])("on %s measures the calls that a C program finds to work there", (cpu) => {
    const { ours, theirs } = figures.get(cpu) as Figures;
    const measured = ours.rows.map(({ call, via }) => `${call} ${via}`);
    const made = ([call]: readonly [string, number]) => /null|MONOTONIC|^time|getcpu/.test(call);
    const named = [...theirs].filter(made).map(([key]) => key);
    expect(named.length).toBeGreaterThan(20);
    expect(named.filter((key) => !measured.includes(key))).toEqual([]);
    for (const { nsMedian } of ours.rows) expect(nsMedian).toBeGreaterThanOrEqual(0);
  });
});
