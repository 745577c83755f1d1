import { describe, expect, it } from "vitest";
import { parseRate, parseTimeSpec } from "../../src/cli/time-spec.js";
import { shownTime } from "../../src/forge/clock.js";
import { clockChange } from "../../src/run/time-change.js";
import { heard } from "../support/forged.js";
import { needs } from "../support/referee.js";

const SECOND = 1_000_000_000n;
const DAY = 86_400n * SECOND;

describe("parseTimeSpec()", () => {
  it.each([
    ["+10d", 10n * DAY],
    ["-2h30m", -9000n * SECOND],
    ["+1.5h", 5400n * SECOND],
    ["+90", 90n * SECOND],
    ["-0.25", -SECOND / 4n],
    ["+1y2w3d4h5m6s7ms", (365n + 14n + 3n) * DAY + (4n * 3600n + 5n * 60n + 6n) * SECOND + 7_000_000n],
  ])("reads the offset %s", (text, ns) => expect(parseTimeSpec(text)).toEqual({ kind: "offset", ns }));

  // Dates as date(1) of coreutils reads them, which knows the local zone too.
  it
    .skipIf(!needs("date", "coreutils"))
    .each([
      "2038-01-19T03:14:00Z",
      "1969-12-31T23:59:59Z",
      "2024-02-29T12:00:00.123456789+05:30",
      "2024-07-01 08:00",
      "2024-07-01",
      "@1700000000.5",
      "@-1",
    ])("reads the date %s as date(1) does", (text) => {
    const { stdout } = heard("date", "-d", text, "+%s %N");
    const [seconds, ns] = stdout.trim().split(" ") as [string, string];
    expect(parseTimeSpec(text)).toEqual({ kind: "absolute", ns: BigInt(seconds) * SECOND + BigInt(ns) });
  });

  it.each([
    ...["", "10d", "+", "+d", "+1x", "+1d 2h", "tomorrow", "2038-13-01", "2024-02-30", "2023-02-29T00:00:00Z"],
    ...["2038-01-19T25:00:00Z", "@", "@x", "@9999999999999", "+10001y", "-1e3", "+1d\n"],
  ])("refuses %j, and says what it takes", (text) => {
    expect(() => parseTimeSpec(text)).toThrow(/^--time is .*(such as|10000 years)/);
  });
});

describe("parseRate()", () => {
  it("has 32 bits of fraction", () => {
    expect(parseRate("2")).toBe(2n << 32n);
    expect(parseRate("0.5")).toBe(1n << 31n);
    expect(parseRate("65536")).toBe(1n << 48n);
  });

  it.each(["0", "-1", "65537", "1e3", "fast", "", "0.0000000000001"])("refuses %j", (text) => {
    expect(() => parseRate(text)).toThrow(/^--rate is /);
  });
});

describe("clockChange()", () => {
  const readings = new Map([
    [0, 1000n * SECOND],
    [1, 50n * SECOND],
    [7, 60n * SECOND],
    [11, 1037n * SECOND],
  ]);
  const read = async (clock: number) => readings.get(clock);
  const rate = 1n << 32n;

  it("puts the calendar's clocks to a date, TAI with its own distance, and leaves the others", async () => {
    const spec = { kind: "absolute", ns: 5000n * SECOND } as const;
    const change = await clockChange({ spec, rate, monotonic: false }, read);
    expect([...change.clocks.keys()].sort((a, b) => a - b)).toEqual([0, 5, 8, 11]);
    expect(shownTime(change, 0, 1001n * SECOND)).toBe(5001n * SECOND);
    expect(shownTime(change, 5, 1001n * SECOND)).toBe(5001n * SECOND);
    expect(shownTime(change, 11, 1038n * SECOND)).toBe(5038n * SECOND);
    expect(shownTime(change, 1, 51n * SECOND)).toBeUndefined();
  });

  it("lets all go at a rate where that is asked for, the machine's own clocks from where they are", async () => {
    const spec = { kind: "offset", ns: DAY } as const;
    const change = await clockChange({ spec, rate: 3n << 32n, monotonic: true }, read);
    expect(shownTime(change, 0, 1002n * SECOND)).toBe(DAY + 1006n * SECOND);
    expect(shownTime(change, 1, 52n * SECOND)).toBe(56n * SECOND);
    expect(shownTime(change, 6, 52n * SECOND)).toBe(56n * SECOND);
    expect(shownTime(change, 7, 61n * SECOND)).toBe(63n * SECOND);
    // This kernel has no MONOTONIC_RAW.
    expect(shownTime(change, 4, 1n)).toBeUndefined();
  });

  it("stops them where the rate is zero", async () => {
    const change = await clockChange({ rate: 0n, monotonic: true }, read);
    for (const elapsed of [0n, 7n * SECOND]) {
      expect(shownTime(change, 0, 1000n * SECOND + elapsed)).toBe(1000n * SECOND);
      expect(shownTime(change, 1, 50n * SECOND + elapsed)).toBe(50n * SECOND);
    }
  });
});
