import { crc32, createInflateRaw, type InflateRaw } from "node:zlib";
import { FormatError } from "../../bytes/error.js";
import { Reader } from "../../bytes/reader.js";
import type { Pull } from "../pull.js";

const CHUNK = 256 * 1024;

/** Flags of a gzip header (RFC 1952): which of its optional parts follow. */
const HEADER_CHECKSUM = 0x02;
const EXTRA = 0x04;
const NAME = 0x08;
const COMMENT = 0x10;

/** Longest name or comment that is read. */
const MAX_TEXT = 64 * 1024;

const GZIP = "gzip stream";

/**
 * Decompresses one member of a gzip stream, and checks its checksum; bytes behind it are put back.
 *
 * The header is read here, for Node's own decoder of gzip takes what follows a member for another one. Throws
 * `FormatError`.
 */
export async function* gunzip(source: Pull): AsyncGenerator<Uint8Array> {
  const header = await source.read(10, GZIP);
  const flags = header[3] as number;
  if (flags & EXTRA) {
    const [low = 0, high = 0] = await source.read(2, GZIP);
    await source.skip(low | (high << 8), GZIP);
  }
  for (const text of [NAME, COMMENT]) {
    for (let size = 0; flags & text && (await source.read(1, GZIP))[0] !== 0; size++) {
      if (size > MAX_TEXT) throw new FormatError(`Cannot read ${GZIP}: a name has no end`, source.offset);
    }
  }
  if (flags & HEADER_CHECKSUM) await source.skip(2, GZIP);
  let checksum = 0;
  let size = 0;
  for await (const chunk of inflate(source)) {
    checksum = crc32(chunk, checksum);
    size = (size + chunk.length) >>> 0;
    yield chunk;
  }
  const trailer = new Reader(await source.read(8, GZIP), { what: GZIP });
  if (trailer.u32At(0) !== checksum || trailer.u32At(4) !== size) {
    throw new FormatError(`Cannot read ${GZIP}: its checksum is wrong`, source.offset - 8, trailer.u32At(0));
  }
}

/** Decompresses with Node's zlib, which works in another thread, and puts back what it did not use. */
async function* inflate(source: Pull): AsyncGenerator<Uint8Array> {
  const start = source.offset;
  const decoder = createInflateRaw({ chunkSize: CHUNK });
  const feeding = feed(decoder, source).catch((error: Error) => {
    decoder.destroy(error);
    return undefined;
  });
  let rest: Uint8Array | undefined;
  try {
    for await (const chunk of decoder) yield chunk;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (!code.startsWith("Z_")) throw error;
    const reason = code === "Z_BUF_ERROR" ? "it is cut short" : `it is corrupt (${(error as Error).message})`;
    throw new FormatError(`Cannot read ${GZIP}: ${reason}`, start + decoder.bytesWritten);
  } finally {
    decoder.destroy();
    // Whoever reads the source next must not find us still reading it.
    rest = await feeding;
  }
  if (rest) source.unread(rest);
}

/**
 * Gives the decoder one chunk after the other, each when it is done with the one before: no more is read than that one
 * in which the stream ends. Resolves to what of it the decoder did not use, at the end of the source to `undefined`.
 */
async function feed(decoder: InflateRaw, source: Pull): Promise<Uint8Array | undefined> {
  const closed = new Promise<void>((resolve) => decoder.once("close", resolve));
  for (let fed = 0; !decoder.destroyed; ) {
    const chunk = await source.chunk();
    if (!chunk) {
      decoder.end();
      return undefined;
    }
    fed += chunk.length;
    await Promise.race([new Promise<void>((resolve) => decoder.write(chunk, () => resolve())), closed]);
    const unused = fed - decoder.bytesWritten;
    if (unused > 0) return chunk.subarray(chunk.length - unused);
  }
  return undefined;
}
