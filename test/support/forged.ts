import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import iced from "iced-x86";
import type { ClockPlan } from "../../src/forge/clock.js";
import { type ForgePlan, type ForgeTools, forgeImage } from "../../src/forge/forge.js";

/** What images are made with. */
export const forgeTools: ForgeTools = {
  iced,
  sha1: (bytes) => new Uint8Array(createHash("sha1").update(bytes).digest()),
};

const kernelVersion = 0x06_12_2c;

/** An image of every kind that can be made. */
export const PLANS: Readonly<Record<"x86_64" | "int80" | "sysenter" | "syscall" | "historical", ForgePlan>> = {
  x86_64: { abi: "x86_64", kernelVersion },
  int80: { abi: "i386", entry: "int $0x80", kernelVersion },
  sysenter: { abi: "i386", entry: "sysenter", kernelVersion },
  syscall: { abi: "i386", entry: "syscall", kernelVersion },
  historical: { abi: "i386", historical: true, kernelVersion },
};

/** The kinds of {@link PLANS}. */
export const KINDS = Object.keys(PLANS) as (keyof typeof PLANS)[];

/** Where kernels of i386 have had what they return to. */
export const PLACES = { landing: 0x559, sigreturn: 0x570, rtSigreturn: 0x580, size: 0x2000 } as const;

/** Functions of a kernel's image: a lower and an upper one, and one that nobody knows. */
function kernelOf(base: bigint, ...names: readonly string[]): ReadonlyMap<string, bigint> {
  return new Map(
    names.flatMap((name, i) => [`__vdso_${name}`, name].map((one) => [one, base + BigInt(i) * 0x40n] as const)),
  );
}

const NAMES = ["clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu", "unheard_of"] as const;
const kernels = {
  x86_64: kernelOf(0x7fff_f7fc_1000n, ...NAMES),
  i386: new Map(
    [...kernelOf(0xf7fc_5700n, ...NAMES, "clock_gettime64")].filter(([name]) => name.startsWith("__vdso_")),
  ),
};

function changed(abi: keyof typeof kernels, rate: bigint): { readonly clocks: ClockPlan } {
  const second = 1_000_000_000n;
  const real = 1_790_000_000n * second;
  const clocks = new Map([0, 5, 8, 11, 1].map((clock) => [clock, { real: real + BigInt(clock % 5), shown: -second }]));
  return { clocks: { change: { rate, clocks }, kernel: kernels[abi] } };
}

const RATES = { shifted: 1n << 32n, slower: 1n << 31n, faster: 5n << 31n, frozen: 0n };
const counters = { table: 0xf7c0_0000n, length: 472 };
const wide = Object.entries(RATES).map(
  ([name, rate]) => [`x86_64-${name}`, { ...PLANS.x86_64, ...changed("x86_64", rate) }] as const,
);
const narrow = Object.entries(RATES).map(
  ([name, rate]) => [`i386-${name}`, { ...PLANS.sysenter, ...changed("i386", rate) } as ForgePlan] as const,
);
const gates = (["int80", "sysenter", "syscall", "historical"] as const).flatMap((kind) => [
  [`${kind}-counted`, { ...PLANS[kind], counters } as ForgePlan] as const,
  [`${kind}-placed`, { ...PLANS[kind], places: PLACES } as ForgePlan] as const,
]);
const whole = { places: PLACES, counters, ...changed("i386", RATES.faster) };
const wholes = (["sysenter", "historical"] as const).map(
  (kind) => [`${kind}-placed-whole`, { ...PLANS[kind], ...whole } as ForgePlan] as const,
);

/** What images are made of: those of {@link PLANS}, and each with clocks, counters and places. */
export const SHAPES: ReadonlyMap<string, ForgePlan> = new Map([
  ...Object.entries(PLANS),
  ...wide,
  ...narrow,
  ...gates,
  ...wholes,
]);

/** An image of a shape, at another base if one is given. */
export function forged(shape: string, base?: bigint): Uint8Array {
  return forgeImage({ ...planOf(shape), ...(base !== undefined && { base }) }, forgeTools);
}

/** The plan of a shape. */
export function planOf(shape: string): ForgePlan {
  const plan = SHAPES.get(shape);
  if (!plan) throw new Error(`no image is ${shape}`);
  return plan;
}

/** What a program wrote to both of its outputs, and how it ended. */
export function heard(command: string, ...args: readonly string[]) {
  const env = { ...process.env, LC_ALL: "C", LANG: "C" };
  const { stdout, stderr, status } = spawnSync(command, args, { encoding: "utf8", env, maxBuffer: 1 << 26 });
  return { stdout, stderr, status };
}
