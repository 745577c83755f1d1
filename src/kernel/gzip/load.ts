import { pipeline, Readable } from "node:stream";
import { crc32, createInflateRaw } from "node:zlib";
import { FormatError } from "../../bytes/error.js";
import { Reader } from "../../bytes/reader.js";
import { copied, type Pull } from "../pull.js";

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

/** Decompresses with Node's zlib, which works in another thread. */
async function* inflate(source: Pull): AsyncGenerator<Uint8Array> {
  const start = source.offset;
  let last: Uint8Array = new Uint8Array(0);
  async function* input(): AsyncGenerator<Uint8Array> {
    for (let chunk = await source.chunk(); chunk; chunk = await source.chunk()) {
      // It is used after the next one was asked for.
      last = copied(chunk);
      yield last;
    }
  }
  const decoder = createInflateRaw({ chunkSize: CHUNK });
  const feed = Readable.from(input(), { objectMode: true, highWaterMark: 1 });
  let failure: unknown;
  feed.on("error", (error) => {
    failure = error;
  });
  pipeline(feed, decoder, () => {});
  try {
    for await (const chunk of decoder) yield chunk;
  } catch (error) {
    if (failure) throw failure;
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (!code.startsWith("Z_")) throw error;
    const reason = code === "Z_BUF_ERROR" ? "it is cut short" : `it is corrupt (${(error as Error).message})`;
    throw new FormatError(`Cannot read ${GZIP}: ${reason}`, start + decoder.bytesWritten);
  }
  const left = source.offset - start - decoder.bytesWritten;
  if (left > 0) source.unread(last.subarray(last.length - left));
}
