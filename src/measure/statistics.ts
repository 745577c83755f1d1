/** What a set of samples says. All figures are in the samples' own unit. */
export interface Summary {
  readonly count: number;
  readonly median: number;
  /** The bootstrap interval of the median, at {@link CONFIDENCE}. */
  readonly low: number;
  readonly high: number;
  /** Below these lie 5 and 95 of 100 samples. */
  readonly p5: number;
  readonly p95: number;
  /** How far the medians of the first and the second half of the samples lie apart, as a part of the median. */
  readonly drift: number;
}

/** How sure the intervals are: of so many runs' intervals, 95 of 100 have the true median in them. */
export const CONFIDENCE = 0.95;

/**
 * Sums samples up, which are given in the order in which they were taken. Throws `RangeError` where there is none.
 */
export function summarize(samples: Float64Array): Summary {
  const sorted = samples.slice().sort();
  const half = Math.ceil(samples.length / 2);
  const middle = median(sorted);
  const [first, second] = [samples.slice(0, half), samples.slice(-half)].map((part) => median(part.sort()));
  const { low, high } = medianInterval(sorted);
  return {
    count: samples.length,
    median: middle,
    low,
    high,
    p5: quantile(sorted, 0.05),
    p95: quantile(sorted, 0.95),
    drift: middle === 0 ? 0 : Math.abs((second as number) - (first as number)) / middle,
  };
}

/** The value below which a part of the samples lies, between two of them where it falls there. */
export function quantile(sorted: Float64Array, part: number): number {
  if (sorted.length === 0) throw new RangeError("there are no samples");
  const at = part * (sorted.length - 1);
  const below = Math.floor(at);
  const value = sorted[below] as number;
  return value + (at - below) * ((sorted[below + 1] ?? value) - value);
}

/** The median of sorted samples. */
export function median(sorted: Float64Array): number {
  return quantile(sorted, 0.5);
}

/**
 * The percentile bootstrap interval of the median: between which values the median of samples drawn anew from these,
 * with replacement, lies as often as `confidence` says.
 *
 * Nothing is drawn. The median of n draws is at most the i-th smallest sample if at least half of the draws are among the
 * i smallest, which has the probability of a binomial tail: what drawing approaches, and the same each time.
 */
export function medianInterval(sorted: Float64Array, confidence = CONFIDENCE): { low: number; high: number } {
  const count = sorted.length;
  if (count === 0) throw new RangeError("there are no samples");
  const half = Math.ceil(count / 2);
  const rankWith = (probability: number): number => {
    let [below, above] = [0, count];
    while (below + 1 < above) {
      const rank = (below + above) >> 1;
      if (binomialTail(count, rank / count, half) >= probability) above = rank;
      else below = rank;
    }
    return above;
  };
  const outside = (1 - confidence) / 2;
  return { low: sorted[rankWith(outside) - 1] as number, high: sorted[rankWith(1 - outside) - 1] as number };
}

/** The probability that of `count` trials, each of which succeeds with probability `p`, at least `least` succeed. */
export function binomialTail(count: number, p: number, least: number): number {
  if (least <= 0 || p >= 1) return 1;
  if (p <= 0) return 0;
  let sum = 0;
  for (let i = least; i <= count; i++) {
    sum += Math.exp(logChoose(count, i) + i * Math.log(p) + (count - i) * Math.log1p(-p));
  }
  return Math.min(1, sum);
}

const logFactorials: number[] = [0];

function logFactorial(n: number): number {
  for (let i = logFactorials.length; i <= n; i++) logFactorials.push((logFactorials[i - 1] as number) + Math.log(i));
  return logFactorials[n] as number;
}

function logChoose(n: number, k: number): number {
  return logFactorial(n) - logFactorial(k) - logFactorial(n - k);
}
