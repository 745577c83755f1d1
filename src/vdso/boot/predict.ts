import { EM_AARCH64 } from "../../elf/constants.js";
import type { Mechanism } from "../gate.js";
import type { VdsoImage } from "../image.js";
import {
  type Alternative,
  type AlternativeTable,
  alternativesOf,
  FEATURE_FLAG,
  type Site,
  unreadAlternatives,
} from "./alternatives.js";
import { parseCmdline } from "./cmdline.js";
import type { Cpu } from "./cpu.js";
import { wayIn } from "./entry.js";
import { type Boot, BootFeatures, type Feature, featureOf, type Presence } from "./features.js";
import { cannotRun, isProcessorOf, notMapped } from "./fit.js";
import { patchArm64, patchX86 } from "./patch.js";
import { type PatchRules, releaseOf, rulesFor, rulesOfAll } from "./rules.js";
import { permittedVariants } from "./variants.js";

export type { Feature, Presence } from "./features.js";

/** What the kernel boots on, and with what. */
export interface BootDescription {
  readonly cpu: Cpu;
  /** Of the kernel, for an image that does not tell. */
  readonly width?: 32 | 64 | undefined;
  /** The kernel's command line. */
  readonly cmdline?: string | undefined;
}

/** One record at a site, judged. */
export interface JudgedAlternative {
  readonly alternative: Alternative;
  readonly presence: Presence;
  /** Whether it is put there; absent: not decided. */
  readonly applied?: boolean;
}

/** What becomes of one site. */
export interface PredictedSite {
  readonly address: bigint;
  readonly offset: number;
  readonly length: number;
  readonly functionName?: string;
  readonly alternatives: readonly JudgedAlternative[];
  readonly before: Uint8Array;
  /** Absent where what is known does not decide it. */
  readonly after?: Uint8Array;
  /** All that may come of it where that is undetermined. */
  readonly possible?: readonly Uint8Array[];
  /** The record that wins; absent: what was there stays, its padding perhaps made shorter to run. */
  readonly winner?: Alternative;
  /** Why it is not determined, in a clause. */
  readonly undetermined?: string;
}

/** The way into the kernel at the entry. */
export interface EntryChoice {
  readonly mechanism: Mechanism;
  /** The other ways, each with the features that would have to be otherwise. */
  readonly others: readonly {
    readonly mechanism: Mechanism;
    readonly needs: readonly { readonly feature: Feature; readonly present: boolean }[];
  }[];
}

/** An image as it is after boot. */
export interface Prediction {
  readonly width: 32 | 64 | undefined;
  /** The NOPs that padding becomes: name of a table (x86). */
  readonly nops?: string;
  readonly recordSize?: number;
  /** In the order of the table; none where the image has no alternatives. */
  readonly sites: readonly PredictedSite[];
  /** Each feature that a site depends on, once. */
  readonly features: readonly Presence[];
  /**
   * All of the image; absent where a site is undetermined, where how it is patched is not read, and where the processor
   * is of another machine.
   */
  readonly bytes?: Uint8Array;
  readonly entry?: EntryChoice;
  /** Why programs see no vDSO at all, in a sentence. */
  readonly notMapped?: string;
  /** The processor cannot run the kernel, in a sentence. */
  readonly cannotRun?: string;
  readonly remarks: readonly string[];
}

/** What an image tells of its kernel's width. */
export function kernelWidthOf(image: VdsoImage, table = alternativesOf(image)): 32 | 64 | undefined {
  if (image.abi === "x86_64" || image.abi === "x32") return 64;
  // An image for 32-bit programs of another machine may be of a kernel of either width.
  if (image.abi !== "i386") return image.elf.header.class === 64 ? 64 : undefined;
  if (!table) return undefined;
  const features = table.sites.flatMap((site) =>
    site.alternatives.map((record) => featureOf(image, site, record).name),
  );
  // Up to 6.19 only 64-bit kernels have these two, and only 32-bit ones look at SEP; later both have the same.
  if (features.includes("SYSENTER32")) return 64;
  if (features.includes("SEP")) return 32;
  const widths = new Set(table.sites.flatMap((site) => widthsInForce(image, site, table)));
  return widths.size === 1 ? [...widths][0] : undefined;
}

/** The widths of the kernels that write what lies at a site, where that is padding that tells them apart. */
function widthsInForce(image: VdsoImage, site: Site, table: AlternativeTable): readonly (32 | 64)[] {
  const bytes = siteBytes(image, site);
  const options = { recordSize: table.recordSize, release: releaseOf(image.kernelVersion) };
  const match = permittedVariants(site, options).find((variant) => equal(variant.bytes, bytes));
  return match?.widths.length === 1 ? match.widths : [];
}

function siteBytes(image: VdsoImage, site: Site): Uint8Array {
  return image.bytes.subarray(site.offset, site.offset + site.length);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** Whether the kernel has already been at a site: one of its alternatives lies there. */
function isPatched(image: VdsoImage, site: Site, table: AlternativeTable): boolean {
  const bytes = siteBytes(image, site);
  const arm64 = image.elf.header.e_machine === EM_AARCH64;
  const options = { recordSize: table.recordSize, release: releaseOf(image.kernelVersion), arm64 };
  return permittedVariants(site, options).some((variant) => equal(variant.bytes, bytes));
}

/** A choice of several images is made by whoever has them; this predicts one. */
export function predictImage(image: VdsoImage, description: BootDescription): Prediction {
  const table = alternativesOf(image);
  const release = releaseOf(image.kernelVersion);
  const width = kernelWidthOf(image, table) ?? description.width;
  const options = parseCmdline(description.cmdline ?? "", release);
  const base = {
    width,
    ...(notMapped(image, options, width, release) ?? {}),
    ...(cannotRun(image, description.cpu, width) ?? {}),
    remarks: options.remarks,
  };
  if (!isProcessorOf(description.cpu, image)) return { ...base, sites: [], features: [] };
  const unread = unreadAlternatives(image);
  if (unread !== undefined) return { ...base, sites: [], features: [], remarks: [...options.remarks, unread] };
  if (!table)
    return withEntry(
      image,
      { ...base, sites: [], features: [], bytes: image.bytes },
      { originals: [], candidates: [] },
    );
  if (width === undefined) {
    return { ...base, sites: [], features: [], remarks: [...options.remarks, WIDTH_UNKNOWN] };
  }
  const boot: Boot = { width, cpu: description.cpu, options, release };
  const arm64 = image.elf.header.e_machine === EM_AARCH64;
  const all = table.sites.map((site) => site.alternatives.map((record) => featureOf(image, site, record)));
  const fences = all.some((features) => features.some(({ name }) => name === "MFENCE_RDTSC"));
  const finder = new BootFeatures(boot, { fences });
  const known = new Map<string, Presence>();
  const presenceOf = (feature: Feature): Presence => {
    const key = `${feature.number}:${feature.name ?? ""}`;
    const presence = known.get(key) ?? finder.presence(feature);
    known.set(key, presence);
    return presence;
  };

  const rules = arm64 ? undefined : rulesFor(table.recordSize, { release, width, cpu: description.cpu });
  const candidates: readonly (PatchRules | undefined)[] =
    arm64 || rules ? [rules] : rulesOfAll({ recordSize: table.recordSize, release, width });
  const originals = table.sites.map((site) => (isPatched(image, site, table) ? undefined : siteBytes(image, site)));
  const sites = table.sites.map((site, i) => {
    const judged = site.alternatives.map((alternative, j): JudgedAlternative => {
      const presence = presenceOf((all[i] as readonly Feature[])[j] as Feature);
      const applied = appliedBy(alternative, presence, arm64);
      return { alternative, presence, ...(applied !== undefined && { applied }) };
    });
    return predictSite(image, site, judged, { original: originals[i], candidates });
  });
  const prediction = {
    ...base,
    ...(rules && { nops: rules.nops.name }),
    recordSize: table.recordSize,
    sites,
    features: [...known.values()],
    ...(sites.every(({ after }) => after) && { bytes: assemble(image, sites) }),
    remarks: [...options.remarks, ...versionRemarks(table, release), ...patchedRemarks(originals)],
  };
  return withEntry(image, prediction, { originals, candidates });
}

const WIDTH_UNKNOWN = "the image does not tell whether its kernel has 32 or 64 bits";

function versionRemarks({ recordSize }: AlternativeTable, release: number | undefined): string[] {
  if (release !== undefined) return [];
  const until = recordSize === 12 ? "5.13 to 6.2" : recordSize === 13 ? "4.1 to 5.12" : "6.10 and later";
  return [`the image names no version of its kernel: predicted as Linux ${until} does it`];
}

function patchedRemarks(originals: readonly (Uint8Array | undefined)[]): string[] {
  const patched = originals.filter((original) => !original).length;
  if (patched === 0) return [];
  return [`a kernel has patched this image: at ${patched} of ${originals.length} places the original is not known`];
}

/** Whether a record is put in place; `undefined` where its feature is not known, or where code makes what is put. */
function appliedBy(record: Alternative, { present }: Presence, arm64: boolean): boolean | undefined {
  if (arm64 && (record.flags & FEATURE_FLAG) !== 0) return undefined;
  return present === undefined ? undefined : present !== record.inverted;
}

/** Most records at one site of which it is not known whether they apply, for all combinations are tried. */
const MAX_OPEN = 6;

/** Bytes that no kernel takes for padding: where the result does not depend on them, the original need not be known. */
const FILLERS = [0xcc, 0xf4];

function predictSite(
  image: VdsoImage,
  site: Site,
  judged: readonly JudgedAlternative[],
  known: { readonly original: Uint8Array | undefined; readonly candidates: readonly (PatchRules | undefined)[] },
): PredictedSite {
  const { alternatives: _, ...place } = site;
  const before = siteBytes(image, site);
  const openAt = judged.flatMap(({ applied }, i) => (applied === undefined ? [i] : []));
  const described = { ...place, alternatives: judged, before };
  if (openAt.length > MAX_OPEN) return { ...described, undetermined: "too much is not known" };

  const originals = known.original ? [known.original] : FILLERS.map((byte) => new Uint8Array(site.length).fill(byte));
  const results: Uint8Array[] = [];
  const winners = new Set<Alternative | undefined>();
  for (let choice = 0; choice < 1 << openAt.length; choice++) {
    const applies = judged.map(({ applied }, i) => applied ?? ((choice >> openAt.indexOf(i)) & 1) === 1);
    winners.add(judged[applies.lastIndexOf(true)]?.alternative);
    for (const rules of known.candidates) {
      for (const original of originals) {
        const bytes = rules ? patchX86(site, original, applies, rules) : patchArm64(site, original, applies);
        if (!results.some((other) => equal(other, bytes))) results.push(bytes);
      }
    }
  }
  const [first] = results;
  const winner = winners.size === 1 ? [...winners][0] : undefined;
  const decided = { ...described, ...(winner && { winner }) };
  if (results.length === 1 && first) return { ...decided, after: first };
  if (openAt.length > 0) {
    const why = openAt.map((i) => (judged[i] as JudgedAlternative).presence.why);
    return { ...decided, possible: possible(results, known.original), undetermined: [...new Set(why)].join("; ") };
  }
  if (!known.original) {
    return { ...decided, undetermined: "what was there before the kernel patched this image is not known" };
  }
  return {
    ...decided,
    possible: results,
    undetermined: "which NOPs the kernel writes depends on the processor's model",
  };
}

/** Results with stand-ins for an unknown original in them are none to show. */
function possible(results: readonly Uint8Array[], original: Uint8Array | undefined): readonly Uint8Array[] {
  return original ? results : results.filter((bytes) => !bytes.every((byte) => FILLERS.includes(byte)));
}

function assemble(image: VdsoImage, sites: readonly PredictedSite[]): Uint8Array {
  const bytes = new Uint8Array(image.bytes);
  for (const { offset, after } of sites) if (after) bytes.set(after, offset);
  return bytes;
}

/** Adds which way in the entry takes, and what the others would need. */
function withEntry(image: VdsoImage, prediction: Prediction, known: Known): Prediction {
  const { entry } = image;
  if (!entry || image.abi !== "i386") return prediction;
  const inEntry = prediction.sites.filter(({ functionName }) => functionName === entry.name);
  if (inEntry.some(({ after }) => !after)) return prediction;
  const bytes = prediction.bytes ?? assemble(image, inEntry);
  const mechanism = wayIn(image, bytes);
  if (!mechanism) return prediction;
  return { ...prediction, entry: { mechanism, others: otherWays(image, prediction.sites, mechanism, known) } };
}

/** What is known beside the prediction: the original of each site, and the rules that the kernel may follow. */
interface Known {
  readonly originals: readonly (Uint8Array | undefined)[];
  readonly candidates: readonly (PatchRules | undefined)[];
}

/** Most features at the entry: all combinations of them are tried. */
const MAX_ENTRY_FEATURES = 5;

function otherWays(
  image: VdsoImage,
  sites: readonly PredictedSite[],
  taken: Mechanism,
  { originals, candidates }: Known,
): EntryChoice["others"] {
  const [rules] = candidates;
  const inEntry = sites.flatMap((site, i) => {
    const records = site.alternatives.map(({ alternative }) => alternative);
    return site.functionName === image.entry?.name ? [{ site: { ...site, alternatives: records }, at: i }] : [];
  });
  const presences = new Map<number, Presence>();
  for (const { at } of inEntry) {
    for (const { presence } of (sites[at] as PredictedSite).alternatives)
      presences.set(presence.feature.number, presence);
  }
  const numbers = [...presences.keys()];
  if (!rules || numbers.length === 0 || numbers.length > MAX_ENTRY_FEATURES) return [];
  const found = new Map<Mechanism, { readonly feature: Feature; readonly present: boolean }[]>();
  for (let choice = 0; choice < 1 << numbers.length; choice++) {
    const present = (number: number) => ((choice >> numbers.indexOf(number)) & 1) === 1;
    const bytes = new Uint8Array(image.bytes);
    const whole = inEntry.every(({ site, at }) => {
      const applies = site.alternatives.map(({ feature, inverted }) => present(feature) !== inverted);
      const original = originals[at];
      if (!original && !applies.includes(true)) return false;
      bytes.set(patchX86(site, original ?? site.before, applies, rules), site.offset);
      return true;
    });
    const mechanism = whole ? wayIn(image, bytes) : undefined;
    if (!mechanism || mechanism === taken) continue;
    const needs = numbers.flatMap((number) => {
      const presence = presences.get(number) as Presence;
      return presence.present === present(number) ? [] : [{ feature: presence.feature, present: present(number) }];
    });
    const known = found.get(mechanism);
    if (!known || needs.length < known.length) found.set(mechanism, needs);
  }
  return [...found].map(([mechanism, needs]) => ({ mechanism, needs }));
}
