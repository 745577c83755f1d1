import type { TimeSpec } from "../run/time-change.js";
import { UsageError } from "./command.js";

const SECOND = 1_000_000_000;

/** Nanoseconds of each unit; a year is 365 days. */
const UNITS: Readonly<Record<string, number>> = {
  ms: 1_000_000,
  s: SECOND,
  m: 60 * SECOND,
  h: 3600 * SECOND,
  d: 86_400 * SECOND,
  w: 7 * 86_400 * SECOND,
  y: 365 * 86_400 * SECOND,
};

const ABSOLUTE = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d{1,9})?)?)?(Z|[+-]\d\d:?\d\d)?$/i;
const OFFSET = /^([+-])((?:\d+(?:\.\d+)?(?:ms|[smhdwy]))+|\d+(?:\.\d+)?)$/;

/** Farther than this no date can be written, and an offset is a slip of the pen. */
const FARTHEST = 10_000n * BigInt(UNITS.y as number);

/**
 * Reads `2038-01-19T03:14:00Z` (local time where no zone is given, midnight where no time is), `@1700000000.5`, or
 * `+10d`, `-2h30m`, `+90` (seconds). Throws {@link UsageError}.
 */
export function parseTimeSpec(text: string): TimeSpec {
  const spec = offsetOf(text) ?? absoluteOf(text);
  if (!spec) {
    throw new UsageError(
      `--time is ${JSON.stringify(text)}: a date such as 2038-01-19T03:14:00Z, @SECONDS since 1970, or an offset such as +10d or -2h30m`,
    );
  }
  if (spec.ns > FARTHEST || spec.ns < -FARTHEST) {
    throw new UsageError(`--time is ${JSON.stringify(text)}: more than 10000 years away`);
  }
  return spec;
}

function offsetOf(text: string): TimeSpec | undefined {
  const [, sign, amounts = ""] = OFFSET.exec(text) ?? [];
  if (sign === undefined) return undefined;
  const parts = [...amounts.matchAll(/(\d+)(?:\.(\d+))?(ms|[smhdwy])?/g)];
  const ns = parts.reduce((sum, [, whole = "0", fraction, unit = "s"]) => {
    return sum + scaled(whole, fraction, UNITS[unit] as number);
  }, 0n);
  return { kind: "offset", ns: sign === "-" ? -ns : ns };
}

function scaled(whole: string, fraction: string | undefined, unit: number): bigint {
  return BigInt(whole) * BigInt(unit) + BigInt(Math.round(Number(`0.${fraction ?? 0}`) * unit));
}

function absoluteOf(text: string): TimeSpec | undefined {
  const [, seconds, part] = /^@(-?\d+)(?:\.(\d{1,9}))?$/.exec(text) ?? [];
  if (seconds !== undefined) return { kind: "absolute", ns: BigInt(seconds) * BigInt(SECOND) + fractionNs(part) };
  const match = ABSOLUTE.exec(text);
  if (!match) return undefined;
  const [, year, month, day, hour = "00", minute = "00", second = "00", fraction, zone = ""] = match;
  // Of a date alone the language would take UTC, of a date with a time the local zone.
  const ms = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}${zone.toUpperCase()}`);
  if (Number.isNaN(ms) || !isDay(Number(year), Number(month), Number(day))) return undefined;
  return { kind: "absolute", ns: BigInt(ms) * 1_000_000n + fractionNs(fraction?.slice(1)) };
}

function fractionNs(digits: string | undefined): bigint {
  return BigInt((digits ?? "").padEnd(9, "0"));
}

/** Whether a month has a day: the language would carry 30 February over into March. */
function isDay(year: number, month: number, day: number): boolean {
  const date = new Date(Date.UTC(year, month - 1, day));
  return date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
}

/** The most that a clock can be told to run faster. */
const MAX_RATE = 65_536;

/** Reads `--rate` into 32 bits of whole and 32 of fraction. Throws {@link UsageError}. */
export function parseRate(text: string): bigint {
  const scaled = /^\d+(\.\d+)?$/.test(text) ? Math.round(Number(text) * 2 ** 32) : 0;
  if (scaled === 0 || scaled > MAX_RATE * 2 ** 32) {
    throw new UsageError(`--rate is ${JSON.stringify(text)}: a number above 0 and up to ${MAX_RATE}, such as 2 or 0.5`);
  }
  return BigInt(scaled);
}
