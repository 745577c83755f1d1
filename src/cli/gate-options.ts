import { existsSync } from "node:fs";
import type { Gate } from "../run/gate.js";
import type { Interception } from "../run/intercept.js";
import type { TimeWish } from "../run/time-change.js";
import type { CallTable } from "./call-table.js";
import { type Invocation, type OptionSpec, UsageError } from "./command.js";
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

/** What the options ask for; throws {@link UsageError}, `RunError` or what `resolveTarget` throws. */
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
    const { imageGate } = await import("./image-gates.js");
    return { gate: await imageGate(file, base, entry !== undefined), follow };
  }
  if (way === undefined && !flag("count") && !wish) {
    if (base !== undefined) return { gate: { kind: "moved", base }, follow };
    if (follow) throw new UsageError("--follow goes with an option that gives the program another gate");
    return { follow };
  }
  const { madeGate } = await import("./image-gates.js");
  return { ...madeGate({ way, count: flag("count"), wish, strict: flag("strict"), base }), follow };
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
