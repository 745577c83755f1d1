import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { binomialTail, CONFIDENCE, median, medianInterval, quantile, summarize } from "../../src/measure/statistics.js";
import { randomFrom } from "../support/random.js";

const sorted = (...values: number[]): Float64Array => Float64Array.from(values).sort();

describe("quantiles", () => {
  it("the median of an odd number of samples is the middle one, of an even number between the middle two", () => {
    expect(median(sorted(3, 1, 2))).toBe(2);
    expect(median(sorted(4, 1, 2, 3))).toBe(2.5);
    expect(median(sorted(7))).toBe(7);
  });

  it("lie between two samples in proportion", () => {
    const values = sorted(0, 10, 20, 30, 40);
    expect([0, 0.05, 0.25, 0.5, 0.95, 1].map((part) => quantile(values, part))).toEqual([0, 2, 10, 20, 38, 40]);
  });

  it("of no samples are refused", () => {
    expect(() => median(new Float64Array())).toThrow(RangeError);
    expect(() => medianInterval(new Float64Array())).toThrow(RangeError);
    expect(() => summarize(new Float64Array())).toThrow(RangeError);
  });
});

describe("binomialTail()", () => {
  /** Counted out in whole numbers: `p` is in quarters. */
  function counted(count: number, quarters: number, least: number): number {
    let [sum, choose] = [0n, 1n];
    for (let i = 0; i <= count; i++) {
      if (i >= least) sum += choose * BigInt(quarters) ** BigInt(i) * BigInt(4 - quarters) ** BigInt(count - i);
      choose = (choose * BigInt(count - i)) / BigInt(i + 1);
    }
    return Number((sum * 10n ** 12n) / 4n ** BigInt(count)) / 1e12;
  }

  it("is what counting gives", () => {
    for (const [count, quarters, least] of [
      [1, 1, 1],
      [5, 2, 3],
      [10, 1, 2],
      [40, 3, 31],
      [401, 2, 201],
      [9, 3, 0],
    ] as const) {
      expect(binomialTail(count, quarters / 4, least)).toBeCloseTo(counted(count, quarters, least), 9);
    }
  });

  it("is certain and impossible at the ends", () => {
    expect([binomialTail(10, 1, 10), binomialTail(10, 0, 1), binomialTail(10, 0, 0)]).toEqual([1, 0, 1]);
  });
});

describe("medianInterval()", () => {
  /** The interval of medians of samples that are really drawn. */
  function drawn(values: Float64Array, draws: number): { low: number; high: number } {
    const random = randomFrom(7);
    const medians = Float64Array.from({ length: draws }, () =>
      median(values.map(() => values[Math.floor(random() * values.length)] as number).sort()),
    ).sort();
    return { low: quantile(medians, (1 - CONFIDENCE) / 2), high: quantile(medians, (1 + CONFIDENCE) / 2) };
  }

  it.each([15, 51, 101])("of %i samples is what drawing them anew gives", (count) => {
    const random = randomFrom(count);
    const values = Float64Array.from({ length: count }, () => -Math.log(1 - random())).sort();
    const [exact, simulated] = [medianInterval(values), drawn(values, 20_000)];
    // Drawing ends at one sample or its neighbour.
    const rank = (value: number) => values.findLastIndex((each) => each <= value);
    expect(Math.abs(rank(exact.low) - rank(simulated.low))).toBeLessThanOrEqual(1);
    expect(Math.abs(rank(exact.high) - rank(simulated.high))).toBeLessThanOrEqual(1);
  });

  const distributions: readonly (readonly [string, (random: () => number) => number, number])[] = [
    ["uniform", (random) => random(), 0.5],
    ["exponential", (random) => -Math.log(1 - random()), Math.LN2],
    ["normal", (random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()), 0],
    ["skewed, as times are", (random) => 20 + (random() < 0.1 ? 200 * random() : random()), 20 + 0.5 / 0.9],
  ];

  it.each(distributions)("holds the true median of 95 in 100 samples: %s", (_, draw, truth) => {
    const random = randomFrom(42);
    const RUNS = 1000;
    let held = 0;
    for (let run = 0; run < RUNS; run++) {
      const { low, high } = medianInterval(Float64Array.from({ length: 101 }, () => draw(random)).sort());
      if (low <= truth && truth <= high) held += 1;
    }
    // Three standard errors of a part of 0.95 among 1,000 are 0.02.
    expect(held / RUNS).toBeGreaterThan(0.93);
    expect(held / RUNS).toBeLessThan(0.98);
  });

  it("lies among the samples, around their median, and is the same each time", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 200 }), (array) => {
        const values = Float64Array.from(array).sort();
        const interval = medianInterval(values);
        expect(interval).toEqual(medianInterval(values));
        expect(values).toContain(interval.low);
        expect(values).toContain(interval.high);
        expect(interval.low).toBeLessThanOrEqual(median(values));
        expect(interval.high).toBeGreaterThanOrEqual(values[Math.ceil(values.length / 2) - 1] as number);
      }),
    );
  });
});

describe("summarize()", () => {
  it("leaves the samples in their order", () => {
    const samples = Float64Array.of(3, 1, 2);
    summarize(samples);
    expect([...samples]).toEqual([3, 1, 2]);
  });

  it("tells a drift between the halves, as a part of the median", () => {
    const steady = Float64Array.from({ length: 100 }, (_, i) => 10 + (i % 3));
    expect(summarize(steady).drift).toBe(0);
    const drifting = Float64Array.from({ length: 100 }, (_, i) => (i < 50 ? 10 : 12));
    expect(summarize(drifting).drift).toBeCloseTo(2 / 11);
  });
});
