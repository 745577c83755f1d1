import { FormatError } from "../bytes/error.js";
import { copied, type Pull } from "./pull.js";

/** 48-bit marks, as two halves: pi starts a block, the square root of pi ends the stream. */
const BLOCK_MARK = [0x314159, 0x265359] as const;
const END_MARK = [0x177245, 0x385090] as const;

/** Symbols that share a choice of Huffman table. */
const GROUP = 50;
const MAX_CODE_LENGTH = 20;
const MAX_TABLES = 6;

/** Symbols of an alphabet: 256 bytes less one (the front one is a run), two for runs, one for the end. */
const MAX_ALPHABET = 258;

/** More bytes than the tables of a block have, which are fetched with it: a block is decoded without waiting. */
const TABLES = 64 * 1024;

const error = (fact: string, offset: number, value?: number) =>
  new FormatError(`Cannot read bzip2 stream: ${fact}`, offset, value);

/** Bits of a stream, most significant first. */
class Bits {
  readonly #source: Pull;
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #word = 0;
  #count = 0;
  #taken = 0;

  constructor(source: Pull) {
    this.#source = source;
  }

  /** Offset in the stream of the byte that comes next. */
  get offset(): number {
    return this.#taken + this.#at;
  }

  /** Fetches until `size` bytes are there, or the stream ends. */
  async fetch(size: number): Promise<void> {
    if (this.#bytes.length - this.#at >= size) return;
    const parts: Uint8Array[] = [this.#bytes.slice(this.#at)];
    let length = this.#bytes.length - this.#at;
    while (length < size) {
      const chunk = await this.#source.chunk();
      if (!chunk) break;
      parts.push(copied(chunk));
      length += chunk.length;
    }
    this.#taken += this.#at;
    this.#at = 0;
    this.#bytes = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      this.#bytes.set(part, at);
      at += part.length;
    }
  }

  /** At most 24 bits. */
  read(count: number): number {
    while (this.#count < count) {
      if (this.#at >= this.#bytes.length) throw error("it is cut short", this.offset);
      this.#word = (this.#word << 8) | (this.#bytes[this.#at++] as number);
      this.#count += 8;
    }
    this.#count -= count;
    return (this.#word >>> this.#count) & ((1 << count) - 1);
  }

  /** Passes over the rest of a byte, and puts back what was fetched too much. */
  finish(): void {
    this.#count = 0;
    this.#source.unread(this.#bytes.subarray(this.#at));
  }
}

/** A Huffman code: for each length the first code that is longer, and where its symbols lie. */
interface HuffmanTable {
  readonly shortest: number;
  readonly limits: Int32Array;
  readonly bases: Int32Array;
  readonly symbols: Uint16Array;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, i) => {
  let value = i << 24;
  for (let bit = 0; bit < 8; bit++) value = value & 0x80000000 ? (value << 1) ^ 0x04c11db7 : value << 1;
  return value;
});

/**
 * Decompresses one bzip2 stream, in pieces, and checks the CRC of each block.
 *
 * The format has no specification but its program's source; a description is Joe Tsai's "BZIP2: Format Specification".
 * Throws `FormatError`.
 */
export async function* decompressBzip2(source: Pull): AsyncGenerator<Uint8Array> {
  const bits = new Bits(source);
  await bits.fetch(4);
  if (bits.read(16) !== 0x425a || bits.read(8) !== 0x68) throw error("it does not start as one", 0);
  const level = bits.read(8) - 0x30;
  if (level < 1 || level > 9) throw error(`its level is ${level}`, 3, level);
  const words = new Int32Array(level * 100_000);
  const out = new Uint8Array(256 * 1024);
  let combined = 0;
  for (;;) {
    // A block can be no longer than its bytes with the longest codes, and its tables.
    await bits.fetch((words.length * MAX_CODE_LENGTH) / 8 + TABLES);
    const at = bits.offset;
    const mark = [bits.read(24), bits.read(24)];
    const expected = (bits.read(16) * 0x10000 + bits.read(16)) >>> 0;
    if (mark[0] === END_MARK[0] && mark[1] === END_MARK[1]) {
      if (expected !== combined) throw error("its checksum is wrong", at, expected);
      bits.finish();
      return;
    }
    if (mark[0] !== BLOCK_MARK[0] || mark[1] !== BLOCK_MARK[1]) throw error("no block starts here", at);
    if (bits.read(1) === 1) throw error("a block is randomised, as only ancient versions made them", at);
    const origin = bits.read(24);
    const length = readBlock(bits, words, at);
    if (origin >= length) throw error(`a block starts with byte ${origin} of ${length}`, at, origin);
    linkBlock(words, length);
    const state = { position: (words[origin] as number) >>> 8, left: length, crc: -1, run: 0, last: -1, repeat: 0 };
    while (state.left > 0 || state.repeat > 0) {
      const size = unpackBlock(words, state, out);
      if (size > 0) yield out.subarray(0, size);
    }
    const crc = ~state.crc >>> 0;
    if (crc !== expected) throw error("the checksum of a block is wrong", at, expected);
    combined = (((combined << 1) | (combined >>> 31)) ^ crc) >>> 0;
  }
}

/** Reads the bytes of a block, still sorted, into the low bits of `words`; returns how many. */
function readBlock(bits: Bits, words: Int32Array, offset: number): number {
  const used: number[] = [];
  const ranges = bits.read(16);
  for (let high = 0; high < 16; high++) {
    if (!(ranges & (0x8000 >> high))) continue;
    const lows = bits.read(16);
    for (let low = 0; low < 16; low++) if (lows & (0x8000 >> low)) used.push(high * 16 + low);
  }
  if (used.length === 0) throw error("a block uses no bytes", offset);
  const end = used.length + 1;
  const { tables, selectors } = readTables(bits, used.length + 2, offset);

  // Most recently used first.
  const front = Uint8Array.from(used);
  let length = 0;
  let group = 0;
  let left = 0;
  let table: HuffmanTable | undefined;
  let run = 0;
  let weight = 1;
  for (;;) {
    if (left === 0) {
      table = tables[selectors[group++] ?? -1];
      if (!table) throw error("a block has more symbols than choices of tables", bits.offset);
      left = GROUP;
    }
    left--;
    const symbol = readSymbol(bits, table as HuffmanTable);
    if (symbol <= 1) {
      // Digits 1 and 2 of a number in base two, lowest first.
      run += weight << symbol;
      weight *= 2;
      if (run > words.length) throw error("a block has more bytes than its level allows", bits.offset, run);
      continue;
    }
    if (run > 0) {
      if (length + run > words.length) throw error("a block has more bytes than its level allows", bits.offset, run);
      words.fill(front[0] as number, length, length + run);
      length += run;
      run = 0;
      weight = 1;
    }
    if (symbol === end) return length;
    if (length >= words.length) throw error("a block has more bytes than its level allows", bits.offset, length);
    const index = symbol - 1;
    const byte = front[index] as number;
    front.copyWithin(1, 0, index);
    front[0] = byte;
    words[length++] = byte;
  }
}

function readTables(bits: Bits, alphabet: number, offset: number) {
  const count = bits.read(3);
  if (count < 2 || count > MAX_TABLES) throw error(`a block has ${count} tables`, offset, count);
  const selectorCount = bits.read(15);
  if (selectorCount === 0) throw error("a block has no choice of tables", offset);
  const recent = [0, 1, 2, 3, 4, 5];
  const selectors = new Uint8Array(selectorCount);
  for (let i = 0; i < selectorCount; i++) {
    let index = 0;
    while (bits.read(1) === 1) {
      if (++index >= count) throw error("a choice of tables is none of them", bits.offset, index);
    }
    const [chosen = 0] = recent.splice(index, 1);
    recent.unshift(chosen);
    selectors[i] = chosen;
  }
  const tables = Array.from({ length: count }, () => readTable(bits, alphabet));
  return { tables, selectors };
}

function readTable(bits: Bits, alphabet: number): HuffmanTable {
  const lengths = new Uint8Array(MAX_ALPHABET);
  let length = bits.read(5);
  for (let symbol = 0; symbol < alphabet; symbol++) {
    for (;;) {
      if (length < 1 || length > MAX_CODE_LENGTH) throw error(`a code has ${length} bits`, bits.offset, length);
      if (bits.read(1) === 0) break;
      length += bits.read(1) === 0 ? 1 : -1;
    }
    lengths[symbol] = length;
  }
  const symbols = new Uint16Array(alphabet);
  const limits = new Int32Array(MAX_CODE_LENGTH + 1);
  const bases = new Int32Array(MAX_CODE_LENGTH + 1);
  let shortest = MAX_CODE_LENGTH;
  let code = 0;
  let placed = 0;
  for (let size = 1; size <= MAX_CODE_LENGTH; size++) {
    code <<= 1;
    bases[size] = placed - code;
    for (let symbol = 0; symbol < alphabet; symbol++) {
      if (lengths[symbol] !== size) continue;
      symbols[placed++] = symbol;
      code++;
      shortest = Math.min(shortest, size);
    }
    limits[size] = code;
  }
  return { shortest, limits, bases, symbols };
}

function readSymbol(bits: Bits, { shortest, limits, bases, symbols }: HuffmanTable): number {
  let size = shortest;
  let code = bits.read(size);
  while (code >= (limits[size] as number)) {
    if (++size > MAX_CODE_LENGTH) throw error("a code is none of its table", bits.offset);
    code = (code << 1) | bits.read(1);
  }
  const symbol = symbols[code + (bases[size] as number)];
  if (symbol === undefined) throw error("a code is none of its table", bits.offset);
  return symbol;
}

/** Undoes the sorting: writes into the upper bits of each word where the byte behind it lies. */
function linkBlock(words: Int32Array, length: number): void {
  const starts = new Int32Array(256);
  for (let i = 0; i < length; i++) {
    const byte = (words[i] as number) & 0xff;
    starts[byte] = (starts[byte] as number) + 1;
  }
  let sum = 0;
  for (let byte = 0; byte < 256; byte++) {
    const count = starts[byte] as number;
    starts[byte] = sum;
    sum += count;
  }
  for (let i = 0; i < length; i++) {
    const byte = (words[i] as number) & 0xff;
    const place = starts[byte] as number;
    starts[byte] = place + 1;
    words[place] = (words[place] as number) | (i << 8);
  }
}

/** How far a block is unpacked. */
interface Unpacking {
  position: number;
  left: number;
  crc: number;
  /** How many times the last byte came in a row; after four, a count of more follows. */
  run: number;
  last: number;
  /** How many of them are still to be written. */
  repeat: number;
}

/** Unpacks as much of a block as fits `out`; returns how many bytes that are. */
function unpackBlock(words: Int32Array, state: Unpacking, out: Uint8Array): number {
  let size = 0;
  let { position, left, crc, run, last, repeat } = state;
  while (size < out.length) {
    if (repeat > 0) {
      repeat--;
    } else {
      if (left === 0) break;
      left--;
      const word = words[position] as number;
      position = word >>> 8;
      const byte = word & 0xff;
      if (run === 4) {
        run = 0;
        repeat = byte;
        continue;
      }
      run = byte === last ? run + 1 : 1;
      last = byte;
    }
    out[size++] = last;
    crc = (crc << 8) ^ (CRC_TABLE[(crc >>> 24) ^ last] as number);
  }
  Object.assign(state, { position, left, crc, run, last, repeat });
  return size;
}
