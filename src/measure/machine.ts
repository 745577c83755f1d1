import { parseCpu } from "../linux/ldso/cpu.js";

/** What the processor's time stamp counter is good for, by the flags of /proc/cpuinfo. */
export interface TscFlags {
  /** There is one. */
  readonly tsc: boolean;
  /** It runs at one speed, whatever that of the processor. */
  readonly constant: boolean;
  /** It runs on while the processor sleeps. */
  readonly nonstop: boolean;
}

/** Reads the flags of the first processor in the text of /proc/cpuinfo; `undefined` where it has no such line. */
export function tscFlags(cpuinfo: string): TscFlags | undefined {
  const { flags } = parseCpu(cpuinfo);
  if (flags.size === 0) return undefined;
  return { tsc: flags.has("tsc"), constant: flags.has("constant_tsc"), nonstop: flags.has("nonstop_tsc") };
}

/** How busy a processor has been since the machine started, in ticks of the kernel's clock. */
export interface CpuTime {
  readonly busy: number;
  readonly idle: number;
}

/** Reads the lines of single processors in /proc/stat. */
export function parseCpuTimes(stat: string): Map<number, CpuTime> {
  const times = new Map<number, CpuTime>();
  // cpu0 1393280 32966 572056 13343292 6130 0 17875 0 23933 0: user nice system idle iowait irq softirq steal …
  for (const [, number, rest] of stat.matchAll(/^cpu(\d+) (.*)$/gm)) {
    const fields = (rest as string).trim().split(/\s+/).slice(0, 8).map(Number);
    const idle = (fields[3] ?? 0) + (fields[4] ?? 0);
    times.set(Number(number), { idle, busy: fields.reduce((sum, field) => sum + field, 0) - idle });
  }
  return times;
}

/**
 * The processor, of those allowed, that was least busy between two looks; among equals the one that was least busy since
 * the machine started. `undefined` where none is allowed.
 */
export function calmestCpu(
  before: ReadonlyMap<number, CpuTime>,
  after: ReadonlyMap<number, CpuTime>,
  allowed: readonly number[],
): number | undefined {
  const busyOf = (cpu: number) => {
    const all = after.get(cpu)?.busy ?? 0;
    return { cpu, lately: all - (before.get(cpu)?.busy ?? 0), all };
  };
  return allowed.map(busyOf).sort((a, b) => a.lately - b.lately || a.all - b.all)[0]?.cpu;
}

/** The processors in a mask as sched_getaffinity writes it. */
export function cpusIn(mask: Uint8Array): number[] {
  return [...mask].flatMap((byte, i) =>
    Array.from({ length: 8 }, (_, bit) => bit)
      .filter((bit) => byte & (1 << bit))
      .map((bit) => 8 * i + bit),
  );
}

/** A mask of one processor, for sched_setaffinity. Throws `RangeError` where `size` bytes have no place for it. */
export function maskOf(cpu: number, size: number): Uint8Array {
  if (!(Number.isInteger(cpu) && cpu >= 0 && cpu < 8 * size)) throw new RangeError(`there is no processor ${cpu}`);
  const mask = new Uint8Array(size);
  mask[cpu >> 3] = 1 << (cpu & 7);
  return mask;
}

/** The load average of the last minute, from /proc/loadavg (`5.25 6.52 5.13 3/210 4711`); `undefined` without one. */
export function parseLoad(text: string): number | undefined {
  const load = Number.parseFloat(text);
  return Number.isFinite(load) ? load : undefined;
}
