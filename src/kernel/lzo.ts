import { FormatError } from "../bytes/error.js";
import { Reader } from "../bytes/reader.js";
import type { Pull } from "./pull.js";

/** What lzop puts into a block at the most. */
const MAX_BLOCK = 256 * 1024;

const MAGIC = [0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a];

/** Flags of lzop's header: which checksums each block has, and what else the header holds. */
const ADLER32_OF_DATA = 0x1;
const ADLER32_OF_COMPRESSED = 0x2;
const EXTRA_FIELD = 0x40;
const CRC32_OF_DATA = 0x100;
const CRC32_OF_COMPRESSED = 0x200;
const FILTER = 0x800;

/** First version of the header with a level and a time of 64 bits. */
const VERSION_WITH_LEVEL = 0x0940;

const error = (fact: string, offset: number, value?: number) =>
  new FormatError(`Cannot read lzo stream: ${fact}`, offset, value);

/**
 * Decompresses what `lzop` wrote, a block of at most 256 KiB at a time, and checks the Adler-32 of each.
 *
 * Source: Documentation/staging/lzo.rst and lib/decompress_unlzo.c of Linux for the format. Throws `FormatError`.
 */
export async function* decompressLzo(source: Pull): AsyncGenerator<Uint8Array> {
  const flags = await readHeader(source);
  const out = new Uint8Array(MAX_BLOCK);
  const word = async () =>
    new Reader(await source.read(4, "lzo stream"), { littleEndian: false, what: "lzo stream" }).u32At(0);
  for (;;) {
    const at = source.offset;
    const size = await word();
    if (size === 0) return;
    if (size > MAX_BLOCK) throw error(`a block has ${size} bytes`, at, size);
    const compressedSize = await word();
    if (compressedSize === 0 || compressedSize > size) {
      throw error(`a block of ${size} bytes was compressed to ${compressedSize}`, at + 4, compressedSize);
    }
    const adler = flags & ADLER32_OF_DATA ? await word() : undefined;
    if (flags & CRC32_OF_DATA) await word();
    if (compressedSize < size) {
      if (flags & ADLER32_OF_COMPRESSED) await word();
      if (flags & CRC32_OF_COMPRESSED) await word();
    }
    const start = source.offset;
    const input = await source.read(compressedSize, "lzo stream");
    if (compressedSize === size) out.set(input);
    else {
      const length = decompressBlock(input, out.subarray(0, size), start);
      if (length !== size) throw error(`a block has ${length} bytes, not ${size}`, start, length);
    }
    const data = out.subarray(0, size);
    if (adler !== undefined && adler32(data) !== adler) throw error("the checksum of a block is wrong", start, adler);
    yield data;
  }
}

async function readHeader(source: Pull): Promise<number> {
  const what = "lzo stream";
  const start = await source.read(MAGIC.length, what);
  if (MAGIC.some((byte, i) => start[i] !== byte)) throw error("it does not start as one", 0);
  // Version, the library's, the one needed, the method; then perhaps a level.
  const versions = new Reader(await source.read(7, what), { littleEndian: false, what });
  const modern = versions.u16At(0) >= VERSION_WITH_LEVEL;
  const method = versions.u8At(6);
  if (method < 1 || method > 3) throw error(`its method is ${method}`, source.offset - 1, method);
  if (modern) await source.skip(1, what);
  const flags = new Reader(await source.read(4, what), { littleEndian: false, what }).u32At(0);
  if (flags & FILTER) throw error("it is filtered", source.offset - 4, flags);
  // Mode and time, 32 bits each, then the upper half of the time; the name; a checksum.
  await source.skip(modern ? 12 : 8, what);
  const [nameLength = 0] = await source.read(1, what);
  await source.skip(nameLength + 4, what);
  if (flags & EXTRA_FIELD) {
    const at = source.offset;
    const size = new Reader(await source.read(4, what), { littleEndian: false, what }).u32At(0);
    if (size > MAX_BLOCK) throw error(`an extra field has ${size} bytes`, at, size);
    await source.skip(size + 4, what);
  }
  return flags;
}

function adler32(bytes: Uint8Array): number {
  let a = 1;
  let b = 0;
  for (let at = 0; at < bytes.length; ) {
    // As many as fit before the sums leave 32 bits.
    const end = Math.min(at + 3800, bytes.length);
    while (at < end) {
      a += bytes[at++] as number;
      b += a;
    }
    a %= 65521;
    b %= 65521;
  }
  return ((b << 16) | a) >>> 0;
}

/**
 * Decompresses one LZO1X block into `out` and returns how many bytes it gave. `origin` is its offset, for errors.
 *
 * An instruction's meaning depends on how many literals the one before it copied: 0, 1 to 3, or (4) a long run of them.
 */
export function decompressBlock(input: Uint8Array, out: Uint8Array, origin = 0): number {
  let at = 0;
  let length = 0;
  let state = 0;

  const byte = (): number => {
    if (at >= input.length) throw error("a block is cut short", origin + at);
    return input[at++] as number;
  };
  /** The rest of a count that did not fit its bits, `all`: 255 for each zero byte, then the first that is none. */
  const longer = (all: number): number => {
    let count = all;
    for (;;) {
      const next = byte();
      if (next !== 0) return count + next;
      count += 255;
    }
  };
  const literals = (count: number): void => {
    if (at + count > input.length) throw error("a block is cut short", origin + at);
    if (length + count > out.length) throw error("a block has more bytes than it says", origin + at, length + count);
    for (let end = length + count; length < end; ) out[length++] = input[at++] as number;
  };
  const match = (distance: number, count: number): void => {
    if (distance > length) throw error(`a match is ${distance} bytes back, of ${length}`, origin + at, distance);
    if (length + count > out.length) throw error("a block has more bytes than it says", origin + at, length + count);
    // Byte by byte: where the two overlap, what was just written is repeated.
    for (let end = length + count; length < end; length++) out[length] = out[length - distance] as number;
  };

  const first = input[0] as number;
  if (first > 17) {
    at = 1;
    literals(first - 17);
    state = Math.min(first - 17, 4);
  }
  for (;;) {
    const code = byte();
    let trailing = code & 3;
    if (code >= 64) {
      const distance = (byte() << 3) + ((code >> 2) & 7) + 1;
      match(distance, code >= 128 ? 5 + ((code >> 5) & 3) : 3 + ((code >> 5) & 1));
    } else if (code >= 32) {
      const count = 2 + (code & 31 || longer(31));
      const low = byte();
      trailing = low & 3;
      match((byte() << 6) + (low >> 2) + 1, count);
    } else if (code >= 16) {
      const count = 2 + (code & 7 || longer(7));
      const low = byte();
      trailing = low & 3;
      const distance = 16384 + ((code & 8) << 11) + (byte() << 6) + (low >> 2);
      if (distance === 16384) {
        if (at < input.length) throw error(`${input.length - at} bytes follow the end of a block`, origin + at);
        return length;
      }
      match(distance, count);
    } else if (state === 0) {
      literals(3 + (code || longer(15)));
      state = 4;
      continue;
    } else {
      match((byte() << 2) + (code >> 2) + (state === 4 ? 2049 : 1), state === 4 ? 3 : 2);
    }
    literals(trailing);
    state = trailing;
  }
}
