import { hexBytes } from "../../bytes/hex.js";
import { pairBy } from "./abi.js";
import type { Block, ImageCode } from "./blocks.js";
import { Normalizer } from "./normal.js";

/** Blocks of two images that correspond, or one that has no counterpart. */
export interface BlockPair {
  readonly a?: Block;
  readonly b?: Block;
}

/** Most blocks of local code in either image that are compared each with each. */
const MAX_SIMILAR = 40;

/** How much of the larger of two blocks must be in the other for them to be taken for the same code, changed. */
const LEAST_SIMILAR = 0.3;

/**
 * Finds which blocks of two images correspond: functions by any of their names; local code, which has none, where it is
 * the same, and what is left where it is most alike.
 */
export function pairBlocks(a: ImageCode, b: ImageCode): BlockPair[] {
  const named = pairNamed(a, b);
  const tokens = new Map<Block, string>();
  for (const [i, pair] of named.entries()) {
    if (pair.a) tokens.set(pair.a, `#${i}`);
    if (pair.b) tokens.set(pair.b, `#${i}`);
  }
  const locals = (code: ImageCode) => code.blocks.filter(({ names }) => names.length === 0);
  const decoded = a.decoder !== undefined;
  const normal = [a, b].map((code) => new Normalizer(code, (block) => tokens.get(block) ?? "local"));
  const keys = new Map<Block, readonly string[]>();
  for (const [i, code] of [a, b].entries()) {
    for (const block of locals(code)) {
      keys.set(
        block,
        decoded ? block.units.map((unit) => (normal[i] as Normalizer).unit(unit, block).key) : [hexBytes(block.bytes)],
      );
    }
  }
  const whole = new Map([...keys].map(([block, lines]) => [block, lines.join("\n")]));
  const same = pairBy(locals(a), locals(b), (block: Block) => whole.get(block) as string);
  const alike = decoded ? pairSimilar(same.a, same.b, keys) : pairInOrder(same.a, same.b);
  return [...named, ...same.pairs, ...alike];
}

function pairNamed(a: ImageCode, b: ImageCode): BlockPair[] {
  const waiting = new Map(b.blocks.flatMap((block) => block.names.map((name) => [name, block] as const)));
  const taken = new Set<Block>();
  const pairs: BlockPair[] = [];
  for (const block of a.blocks) {
    if (block.names.length === 0) continue;
    const partner = block.names
      .map((name) => waiting.get(name))
      .find((found) => found !== undefined && !taken.has(found));
    if (partner) taken.add(partner);
    pairs.push({ a: block, ...(partner && { b: partner }) });
  }
  for (const block of b.blocks) if (block.names.length > 0 && !taken.has(block)) pairs.push({ b: block });
  return pairs;
}

function pairInOrder(a: readonly Block[], b: readonly Block[]): BlockPair[] {
  return Array.from({ length: Math.max(a.length, b.length) }, (_, i): BlockPair => {
    const [one, other] = [a[i], b[i]];
    return { ...(one && { a: one }), ...(other && { b: other }) };
  });
}

function pairSimilar(
  a: readonly Block[],
  b: readonly Block[],
  keys: ReadonlyMap<Block, readonly string[]>,
): BlockPair[] {
  if (a.length > MAX_SIMILAR || b.length > MAX_SIMILAR) return pairInOrder(a, b);
  const counts = new Map([...a, ...b].map((block) => [block, countOf(keys.get(block) ?? [])]));
  const candidates = a.flatMap((one) =>
    b.map((other) => ({ a: one, b: other, score: similarity(counts.get(one), counts.get(other)) })),
  );
  candidates.sort((one, other) => other.score - one.score);
  const taken = new Set<Block>();
  const pairs: BlockPair[] = [];
  for (const { a: one, b: other, score } of candidates) {
    if (score < LEAST_SIMILAR || taken.has(one) || taken.has(other)) continue;
    taken.add(one).add(other);
    pairs.push({ a: one, b: other });
  }
  for (const block of a) if (!taken.has(block)) pairs.push({ a: block });
  for (const block of b) if (!taken.has(block)) pairs.push({ b: block });
  return pairs;
}

function countOf(keys: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  return counts;
}

/** Share of the instructions of the longer that are in the other too, wherever they stand. */
function similarity(a: ReadonlyMap<string, number> = new Map(), b: ReadonlyMap<string, number> = new Map()): number {
  const total = (counts: ReadonlyMap<string, number>) => [...counts.values()].reduce((sum, count) => sum + count, 0);
  let common = 0;
  for (const [key, count] of a) common += Math.min(count, b.get(key) ?? 0);
  return common / Math.max(total(a), total(b), 1);
}
