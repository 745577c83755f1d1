import { statSync } from "node:fs";
import type { ClockChange } from "../forge/clock.js";
import { answeredTime } from "../run/answered-time.js";
import { RunError } from "../run/error.js";
import { type ForgeWish, forgedGate } from "../run/forged-gate.js";
import type { Gate } from "../run/gate.js";
import { replacementImage } from "../run/place.js";
import { changedClocks, clockChange, type TimeWish } from "../run/time-change.js";
import { resolveTarget } from "../targets/resolve.js";
import { CallTable } from "./call-table.js";
import { UsageError } from "./command.js";
import { quickDecoderFor } from "./decoder.js";
import type { ChosenGate } from "./gate-options.js";

// A file of its own in dist/bin: a program that gets no image is started without what reads and makes them.

/** An image that somebody made; `entered`: its entry was asked for. Throws {@link UsageError}, {@link RunError} or what `resolveTarget` throws. */
export async function imageGate(word: string, base: bigint | undefined, entered: boolean): Promise<Gate> {
  const target = await resolveTarget(word);
  try {
    if (target.kind === "process" && statSync(word, { throwIfNoEntry: false })?.isFile()) {
      throw new RunError(`${word} is a program or a library, and no vDSO image`);
    }
    const { image } = target;
    const decoder = image.abi === "x86_64" || image.abi === "i386" ? await quickDecoderFor(image.abi) : undefined;
    if (!decoder) {
      throw new UsageError(`${target.name} is an image of ${image.abi}: programs of x86_64 and i386 can be started`);
    }
    if (entered && !image.entry) {
      throw new RunError(`${target.name} has no __kernel_vsyscall, by which programs of i386 would enter the kernel`);
    }
    const replacement = replacementImage(image, decoder);
    return { kind: "image", replacement, decoder, ...(base !== undefined && { base }) };
  } finally {
    await target.close();
  }
}

/** What an image of our own is to do. */
export interface MadeWish {
  readonly way: ForgeWish["entry"];
  readonly count: boolean;
  readonly wish: TimeWish | undefined;
  readonly strict: boolean;
  readonly base: bigint | undefined;
}

/** A gate of our own, and what goes with it. Throws {@link RunError} where calls cannot be counted. */
export function madeGate({ way, count, wish, strict, base }: MadeWish): Omit<ChosenGate, "follow"> {
  const calls = count ? new CallTable() : undefined;
  let change: ClockChange | undefined;
  const gate = forgedGate({
    ...(way !== undefined && { entry: way }),
    ...(calls && { count: calls }),
    ...(wish && {
      clocks: async (read) => {
        change ??= await clockChange(wish, read);
        return change;
      },
    }),
    ...(base !== undefined && { base }),
  });
  const intercept = wish && strict ? answeredTime(changedClocks(wish), () => change) : undefined;
  return { gate, ...(calls && { calls }), ...(intercept && { intercept }) };
}
