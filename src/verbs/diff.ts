import type { Decoder } from "../isa/instruction.js";
import { type Target, TargetError } from "../targets/target.js";
import type { Abi } from "../vdso/abi.js";
import { compareImageAbis, compareImages, type ImageComparison, identicalImages } from "../vdso/compare.js";
import { type Identity, identify } from "./identity.js";

/** One side of a comparison. */
export interface DiffSide {
  readonly target: string;
  readonly identity: Identity;
}

/** How many pieces of code a comparison is about, and how many of them changed. */
export interface CodeCount {
  /** In either image. */
  readonly total: number;
  readonly changed: number;
  readonly added: number;
  readonly removed: number;
  /** The same instructions elsewhere. */
  readonly moved: number;
  /** The same code, patched differently at boot. */
  readonly boot: number;
  /** Not changed themselves, but they lead to code that did. */
  readonly affected: number;
}

/** A comparison in figures. */
export interface DiffSummary {
  /** Whether there is a difference in what was asked for; what boot puts in place is none. */
  readonly different: boolean;
  /** Whether all bytes are the same. */
  readonly identical: boolean;
  /** Whether a C library would notice something. */
  readonly abiChanged: boolean;
  /** Whether both have the same build-id. */
  readonly sameBuild: boolean;
  /** Bytes that differ between images of the same build where nobody has reason to change them. */
  readonly outside: number;
  /** Places where boot put different things, padding included. */
  readonly choices: number;
  /** Exported functions; absent where code is not compared. */
  readonly functions?: CodeCount;
  /** Code that no symbol names. */
  readonly local?: CodeCount;
}

/** Two images of one ABI, or one that has no counterpart. */
export interface ImageDiff {
  readonly a?: DiffSide;
  readonly b?: DiffSide;
  /** Absent where one side is missing, which is a difference itself. */
  readonly summary?: DiffSummary;
  readonly comparison?: ImageComparison;
}

/** Two targets, compared image by image. */
export interface DiffResult {
  /** Whether only the ABI was compared. */
  readonly abiOnly: boolean;
  readonly different: boolean;
  readonly images: readonly ImageDiff[];
  readonly notes: readonly string[];
}

/** What {@link diff} is to compare, and with what. */
export interface DiffOptions {
  /** Only what a C library would notice. */
  readonly abiOnly?: boolean;
  /** Only images of this ABI. */
  readonly only?: Abi;
  /** Is asked for a decoder only where code is to be compared. */
  readonly decoderFor: (abi: Abi) => Promise<Decoder | undefined>;
}

/**
 * Compares the images of two targets, each with that of its own ABI; two that are alone on their sides are compared
 * whatever their ABIs. An image of a kernel file that the other has none of is a difference; a process, or a file that
 * holds one image, is compared with its counterpart alone.
 *
 * Throws {@link TargetError} where there is nothing to compare.
 */
export async function diff(a: readonly Target[], b: readonly Target[], options: DiffOptions): Promise<DiffResult> {
  const images: ImageDiff[] = [];
  for (const [one, other] of pairTargets(a, b, options.only)) {
    images.push(one && other ? await compareTargets(one, other, options) : missingSide(one, other));
  }
  return {
    abiOnly: options.abiOnly ?? false,
    different: images.some(({ summary }) => summary?.different ?? true),
    images,
    notes: [...new Set([...a, ...b].flatMap(({ notes }) => notes))],
  };
}

function sideOf({ name, image }: Target): DiffSide {
  return { target: name, identity: identify(image) };
}

function missingSide(a: Target | undefined, b: Target | undefined): ImageDiff {
  return { ...(a && { a: sideOf(a) }), ...(b && { b: sideOf(b) }) };
}

type TargetPair = readonly [a: Target | undefined, b: Target | undefined];

function pairTargets(allA: readonly Target[], allB: readonly Target[], only: Abi | undefined): TargetPair[] {
  const picked = (targets: readonly Target[]) =>
    targets.filter(({ image }) => only === undefined || image.abi === only);
  const [a, b] = [picked(allA), picked(allB)];
  if (a.length === 0 && b.length === 0) throw new TargetError(`neither side has an image of ${only ?? "any ABI"}`);
  if (a.length === 1 && b.length === 1) return [[a[0], b[0]]];
  const abis = [...new Set([...a, ...b].map(({ image }) => image.abi))];
  const pairs = abis.flatMap((abi): TargetPair[] => {
    const ofAbi = (targets: readonly Target[]) => targets.filter(({ image }) => image.abi === abi);
    const [inA, inB] = [ofAbi(a), ofAbi(b)];
    return Array.from({ length: Math.max(inA.length, inB.length) }, (_, i) => [inA[i], inB[i]] as const);
  });
  const matched = pairs.filter(([one, other]) => one && other);
  return [a, b].some(isOneOfItsOwn) && matched.length > 0 ? matched : pairs;
}

/** Whether a target has one image by nature, and its counterpart may have others beside it that say nothing of it. */
function isOneOfItsOwn(targets: readonly Target[]): boolean {
  const [first] = targets;
  return targets.length === 1 && first !== undefined && !("kernel" in first);
}

async function compareTargets(a: Target, b: Target, { abiOnly, decoderFor }: DiffOptions): Promise<ImageDiff> {
  const sides = { a: sideOf(a), b: sideOf(b) };
  if (abiOnly) {
    const comparison = compareImageAbis(a.image, b.image);
    return { ...sides, summary: summarize(comparison, a, b), comparison };
  }
  // The decoder takes longer to load than all else: identical images need none.
  const comparable = a.image.abi === b.image.abi && !identicalImages(a.image, b.image);
  const comparison = compareImages(a.image, b.image, comparable ? await decoderFor(a.image.abi) : undefined);
  return { ...sides, summary: summarize(comparison, a, b), comparison };
}

function summarize(comparison: ImageComparison, a: Target, b: Target): DiffSummary {
  const { abi, content } = comparison;
  const sameBuild = a.image.buildId !== undefined && a.image.buildId === b.image.buildId;
  const functions = content?.code?.functions;
  const outside = (content?.bytes.ranges ?? [])
    .filter(({ where }) => where === "outside")
    .reduce((sum, { length }) => sum + length, 0);
  return {
    different: isDifferent(comparison, outside),
    identical: content?.bytes.identical ?? false,
    abiChanged: !abi.same,
    sameBuild,
    outside,
    choices: content?.code?.contents.length ?? 0,
    ...(functions && {
      functions: countCode(functions.filter(({ local }) => !local)),
      local: countCode(functions.filter(({ local }) => local)),
    }),
  };
}

function countCode(pieces: readonly { readonly change: string; readonly reaches: readonly string[] }[]): CodeCount {
  const count = (change: string) => pieces.filter((piece) => piece.change === change).length;
  const unchanged = pieces.filter(({ change }) => change === "same" || change === "moved" || change === "boot");
  return {
    total: pieces.length,
    changed: count("changed"),
    added: count("added"),
    removed: count("removed"),
    moved: count("moved"),
    boot: count("boot"),
    affected: unchanged.filter(({ reaches }) => reaches.length > 0).length,
  };
}

/** Whether two images were different before they were booted. */
function isDifferent({ abi, content }: ImageComparison, outside: number): boolean {
  if (!abi.same) return true;
  if (!content || content.bytes.identical) return false;
  const codeSame = content.code?.functions.every(({ change }) => change === "same" || change === "boot") ?? false;
  // What is not loaded may differ between copies of one build: one is stripped of its symbols.
  if (content.bytes.sameBuild) return outside > 0 || !codeSame;
  return !codeSame || !content.sites?.same || content.data.some(({ change }) => change !== "same");
}
