import type { Target } from "../targets/target.js";
import type { Abi } from "../vdso/abi.js";
import { unreadAlternatives } from "../vdso/boot/alternatives.js";
import { siteCode } from "../vdso/boot/code-words.js";
import type { Cpu } from "../vdso/boot/cpu.js";
import { CPU_MODELS } from "../vdso/boot/cpu-models.js";
import { isProcessorOf } from "../vdso/boot/fit.js";
import { type PredictedSite, type Prediction, predictImage } from "../vdso/boot/predict.js";
import { chooseSeparate } from "../vdso/boot/separate-images.js";
import type { Mechanism } from "../vdso/gate.js";
import type { VdsoImage } from "../vdso/image.js";
import { type Identity, identify } from "./identity.js";
import { type BootQuestion, bootOf, type CpuIdentity, identifyCpu, siblings } from "./predict.js";

/** Sites that become the same on every processor. */
export interface MatrixColumn {
  readonly title: string;
  /** How many sites. */
  readonly sites: number;
}

/** The choices on one processor. */
export interface MatrixRow {
  readonly cpu: CpuIdentity;
  /** What lies there in a few words, in the order of the columns. */
  readonly cells: readonly string[];
  readonly mechanism?: Mechanism;
  readonly cannotRun?: string;
  readonly notMapped?: string;
}

/** The choices of a kernel on a table of processors. */
export interface MatrixResult {
  readonly target: string;
  readonly identity: Identity;
  readonly width: 32 | 64 | undefined;
  readonly columns: readonly MatrixColumn[];
  readonly rows: readonly MatrixRow[];
  /** Why it is not known how the image is patched, in a sentence. */
  readonly unread?: string;
  readonly notes: readonly string[];
}

/** Why there is no way in to be told. */
export type NoMechanism = "cannot run" | "no vDSO" | "undetermined";

/** A kernel's way in on each processor of a table. */
export interface TimelineRow {
  readonly target: string;
  /** Of the kernel: `6.1.176`. */
  readonly version?: string;
  readonly width: 32 | 64 | undefined;
  /** In the order of the processors; absent where `missing` says why. */
  readonly mechanisms: readonly (Mechanism | undefined)[];
  readonly missing: readonly (NoMechanism | undefined)[];
}

/** The way into the kernel across kernels and processors. */
export interface TimelineResult {
  readonly cpus: readonly CpuIdentity[];
  /** By version. */
  readonly kernels: readonly TimelineRow[];
  /** Targets without an i386 image. */
  readonly without: readonly string[];
}

/** The processors of the table, by the names that `--cpu` takes. */
const SHOWN: ReadonlySet<string> = new Set([
  "486",
  "pentium-mmx",
  "pentium-pro",
  "pentium2",
  "pentium3",
  "pentium4",
  "core",
  "core2",
  "skylake",
  "granite-rapids",
  "panther-lake",
  "k6",
  "athlon",
  "k8",
  "epyc",
  "epyc-turin",
  "hygon",
  "c7",
  "nano",
  "zhaoxin",
  "crusoe",
]);

/** The processors that a table shows for an image: those of its machine, of which there may be none here. */
export function matrixCpus({ image }: Target): Cpu[] {
  return CPU_MODELS.filter(
    ({ names, cpu }) => isProcessorOf(cpu, image) && (cpu.machine === "arm" || names.some((name) => SHOWN.has(name))),
  ).map(({ cpu }) => cpu);
}

/** Sites with the same alternatives and the same bytes before become the same: they share a column. */
function columnKey({ alternatives, before }: PredictedSite): string {
  const records = alternatives.map(({ alternative: { feature, inverted, replacement } }) =>
    // Calls differ in their distance alone.
    [feature, inverted, replacement[0] === 0xe8 ? "call" : replacement.join()].join("/"),
  );
  return [before.join(), ...records].join(" ");
}

function columnTitle(site: PredictedSite, entry: string | undefined): string {
  if (entry !== undefined && site.functionName === entry) return "entry";
  const names = new Set(site.alternatives.map(({ presence }) => presence.feature.name));
  if (names.has("SYSFAST32")) return "calls inside";
  if (names.has("RDPID")) return "processor number";
  if (names.has("LFENCE_RDTSC") || names.has("RDTSCP") || names.has("ECV")) return "counter";
  return `site at 0x${site.offset.toString(16)}`;
}

/**
 * The tables of all images of a kernel, each with the processors of its machine. Of several i386 images that differ in
 * their way in, of which a kernel maps one, the first stands for all.
 */
export function matrices(targets: readonly Target[], question: Omit<BootQuestion, "cpu"> = {}): MatrixResult[] {
  return targets.flatMap((target) => {
    const cpus = matrixCpus(target);
    const [cpu] = cpus;
    const images = siblings(target, targets);
    const apart = cpu !== undefined && chooseSeparate(images, bootOf(target, { ...question, cpu })) !== undefined;
    return apart && images[0] !== target.image ? [] : [matrix(target, cpus, question, images)];
  });
}

/** The choices of a kernel's image on each processor. `images`: all i386 images of its kernel, where there are several. */
export function matrix(
  target: Target,
  cpus: readonly Cpu[],
  question: Omit<BootQuestion, "cpu"> = {},
  images: readonly VdsoImage[] = [],
): MatrixResult {
  const entry = target.image.entry?.name;
  const unread = unreadAlternatives(target.image);
  const predictions = cpus.map((cpu): Prediction => {
    const boot = bootOf(target, { ...question, cpu });
    const prediction = predictImage(target.image, boot);
    const separate = prediction.entry && chooseSeparate(images, boot);
    return separate ? { ...prediction, entry: { mechanism: separate.mechanism, others: [] } } : prediction;
  });
  const columns = new Map<string, { title: string; indexes: number[] }>();
  const withEntry = predictions.some((prediction) => prediction.entry);
  if (withEntry) columns.set("entry", { title: "entry", indexes: [] });
  predictions[0]?.sites.forEach((site, i) => {
    const title = columnTitle(site, entry);
    // The sites of the entry make one way in together.
    const key = title === "entry" ? "entry" : columnKey(site);
    const column = columns.get(key) ?? { title, indexes: [] };
    columns.set(key, column);
    column.indexes.push(i);
  });
  return {
    target: target.name,
    identity: identify(target.image),
    width: predictions[0]?.width,
    columns: [...columns.values()].map(({ title, indexes }) => ({ title, sites: indexes.length })),
    rows: cpus.map((cpu, i) => rowOf(target.image.abi, cpu, predictions[i] as Prediction, [...columns.values()])),
    ...(unread !== undefined && { unread }),
    notes: target.notes,
  };
}

function rowOf(
  abi: Abi,
  cpu: Cpu,
  prediction: Prediction,
  columns: readonly { readonly title: string; readonly indexes: readonly number[] }[],
): MatrixRow {
  const cells = columns.map(({ title, indexes }) => {
    if (prediction.notMapped !== undefined) return "no vDSO";
    if (title === "entry") return prediction.entry?.mechanism ?? "?";
    const after = prediction.sites[indexes[0] as number]?.after;
    return after ? siteCode(after, abi) : "?";
  });
  return {
    cpu: identifyCpu(cpu),
    cells,
    ...(prediction.entry && { mechanism: prediction.entry.mechanism }),
    ...(prediction.cannotRun !== undefined && { cannotRun: prediction.cannotRun }),
    ...(prediction.notMapped !== undefined && { notMapped: prediction.notMapped }),
  };
}

function missing({ mechanism, cannotRun, notMapped }: MatrixRow): NoMechanism | undefined {
  if (cannotRun !== undefined) return "cannot run";
  if (notMapped !== undefined) return "no vDSO";
  return mechanism === undefined ? "undetermined" : undefined;
}

/** The way into the kernel of 32-bit programs across kernels, which `groups` has the images of, one group a kernel. */
export function timeline(
  groups: readonly (readonly Target[])[],
  cpus: readonly Cpu[],
  question: Omit<BootQuestion, "cpu"> = {},
): TimelineResult {
  const kernels: (TimelineRow & { readonly code: number })[] = [];
  const without: string[] = [];
  for (const targets of groups) {
    const images = targets.filter(({ image }) => image.abi === "i386");
    const [first] = images;
    if (!first) {
      without.push(targets[0]?.name ?? "");
      continue;
    }
    const { width, rows } = matrix(first, cpus, question, siblings(first, images));
    const version = first.image.kernelVersion;
    kernels.push({
      target: first.name,
      ...(version && { version: version.text }),
      code: version?.code ?? 0,
      width,
      mechanisms: rows.map((row) => (missing(row) ? undefined : row.mechanism)),
      missing: rows.map(missing),
    });
  }
  kernels.sort((a, b) => a.code - b.code || (a.width ?? 0) - (b.width ?? 0));
  return { cpus: cpus.map(identifyCpu), kernels: kernels.map(({ code: _, ...row }) => row), without };
}
