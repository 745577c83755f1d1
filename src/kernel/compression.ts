import type { ByteStream, Pull } from "./pull.js";

/** The compressions that kernels, and packages of them, are made with. */
export type Compression = "gzip" | "bzip2" | "lzma" | "xz" | "lzo" | "lz4" | "zstd";

/** Decompresses what starts at `source`; bytes behind its end are put back. Throws `FormatError`. */
export type Decompress = (compression: Compression, source: Pull) => ByteStream;

/** How much memory a stream may ask a decoder to keep of what it has put out: kernels use 128 MiB at the most. */
export const MAX_DICTIONARY = 128 * 1024 * 1024;

/** Bytes that {@link compressionOf} wants to see. */
export const SIGNATURE_SIZE = 18;

/** A signature: the first bytes, short enough to search for, and a closer look at what follows them. */
export interface Signature {
  readonly compression: Compression;
  readonly start: readonly number[];
  plausible(bytes: Uint8Array): boolean;
}

/** Dictionary sizes that .lzma files have: 2^n or 2^n + 2^(n-1) (what the decoder of XZ Utils demands of them too). */
function isLzmaDictionary(size: number): boolean {
  const high = 2 ** Math.floor(Math.log2(size));
  return size >= 4096 && (size === high || size === high + high / 2);
}

const u32 = (bytes: Uint8Array, at: number) =>
  ((bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16)) +
  (bytes[at + 3] as number) * 0x1000000;

/** Largest block of a legacy LZ4 stream once compressed: 8 MiB that grew as much as they can. */
export const MAX_LZ4_BLOCK = 0x800000 + Math.ceil(0x800000 / 255) + 16;

/**
 * The signatures, with the fields that follow them. Sources: RFC 1952; the .xz file format 1.2; lzma-file-format.txt of
 * XZ Utils; lz4_Frame_format.md, "Legacy frame"; RFC 8878; lzop's header; bzip2's block magic.
 */
export const SIGNATURES: readonly Signature[] = [
  {
    compression: "gzip",
    start: [0x1f, 0x8b, 0x08],
    plausible: (bytes) => ((bytes[3] as number) & 0xe0) === 0,
  },
  {
    compression: "xz",
    start: [0xfd, 0x37, 0x7a, 0x58],
    plausible: (bytes) => bytes[4] === 0x5a && bytes[5] === 0 && bytes[6] === 0 && (bytes[7] as number) < 16,
  },
  {
    compression: "bzip2",
    start: [0x42, 0x5a, 0x68],
    plausible: (bytes) =>
      (bytes[3] as number) >= 0x31 &&
      (bytes[3] as number) <= 0x39 &&
      [0x31, 0x41, 0x59, 0x26, 0x53, 0x59].every((byte, i) => bytes[4 + i] === byte),
  },
  {
    compression: "lzma",
    start: [0x5d, 0x00, 0x00],
    plausible: (bytes) => {
      const high = u32(bytes, 9);
      // The range coder's first byte is 0; the size is unknown (all ones) or below 4 GiB.
      return isLzmaDictionary(u32(bytes, 1)) && (high === 0xffffffff || high === 0) && bytes[13] === 0;
    },
  },
  {
    compression: "lzo",
    start: [0x89, 0x4c, 0x5a, 0x4f],
    plausible: (bytes) => [0, 0x0d, 0x0a, 0x1a, 0x0a].every((byte, i) => bytes[4 + i] === byte),
  },
  {
    compression: "lz4",
    start: [0x02, 0x21, 0x4c, 0x18],
    plausible: (bytes) => u32(bytes, 4) > 0 && u32(bytes, 4) <= MAX_LZ4_BLOCK,
  },
  {
    compression: "zstd",
    start: [0x28, 0xb5, 0x2f, 0xfd],
    // Bit 3 of the descriptor is reserved.
    plausible: (bytes) => ((bytes[4] as number) & 0x08) === 0,
  },
];

/** Marks of a Zstandard frame with nothing to decompress, which parallel compressors write before each that has. */
const SKIPPABLE = { lowest: 0x184d2a50, highest: 0x184d2a5f };

/** Fewest bytes that the fields behind a signature have. */
const MINIMUM_SIZE = 14;

/** The compression of a stream, by its first {@link SIGNATURE_SIZE} bytes. */
export function compressionOf(head: Uint8Array): Compression | undefined {
  if (head.length < MINIMUM_SIZE) return undefined;
  const magic = u32(head, 0);
  if (magic >= SKIPPABLE.lowest && magic <= SKIPPABLE.highest) return "zstd";
  return SIGNATURES.find(({ start, plausible }) => start.every((byte, i) => head[i] === byte) && plausible(head))
    ?.compression;
}
