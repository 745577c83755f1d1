import { FormatError } from "../bytes/error.js";
import { joined } from "../bytes/joined.js";

/** Bytes that come a chunk at a time. A chunk is good until the next one is asked for: it may be a decoder's own memory. */
export type ByteStream = AsyncIterable<Uint8Array>;

/** Bytes handed out at once at the most, so that whoever copies them needs no more room than that. */
const PIECE = 256 * 1024;

/**
 * A stream read on demand, with bytes that can be looked at before they are taken and put back after.
 *
 * Nothing is read of the stream that was not asked for, and at most one chunk and what is being peeked at is held.
 */
export class Pull {
  /** Bytes taken so far. */
  offset = 0;
  readonly #source: AsyncIterator<Uint8Array>;
  #held: Uint8Array = new Uint8Array(0);
  #ended = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(stream: ByteStream) {
    this.#source = stream[Symbol.asyncIterator]();
  }

  /** The error that the stream ended with, though bytes before it may not have been taken yet. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  /** Lets go what was fetched and not taken. */
  release(): Uint8Array {
    const held = this.#held;
    this.#held = new Uint8Array(0);
    return held;
  }

  /** The next chunk of the stream; `undefined` at its end. An error of the stream is thrown each time. */
  async #next(): Promise<Uint8Array | undefined> {
    if (this.#failure) throw this.#failure.error;
    while (!this.#ended) {
      try {
        const { done, value } = await this.#source.next();
        if (done) this.#ended = true;
        else if (value.length > 0) return value;
      } catch (error) {
        this.#failure = { error };
        throw error;
      }
    }
    return undefined;
  }

  /** Takes some bytes, at most `most`; `undefined` at the end. They are good until the next call. */
  async chunk(most = PIECE): Promise<Uint8Array | undefined> {
    if (this.#held.length === 0) {
      const next = await this.#next();
      if (!next) return undefined;
      this.#held = next;
    }
    const taken = this.#held.subarray(0, Math.min(most, PIECE));
    this.#held = this.#held.subarray(taken.length);
    this.offset += taken.length;
    return taken;
  }

  /** Puts back the last bytes that were taken. */
  unread(bytes: Uint8Array): void {
    this.offset -= bytes.length;
    this.#held = this.#held.length === 0 ? copied(bytes) : joined([bytes, this.#held]);
  }

  /** Looks at the next `size` bytes, or at all there are if fewer, without taking them. */
  async peek(size: number): Promise<Uint8Array> {
    // Mostly one chunk is enough, which need not be copied then.
    if (this.#held.length === 0) this.#held = (await this.#next()) ?? this.#held;
    if (this.#held.length < size) {
      const parts = [copied(this.#held)];
      let length = this.#held.length;
      while (length < size) {
        let next: Uint8Array | undefined;
        try {
          next = await this.#next();
        } catch (error) {
          // What came before the damage can be looked at; the error comes when it is reached.
          if (length === 0) throw error;
        }
        if (!next) break;
        parts.push(copied(next));
        length += next.length;
      }
      this.#held = joined(parts);
    }
    return this.#held.subarray(0, size);
  }

  /** Takes exactly `size` bytes; throws `FormatError` where the stream ends before. `what` is what is read. */
  async read(size: number, what: string): Promise<Uint8Array> {
    const bytes = copied(await this.peek(size));
    if (bytes.length < size) {
      // An error that ended the stream says more than its end.
      await this.#next();
      throw new FormatError(`Cannot read ${what}: it is cut short`, this.offset + bytes.length, bytes.length);
    }
    this.#held = this.#held.subarray(size);
    this.offset += size;
    return bytes;
  }

  /** Passes over `size` bytes; throws `FormatError` where the stream ends before. */
  async skip(size: number, what: string): Promise<void> {
    for (let left = size; left > 0; ) {
      const chunk = await this.chunk(left);
      if (!chunk) throw new FormatError(`Cannot read ${what}: it is cut short`, this.offset, left);
      left -= chunk.length;
    }
  }

  /** Passes over all that is left. */
  async drain(): Promise<void> {
    while (await this.chunk()) {}
  }

  /** The next `size` bytes as a stream of their own; what of them is not taken stays. Errors call them `what`. */
  async *limited(size: number, what: string): AsyncGenerator<Uint8Array, void, undefined> {
    for (let left = size; left > 0; ) {
      const chunk = await this.chunk(left);
      if (!chunk) throw new FormatError(`Cannot read ${what}: it is cut short`, this.offset, left);
      left -= chunk.length;
      yield chunk;
    }
  }

  /** Says that no more is wanted, so that files are closed and decoders let go. */
  async close(): Promise<void> {
    this.#ended = true;
    await this.#source.return?.();
  }
}

/** A copy of bytes; a Buffer, whose `slice` makes none, may be among them. */
export function copied(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}
