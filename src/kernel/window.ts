import type { Pull } from "./pull.js";

/** Bytes of the buffer at first: where memory is fresh, touching it costs more than searching it. */
const CAPACITY = 384 * 1024;

/** A part of a stream in memory, which moves forward only. Positions are offsets in the stream. */
export class Window {
  readonly #pull: Pull;
  #buffer = Buffer.allocUnsafeSlow(CAPACITY);
  /** Offset of the first byte of the buffer, and how many are filled. */
  #base: number;
  #length = 0;

  constructor(pull: Pull) {
    this.#pull = pull;
    this.#base = pull.offset;
  }

  /** Offset behind the last byte that is there. */
  get end(): number {
    return this.#base + this.#length;
  }

  /** Offset of the next place at or behind `from` with these bytes; -1 where none is there. */
  find(bytes: Uint8Array, from: number): number {
    const at = this.#buffer.subarray(0, this.#length).indexOf(bytes, Math.max(0, from - this.#base));
    return at < 0 ? -1 : this.#base + at;
  }

  /** Bytes that are there, a view until more are fetched; fewer than `size` where the rest is not there. */
  view(from: number, size: number): Uint8Array {
    const at = from - this.#base;
    return this.#buffer.subarray(at, Math.min(at + size, this.#length));
  }

  /** Fetches some more bytes, keeping those from `keep`; `false` at the end of the stream. */
  async fetch(keep: number): Promise<boolean> {
    const chunk = await this.#pull.chunk();
    if (!chunk) return false;
    if (this.#length + chunk.length > this.#buffer.length) {
      const dropped = Math.min(keep - this.#base, this.#length);
      const kept = this.#buffer.subarray(dropped, this.#length);
      if (kept.length + chunk.length > this.#buffer.length) {
        this.#buffer = Buffer.allocUnsafeSlow(2 * (kept.length + chunk.length));
      }
      this.#buffer.set(kept);
      this.#base += dropped;
      this.#length = kept.length;
    }
    this.#buffer.set(chunk, this.#length);
    this.#length += chunk.length;
    return true;
  }

  /** Fetches until `size` bytes from `from` are there, or the stream ends. */
  async ensure(from: number, size: number): Promise<void> {
    while (this.end < from + size && (await this.fetch(from))) {}
  }

  /** Starts over where the stream now stands. */
  restart(): void {
    this.#base = this.#pull.offset;
    this.#length = 0;
  }
}
