/** A number of /proc/PID/status; `undefined` where the kernel has no such line. */
export function statusNumber(status: string, field: string): number | undefined {
  const value = new RegExp(`^${field}:[ \\t]*(\\d+)$`, "m").exec(status)?.[1];
  return value === undefined ? undefined : Number(value);
}

/**
 * The offsets of the clocks of a time namespace, in seconds, from /proc/PID/timens_offsets: `boottime 1000.000000000`.
 * Those that are zero are left out.
 */
export function namespaceOffsets(text: string): string[] {
  // monotonic           0         0
  // boottime           -2 500000000: one second and a half less
  return [...text.matchAll(/^(\S+)[ \t]+(-?\d{1,19})[ \t]+(\d{1,9})$/gm)].flatMap(([, clock, seconds, rest]) => {
    const offset = BigInt(seconds as string) * 1_000_000_000n + BigInt(rest as string);
    const digits = (offset < 0n ? -offset : offset).toString().padStart(10, "0");
    const sign = offset < 0n ? "-" : "";
    return offset === 0n ? [] : [`${clock} ${sign}${digits.slice(0, -9)}.${digits.slice(-9)}`];
  });
}
