import type { Target } from "../targets/target.js";
import type { Abi } from "../vdso/abi.js";
import { siteCode } from "../vdso/code-words.js";
import type { Cpu } from "../vdso/cpu.js";
import { CPU_MODELS } from "../vdso/cpu-models.js";
import type { Mechanism } from "../vdso/gate.js";
import { type PredictedSite, type Prediction, predictImage } from "../vdso/predict.js";
import { chooseSeparate } from "../vdso/separate-images.js";
import { type Identity, identify } from "./identity.js";
import { type BootQuestion, bootOf, type CpuIdentity, identifyCpu } from "./predict.js";

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
}

/** The choices of a kernel on a table of processors. */
export interface MatrixResult {
  readonly target: string;
  readonly identity: Identity;
  readonly width: 32 | 64 | undefined;
  readonly columns: readonly MatrixColumn[];
  readonly rows: readonly MatrixRow[];
  readonly notes: readonly string[];
}

/** A kernel's way in on each processor of a table. */
export interface TimelineRow {
  readonly target: string;
  /** Of the kernel: `6.1.176`. */
  readonly version?: string;
  readonly width: 32 | 64 | undefined;
  /** In the order of the processors; absent where it cannot run the kernel, or where the way in is not determined. */
  readonly mechanisms: readonly (Mechanism | undefined)[];
}

/** The way into the kernel across kernels and processors. */
export interface TimelineResult {
  readonly cpus: readonly CpuIdentity[];
  /** By version. */
  readonly kernels: readonly TimelineRow[];
  /** Targets without an image for 32-bit programs. */
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

/** The processors that a table shows for an image: those of its machine. */
export function matrixCpus(target: Target): Cpu[] {
  const arm = /^(aarch64|arm)/.test(target.image.abi);
  return CPU_MODELS.filter(({ names, cpu }) =>
    arm ? cpu.machine === "arm" : names.some((name) => SHOWN.has(name)),
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

/** The choices of a kernel's image on each processor. */
export function matrix(target: Target, cpus: readonly Cpu[], question: Omit<BootQuestion, "cpu"> = {}): MatrixResult {
  const entry = target.image.entry?.name;
  const predictions = cpus.map((cpu) => predictImage(target.image, bootOf(target, { ...question, cpu })));
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
    if (title === "entry") return prediction.notMapped ? "no vDSO" : (prediction.entry?.mechanism ?? "?");
    const after = prediction.sites[indexes[0] as number]?.after;
    return after ? siteCode(after, abi) : "?";
  });
  return {
    cpu: identifyCpu(cpu),
    cells,
    ...(prediction.entry && { mechanism: prediction.entry.mechanism }),
    ...(prediction.cannotRun !== undefined && { cannotRun: prediction.cannotRun }),
  };
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
    const boots = cpus.map((cpu) => bootOf(first, { ...question, cpu }));
    const separate = (i: number) =>
      chooseSeparate(
        images.map(({ image }) => image),
        boots[i] as (typeof boots)[number],
      );
    const predictions = boots.map((boot) => predictImage(first.image, boot));
    const version = first.image.kernelVersion;
    kernels.push({
      target: first.name,
      ...(version && { version: version.text }),
      code: version?.code ?? 0,
      width: predictions[0]?.width,
      mechanisms: predictions.map(({ cannotRun, notMapped, entry }, i) =>
        cannotRun !== undefined || notMapped !== undefined ? undefined : (separate(i)?.mechanism ?? entry?.mechanism),
      ),
    });
  }
  kernels.sort((a, b) => a.code - b.code || (a.width ?? 0) - (b.width ?? 0));
  return { cpus: cpus.map(identifyCpu), kernels: kernels.map(({ code: _, ...row }) => row), without };
}
