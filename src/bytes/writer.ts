import type { ReaderOptions } from "./reader.js";

/** Bytes that grow as they are written; the mirror of `Reader`. */
export class Writer {
  readonly littleEndian: boolean;
  readonly wordSize: 4 | 8;
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  constructor(options: Pick<ReaderOptions, "littleEndian" | "wordSize"> = {}) {
    this.littleEndian = options.littleEndian ?? true;
    this.wordSize = options.wordSize ?? 8;
  }

  /** Bytes written so far: the offset of the next one. */
  get length(): number {
    return this.#length;
  }

  #grow(size: number): number {
    const at = this.#length;
    this.#length += size;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }

  u8(value: number): this {
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
    return this;
  }

  u16(value: number): this {
    const at = this.#grow(2);
    this.#view.setUint16(at, value, this.littleEndian);
    return this;
  }

  u32(value: number): this {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, this.littleEndian);
    return this;
  }

  u64(value: bigint | number): this {
    const at = this.#grow(8);
    this.#view.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), this.littleEndian);
    return this;
  }

  /** An address-sized value, 4 or 8 bytes; negative values are written as two's complement. */
  word(value: bigint | number): this {
    return this.wordSize === 8 ? this.u64(value) : this.u32(Number(BigInt.asUintN(32, BigInt(value))));
  }

  raw(bytes: Uint8Array): this {
    const at = this.#grow(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  /** One byte a character, and a NUL. */
  cstring(text: string): this {
    for (let i = 0; i < text.length; i++) this.u8(text.charCodeAt(i) & 0xff);
    return this.u8(0);
  }

  /** Zeros up to the next multiple of `alignment`. */
  align(alignment: number): this {
    return this.padTo(Math.ceil(this.#length / alignment) * alignment);
  }

  /** Zeros up to `offset`, which must not lie behind. */
  padTo(offset: number): this {
    if (offset < this.#length) throw new RangeError(`cannot pad to ${offset}: ${this.#length} bytes are written`);
    this.#grow(offset - this.#length);
    return this;
  }

  /** A copy of what was written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}
