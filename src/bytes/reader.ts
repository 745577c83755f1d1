import { FormatError } from "./error.js";
import { hex } from "./hex.js";

/** How the bytes of a {@link Reader} are to be read; fixed when it is made. */
export interface ReaderOptions {
  /** Byte order; little-endian unless said. */
  readonly littleEndian?: boolean;
  /** Size in bytes of an address or a "word" of the format ({@link Reader.wordAt}); 8 unless said. */
  readonly wordSize?: 4 | 8;
  /** What is being read, as errors name it: "ELF header". */
  readonly what?: string;
  /** Added to the offsets that errors name: where these bytes start in the whole they were cut from. */
  readonly origin?: number;
}

/**
 * One character for each byte, with the byte's value.
 *
 * Not `TextDecoder("latin1")`, which means windows-1252: it gives 0x80 to 0x9f other characters, so that a name would
 * no longer have the hash of its bytes.
 */
function latin1(bytes: Uint8Array): string {
  let text = "";
  // An argument for each byte: in pieces, for the stack is bounded. Spread syntax would go through an iterator.
  for (let at = 0; at < bytes.length; at += 4096) {
    text += Reflect.apply(String.fromCharCode, undefined, bytes.subarray(at, at + 4096));
  }
  return text;
}

/**
 * Bounds-checked access to bytes that somebody else wrote.
 *
 * Every read either lies wholly inside the bytes or throws {@link FormatError}: nothing is clamped. Offsets are in
 * bytes from the start of `bytes`.
 */
export class Reader {
  readonly bytes: Uint8Array;
  readonly littleEndian: boolean;
  readonly wordSize: 4 | 8;
  readonly what: string;
  readonly origin: number;
  readonly #view: DataView;

  constructor(bytes: Uint8Array, options: ReaderOptions = {}) {
    this.bytes = bytes;
    this.littleEndian = options.littleEndian ?? true;
    this.wordSize = options.wordSize ?? 8;
    this.what = options.what ?? "data";
    this.origin = options.origin ?? 0;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Number of bytes. */
  get length(): number {
    return this.bytes.length;
  }

  /** An error about the byte at `offset`, worded "Cannot read WHAT: FACT". */
  error(fact: string, offset: number, value?: number | bigint | string): FormatError {
    return new FormatError(`Cannot read ${this.what}: ${fact}`, this.origin + offset, value);
  }

  /** Throws unless `size` bytes at `offset` lie inside. */
  check(offset: number, size: number): void {
    if (!(Number.isSafeInteger(offset) && Number.isSafeInteger(size) && offset >= 0 && size >= 0)) {
      throw this.error(`${size} bytes at ${offset} is not a range`, 0, offset);
    }
    if (offset + size > this.bytes.length) {
      throw this.error(`${size} bytes at ${hex(offset)} end past the last of ${this.bytes.length} bytes`, offset, size);
    }
  }

  u8At(offset: number): number {
    this.check(offset, 1);
    return this.#view.getUint8(offset);
  }

  u16At(offset: number): number {
    this.check(offset, 2);
    return this.#view.getUint16(offset, this.littleEndian);
  }

  u32At(offset: number): number {
    this.check(offset, 4);
    return this.#view.getUint32(offset, this.littleEndian);
  }

  i32At(offset: number): number {
    this.check(offset, 4);
    return this.#view.getInt32(offset, this.littleEndian);
  }

  u64At(offset: number): bigint {
    this.check(offset, 8);
    return this.#view.getBigUint64(offset, this.littleEndian);
  }

  i64At(offset: number): bigint {
    this.check(offset, 8);
    return this.#view.getBigInt64(offset, this.littleEndian);
  }

  /** An unsigned address-sized value: 4 or 8 bytes, as {@link Reader.wordSize} says. */
  wordAt(offset: number): bigint {
    return this.wordSize === 8 ? this.u64At(offset) : BigInt(this.u32At(offset));
  }

  /** A word that is to be an offset, a size or a count; throws where it does not fit a safe integer. */
  sizeAt(offset: number): number {
    if (this.wordSize === 4) return this.u32At(offset);
    const value = this.u64At(offset);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw this.error(`a size or offset of ${hex(value)} is beyond any file`, offset, value);
    }
    return Number(value);
  }

  /** A view (not a copy) of `size` bytes at `offset`. */
  bytesAt(offset: number, size: number): Uint8Array {
    this.check(offset, size);
    return this.bytes.subarray(offset, offset + size);
  }

  /** A string of one byte a character that ends before the first NUL; throws where there is none inside. */
  cstringAt(offset: number): string {
    this.check(offset, 1);
    const end = this.bytes.indexOf(0, offset);
    if (end < 0) throw this.error("a string has no end", offset);
    return latin1(this.bytes.subarray(offset, end));
  }

  /** A reader of `size` bytes at `offset`, whose errors name offsets in the whole. */
  slice(offset: number, size: number, what = this.what): Reader {
    return new Reader(this.bytesAt(offset, size), {
      littleEndian: this.littleEndian,
      wordSize: this.wordSize,
      what,
      origin: this.origin + offset,
    });
  }

  /** The same bytes, named otherwise in errors. */
  named(what: string): Reader {
    return this.slice(0, this.length, what);
  }
}
