import type { Alternative, RecordSize, Site } from "./alternatives.js";
import { patchArm64, patchX86 } from "./patch.js";
import { type PatchRules, rulesOfAll } from "./rules.js";

/** What may lie at a site after boot. */
export interface Variant {
  /** As many as the site has. */
  readonly bytes: Uint8Array;
  /** The one that was put there; absent: the original stayed. */
  readonly alternative?: Alternative;
  /** The NOPs that stand in it: names of tables; `none` where there is no padding to fill. */
  readonly nops: string;
  /** Widths of the kernels that write it. */
  readonly widths: readonly (32 | 64)[];
}

/** What is known of the kernel and of the image; the less, the more variants. */
export interface VariantOptions {
  /** The bytes of the site in an image that was not patched: only with them, what becomes of the original is told. */
  readonly original?: Uint8Array | undefined;
  readonly recordSize?: RecordSize | undefined;
  /** `major * 1000 + minor`. */
  readonly release?: number | undefined;
  /** Of the kernel. */
  readonly width?: 32 | 64 | undefined;
  /** The image is of arm64: whole instructions, no padding. */
  readonly arm64?: boolean;
}

/**
 * All that may lie at a site after boot: each alternative with its padding in every style of NOP that such kernels
 * write, and the original with its padding optimised, where it is given. No two have the same bytes and alternative.
 */
export function permittedVariants(site: Site, options: VariantOptions = {}): readonly Variant[] {
  const none = site.alternatives.map(() => false);
  const blank = new Uint8Array(site.length);
  const found = new Map<string, { variant: Variant; nops: Set<string>; widths: Set<32 | 64> }>();
  const add = (bytes: Uint8Array, alternative: Alternative | undefined, rules: PatchRules | undefined): void => {
    const key = `${alternative?.index ?? ""}:${bytes.join()}`;
    const known = found.get(key) ?? {
      variant: { bytes, ...(alternative && { alternative }), nops: "none", widths: [] },
      nops: new Set<string>(),
      widths: new Set<32 | 64>(),
    };
    found.set(key, known);
    if (!rules) return;
    known.nops.add(rules.nops.name);
    known.widths.add(rules.width);
  };
  if (options.arm64) {
    site.alternatives.forEach((alternative, i) => {
      add(patchArm64(site, options.original ?? blank, only(none, i)), alternative, undefined);
    });
    if (options.original) add(new Uint8Array(options.original.subarray(0, site.length)), undefined, undefined);
  } else {
    for (const rules of rulesOfAll(options)) {
      site.alternatives.forEach((alternative, i) => {
        add(patchX86(site, options.original ?? blank, only(none, i), rules), alternative, rules);
      });
      if (options.original) add(patchX86(site, options.original, none, rules), undefined, rules);
    }
  }
  const styles = new Set([...found.values()].flatMap(({ nops }) => [...nops])).size;
  return [...found.values()].map(({ variant, nops, widths }) => ({
    ...variant,
    // Bytes that come out the same in every style hold no padding.
    nops: nops.size === 0 || (nops.size === styles && styles > 1) ? "none" : [...nops].join(", "),
    widths: [...widths],
  }));
}

function only(none: readonly boolean[], index: number): boolean[] {
  return none.map((_, i) => i === index);
}
