import type { Decoder } from "../isa/instruction.js";
import { type AlternativeTable, alternativesOf } from "./boot/alternatives.js";
import { type AbiComparison, compareAbi } from "./compare/abi.js";
import { hasTooMuchCode, ImageCode } from "./compare/blocks.js";
import { type ByteComparison, compareBytes, compareData, type SectionComparison } from "./compare/bytes.js";
import { type CodeComparison, compareCode } from "./compare/code.js";
import { compareSites, type SitesComparison } from "./compare/sites.js";
import { normalUnwinding } from "./compare/unwind.js";
import type { VdsoImage } from "./image.js";

/** What is compared beside what a C library sees. */
export interface ContentComparison {
  readonly bytes: ByteComparison;
  /** Absent where all bytes are the same, or the ABIs differ: then code has nothing in common. */
  readonly sites?: SitesComparison;
  /** Absent as `sites` is. */
  readonly code?: CodeComparison;
  /** Loaded sections beside code and symbol tables; empty where all bytes are the same. */
  readonly data: readonly SectionComparison[];
}

/** Two images, compared. */
export interface ImageComparison {
  readonly abi: AbiComparison;
  /** Absent where only the ABI was asked for. */
  readonly content?: ContentComparison;
}

/** Whether all bytes of two images are the same; zeros at the end of the longer one do not count. */
export function identicalImages(a: VdsoImage, b: VdsoImage): boolean {
  return compareBytes(a, b, [undefined, undefined]).identical;
}

/** Compares two images as a C library sees them, and no further. */
export function compareImageAbis(a: VdsoImage, b: VdsoImage): ImageComparison {
  return { abi: compareAbi(a, b) };
}

/**
 * Compares all of two images; where all bytes are the same, no further. Without a decoder, or where there is far
 * more code than in any vDSO, code is compared by its bytes.
 *
 * Throws `FormatError` where an image is damaged. Time and memory are bounded whatever the images hold: functions that
 * differ beyond what is worth aligning are shown whole.
 */
export function compareImages(a: VdsoImage, b: VdsoImage, decoder: Decoder | undefined): ImageComparison {
  const tables = [alternativesOf(a), alternativesOf(b)] as const;
  const bytes = compareBytes(a, b, tables);
  if (bytes.identical) return { abi: compareAbi(a, b), content: { bytes, data: [] } };
  return {
    abi: compareAbi(a, b),
    content: {
      bytes,
      ...(a.abi === b.abi ? compareContents([a, b], tables, decoder) : { data: compareData(a, b) }),
    },
  };
}

function compareContents(
  [a, b]: readonly [a: VdsoImage, b: VdsoImage],
  tables: readonly [a: AlternativeTable | undefined, b: AlternativeTable | undefined],
  decoder: Decoder | undefined,
): Omit<ContentComparison, "bytes"> {
  const used = hasTooMuchCode(a) || hasTooMuchCode(b) ? undefined : decoder;
  const codes = [new ImageCode(a, used, tables[0]), new ImageCode(b, used, tables[1])] as const;
  const result = compareCode(codes[0], codes[1]);
  const rules = codes.map((code, side) => normalUnwinding(code, result.tokens[side as 0 | 1])?.join("\n"));
  const sameRules = rules[0] !== undefined && rules[0] === rules[1];
  return {
    sites: compareSites(tables, result),
    code: result.comparison,
    // The header only repeats where the rules are, sorted.
    data: compareData(a, b).map((one) =>
      sameRules && one.change === "changed" && one.a === one.b && /^\.eh_frame(_hdr)?$/.test(one.name)
        ? { ...one, change: "moved" }
        : one,
    ),
  };
}
