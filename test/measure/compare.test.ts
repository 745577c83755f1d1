import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { compareRuns, type EarlierRow, type EarlierRun, readRun } from "../../src/measure/compare.js";
import type { CallFigures, Controls, Figures } from "../../src/measure/figures.js";

/** Figures with an interval and a fifth percentile of 1% and 2% below the median. */
function figures(nsMedian: number, more: Partial<Figures> = {}): Figures {
  return {
    nsMedian,
    nsLow: nsMedian * 0.99,
    nsHigh: nsMedian * 1.01,
    nsP5: nsMedian * 0.98,
    nsP95: nsMedian * 1.2,
    nsRaw: nsMedian + 2,
    batches: 101,
    calls: 100,
    drift: 0,
    noise: [],
    ...more,
  };
}

const controls = (loop: number, cpuid = 100): Controls => ({
  emptyReturn: figures(loop, { nsRaw: loop }),
  emptyJump: figures(loop, { nsRaw: loop }),
  cpuid: figures(cpuid, { nsRaw: cpuid }),
});

const row = (nsMedian: number, more: Partial<CallFigures> = {}): CallFigures => ({
  abi: "x86_64",
  call: "null",
  via: "syscall",
  ...figures(nsMedian),
  ...more,
});

/** A run as it is printed and read again. */
function earlier(rows: readonly CallFigures[], loop = 2): EarlierRun {
  return readRun(JSON.stringify({ schema: 1, host: {}, rows, abis: [{ abi: "x86_64", controls: controls(loop) }] }));
}

/** What becomes of one row. */
function change(before: CallFigures, after: CallFigures, loop = 2): string | undefined {
  const now = { rows: [after], abis: [{ abi: "x86_64" as const, controls: controls(loop) }] };
  return compareRuns(earlier([before]), now)[0]?.change;
}

describe("compareRuns()", () => {
  it("calls a row slower or faster that is so by more than 3%, the intervals apart", () => {
    expect(change(row(100), row(110))).toBe("slower");
    expect(change(row(110), row(100))).toBe("faster");
    expect(change(row(100), row(102.9))).toBe("same");
    expect(change(row(100), row(100))).toBe("same");
  });

  it("calls it the same while the intervals overlap, or the fast batches of the slower run are as fast as the others", () => {
    expect(change(row(100, { nsHigh: 108 }), row(110, { nsLow: 107 }))).toBe("same");
    expect(change(row(100), row(110, { nsP5: 99 }))).toBe("same");
  });

  it("calls it the same within what either run drifted", () => {
    expect(change(row(100, { drift: 0.15 }), row(110))).toBe("same");
    expect(change(row(100), row(110, { drift: 0.15 }))).toBe("same");
  });

  it("calls it the same within what the empty loop changed, which enters no kernel: the machine was slower", () => {
    expect(change(row(100), row(110), 2.5)).toBe("same");
    expect(change(row(100), row(140), 2.5)).toBe("slower");
  });

  it("makes nothing of fractions of a nanosecond, nor of two among figures that the loop hides", () => {
    expect(change(row(10), row(10.4))).toBe("same");
    expect(change(row(1), row(2.4))).toBe("same");
    expect(change(row(1), row(20))).toBe("slower");
  });

  it("tells of rows that are new or gone, those alone that were to be measured again", () => {
    const now = { rows: [row(5, { call: "time" })], abis: [] };
    const before = earlier([row(100), row(7, { call: "getcpu", via: "vdso" })]);
    const changes = compareRuns(before, now, ({ call }) => call !== "getcpu");
    expect(changes.map((one) => [one.call, one.change])).toEqual([
      ["time", "new"],
      ["null", "gone"],
    ]);
  });

  it("says by how much, and gives both figures", () => {
    const [one] = compareRuns(earlier([row(100)]), { rows: [row(150)], abis: [] });
    expect(one).toMatchObject({ ratio: 1.5, before: { nsMedian: 100 }, after: { nsMedian: 150 } });
  });
});

describe("readRun()", () => {
  const good: EarlierRow = { abi: "i386", call: "time", via: "gate", nsMedian: 3, nsLow: 2, nsHigh: 4 };
  const text = (run: object): string => JSON.stringify({ schema: 1, rows: [good], ...run });

  it("reads rows that have only what is needed", () => {
    expect(readRun(text({}))).toEqual({ rows: [good], controls: new Map(), host: {} });
  });

  it("refuses what bench did not print, and says what is wrong", () => {
    const wrong: readonly (readonly [string, RegExp])[] = [
      ["", /no JSON/],
      ["[]", /no object/],
      ["null", /no object/],
      [text({ schema: 2 }), /schema/],
      [text({ rows: 5 }), /no rows/],
      [text({ rows: [good, { ...good, abi: "arm" }] }), /row 1 has no known abi/],
      [text({ rows: [{ ...good, via: "magic" }] }), /row 0 has no known via/],
      [text({ rows: [{ ...good, call: 5 }] }), /row 0 has no call/],
      [text({ rows: [{ ...good, nsMedian: -1 }] }), /row 0 has no nsMedian/],
      [text({ rows: [{ ...good, nsHigh: "4" }] }), /row 0 has no nsHigh/],
      [text({ rows: [null] }), /row 0 has no fields/],
    ];
    for (const [input, message] of wrong) {
      expect(() => readRun(input)).toThrow(FormatError);
      expect(() => readRun(input)).toThrow(message);
    }
  });

  it("throws nothing else, whatever it is given", () => {
    const anything = fc.oneof(
      fc.json(),
      fc.string(),
      fc.jsonValue().map((rows) => JSON.stringify({ schema: 1, rows, abis: rows, host: rows })),
    );
    fc.assert(
      fc.property(anything, (input) => {
        try {
          readRun(input);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
    );
  });
});
