import type { Abi } from "../../vdso/abi.js";
import type { Maker } from "../../vdso/maker.js";
import type { Finding, Mark } from "../../vdso/tamper/finding.js";

/** What is said of one process, in a word. */
export type Verdict =
  /** As the kernel made it. */
  | "ok"
  /** At least one finding of severity `high`. */
  | "tampered"
  /** Findings, none of them `high`. */
  | "suspicious"
  /** Not as the kernel made it, and known to be legitimate. */
  | "breakpoint"
  | "criu"
  | "rr"
  | "valgrind"
  | "traced-copy"
  /** As the program made it that stands in for a kernel here: gVisor, qemu-user. */
  | "emulated"
  /** It has none: `vdso=0`, or a program that asked for none. */
  | "no-vdso"
  | "kernel-thread"
  | "zombie"
  /** It ended while it was looked at. */
  | "vanished"
  /** It may not be looked at (EACCES, EPERM). */
  | "refused"
  /** Its vector or memory cannot be understood. */
  | "unreadable";

/** One process. */
export interface ProcessVerdict {
  readonly pid: number;
  readonly verdict: Verdict;
  /** Name of the program; told of those that were looked at a second time. */
  readonly name?: string;
  readonly abi?: Abi;
  readonly buildId?: string;
  readonly findings: readonly Finding[];
  readonly marks: readonly Mark[];
  /** Findings beyond those listed. */
  readonly more: number;
  /** Why it cannot be looked at. */
  readonly why?: string;
}

/** An image that processes show. */
export interface ImageSeen {
  readonly abi: Abi;
  readonly soname?: string;
  readonly buildId?: string;
  readonly kernelVersion?: string;
  readonly maker?: Maker;
  /** What it was held against: `a fresh x86_64 process`, `the image of most processes`, a path. */
  readonly references: readonly string[];
}

/** All processes of one look. */
export interface VerifySummary {
  readonly processes: number;
  /** How many there are of each verdict; only those that occur. */
  readonly counts: Readonly<Partial<Record<Verdict, number>>>;
  readonly findings: number;
  readonly images: readonly ImageSeen[];
  /** What could not be done: no fresh process, an image that cannot be read. */
  readonly notes: readonly string[];
}

/** Verdicts of which the user is told that something is wrong. */
export function isFinding(verdict: Verdict): boolean {
  return verdict === "tampered" || verdict === "suspicious";
}

/** Verdicts between which a process may go without anything to tell of: it ends, or becomes another program. */
const QUIET: ReadonlySet<Verdict> = new Set<Verdict>([
  "ok",
  "emulated",
  "no-vdso",
  "kernel-thread",
  "zombie",
  "vanished",
  "refused",
]);

/**
 * What of a verdict counts as a change, for `--watch`: empty where there is nothing to tell. The same findings at other
 * addresses are others.
 */
export function signature({ verdict, findings, marks }: ProcessVerdict): string {
  if (QUIET.has(verdict)) return "";
  return [
    verdict,
    ...findings.map(({ id, address, found }) => `${id}@${address?.toString(16)}=${found?.join(".") ?? ""}`),
    ...marks.map(({ kind, address }) => `${kind}@${address?.toString(16)}`),
  ].join(" ");
}
