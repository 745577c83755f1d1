import type { Mapping } from "../linux/maps.js";
import type { VdsoLocation } from "../vdso/locate.js";

/** What a stretch of the address space holds. */
export type RegionKind = "vdso" | "data" | "other";

/** A stretch of the address space in a drawing, as fractions of its width. */
export interface DrawnRegion {
  readonly kind: RegionKind;
  readonly name: string;
  readonly start: bigint;
  readonly end: bigint;
  /** 0 to 1. */
  readonly from: number;
  readonly to: number;
}

/** A stretch of the address space, drawn to scale. */
export interface AddressBar {
  readonly title: string;
  readonly start: bigint;
  readonly end: bigint;
  readonly regions: readonly DrawnRegion[];
}

/** How many times the width of the vDSO and its data the second drawing is wide. */
const ZOOM = 8n;

/** The end of the addresses that a process can have: the next power of two above its highest user mapping. */
function spaceEnd(mappings: readonly Mapping[]): bigint {
  // [vsyscall] lies in the kernel's half and would make the rest a dot.
  const highest = mappings.filter(({ name }) => name !== "[vsyscall]").at(-1)?.end ?? 1n;
  let end = 1n << 32n;
  while (end < highest) end <<= 1n;
  return end;
}

/**
 * Where the vDSO lies among the mappings of a process: the whole address space, and the part around the vDSO. Both to
 * scale.
 */
export function addressBars(mappings: readonly Mapping[], location: VdsoLocation): AddressBar[] {
  const end = spaceEnd(mappings);
  const ours = [...location.dataMappings, ...location.mappings];
  const starts = [location.base, ...ours.map(({ start }) => start)].sort((a, b) => (a < b ? -1 : 1));
  const low = starts[0] as bigint;
  const high = location.base + BigInt(location.size);
  const span = (high - low) * ZOOM;
  const middle = low + (high - low) / 2n;
  const zoomEnd = middle + span / 2n > end ? end : middle + span / 2n;
  const zoomStart = zoomEnd > span ? zoomEnd - span : 0n;
  const kindOf = (mapping: Mapping): RegionKind =>
    location.mappings.includes(mapping) ? "vdso" : location.dataMappings.includes(mapping) ? "data" : "other";
  const bar = (title: string, from: bigint, to: bigint): AddressBar => ({
    title,
    start: from,
    end: to,
    regions: mappings
      .filter((mapping) => mapping.end > from && mapping.start < to)
      .map((mapping) => ({
        kind: kindOf(mapping),
        name: mapping.name,
        start: mapping.start,
        end: mapping.end,
        from: fraction(mapping.start, from, to),
        to: fraction(mapping.end, from, to),
      })),
  });
  return [bar("the whole address space", 0n, end), bar("around the vDSO", zoomStart, zoomEnd)];
}

function fraction(address: bigint, from: bigint, to: bigint): number {
  const clamped = address < from ? from : address > to ? to : address;
  return Number(((clamped - from) * 1_000_000n) / (to - from)) / 1_000_000;
}

const CELLS: Readonly<Record<RegionKind, string>> = { vdso: "█", data: "▓", other: "▒" };

/** A bar as `width` characters: █ the vDSO, ▓ its data, ▒ other mappings, · nothing. */
export function barText(bar: AddressBar, width: number): string {
  const cells = Array.from({ length: width }, () => "·");
  // The vDSO last, so that it is seen wherever it shares a cell.
  for (const kind of ["other", "data", "vdso"] as const) {
    for (const region of bar.regions) {
      if (region.kind !== kind) continue;
      const first = Math.min(width - 1, Math.floor(region.from * width));
      const last = Math.max(first, Math.ceil(region.to * width) - 1);
      for (let i = first; i <= last; i++) cells[i] = CELLS[kind];
    }
  }
  return cells.join("");
}
