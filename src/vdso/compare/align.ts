/** How much work may still be spent on aligning: two images' functions are aligned out of one allowance. */
export interface Allowance {
  steps: number;
}

/** Steps that suffice to align all functions of two real images many times over. */
export const ALIGNING_STEPS = 5_000_000;

/** Most items inserted and removed in one sequence that are looked for: the memory used grows with its square. */
const MAX_EDITS = 1500;

/** A place where two sequences have the same item: its index in each. */
export type Match = readonly [a: number, b: number];

/**
 * A longest common subsequence, in order; `undefined` where it was not found within the allowance.
 *
 * Items are compared by `===`. The algorithm is Myers' greedy one ("An O(ND) Difference Algorithm and Its Variations",
 * 1986) behind a common start and before a common end.
 */
export function align(a: readonly string[], b: readonly string[], allowance: Allowance): Match[] | undefined {
  const matches: Match[] = [];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) {
    matches.push([start, start]);
    start += 1;
  }
  let endA = a.length;
  let endB = b.length;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) {
    endA -= 1;
    endB -= 1;
  }
  const middle = alignMiddle(a.slice(start, endA), b.slice(start, endB), allowance);
  if (!middle) return undefined;
  for (const [i, j] of middle) matches.push([i + start, j + start]);
  for (let i = 0; endA + i < a.length; i++) matches.push([endA + i, endB + i]);
  return matches;
}

function alignMiddle(a: readonly string[], b: readonly string[], allowance: Allowance): Match[] | undefined {
  if (a.length === 0 || b.length === 0) return [];
  const most = Math.min(a.length + b.length, MAX_EDITS);
  // How far along `a` each diagonal was followed; diagonal k, where the index in `a` is k more than in `b`, is at most + k.
  const furthest = new Int32Array(2 * most + 3).fill(-1);
  const from = (k: number) => furthest[most + 1 + k] as number;
  const trace: Int32Array[] = [];
  furthest[most + 2] = 0;
  for (let edits = 0; edits <= most; edits++) {
    for (let k = -edits; k <= edits; k += 2) {
      const inserts = k === -edits || (k !== edits && from(k - 1) < from(k + 1));
      const start = inserts ? from(k + 1) : from(k - 1) + 1;
      let x = start;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      allowance.steps -= 1 + x - start;
      if (allowance.steps < 0) return undefined;
      furthest[most + 1 + k] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(trace, a.length, b.length);
    }
    trace.push(furthest.slice(most + 1 - edits, most + 2 + edits));
  }
  return undefined;
}

/** Follows the furthest points back from the end; `trace` has those of each number of edits, from diagonal -edits on. */
function walkBack(trace: readonly Int32Array[], lengthA: number, lengthB: number): Match[] {
  const matches: Match[] = [];
  let x = lengthA;
  let y = lengthB;
  const common = (until: number) => {
    while (x > until) {
      x -= 1;
      y -= 1;
      matches.push([x, y]);
    }
  };
  for (let edits = trace.length; edits > 0; edits--) {
    const before = trace[edits - 1] as Int32Array;
    const from = (k: number) => before[edits - 1 + k] as number;
    const k = x - y;
    const inserts = k === -edits || (k !== edits && from(k - 1) < from(k + 1));
    const previous = inserts ? from(k + 1) : from(k - 1);
    common(inserts ? previous : previous + 1);
    x = previous;
    y = previous - (inserts ? k + 1 : k - 1);
  }
  common(0);
  return matches.reverse();
}
