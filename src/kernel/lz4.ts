import { FormatError } from "../bytes/error.js";
import { Reader } from "../bytes/reader.js";
import { MAX_LZ4_BLOCK } from "./compression.js";
import type { Pull } from "./pull.js";

const MAGIC = 0x184c2102;

/** Decompressed size of a block of a legacy stream, but for the last one. */
const BLOCK = 8 * 1024 * 1024;

/** How far back a match reaches. */
const WINDOW = 64 * 1024;

/** Output that is handed over at once; with the window it stays in a cache of the processor. */
const OUT_SIZE = 192 * 1024;

/** Longest run whose length has one byte beyond the token: 15 and 254, and 4 of a match. */
const MAX_SHORT = 273;

/** Bytes of input and of output with which a sequence of short runs is decoded without asking again whether they last. */
const MARGIN_IN = MAX_SHORT + 16;
const MARGIN_OUT = 2 * MAX_SHORT + 16;

/** Runs from here on are copied by a call, shorter ones four bytes at a time. */
const LONG = 64;

/**
 * Decompresses a legacy LZ4 stream (`lz4 -l`, as the kernel's build makes it). The size of the whole, four bytes that
 * the build appends, is left.
 *
 * Blocks have 8 MiB, but only 64 KiB of what was put out are kept: where memory is fresh, touching it costs more than
 * decoding. Source: lz4_Frame_format.md, "Legacy frame", and lz4_Block_format.md. Throws `FormatError`.
 */
export async function* decompressLz4(source: Pull): AsyncGenerator<Uint8Array> {
  const start = new Reader(await source.read(4, "lz4 stream"), { what: "lz4 stream" });
  if (start.u32At(0) !== MAGIC) throw new FormatError("Cannot read lz4 stream: it does not start as one", 0);
  const decoder = new BlockDecoder();
  for (;;) {
    const next = await source.peek(5);
    if (next.length === 0) return;
    if (next.length < 4) throw new FormatError("Cannot read lz4 stream: it is cut short", source.offset + next.length);
    const size = new Reader(next, { what: "lz4 stream" }).u32At(0);
    // No block is that large, or nothing follows: this is the size of the whole, or another stream.
    if (size > MAX_LZ4_BLOCK || next.length === 4) return;
    await source.skip(4, "lz4 stream");
    decoder.start(source.offset);
    for (let left = size; left > 0; ) {
      const chunk = await source.chunk(left);
      if (!chunk) throw new FormatError("Cannot read lz4 stream: it is cut short", source.offset, left);
      left -= chunk.length;
      decoder.feed(chunk);
      for (let out = decoder.decode(); out.length > 0; out = decoder.decode()) yield out;
    }
    // All blocks but the last are full.
    if (decoder.finish() < BLOCK) return;
  }
}

/** What comes next in a block. */
const TOKEN = 0;
const LITERAL_LENGTH = 1;
const LITERALS = 2;
const DISTANCE = 3;
const DISTANCE_HIGH = 4;
const MATCH_LENGTH = 5;
const MATCH = 6;

/** Decodes one block after the other, from input and to output in pieces. */
class BlockDecoder {
  readonly #out = new Uint8Array(WINDOW + OUT_SIZE);
  readonly #outWords = new DataView(this.#out.buffer);
  #length = 0;
  #input: Uint8Array = new Uint8Array(0);
  #inputWords = new DataView(this.#input.buffer);
  #at = 0;
  /** Offset of the input in the stream, and bytes of the block that were handed over. */
  #origin = 0;
  #done = 0;
  #phase = TOKEN;
  /** Length of the run that is being copied, or is being read. */
  #count = 0;
  #distance = 0;
  #token = 0;

  /** Starts a block, whose matches reach no further back than itself. */
  start(offset: number): void {
    this.#origin = offset;
    this.#input = new Uint8Array(0);
    this.#at = 0;
    this.#length = 0;
    this.#done = 0;
    this.#phase = TOKEN;
  }

  feed(input: Uint8Array): void {
    this.#origin += this.#input.length;
    this.#input = input;
    this.#inputWords = new DataView(input.buffer, input.byteOffset, input.length);
    this.#at = 0;
  }

  /** Ends a block and returns its size. Throws where it does not end with literals, as all do. */
  finish(): number {
    if (this.#phase !== DISTANCE) throw this.#error("a block ends in the middle of a sequence");
    return this.#done;
  }

  #error(fact: string, value?: number): FormatError {
    return new FormatError(`Cannot read lz4 stream: ${fact}`, this.#origin + this.#at, value);
  }

  /** Decodes what the input gives; the result, none once all of the input is used, is good until the next call. */
  decode(): Uint8Array {
    const out = this.#out;
    if (this.#length > WINDOW) {
      out.copyWithin(0, this.#length - WINDOW, this.#length);
      this.#length = WINDOW;
    }
    const start = this.#length;
    do this.#short();
    while (this.#step());
    this.#done += this.#length - start;
    if (this.#done > BLOCK) throw this.#error(`a block has more than ${BLOCK} bytes`, this.#done);
    return out.subarray(start, this.#length);
  }

  /**
   * Decodes whole sequences while both runs are short, which most are. Runs are copied in words, a little too far: what
   * follows is written later.
   */
  #short(): void {
    if (this.#phase !== TOKEN) return;
    const out = this.#out;
    const outWords = this.#outWords;
    const input = this.#input;
    const words = this.#inputWords;
    const lastIn = input.length - MARGIN_IN;
    const lastOut = out.length - MARGIN_OUT;
    let at = this.#at;
    let length = this.#length;
    while (at < lastIn && length < lastOut) {
      const token = input[at] as number;
      let literals = token >> 4;
      let start = at + 1;
      if (literals === 15) {
        const more = input[start++] as number;
        if (more === 255) break;
        literals += more;
      }
      let next = start + literals;
      const distance = words.getUint16(next, true);
      next += 2;
      let count = (token & 15) + 4;
      if (count === 19) {
        const more = input[next++] as number;
        if (more === 255) break;
        count += more;
      }
      let from = length + literals - distance;
      if (distance === 0 || from < 0) break;
      for (let done = 0; done < literals; done += 4) outWords.setInt32(length + done, words.getInt32(start + done));
      length += literals;
      const end = length + count;
      if (distance >= 4 && count < LONG) {
        for (; length < end; length += 4, from += 4) outWords.setInt32(length, outWords.getInt32(from));
      } else if (distance >= count) out.copyWithin(length, from, from + count);
      else if (distance === 1) out.fill(out[from] as number, length, end);
      else while (length < end) out[length++] = out[from++] as number;
      length = end;
      at = next;
    }
    this.#at = at;
    this.#length = length;
  }

  /** Does one part of a sequence, or as much as there is input and room for; `false` where there is none. */
  #step(): boolean {
    const input = this.#input;
    const hasInput = this.#at < input.length;
    const room = this.#out.length - this.#length;
    switch (this.#phase) {
      case TOKEN:
        if (!hasInput || room === 0) return false;
        this.#token = input[this.#at++] as number;
        this.#count = this.#token >> 4;
        this.#phase = this.#count === 15 ? LITERAL_LENGTH : LITERALS;
        return true;
      case LITERAL_LENGTH:
      case MATCH_LENGTH: {
        if (!hasInput) return false;
        const more = input[this.#at++] as number;
        this.#count += more;
        if (this.#count > BLOCK) throw this.#error(`a run has more than ${BLOCK} bytes`, this.#count);
        if (more < 255) this.#phase = this.#phase === LITERAL_LENGTH ? LITERALS : MATCH;
        return true;
      }
      case LITERALS: {
        const size = Math.min(this.#count, input.length - this.#at, room);
        this.#out.set(input.subarray(this.#at, this.#at + size), this.#length);
        this.#at += size;
        this.#length += size;
        this.#count -= size;
        if (this.#count === 0) this.#phase = DISTANCE;
        return this.#count === 0;
      }
      case DISTANCE:
        if (!hasInput) return false;
        this.#distance = input[this.#at++] as number;
        this.#phase = DISTANCE_HIGH;
        return true;
      case DISTANCE_HIGH:
        if (!hasInput) return false;
        this.#distance |= (input[this.#at++] as number) << 8;
        if (this.#distance === 0 || this.#distance > this.#length) {
          throw this.#error(`a match is ${this.#distance} bytes back, of ${this.#length}`, this.#distance);
        }
        this.#count = (this.#token & 15) + 4;
        this.#phase = this.#count === 19 ? MATCH_LENGTH : MATCH;
        return true;
      default: {
        const size = Math.min(this.#count, room);
        this.#match(size);
        this.#count -= size;
        if (this.#count === 0) this.#phase = TOKEN;
        return this.#count === 0;
      }
    }
  }

  #match(size: number): void {
    const out = this.#out;
    const end = this.#length + size;
    let from = this.#length - this.#distance;
    if (this.#distance >= size) out.copyWithin(this.#length, from, from + size);
    else if (this.#distance === 1) out.fill(out[from] as number, this.#length, end);
    // Byte by byte: where the two overlap, what was just written is repeated.
    else for (let at = this.#length; at < end; at++) out[at] = out[from++] as number;
    this.#length = end;
  }
}
