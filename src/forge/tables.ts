import { Writer } from "../bytes/writer.js";
import type { ElfLayout } from "../elf/builder.js";
import * as C from "../elf/constants.js";
import { gnuHash, sysvHash } from "../elf/hash.js";

/** A dynamic symbol to be written. */
export interface SymbolPlan {
  /** Empty: the symbol of a section. */
  readonly name: string;
  /** The section that it lies in; absent: it has no address (SHN_ABS). */
  readonly section?: string;
  /** From the start of the section. */
  readonly offset: number;
  readonly size: number;
  readonly bind: number;
  readonly type: number;
  /** The version that it has; absent in local symbols. */
  readonly version?: string;
}

/** Strings of a file, each of them once. */
export class Strings {
  readonly #out = new Writer().u8(0);
  readonly #at = new Map<string, number>([["", 0]]);

  /** Where a string lies, which is added if it is new. */
  at(text: string): number {
    let at = this.#at.get(text);
    if (at === undefined) {
      at = this.#out.length;
      this.#at.set(text, at);
      this.#out.cstring(text);
    }
    return at;
  }

  /** All strings, each with its NUL. */
  get bytes(): Uint8Array {
    return this.#out.finish();
  }
}

/** The entries of `.dynsym` with symbol 0 in front. */
export function symbolTable(
  symbols: readonly SymbolPlan[],
  strings: Strings,
  bits: 32 | 64,
  layout: ElfLayout,
): Uint8Array {
  const out = new Writer({ wordSize: bits === 64 ? 8 : 4 }).padTo(bits === 64 ? 24 : 16);
  for (const { name, section, offset, size, bind, type } of symbols) {
    const value = section === undefined ? 0n : layout.addressOf(section) + BigInt(offset);
    const index = section === undefined ? C.SHN_ABS : layout.indexOf(section);
    const info = (bind << 4) | type;
    out.u32(strings.at(name));
    if (bits === 64) out.u8(info).u8(0).u16(index).word(value).word(size);
    else out.word(value).word(size).u8(info).u8(0).u16(index);
  }
  return out.finish();
}

/** How many of the symbols are local; these come first. */
export function localCount(symbols: readonly SymbolPlan[]): number {
  const first = symbols.findIndex(({ bind }) => bind !== C.STB_LOCAL);
  return first < 0 ? symbols.length : first;
}

/** Symbols to a bucket, about: a miss then compares one name. */
function bucketCount(symbols: number): number {
  return Math.max(1, Math.ceil(symbols / 2));
}

/** The table of DT_HASH, of the symbols that are not local. */
export function sysvHashTable(symbols: readonly SymbolPlan[]): Uint8Array {
  const locals = localCount(symbols);
  const buckets = new Array<number>(bucketCount(symbols.length - locals)).fill(0);
  const chains = new Array<number>(symbols.length + 1).fill(0);
  // From the last to the first, so that each chain goes through the symbols in their order.
  for (let i = symbols.length - 1; i >= locals; i--) {
    const bucket = sysvHash((symbols[i] as SymbolPlan).name) % buckets.length;
    chains[i + 1] = buckets[bucket] as number;
    buckets[bucket] = i + 1;
  }
  const out = new Writer().u32(buckets.length).u32(chains.length);
  for (const word of [...buckets, ...chains]) out.u32(word);
  return out.finish();
}

/** Bits between the two that a name has in the filter of DT_GNU_HASH. */
const BLOOM_SHIFT = 6;

/** Puts symbols that are not local in the order that {@link gnuHashTable} needs: by bucket. */
export function inGnuOrder(symbols: readonly SymbolPlan[]): SymbolPlan[] {
  const bucket = ({ name }: SymbolPlan): number => gnuHash(name) % bucketCount(symbols.length);
  return [...symbols].sort((a, b) => bucket(a) - bucket(b));
}

/** The table of DT_GNU_HASH; `symbols` are all of the file's, the ones not local {@link inGnuOrder}. */
export function gnuHashTable(symbols: readonly SymbolPlan[], bits: 32 | 64): Uint8Array {
  const first = localCount(symbols);
  const hashes = symbols.slice(first).map(({ name }) => gnuHash(name));
  const buckets = new Array<number>(bucketCount(hashes.length)).fill(0);
  let bloom = 0n;
  hashes.forEach((hash, i) => {
    bloom |= (1n << BigInt(hash % bits)) | (1n << BigInt((hash >>> BLOOM_SHIFT) % bits));
    buckets[hash % buckets.length] ||= first + 1 + i;
  });
  const out = new Writer({ wordSize: bits === 64 ? 8 : 4 });
  out
    .u32(buckets.length)
    .u32(first + 1)
    .u32(1)
    .u32(BLOOM_SHIFT)
    .word(bloom);
  for (const index of buckets) out.u32(index);
  hashes.forEach((hash, i) => {
    const next = hashes[i + 1];
    const last = next === undefined || next % buckets.length !== hash % buckets.length;
    out.u32(last ? (hash | 1) >>> 0 : (hash & ~1) >>> 0);
  });
  return out.finish();
}

/** The entries of `.gnu.version`, symbol 0's in front; `versions` in the order of {@link versionDefinitions}. */
export function versionIndexes(symbols: readonly SymbolPlan[], versions: readonly string[]): Uint8Array {
  const out = new Writer().u16(C.VER_NDX_LOCAL);
  for (const { version } of symbols) {
    // 1 is the file's own name.
    out.u16(version === undefined ? C.VER_NDX_LOCAL : versions.indexOf(version) + 2);
  }
  return out.finish();
}

const VERDEF_SIZE = 20;
const VERDAUX_SIZE = 8;

/** The entries of `.gnu.version_d`: the file's name, then the versions that it defines. */
export function versionDefinitions(soname: string, versions: readonly string[], strings: Strings): Uint8Array {
  const out = new Writer();
  const names = [soname, ...versions];
  names.forEach((name, i) => {
    const next = i + 1 < names.length ? VERDEF_SIZE + VERDAUX_SIZE : 0;
    out
      .u16(1)
      .u16(i === 0 ? C.VER_FLG_BASE : 0)
      .u16(i + 1)
      .u16(1);
    out.u32(sysvHash(name)).u32(VERDEF_SIZE).u32(next);
    out.u32(strings.at(name)).u32(0);
  });
  return out.finish();
}

/** A note in the usual form: padded to 4 bytes. */
export function note(name: string, type: number, desc: Uint8Array): Uint8Array {
  const out = new Writer();
  out
    .u32(name.length + 1)
    .u32(desc.length)
    .u32(type)
    .cstring(name)
    .align(4);
  return out.raw(desc).align(4).finish();
}
