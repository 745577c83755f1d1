import { describe, expect, it } from "vitest";
import { CALLS, waysOf } from "../../src/measure/calls.js";
import { type CallFigures, type Figures, type Measured, withRatios } from "../../src/measure/figures.js";
import { renderBench } from "../../src/render/bench.js";
import { nsScale } from "../../src/render/bench-scale.js";
import { nsText, ratioText } from "../../src/render/bench-words.js";
import { renderBenchHtml } from "../../src/render/html/bench.js";
import { terminalStyle } from "../../src/render/style.js";
import { type BenchHost, benchResult, callFilter, isWorse } from "../../src/verbs/bench.js";

function figures(nsMedian: number, more: Partial<Figures> = {}): Figures {
  const [nsLow, nsHigh, nsP5, nsP95] = [0.99, 1.01, 0.95, 1.6].map((part) => nsMedian * part) as [
    number,
    number,
    number,
    number,
  ];
  return {
    nsMedian,
    nsLow,
    nsHigh,
    nsP5,
    nsP95,
    nsRaw: nsMedian + 2,
    cycles: nsMedian * 2,
    batches: 401,
    calls: 100,
    drift: 0,
    noise: [],
    ...more,
  };
}

/** A syscall instruction, as a gate has it. */
const GATE = Uint8Array.of(0x51, 0x52, 0x55, 0x89, 0xcd, 0x0f, 0x05);
const NS = { vdso: 25, gate: 180, syscall: 170, sysenter: 190, int80: 4100 } as const;

function measured(abi: Measured["abi"], more: Partial<Measured> = {}): Measured {
  const rows = waysOf(abi, () => true, GATE).map(
    ({ plan, via }): CallFigures => ({
      abi,
      call: plan.call,
      via,
      ...figures(via === "vdso" && plan.call === "time" ? 2 : NS[via]),
    }),
  );
  return {
    abi,
    rows: withRatios(rows),
    refused: [],
    controls: { emptyReturn: figures(1.7), emptyJump: figures(3), cpuid: figures(40), rdtsc: figures(9) },
    clock: "tsc",
    ticksPerNs: 2,
    cpu: 1,
    problems: [],
    ...more,
  };
}

const HOST: BenchHost = {
  system: "Linux 6.18.44",
  architecture: "x86_64",
  processor: "AMD EPYC",
  clocksource: "tsc",
  processors: 2,
  loadBefore: 0.1,
  loadAfter: 0.2,
};

const both = benchResult(HOST, [measured("x86_64"), measured("i386")], []);

describe("renderBench()", () => {
  it.each([80, 100, 120])("fits %i columns, each row with a bar", (width) => {
    for (const [ascii, bar] of [
      [false, /[█▏▎▍▌▋▊▉]$/],
      [true, /#$/],
    ] as const) {
      const lines = renderBench(both, { width, ascii }).split("\n");
      expect(lines.filter((line) => line.length > width)).toEqual([]);
      expect(lines.filter((line) => bar.test(line)).length).toBe(both.rows.length);
    }
  });

  it("draws a longer bar for what takes longer", () => {
    const lines = renderBench(both, { width: 120, ascii: false }).split("\n");
    const bar = (pattern: RegExp) =>
      (lines.find((line) => pattern.test(line)) as string).replace(/[^█▏▎▍▌▋▊▉]/g, "").length;
    const i386 = lines.findIndex((line) => line.startsWith("i386"));
    lines.splice(0, i386);
    expect(bar(/^null +gate/)).toBeLessThan(bar(/^ +int80/));
    expect(bar(/REALTIME +vdso/)).toBeLessThan(bar(/^null +gate/));
  });

  it("has nothing but ASCII where the terminal knows no more", () => {
    expect(renderBench(both, { width: 80, ascii: true })).toMatch(/^[\n -~]+$/);
    expect(renderBench(both, { width: 80, ascii: true, style: terminalStyle })).toContain("\u001b[");
  });

  it("shows a refusal as such, in its place and without a time", () => {
    const refused = [
      { abi: "x86_64", call: "null", via: "int80", refused: "SIGSEGV" },
      { abi: "x86_64", call: "time", via: "syscall", refused: "ENOSYS" },
    ] as const;
    const rows = measured("x86_64").rows.filter(
      ({ call, via }) => !refused.some((one) => one.call === call && one.via === via),
    );
    const text = renderBench(benchResult(HOST, [measured("x86_64", { rows, refused })], []), {
      width: 80,
      ascii: false,
    });
    expect(text).toMatch(/^null +syscall .*\n +int80 +ends the process \(SIGSEGV\)$/m);
    expect(text).toMatch(/^time +vdso .*\n +syscall +refused \(ENOSYS\)$/m);
  });

  it("warns where a subtraction misleads, and gives the figure with the loop", () => {
    expect(renderBench(both, { width: 100, ascii: false })).toMatch(/x86_64: below 5 ns \(marked \*\).*time 4\.00 ns/s);
  });

  it("says that figures are noisy, and that the machine is busy", () => {
    const rows = measured("x86_64").rows.map((row) => ({ ...row, noise: ["wide" as const] }));
    const busy = { ...HOST, loadAfter: 5.2 };
    const text = renderBench(benchResult(busy, [measured("x86_64", { rows })], []), { width: 200, ascii: false });
    expect(text).toMatch(/The figures are noisy: 29 of \d+|The figures are noisy: \d+ of \d+/);
    expect(text.replace(/\n/g, " ")).toContain("the machine is busy (load 5.2 on 2 processors)");
    expect(renderBench(both, { width: 80, ascii: false })).not.toContain("noisy");
  });

  it("tells a virtual machine by cpuid, and what that may mean for int $0x80", () => {
    const controls = { ...measured("i386").controls, cpuid: figures(3500) };
    const text = renderBench(benchResult(HOST, [measured("i386", { controls })], []), {
      width: 200,
      ascii: false,
    }).replace(/\n/g, " ");
    expect(text).toContain("cpuid takes 3,500 ns: a virtual machine traps it.");
    expect(text).toContain("int $0x80 costs about as much, so it may be trapped too");
    expect(renderBench(both, { width: 200, ascii: false })).not.toContain("virtual machine");
  });

  it("tells what was refused to the measurement itself, and which ABI is missing", () => {
    const problems = ["it cannot be tied to processor 9 (EINVAL): the scheduler may move it"];
    const missing = [{ abi: "i386" as const, why: "this kernel does not run i386 programs." }];
    const text = renderBench(benchResult(HOST, [measured("x86_64", { problems })], missing), {
      width: 120,
      ascii: false,
    });
    expect(text).toContain("x86_64: it cannot be tied to processor 9 (EINVAL)");
    expect(text).toMatch(/^i386\n {2}this kernel does not run i386 programs\.$/m);
  });

  it("ends with the verdicts of a comparison", () => {
    const change = {
      abi: "x86_64",
      call: "null",
      via: "syscall",
      before: figures(100),
      after: figures(150),
      ratio: 1.5,
    } as const;
    const result = {
      ...both,
      compared: [
        { ...change, change: "slower" as const },
        { ...change, change: "same" as const, ratio: 1 },
      ],
    };
    const text = renderBench(result, { width: 120, ascii: false });
    expect(text).toContain("Beside the earlier run: 1 slower, 1 same within the noise.");
    expect(text).toMatch(/x86_64 +null +syscall +100 \[99\.0–101\] +150 \[149–152\] +slower \(\+50%\)\n$/);
    expect([isWorse(result), isWorse(both), isWorse({ ...both, compared: [] })]).toEqual([true, false, false]);
  });
});

describe("renderBenchHtml()", () => {
  const page = renderBenchHtml(both);

  it("draws a bar for each row, in one drawing for each ABI", () => {
    expect(page.match(/<svg class="bars"/g)?.length).toBe(2);
    expect(page.match(/<rect class="bar"/g)?.length).toBe(both.rows.length);
  });

  it("loads nothing and escapes what comes from elsewhere", () => {
    expect(page.includes("default-src &#39;none&#39;")).toBe(true);
    expect(/<script|(src|href)="(?!data:|#)/.exec(page)).toBeNull();
    const odd = { ...both, host: { ...HOST, processor: "<img src=x onerror=alert(1)>" } };
    expect(renderBenchHtml(odd)).toContain("&lt;img src=x onerror=alert(1)&gt;");
  });

  it("shows refusals, missing ABIs and comparisons", () => {
    const refused = [{ abi: "x86_64", call: "null", via: "int80", refused: "SIGSEGV" }] as const;
    const missing = [{ abi: "i386" as const, why: "not here" }];
    const result = { ...benchResult(HOST, [measured("x86_64", { refused })], missing), compared: [] };
    const text = renderBenchHtml(result);
    expect(text).toContain("int80: ends the process (SIGSEGV)");
    expect(text).toContain("<strong>i386</strong> not here");
    expect(text).toContain("nothing to compare");
  });
});

describe("nsScale()", () => {
  it("is linear where the figures are alike, and begins at zero", () => {
    const scale = nsScale([{ nsMedian: 30 }, { nsMedian: 80 }]);
    expect(scale).toMatchObject({ kind: "linear", from: 0, to: 80 });
    expect([scale.at(0), scale.at(40), scale.at(80), scale.at(100)]).toEqual([0, 0.5, 1, 1]);
  });

  it("is logarithmic where they are not, in powers of ten", () => {
    const scale = nsScale([{ nsMedian: 22 }, { nsMedian: 4100 }]);
    expect(scale).toMatchObject({ kind: "logarithmic", from: 10, to: 10_000, ticks: [10, 100, 1000, 10_000] });
    expect([10, 100, 10_000, 0.01].map((ns) => scale.at(ns))).toEqual([0, 1 / 3, 1, 0]);
  });

  it("is there without figures, and for nothing but zeros", () => {
    for (const rows of [[], [{ nsMedian: 0 }]]) expect(nsScale(rows).at(0)).toBe(0);
  });
});

describe("numbers", () => {
  it("have three figures, or all before the point", () => {
    expect([0, 0.3, 4.567, 9.96, 23.44, 99.96, 170.4, 12_345.6].map(nsText)).toEqual([
      "0",
      "0.30",
      "4.57",
      "10.0",
      "23.4",
      "100",
      "170",
      "12,346",
    ]);
    expect([0.00031, 0.0215, 0.5, 1.06, 23.96].map(ratioText)).toEqual(["0.0003", "0.021", "0.50", "1.06", "24.0"]);
  });
});

describe("callFilter()", () => {
  const names = (pattern: string) => CALLS.map(({ call }) => call).filter(callFilter(pattern));

  it("takes parts of names, whole ones with stars, several with commas, in any case", () => {
    expect(names("getcpu")).toEqual(["getcpu"]);
    expect(names("clock_gettime(boot*")).toEqual(["clock_gettime(BOOTTIME)"]);
    expect(names("NULL, time")).toContain("null");
    expect(names("*cputime_id)")).toHaveLength(4);
    expect(names("time*")).toEqual(["time"]);
    expect(names("")).toEqual([]);
    expect(names("nothing")).toEqual([]);
  });
});
