import { sameBytes } from "../../bytes/equal.js";
import * as C from "../../elf/constants.js";
import type { Section } from "../../elf/section.js";
import type { AlternativeTable, Site } from "../boot/alternatives.js";
import { permittedVariants } from "../boot/variants.js";
import type { VdsoImage } from "../image.js";

/** Why a run of bytes may differ between two copies of one image. */
export type Whereabouts =
  /** A place that the kernel patches at boot, where what one holds can be what boot made of the other. */
  | "site"
  /** What the header says of section headers, or what lies behind the loaded part: a copy may be stripped. */
  | "not loaded"
  /** Anything else: nobody has reason to change it. */
  | "outside";

/** Most alternatives of one place that are tried: kernels have two or three. */
const MAX_ALTERNATIVES = 32;

/** A run of bytes that differ. */
export interface DifferingRange {
  /** From the start of both images. */
  readonly offset: number;
  readonly length: number;
  readonly where: Whereabouts;
}

/** Two images byte for byte. */
export interface ByteComparison {
  /** All bytes are the same; zeros at the end of the longer one do not count. */
  readonly identical: boolean;
  /** Whether both have the same build-id, and so were the same when they were linked. */
  readonly sameBuild: boolean;
  /** What differs, by offset; only told of images of the same build. */
  readonly ranges: readonly DifferingRange[];
}

/** Compares the bytes of two images; of the same build, tells the places that boot changes from all others. */
export function compareBytes(
  a: VdsoImage,
  b: VdsoImage,
  tables: readonly [a: AlternativeTable | undefined, b: AlternativeTable | undefined],
): ByteComparison {
  const sameBuild = a.buildId !== undefined && a.buildId === b.buildId && a.abi === b.abi;
  const size = Math.max(a.bytes.length, b.bytes.length);
  let at = 0;
  while (at < size && (a.bytes[at] ?? 0) === (b.bytes[at] ?? 0)) at += 1;
  if (at === size) return { identical: true, sameBuild, ranges: [] };
  return { identical: false, sameBuild, ranges: sameBuild ? differingRanges(a, b, tables, at) : [] };
}

function differingRanges(
  a: VdsoImage,
  b: VdsoImage,
  tables: readonly [a: AlternativeTable | undefined, b: AlternativeTable | undefined],
  first: number,
): DifferingRange[] {
  const where = whereabouts(a, b, tables);
  const size = Math.max(a.bytes.length, b.bytes.length);
  const ranges: { offset: number; length: number; where: Whereabouts }[] = [];
  for (let at = first; at < size; at++) {
    if ((a.bytes[at] ?? 0) === (b.bytes[at] ?? 0)) continue;
    const last = ranges.at(-1);
    const kind = where(at);
    if (last && last.where === kind && last.offset + last.length === at) last.length += 1;
    else ranges.push({ offset: at, length: 1, where: kind });
  }
  return ranges;
}

/**
 * Says of an offset what lies there. A site counts where the tables of both images have it, and where what one holds
 * can be what boot made of the other.
 */
function whereabouts(
  a: VdsoImage,
  b: VdsoImage,
  [tableA, tableB]: readonly [a: AlternativeTable | undefined, b: AlternativeTable | undefined],
): (offset: number) => Whereabouts {
  const size = Math.max(a.bytes.length, b.bytes.length);
  const kinds = new Uint8Array(size);
  const sitesB = new Map(tableB?.sites.map((site) => [site.offset, site]));
  for (const site of tableA?.sites ?? []) {
    const { offset, length } = site;
    const other = sitesB.get(offset);
    if (other?.length !== length) continue;
    if (Math.max(site.alternatives.length, other.alternatives.length) > MAX_ALTERNATIVES) continue;
    const [inA, inB] = [a, b].map(({ bytes }) => bytes.subarray(offset, offset + length)) as [Uint8Array, Uint8Array];
    const permitted = (original: Uint8Array, found: Uint8Array, where: Site) =>
      permittedVariants(where, { original, recordSize: tableA?.recordSize, arm64: a.abi === "aarch64" }).some(
        ({ bytes }) => sameBytes(bytes, found),
      );
    if (sameBytes(inA, inB) || permitted(inA, inB, site) || permitted(inB, inA, other)) {
      kinds.fill(1, offset, offset + length);
    }
  }
  if (a.elf.header.e_shoff !== b.elf.header.e_shoff) {
    const wide = a.elf.header.class === 64;
    // e_shoff; then e_shentsize, e_shnum and e_shstrndx at the end of the header.
    kinds.fill(2, wide ? 40 : 32, wide ? 48 : 36);
    kinds.fill(2, wide ? 58 : 46, wide ? 64 : 52);
    const loaded = Math.max(Number(a.loadSize), Number(b.loadSize));
    kinds.fill(2, Math.min(loaded, size));
  }
  return (offset) => (kinds[offset] === 1 ? "site" : kinds[offset] === 2 ? "not loaded" : "outside");
}

/** How a section of one image relates to that of the same name in the other. */
export interface SectionComparison {
  readonly name: string;
  /** `moved`: the same rules for unwinding, of code or at a place that was shifted. */
  readonly change: "same" | "moved" | "changed" | "added" | "removed";
  /** Bytes in each; absent where the image does not have it. */
  readonly a?: number;
  readonly b?: number;
}

/**
 * Compares what is loaded of two images beside code and symbol tables: read-only data, notes, rules for unwinding. By
 * the names of sections, so `[]` where an image has no section headers.
 */
export function compareData(a: VdsoImage, b: VdsoImage): SectionComparison[] {
  const inA = dataSections(a);
  const inB = dataSections(b);
  return [...new Set([...inA.keys(), ...inB.keys()])].map((name): SectionComparison => {
    const sectionA = inA.get(name);
    const sectionB = inB.get(name);
    if (!sectionA || !sectionB) {
      const only = (sectionA ?? sectionB) as Section;
      return sectionA ? { name, change: "removed", a: only.sh_size } : { name, change: "added", b: only.sh_size };
    }
    const same = sameBytes(a.elf.sectionBytes(sectionA), b.elf.sectionBytes(sectionB));
    return { name, change: same ? "same" : "changed", a: sectionA.sh_size, b: sectionB.sh_size };
  });
}

/** Sections that other parts of the comparison are about: what a C library looks up, and alternatives. */
const ELSEWHERE = /^\.(hash|gnu\.hash|dynsym|dynstr|gnu\.version(_[dr])?|dynamic|altinstr.*)$/;

function dataSections({ elf }: VdsoImage): Map<string, Section> {
  const named = elf.sections.filter(
    ({ name, sh_flags, sh_type }) =>
      (sh_flags & BigInt(C.SHF_ALLOC)) !== 0n &&
      (sh_flags & BigInt(C.SHF_EXECINSTR)) === 0n &&
      sh_type !== C.SHT_NOBITS &&
      name !== "" &&
      !ELSEWHERE.test(name),
  );
  return new Map(named.map((section) => [section.name, section]));
}
