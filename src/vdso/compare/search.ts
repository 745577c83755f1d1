/** Of items sorted by address, how many lie at an address or before it. */
export function countUpTo<T>(sorted: readonly T[], address: bigint, addressOf: (item: T) => bigint): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (addressOf(sorted[middle] as T) <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Items sorted by an address. */
export function byAddress<T>(items: readonly T[], addressOf: (item: T) => bigint): T[] {
  return [...items].sort((a, b) => {
    const [one, other] = [addressOf(a), addressOf(b)];
    return one < other ? -1 : one > other ? 1 : 0;
  });
}
