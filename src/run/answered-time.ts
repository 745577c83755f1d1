import { Writer } from "../bytes/writer.js";
import { type ClockChange, SECOND, shownTime } from "../forge/clock.js";
import type { Answer, Interception, PendingCall } from "./intercept.js";

const REALTIME = 0;
const REALTIME_COARSE = 5;

/**
 * Answers the system calls that ask for the time as the changed clocks do, for programs that make them without asking the
 * vDSO. `clocks` are those that are changed; `change` is how, once a program has been given it.
 */
export function answeredTime(clocks: readonly number[], change: () => ClockChange | undefined): Interception {
  const clock = { firstArguments: clocks };
  return {
    calls: {
      // clock_gettime, gettimeofday, time; clock_gettime64.
      x86_64: [{ number: 228, ...clock }, { number: 96 }, { number: 201 }],
      i386: [{ number: 265, ...clock }, { number: 403, ...clock }, { number: 78 }, { number: 13 }],
    },
    answer: async (call) => {
      const changed = change();
      return changed ? answer(call, changed) : "continue";
    },
  };
}

async function answer(call: PendingCall, change: ClockChange): Promise<Answer> {
  const shown = async (clock: number): Promise<bigint | undefined> => {
    const real = await call.clock(clock);
    return real === undefined ? undefined : shownTime(change, clock, real);
  };
  const [first = 0n, second = 0n] = call.args;
  switch (call.number) {
    case 228:
    case 265:
    case 403: {
      const now = await shown(Number(BigInt.asIntN(32, first)));
      if (now === undefined) return "continue";
      await call.write(second, words(call.number === 265 ? 4 : 8, ...split(now, 1n)));
      return { result: 0n };
    }
    case 96:
    case 78: {
      const now = first === 0n ? undefined : await shown(REALTIME);
      if (now === undefined) return "continue";
      await call.write(first, words(call.abi === "i386" ? 4 : 8, ...split(now, 1000n)));
      // The kernel's own time zone, which nobody sets: two numbers of 32 bits.
      if (second !== 0n) await call.write(second, new Uint8Array(8));
      return { result: 0n };
    }
    default: {
      const now = await shown(REALTIME_COARSE);
      if (now === undefined) return "continue";
      const [seconds] = split(now, 1n);
      const wordSize = call.abi === "i386" ? 4 : 8;
      if (first !== 0n) await call.write(first, words(wordSize, seconds));
      return { result: BigInt.asIntN(wordSize * 8, seconds) };
    }
  }
}

/** Whole seconds, rounded down, and the rest in units of so many nanoseconds. */
function split(ns: bigint, unit: bigint): [bigint, bigint] {
  const rest = ((ns % SECOND) + SECOND) % SECOND;
  return [(ns - rest) / SECOND, rest / unit];
}

/** Signed words, cut to their size as the kernel cuts them. */
function words(wordSize: 4 | 8, ...values: readonly bigint[]): Uint8Array {
  const out = new Writer({ littleEndian: true, wordSize });
  for (const value of values) out.word(BigInt.asUintN(wordSize * 8, value));
  return out.finish();
}
