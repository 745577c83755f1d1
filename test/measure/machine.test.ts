import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { describe, expect, it } from "vitest";
import { calmestCpu, cpusIn, maskOf, parseCpuTimes, parseLoad, tscFlags } from "../../src/measure/machine.js";

describe("tscFlags()", () => {
  it("reads the flags of the first processor", () => {
    const text = "processor\t: 0\nflags\t\t: fpu tsc msr constant_tsc nonstop_tsc\nprocessor\t: 1\nflags\t\t: fpu\n";
    expect(tscFlags(text)).toEqual({ tsc: true, constant: true, nonstop: true });
    expect(tscFlags("flags\t\t: fpu tsc_known_freq\n")).toEqual({ tsc: false, constant: false, nonstop: false });
    expect(tscFlags("Features\t: fp asimd\n")).toBeUndefined();
  });
});

describe("the calmest processor", () => {
  const stat = (...busy: number[]) =>
    parseCpuTimes(`cpu  1 1 1 1\n${busy.map((user, i) => `cpu${i} ${user} 0 0 500 20 0 0 0 7 7\n`).join("")}intr 5`);

  it("is the one that was least busy between two looks, or else since the start", () => {
    expect(calmestCpu(stat(10, 50, 30), stat(20, 52, 30), [0, 1, 2])).toBe(2);
    expect(calmestCpu(stat(10, 50, 30), stat(20, 52, 30), [0, 1])).toBe(1);
    expect(calmestCpu(stat(90, 50, 70), stat(90, 50, 70), [0, 1, 2])).toBe(1);
    expect(calmestCpu(stat(1), stat(1), [])).toBeUndefined();
  });

  it("is chosen from times as this kernel writes them", () => {
    const times = parseCpuTimes(readFileSync("/proc/stat", "utf8"));
    expect(times.size).toBeGreaterThanOrEqual(availableParallelism());
    for (const { busy, idle } of times.values()) expect(Number.isFinite(busy + idle)).toBe(true);
  });
});

describe("masks of processors", () => {
  it("are read and written", () => {
    expect(cpusIn(Uint8Array.of(0b101, 0, 0b1000_0000))).toEqual([0, 2, 23]);
    for (const cpu of [0, 7, 8, 63, 500]) expect(cpusIn(maskOf(cpu, 64))).toEqual(cpu < 512 ? [cpu] : []);
    expect(() => maskOf(512, 64)).toThrow(RangeError);
    expect(() => maskOf(-1, 64)).toThrow(RangeError);
  });
});

describe("parseLoad()", () => {
  it("gives the average of the last minute", () => {
    expect(parseLoad("5.25 6.52 5.13 3/210 4711\n")).toBe(5.25);
    expect(parseLoad("")).toBeUndefined();
  });
});
