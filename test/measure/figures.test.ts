import { describe, expect, it } from "vitest";
import type { Via } from "../../src/measure/calls.js";
import { type CallFigures, figuresOf, withRatios } from "../../src/measure/figures.js";
import { randomFrom } from "../support/random.js";

const TSC = { nsPerTick: 0.5, tsc: true };

describe("figuresOf()", () => {
  it("takes the loop off and turns ticks into nanoseconds", () => {
    const ticks = Float64Array.from({ length: 101 }, () => 100 * 60);
    const figures = figuresOf({ ticks, calls: 100 }, TSC, 10);
    expect(figures).toEqual({
      nsMedian: 25,
      nsLow: 25,
      nsHigh: 25,
      nsP5: 25,
      nsP95: 25,
      nsRaw: 30,
      cycles: 50,
      batches: 101,
      calls: 100,
      drift: 0,
      noise: [],
    });
  });

  it("knows no cycles where a system call was the clock", () => {
    const figures = figuresOf({ ticks: Float64Array.of(500), calls: 10 }, { nsPerTick: 1, tsc: false });
    expect(figures.nsMedian).toBe(50);
    expect(figures).not.toHaveProperty("cycles");
  });

  it("gives nothing below zero, where a call hides in the loop", () => {
    const figures = figuresOf({ ticks: Float64Array.of(90, 100, 110), calls: 10 }, TSC, 10);
    expect([figures.nsMedian, figures.nsLow, figures.nsP5]).toEqual([0, 0, 0]);
  });

  it("calls figures noisy whose interval is wide, and those that drift, but not for what matters to nobody", () => {
    const random = randomFrom(1);
    const wide = Float64Array.from({ length: 51 }, () => 1000 * (1 + random()));
    expect(figuresOf({ ticks: wide, calls: 10 }, TSC).noise).toEqual(["wide"]);
    const drift = Float64Array.from({ length: 100 }, (_, i) => (i < 50 ? 1000 : 1200) + (i % 7));
    expect(figuresOf({ ticks: drift, calls: 10 }, TSC).noise).toContain("drift");
    const small = Float64Array.from({ length: 100 }, (_, i) => (i < 50 ? 10 : 14));
    expect(figuresOf({ ticks: small, calls: 10 }, TSC).noise).toEqual([]);
  });
});

describe("withRatios()", () => {
  const row = (abi: CallFigures["abi"], call: string, via: Via, nsMedian: number): CallFigures => ({
    ...figuresOf({ ticks: Float64Array.of(nsMedian * 2), calls: 1 }, TSC),
    abi,
    call,
    via,
  });

  it("divides by the real call: of i386 that by the gate, or by int $0x80 where there is none", () => {
    const ratios = (rows: CallFigures[]) => withRatios(rows).map(({ ratio }) => ratio);
    expect(ratios([row("x86_64", "a", "vdso", 25), row("x86_64", "a", "syscall", 100)])).toEqual([0.25, undefined]);
    const wide = [row("i386", "a", "vdso", 20), row("i386", "a", "gate", 200), row("i386", "a", "int80", 4000)];
    expect(ratios(wide)).toEqual([0.1, undefined, 20]);
    expect(ratios([row("i386", "a", "vdso", 20), row("i386", "a", "int80", 400)])).toEqual([0.05, undefined]);
    expect(ratios([row("i386", "a", "vdso", 20), row("x86_64", "a", "syscall", 100)])).toEqual([undefined, undefined]);
  });
});
