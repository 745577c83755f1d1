import type { AlternativeTable, RecordSize, Site } from "../boot/alternatives.js";
import { ALIGNING_STEPS, align } from "./align.js";
import type { CodeResult, SitePlace } from "./code.js";
import type { Normalizer } from "./normal.js";

/** One alternative of a site, as it is compared and shown. */
export interface AlternativeSummary {
  /** As the image's kernel numbers it. */
  readonly feature: number;
  readonly inverted: boolean;
  /** The replacement without padding, as instructions in a form without addresses; as hex where they are not decoded. */
  readonly replacement: string;
}

/** A place that is patched at boot. */
export interface SiteSummary {
  /** As linked. */
  readonly address: bigint;
  readonly length: number;
  readonly alternatives: readonly AlternativeSummary[];
}

/** A place that one image lacks, or that is patched otherwise in the second. */
export interface SiteChange {
  readonly change: "added" | "removed" | "changed";
  /** Name of the function, as the comparison of code has it; absent where no code is known there. */
  readonly function?: string;
  readonly a?: SiteSummary;
  readonly b?: SiteSummary;
  readonly fields: readonly ("length" | "alternatives" | "features")[];
}

/** The alternatives of two images. */
export interface SitesComparison {
  /** Whether both are patched in the same places by the same rules, as far as numbers of features can tell. */
  readonly same: boolean;
  readonly counts: readonly [a: number, b: number];
  /** Bytes of a record; absent where an image has none. */
  readonly recordSizes: { readonly a?: RecordSize; readonly b?: RecordSize };
  /**
   * How the numbers of features compare: kernels number them as they like, so where every number of one image has one
   * counterpart in the other they count as the same features, `renumbered`.
   */
  readonly features: "same" | "renumbered" | "changed";
  /** Numbers in the first and the second image, where they differ and correspond. */
  readonly renumbered: readonly (readonly [a: number, b: number])[];
  readonly changes: readonly SiteChange[];
}

interface Placed {
  readonly site: Site;
  readonly summary: SiteSummary;
  readonly function: string | undefined;
  readonly signature: string;
}

/** Compares where and how two images are patched at boot. */
export function compareSites(
  tables: readonly [a: AlternativeTable | undefined, b: AlternativeTable | undefined],
  code: CodeResult,
): SitesComparison {
  const a = placed(tables[0], code.places[0], code.normal[0]);
  const b = placed(tables[1], code.places[1], code.normal[1]);
  const groups = [...new Set([...a.keys(), ...b.keys()])];
  const changes: SiteChange[] = [];
  const matched: [Placed, Placed][] = [];
  const allowance = { steps: ALIGNING_STEPS };
  for (const group of groups) {
    const [inA, inB] = [a.get(group) ?? [], b.get(group) ?? []];
    const signatures = (sites: readonly Placed[]) => sites.map(({ signature }) => signature);
    const matches = align(signatures(inA), signatures(inB), allowance) ?? [];
    let [atA, atB] = [0, 0];
    const between = (endA: number, endB: number) => {
      while (atA < endA || atB < endB) {
        const one = atA < endA ? inA[atA++] : undefined;
        const other = atB < endB ? inB[atB++] : undefined;
        changes.push(changeOf(one, other, ["alternatives"]));
      }
    };
    for (const [i, j] of matches) {
      between(i, j);
      matched.push([inA[i] as Placed, inB[j] as Placed]);
      atA = i + 1;
      atB = j + 1;
    }
    between(inA.length, inB.length);
  }
  const numbers = featureNumbers(matched);
  for (const [one, other] of matched) {
    const fields: SiteChange["fields"][number][] = [];
    if (one.summary.length !== other.summary.length) fields.push("length");
    if (numbers.conflict(one.summary, other.summary)) fields.push("features");
    if (fields.length > 0) changes.push(changeOf(one, other, fields));
  }
  const sizeA = tables[0]?.recordSize;
  const sizeB = tables[1]?.recordSize;
  return {
    same: changes.length === 0,
    counts: [tables[0]?.sites.length ?? 0, tables[1]?.sites.length ?? 0],
    recordSizes: { ...(sizeA && { a: sizeA }), ...(sizeB && { b: sizeB }) },
    features: numbers.kind,
    renumbered: numbers.renumbered,
    changes,
  };
}

function changeOf(a: Placed | undefined, b: Placed | undefined, fields: SiteChange["fields"]): SiteChange {
  const where = a?.function ?? b?.function;
  return {
    change: a && b ? "changed" : a ? "removed" : "added",
    ...(where !== undefined && { function: where }),
    ...(a && { a: a.summary }),
    ...(b && { b: b.summary }),
    fields: a && b ? fields : [],
  };
}

/** The sites of an image by the function that they lie in, in the order of the code. */
function placed(
  table: AlternativeTable | undefined,
  places: readonly SitePlace[],
  normal: Normalizer,
): Map<string | undefined, Placed[]> {
  const functions = new Map(places.map((place) => [place.unit.site, place.function]));
  const groups = new Map<string | undefined, Placed[]>();
  const sites = [...(table?.sites ?? [])].sort((one, other) => one.offset - other.offset);
  for (const site of sites) {
    const where = functions.get(site) ?? site.functionName;
    const alternatives = site.alternatives.map(({ feature, inverted, replacement, replacementAddress }) => ({
      feature,
      inverted,
      replacement: normal.replacement(replacementAddress, replacement),
    }));
    const signature = normal.choices(site);
    const summary = { address: site.address, length: site.length, alternatives };
    const group = groups.get(where);
    const one = { site, summary, function: where, signature };
    if (group) group.push(one);
    else groups.set(where, [one]);
  }
  return groups;
}

/** Whether the numbers of features of matched sites are the same, or correspond one to one. */
function featureNumbers(matched: readonly (readonly [Placed, Placed])[]) {
  const pairs = matched.flatMap(([a, b]) =>
    a.summary.alternatives.map((one, i) => [one.feature, b.summary.alternatives[i]?.feature ?? -1] as const),
  );
  const forward = new Map<number, Set<number>>();
  const backward = new Map<number, Set<number>>();
  for (const [a, b] of pairs) {
    forward.set(a, (forward.get(a) ?? new Set()).add(b));
    backward.set(b, (backward.get(b) ?? new Set()).add(a));
  }
  const identical = pairs.every(([a, b]) => a === b);
  const single = (sets: Map<number, Set<number>>) => [...sets.values()].every(({ size }) => size === 1);
  const oneToOne = single(forward) && single(backward);
  const renumbered = oneToOne
    ? [...forward].flatMap(([a, [b]]) => (b === undefined || a === b ? [] : [[a, b] as const]))
    : [];
  // Where some numbers conflict, those that stand for several are to blame.
  const conflicts = (a: number, b: number) =>
    a !== b && ((forward.get(a)?.size ?? 0) > 1 || (backward.get(b)?.size ?? 0) > 1);
  return {
    kind: identical ? ("same" as const) : oneToOne ? ("renumbered" as const) : ("changed" as const),
    renumbered,
    conflict: (a: SiteSummary, b: SiteSummary) =>
      a.alternatives.some(({ feature }, i) => conflicts(feature, b.alternatives[i]?.feature ?? feature)),
  };
}
