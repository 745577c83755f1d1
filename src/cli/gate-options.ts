import { existsSync, statSync } from "node:fs";
import type { ClockChange } from "../forge/clock.js";
import { answeredTime } from "../run/answered-time.js";
import { RunError } from "../run/error.js";
import { forgedGate } from "../run/forged-gate.js";
import type { Gate } from "../run/gate.js";
import type { Interception } from "../run/intercept.js";
import { replacementImage } from "../run/place.js";
import { changedClocks, clockChange, type TimeWish } from "../run/time-change.js";
import { resolveTarget } from "../targets/resolve.js";
import { CallTable } from "./call-table.js";
import { type Invocation, type OptionSpec, UsageError } from "./command.js";
import { quickDecoderFor } from "./decoder.js";
import { ENTRIES } from "./entries.js";
import { refuseTogether } from "./exclusive.js";
import { parseRate, parseTimeSpec } from "./time-spec.js";

const PAGE = 4096n;

/** What a program's gate is chosen by. */
export const GATE_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  "no-vdso": { type: "boolean", help: "announce no vDSO" },
  vdso: { type: "string", value: "TARGET", help: "announce this image: a file, or whatever else has one of the ABI" },
  entry: {
    type: "string",
    value: "WAY",
    help: "of i386: enter the kernel by int80, sysenter, syscall, the article's historical entry, or an image's FILE",
  },
  count: { type: "boolean", help: "of i386: count the calls through the entry, and list them at the end" },
  time: { type: "string", value: "SPEC", help: "show another time: 2038-01-19T03:14:00Z, @SECONDS, +10d, -2h30m" },
  rate: { type: "string", value: "NUMBER", help: "let that time go so many times as fast" },
  freeze: { type: "boolean", help: "let that time stand still" },
  monotonic: {
    type: "boolean",
    help: "that of the clocks that count from the machine's start too, for programs that do not wait by them",
  },
  strict: {
    type: "boolean",
    help: "show it to system calls too that ask the kernel itself, each at a thousand times the cost; implies --follow",
  },
  follow: { type: "boolean", help: "for the program's children too, and all that they execute" },
  base: {
    type: "string",
    value: "ADDRESS",
    help: "where the image is to lie, as 0x…; without another image, the kernel's own",
  },
};

/** A gate as the options ask for it. */
export interface ChosenGate {
  readonly gate?: Gate;
  /** Where calls are counted. */
  readonly calls?: CallTable;
  /** Whether programs that are executed in turn are to get it too. */
  readonly follow: boolean;
  /** System calls that are answered in place of the kernel. */
  readonly intercept?: Interception;
}

/** Options by which an image of our own is asked for. */
const CHANGING = ["count", "time", "rate", "freeze", "strict"];
const FORGING = ["entry", ...CHANGING];

/** What the options ask for; throws {@link UsageError}, {@link RunError} or what `resolveTarget` throws. */
export async function chooseGate(invocation: Invocation): Promise<ChosenGate> {
  const { flag, text } = invocation;
  refuseTogether(invocation, "no-vdso", ["vdso", "base", ...FORGING]);
  refuseTogether(invocation, "vdso", FORGING);
  refuseTogether(invocation, "rate", ["freeze"]);
  const base = baseOf(text("base"));
  const follow = flag("follow") || flag("strict");
  if (flag("no-vdso")) return { gate: { kind: "none" }, follow };
  const entry = text("entry");
  const way = entry === "historical" ? entry : ENTRIES.get(entry ?? "");
  if (entry !== undefined && way === undefined && !existsSync(entry)) {
    const ways = [...ENTRIES.keys(), "historical"].join(", ");
    throw new UsageError(`--entry is ${JSON.stringify(entry)}, neither one of ${ways} nor the file of an image`);
  }
  const file = text("vdso") ?? (way === undefined ? entry : undefined);
  const wish = timeWish(invocation);
  if (file !== undefined) {
    refuseTogether(invocation, "entry", CHANGING);
    return { gate: await imageGate(file, base, entry !== undefined), follow };
  }
  if (way === undefined && !flag("count") && !wish) {
    if (base !== undefined) return { gate: { kind: "moved", base }, follow };
    if (follow) throw new UsageError("--follow goes with an option that gives the program another gate");
    return { follow };
  }
  const calls = flag("count") ? new CallTable() : undefined;
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
  const intercept = wish && flag("strict") ? answeredTime(changedClocks(wish), () => change) : undefined;
  return { gate, follow, ...(calls && { calls }), ...(intercept && { intercept }) };
}

function timeWish(invocation: Invocation): TimeWish | undefined {
  const { flag, text } = invocation;
  const [time, rate] = [text("time"), text("rate")];
  const changesRate = rate !== undefined || flag("freeze");
  if (flag("strict") && time === undefined && !changesRate) {
    throw new UsageError("--strict goes with --time, --rate or --freeze only");
  }
  if (flag("monotonic") && !changesRate) throw new UsageError("--monotonic goes with --rate or --freeze only");
  if (time === undefined && !changesRate) return undefined;
  return {
    ...(time !== undefined && { spec: parseTimeSpec(time) }),
    rate: flag("freeze") ? 0n : parseRate(rate ?? "1"),
    monotonic: flag("monotonic"),
  };
}

/** An image that somebody made; `entered`: its entry was asked for. */
async function imageGate(word: string, base: bigint | undefined, entered: boolean): Promise<Gate> {
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

function baseOf(word: string | undefined): bigint | undefined {
  if (word === undefined) return undefined;
  if (!/^0x[0-9a-f]{1,16}$/i.test(word)) {
    throw new UsageError(`--base is ${JSON.stringify(word)}, no address as 0x10000000`);
  }
  const base = BigInt(word);
  // A vector that says zero is read as one that says nothing.
  if (base === 0n) throw new UsageError("--base is 0x0, where no program can be told of an image");
  if (base % PAGE !== 0n) throw new UsageError(`--base is ${word}, not the start of a page of ${PAGE} bytes`);
  return base;
}
