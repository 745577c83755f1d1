import type { KernelVersion } from "../image.js";
import type { RecordSize } from "./alternatives.js";
import type { Cpu } from "./cpu.js";
import { NOPS, type NopName, type NopTable } from "./nops.js";

/** How a generation of kernels turns single-byte NOPs that stand for padding into longer ones. */
export type Optimising =
  /** Not at all (before 4.1). */
  | "never"
  /** The padding that a record counts, where the site starts with that many of them (4.1 to 5.12). */
  | "padding"
  /** Every run of them in the site (5.13 to 6.4). */
  | "runs"
  /** Every run of any NOPs, in place (6.5 to 6.9) */
  | "in place"
  /** The same in a copy, once the replacement was moved (from 6.10). */
  | "in a copy";

/** The rules by which a kernel patches a site. */
export interface PatchRules {
  readonly optimising: Optimising;
  readonly nops: NopTable;
  /** The kernel decodes with its own width, whatever the image's. */
  readonly width: 32 | 64;
}

/** `major * 1000 + minor`: 6.1 is 6001; `undefined` where an image names no version. */
export function releaseOf(version: KernelVersion | undefined): number | undefined {
  return version && (version.code >>> 16) * 1000 + ((version.code >>> 8) & 255);
}

/** The generation of a kernel: from the size of its records, and from its version where that leaves it open. */
function optimisingOf(recordSize: RecordSize, release: number | undefined): Optimising {
  if (recordSize === 13) return "padding";
  if (recordSize === 12) return release !== undefined && release < 4001 ? "never" : "runs";
  if (release !== undefined && release < 6005) return "runs";
  return release !== undefined && release < 6010 ? "in place" : "in a copy";
}

/**
 * The NOPs of kernels up to 5.12, chosen by the processor; `undefined` where what is known of it does not decide.
 *
 * Source: arch_init_ideal_nops in arch/x86/kernel/alternative.c of Linux 5.10.
 */
export function nopsOfCpu(cpu: Cpu, width: 32 | 64, release: number): NopName | undefined {
  const { vendor, family, model } = cpu;
  const other = width === 64 ? "k8" : "generic";
  if (vendor === "GenuineIntel") {
    if (family === undefined || model === undefined) return undefined;
    // Atoms and whatever came behind Westmere decode the long NOP well; those between do not.
    const slow = family === 6 && model >= 0x0f && model < 0x30 && model !== 0x1c && model !== 0x26 && model !== 0x27;
    if (slow) return "k8";
    return width === 64 ? "p6" : other;
  }
  if (vendor === "HygonGenuine" && release >= 4020) return "p6";
  if (vendor === "AuthenticAMD") {
    if (family === undefined) return undefined;
    if (family > 15 && release >= 4001) return "p6";
    if (width === 32 && family < 15) return family === 6 ? "k7" : other;
    return "k8";
  }
  return other;
}

/** Release from which the width of the kernel alone decides which NOPs it writes. */
const NOPS_BY_WIDTH = 5013;

/** Whether the NOPs depend on the processor. */
export function nopsDependOnCpu(recordSize: RecordSize, release: number | undefined): boolean {
  return recordSize === 13 || (recordSize === 12 && release !== undefined && release < NOPS_BY_WIDTH);
}

function nopsOfWidth(optimising: Optimising, width: 32 | 64): NopName {
  if (width === 32) return "32-bit";
  return optimising === "runs" ? "64-bit" : "64-bit, long";
}

/** The rules of a kernel on a processor; `undefined` where its NOPs are chosen by a processor that is not known. */
export function rulesFor(
  recordSize: RecordSize,
  options: { readonly release: number | undefined; readonly width: 32 | 64; readonly cpu: Cpu | undefined },
): PatchRules | undefined {
  const { release, width, cpu } = options;
  const optimising = optimisingOf(recordSize, release);
  const name = nopsDependOnCpu(recordSize, release)
    ? cpu && nopsOfCpu(cpu, width, release ?? NOPS_BY_WIDTH - 1)
    : nopsOfWidth(optimising, width);
  return name && { optimising, nops: NOPS[name], width };
}

const BY_CPU: readonly NopName[] = ["k8", "k7", "p6", "generic"];

/** All rules that kernels which write such records may follow, of the widths asked for. */
export function rulesOfAll(
  options: {
    readonly recordSize?: RecordSize | undefined;
    readonly release?: number | undefined;
    readonly width?: 32 | 64 | undefined;
  } = {},
): PatchRules[] {
  const all: PatchRules[] = [];
  for (const recordSize of options.recordSize === undefined ? ([12, 13, 14] as const) : [options.recordSize]) {
    for (const release of options.release === undefined ? RELEASES[recordSize] : [options.release]) {
      for (const width of options.width === undefined ? ([32, 64] as const) : [options.width]) {
        const optimising = optimisingOf(recordSize, release);
        const names = nopsDependOnCpu(recordSize, release) ? BY_CPU : [nopsOfWidth(optimising, width)];
        for (const name of names) all.push({ optimising, nops: NOPS[name], width });
      }
    }
  }
  return all;
}

/** A release of every generation that writes records of a size. */
const RELEASES: Readonly<Record<RecordSize, readonly number[]>> = {
  12: [4000, 5010, 6001],
  13: [5010],
  14: [6004, 6006, 6012],
};
