import { describe, expect, it } from "vitest";
import { tracedCall } from "../../src/measure/trace/calls.js";
import { type Place, Tally } from "../../src/measure/trace/tally.js";
import { renderTrace } from "../../src/render/trace.js";
import { traceResult } from "../../src/verbs/trace.js";

const place = (role: Place["role"], name: string, offset: number): Place => ({
  ...{ role, name, offset: BigInt(offset) },
  inode: name.startsWith("/") ? 5n : 0n,
});
const own = place("file", "/opt/app/libown.so", 0x10);
const libc = place("libc", "/lib/libc.so.6", 0x20);
const vdso = place("vdso", "[vdso]", 0x30);
const call = (number: number, clock = 0n) =>
  tracedCall("x86_64", number, clock) as NonNullable<ReturnType<typeof tracedCall>>;
const subject = { pid: 9, seconds: 2, method: "filter" as const };
const costs = [
  { abi: "x86_64" as const, call: "clock_gettime(MONOTONIC)", realNs: 200, vdsoNs: 20 },
  { abi: "x86_64" as const, call: "clock_gettime(BOOTTIME)", realNs: 200, vdsoNs: 210 },
];

describe("Tally", () => {
  it("adds up what is the same, and stays small whatever comes", () => {
    const tally = new Tally();
    for (let i = 0; i < 30_000; i++) tally.add(call(228, 1n), { entered: libc, caller: place("file", "/own", i) }, 2);
    tally.add(call(228, 1n), { entered: libc, caller: place("file", "/own", 3) }, 5);
    const calls = tally.calls();
    expect(calls.length).toBeLessThanOrEqual(10_001);
    expect(calls.reduce((sum, one) => sum + one.calls, 0)).toBe(60_005);
    expect(calls.find(({ caller }) => caller?.offset === 3n)?.calls).toBe(7);
  });
});

describe("traceResult()", () => {
  it("estimates what is lost by what single calls cost, and not where that is not known", () => {
    const tally = new Tally();
    tally.add(call(228, 1n), { entered: libc, caller: own }, 1000);
    tally.add(call(228, 1n), { entered: libc, caller: { ...own, offset: 0x50n } }, 500);
    tally.add(call(228, 7n), { entered: vdso, caller: own }, 300);
    tally.add(call(228, 2n), { entered: vdso, caller: own }, 200);
    const result = traceResult(subject, tally.calls(), { costs, symbolOf: () => undefined });
    expect(result.calls).toBe(2000);
    expect(result.rows).toMatchObject([
      {
        calls: 1500,
        library: "libown.so",
        entry: "libc",
        share: 0.75,
        perSecond: 750,
        kernelNs: 300_000,
        lostNs: 270_000,
      },
      { calls: 300, entry: "vdso", kernelNs: 60_000, byDesign: false },
      { calls: 200, entry: "vdso", lostNs: 0, byDesign: true },
    ]);
    expect(result.rows[1]?.lostNs).toBeUndefined();
    expect(result.lostNs).toBe(270_000);
    expect(result.sites.length).toBe(4);
    expect(result.findings).toMatchObject([
      { id: "libc-without-vdso", calls: 1500, lostNs: 270_000 },
      { id: "vdso-falls-back", calls: 300, kinds: ["clock_gettime(BOOTTIME)"] },
      { id: "by-design", calls: 200, lostNs: 0 },
    ]);
  });

  it("tells the C library's syscall() from its own use of system calls", () => {
    const tally = new Tally();
    tally.add(call(309), { entered: libc, caller: own }, 1);
    const named = (name: string) => traceResult(subject, tally.calls(), { costs: [], symbolOf: () => name });
    expect(named("syscall+0x17").findings[0]?.id).toBe("syscall-function");
    expect(named("sched_getcpu+0x17").findings[0]?.id).toBe("libc-without-vdso");
  });
});

describe("renderTrace()", () => {
  it("says what was lost, to whom, and what is not known, and lets no name write to the terminal", () => {
    const tally = new Tally();
    tally.add(call(228, 1n), { entered: libc, caller: place("file", "/opt/\u001b[31mred.so", 1) }, 3_000_000);
    tally.add(call(201), { entered: libc }, 1);
    const text = renderTrace(traceResult(subject, tally.calls(), { costs, symbolOf: () => undefined }));
    expect(text).toContain(
      "3,000,001 calls in 2.00 s reached the kernel; untraced, about 540 ms are lost by that, not counting\nthose marked ?",
    );
    expect(text).toContain("\\x1b[31mred.so");
    expect(text).not.toContain("\u001b");
    expect(text).toMatch(/\n +1 +1 +0\.0% +\? +\? +time +\? +by the C library\n/);
  });

  it("says when there were none", () => {
    const text = renderTrace(traceResult({ ...subject, ended: true }, [], { costs: [], symbolOf: () => undefined }));
    expect(text).toMatch(/^process 9 has ended; in 2\.00 s no clock or getcpu call reached the kernel\n/);
  });
});
