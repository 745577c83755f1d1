import type { Reader } from "../bytes/reader.js";

/** The hash of DT_HASH. Source: System V gABI, "Hash Table". */
export function sysvHash(name: string): number {
  let hash = 0;
  for (let i = 0; i < name.length; i++) {
    hash = ((hash << 4) + (name.charCodeAt(i) & 0xff)) >>> 0;
    const high = hash & 0xf0000000;
    hash = (hash ^ (high >>> 24)) & ~high;
  }
  return hash >>> 0;
}

/** The hash of DT_GNU_HASH: Bernstein's, from 5381 by 33. */
export function gnuHash(name: string): number {
  let hash = 5381;
  for (let i = 0; i < name.length; i++) hash = (Math.imul(hash, 33) + (name.charCodeAt(i) & 0xff)) >>> 0;
  return hash;
}

/** A hash table of the dynamic symbols, as a C library uses it. */
export interface HashTable {
  readonly kind: "sysv" | "gnu";
  /** How many symbols the dynamic symbol table has, as far as this table knows. */
  readonly symbolCount: number;
  /** Indexes of symbols that may have this name, in the order of a look-up; each is to be compared by name. */
  candidates(name: string): Generator<number>;
}

/**
 * DT_HASH: nbucket, nchain, buckets, chains. `nchain` equals the number of symbols.
 *
 * `entrySize` is 4 but on 64-bit s390 and Alpha, where the words have 8 bytes.
 */
export function readSysvHash(reader: Reader, entrySize: 4 | 8 = 4): HashTable {
  const entry = (index: number) => (entrySize === 4 ? reader.u32At(index * 4) : reader.sizeAt(index * 8));
  const nbucket = entry(0);
  const nchain = entry(1);
  reader.check(0, (2 + nbucket + nchain) * entrySize);
  return {
    kind: "sysv",
    symbolCount: nchain,
    *candidates(name) {
      if (nbucket === 0) return;
      let index = entry(2 + (sysvHash(name) % nbucket));
      for (let steps = 0; index !== 0; steps++) {
        if (index >= nchain || steps > nchain) throw reader.error("a hash chain does not end", 0, index);
        yield index;
        index = entry(2 + nbucket + index);
      }
    },
  };
}

/**
 * DT_GNU_HASH: nbuckets, symoffset, bloom words, buckets, chains; the symbols from `symoffset` on are in it, sorted by
 * bucket, and the lowest bit of a chain word ends a bucket. The number of symbols is found by walking the last one.
 *
 * Undefined symbols come before `symoffset`, so the number is exact unless no symbol is defined: then linkers write a
 * `symoffset` of 1, and nothing in the table says how many undefined ones there are.
 */
export function readGnuHash(reader: Reader): HashTable {
  const nbuckets = reader.u32At(0);
  const symoffset = reader.u32At(4);
  const bloomWords = reader.u32At(8);
  const bloomShift = reader.u32At(12) & 31;
  const bloomAt = 16;
  const bucketsAt = bloomAt + bloomWords * reader.wordSize;
  const chainsAt = bucketsAt + nbuckets * 4;
  reader.check(0, chainsAt);
  const bucket = (index: number) => reader.u32At(bucketsAt + index * 4);
  const chain = (index: number) => reader.u32At(chainsAt + (index - symoffset) * 4);

  let symbolCount = symoffset;
  let last = 0;
  for (let i = 0; i < nbuckets; i++) last = Math.max(last, bucket(i));
  if (last >= symoffset && nbuckets > 0) {
    // The reader's bounds end this walk where no chain word does.
    while ((chain(last) & 1) === 0) last += 1;
    symbolCount = last + 1;
  }

  return {
    kind: "gnu",
    symbolCount,
    *candidates(name) {
      if (nbuckets === 0 || bloomWords === 0) return;
      const hash = gnuHash(name);
      const bits = reader.wordSize * 8;
      const word = reader.wordAt(bloomAt + (Math.floor(hash / bits) % bloomWords) * reader.wordSize);
      const mask = (1n << BigInt(hash % bits)) | (1n << BigInt((hash >>> bloomShift) % bits));
      if ((word & mask) !== mask) return;
      let index = bucket(hash % nbuckets);
      if (index < symoffset) return;
      for (; ; index++) {
        if (index >= symbolCount) throw reader.error("a hash chain does not end", 0, index);
        const value = chain(index);
        if ((value | 1) === (hash | 1)) yield index;
        if ((value & 1) === 1) return;
      }
    },
  };
}
