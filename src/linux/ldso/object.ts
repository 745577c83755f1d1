import { FormatError } from "../../bytes/error.js";
import { hex } from "../../bytes/hex.js";
import { Reader } from "../../bytes/reader.js";
import * as C from "../../elf/constants.js";
import { type DynamicEntry, readDynamic } from "../../elf/dynamic.js";
import { type ElfHeader, RECORD_SIZE, readHeader } from "../../elf/header.js";
import { readSegments, type Segment } from "../../elf/segment.js";
import { StringTable } from "../../elf/strings.js";
import { readVersionDefinitions, readVersionNeeds } from "../../elf/version.js";
import type { ByteSource } from "./files.js";
import { pathText } from "./path.js";

/** A dynamic entry that names another object to load. */
export interface DsoLink {
  /** `filter` and `auxiliary` objects are searched before the object that names them. */
  readonly kind: "needed" | "filter" | "auxiliary";
  readonly name: string;
}

/** What a dynamic linker reads of an object in order to load it. */
export interface Dso {
  readonly header: ElfHeader;
  /** PT_INTERP. */
  readonly interpreter?: string;
  /** Whether there is a PT_DYNAMIC. */
  readonly dynamic: boolean;
  /** Whether there is a PT_LOAD. */
  readonly loadable: boolean;
  /** DT_NEEDED, DT_FILTER and DT_AUXILIARY, in order. */
  readonly links: readonly DsoLink[];
  readonly soname?: string;
  readonly rpath?: string;
  readonly runpath?: string;
  /** DT_FLAGS_1. */
  readonly flags1: number;
}

/** Symbol versions that an object asks of others, and those that it has. */
export interface DsoVersions {
  readonly needs: readonly { readonly file: string; readonly version: string; readonly weak: boolean }[];
  readonly defines: readonly string[];
}

const DT_AUXILIARY = 0x7ffffffd;
const DT_FILTER = 0x7fffffff;
/** Bit of `vna_flags`: the object works without that version. */
const VER_FLG_WEAK = 2;

/** Enough for the headers of most files, read in one go. */
const FIRST_READ = 4096;
/** The most that is read of a dynamic section: 65,536 entries of a 64-bit file. Real ones have fewer than 1,000. */
const MAX_DYNAMIC = 1 << 20;
const FIRST_VERSIONS = 1 << 13;
/** The most that is read of a version table. Real ones have less than 100 KiB. */
const MAX_VERSIONS = 1 << 22;
/** The longest string: a RPATH of many folders. */
const MAX_STRING = 1 << 16;
/** The most that the strings of one object may have together. */
const MAX_STRINGS = 1 << 22;
const BLOCK = 1024;

/** A string table that stays on disk: the blocks that hold the few strings that are asked for are read. */
class StoredStrings extends StringTable {
  readonly #source: ByteSource;
  readonly #start: number;
  readonly #end: number;
  readonly #blocks = new Map<number, Uint8Array>();
  readonly #known = new Map<number, string>();
  #budget = MAX_STRINGS;

  constructor(source: ByteSource, start: number, end: number) {
    super(new Reader(new Uint8Array(0)));
    this.#source = source;
    this.#start = start;
    this.#end = Math.min(end, source.size);
  }

  #block(index: number): Uint8Array {
    let block = this.#blocks.get(index);
    if (!block) {
      block = this.#source.readAt(index * BLOCK, BLOCK);
      // A hostile file must not have itself read into memory whole.
      if (this.#blocks.size > 256) this.#blocks.clear();
      this.#blocks.set(index, block);
    }
    return block;
  }

  override at(offset: number): string {
    const known = this.#known.get(offset);
    if (known !== undefined) return known;
    const first = this.#start + offset;
    let text = "";
    for (let at = first; ; ) {
      if (!(at < this.#end) || text.length > MAX_STRING) {
        throw new FormatError("Cannot read ELF dynamic strings: a string has no end", first, offset);
      }
      const block = this.#block(Math.floor(at / BLOCK));
      const from = at % BLOCK;
      const zero = block.indexOf(0, from);
      const to = zero < 0 ? block.length : zero;
      text += String.fromCharCode(...block.subarray(from, to));
      if (zero >= 0) break;
      at += Math.max(to - from, 1);
    }
    this.#budget -= text.length + 1;
    if (this.#budget < 0) {
      throw new FormatError(`Cannot read ELF dynamic strings: they have more than ${MAX_STRINGS} bytes`, first);
    }
    const path = pathText(text);
    this.#known.set(offset, path);
    return path;
  }
}

/** A file through the ranges of it that were asked for. */
class Ranges {
  readonly source: ByteSource;
  readonly header: ElfHeader;
  readonly segments: readonly Segment[];
  readonly #first: Uint8Array;

  constructor(source: ByteSource) {
    this.source = source;
    this.#first = source.readAt(0, FIRST_READ);
    this.header = readHeader(this.#first).header;
    const { e_phoff, e_phnum, class: bits } = this.header;
    const table = this.slice(e_phoff, e_phnum * RECORD_SIZE[bits].segment, "ELF program headers");
    this.segments = readSegments({ ...this.header, e_phoff: 0 }, table, e_phnum);
  }

  /** A reader of `size` bytes at `offset`; throws where the file ends before. */
  slice(offset: number, size: number, what: string): Reader {
    const inside = offset + size <= this.#first.length;
    const bytes = inside ? this.#first.subarray(offset, offset + size) : this.source.readAt(offset, size);
    const reader = new Reader(bytes, {
      littleEndian: this.header.littleEndian,
      wordSize: this.header.class === 64 ? 8 : 4,
      what,
      origin: offset,
    });
    reader.check(0, size);
    return reader;
  }

  /** Where in the file an address lies, and where the segment's bytes end; throws where it is in none. */
  locate(address: bigint, what: string): { offset: number; end: number } {
    for (const { p_type, p_vaddr, p_offset, p_filesz } of this.segments) {
      const delta = address - p_vaddr;
      if (p_type === C.PT_LOAD && delta >= 0n && delta < BigInt(p_filesz)) {
        return { offset: p_offset + Number(delta), end: p_offset + p_filesz };
      }
    }
    throw new FormatError(`Cannot read ${what}: address ${hex(address)} is in no loadable segment`, 0, address);
  }
}

function readEntries(file: Ranges): DynamicEntry[] {
  // The last one counts where there are several, as for a dynamic linker.
  const segment = file.segments.findLast(({ p_type }) => p_type === C.PT_DYNAMIC);
  if (!segment) return [];
  const what = "ELF dynamic section";
  if (segment.p_filesz > MAX_DYNAMIC) {
    throw new FormatError(`Cannot read ${what}: it has ${segment.p_filesz} bytes`, segment.p_offset, segment.p_filesz);
  }
  const { offset, end } = file.locate(segment.p_vaddr, what);
  return readDynamic(file.slice(offset, Math.min(segment.p_filesz, end - offset), what));
}

function stringsOf(file: Ranges, entries: readonly DynamicEntry[]): StoredStrings {
  const what = "ELF dynamic strings";
  const address = entries.findLast(({ d_tag }) => d_tag === C.DT_STRTAB)?.d_val;
  if (address === undefined) throw new FormatError(`Cannot read ${what}: there is no DT_STRTAB`, 0);
  const { offset, end } = file.locate(address, what);
  return new StoredStrings(file.source, offset, end);
}

const LINKS: ReadonlyMap<number, DsoLink["kind"]> = new Map([
  [C.DT_NEEDED, "needed"],
  [DT_FILTER, "filter"],
  [DT_AUXILIARY, "auxiliary"],
]);

/**
 * Reads what a dynamic linker needs to know of an object: some 10 KB of a file of any size.
 *
 * Addresses are looked up through the loadable segments, as they are in memory. Throws {@link FormatError}, and the
 * source's own error where it cannot be read.
 */
export function readDso(source: ByteSource): Dso {
  const file = new Ranges(source);
  const entries = readEntries(file);
  const value = (tag: number) => entries.findLast(({ d_tag }) => d_tag === tag)?.d_val;
  let strings: StoredStrings | undefined;
  const text = (offset: bigint) => {
    strings ??= stringsOf(file, entries);
    return strings.at(Number(offset));
  };
  const named = (tag: number) => {
    const offset = value(tag);
    return offset === undefined ? undefined : text(offset);
  };

  const interp = file.segments.find(({ p_type }) => p_type === C.PT_INTERP);
  const interpreter =
    interp && pathText(file.slice(interp.p_offset, Math.min(interp.p_filesz, 4096), "ELF interpreter").cstringAt(0));
  const soname = named(C.DT_SONAME);
  const rpath = named(C.DT_RPATH);
  const runpath = named(C.DT_RUNPATH);
  return {
    header: file.header,
    ...(interpreter !== undefined && { interpreter }),
    dynamic: file.segments.some(({ p_type }) => p_type === C.PT_DYNAMIC),
    loadable: file.segments.some(({ p_type }) => p_type === C.PT_LOAD),
    links: entries.flatMap(({ d_tag, d_val }) => {
      const kind = LINKS.get(d_tag);
      return kind ? [{ kind, name: text(d_val) }] : [];
    }),
    ...(soname !== undefined && { soname }),
    ...(rpath !== undefined && { rpath }),
    ...(runpath !== undefined && { runpath }),
    flags1: Number(BigInt.asUintN(32, value(C.DT_FLAGS_1) ?? 0n)),
  };
}

/** Reads the version tables of an object. Throws as {@link readDso} does. */
export function readDsoVersions(source: ByteSource): DsoVersions {
  const file = new Ranges(source);
  const entries = readEntries(file);
  try {
    // How long the tables are is said nowhere: a little is tried before all that could be theirs.
    return versionsOf(file, entries, FIRST_VERSIONS);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return versionsOf(file, entries, MAX_VERSIONS);
  }
}

function versionsOf(file: Ranges, entries: readonly DynamicEntry[], most: number): DsoVersions {
  const value = (tag: number) => entries.findLast(({ d_tag }) => d_tag === tag)?.d_val;
  const what = "ELF versions";
  /** The bytes from the address in one entry on, at most as many as asked for. */
  const from = (tag: number, limit: number): Reader | undefined => {
    const address = value(tag);
    if (address === undefined) return undefined;
    const { offset, end } = file.locate(address, what);
    return file.slice(offset, Math.max(0, Math.min(end - offset, file.source.size - offset, limit)), what);
  };
  const needs = from(C.DT_VERNEED, most);
  const definitions = from(C.DT_VERDEF, most);
  if (!needs && !definitions) return { needs: [], defines: [] };
  const strings = stringsOf(file, entries);
  const count = (tag: number) => Number(BigInt.asUintN(32, value(tag) ?? 0n));
  return {
    needs: (needs ? readVersionNeeds(needs, count(C.DT_VERNEEDNUM), strings) : []).map(({ file, name, vna_flags }) => ({
      file,
      version: name,
      weak: (vna_flags & VER_FLG_WEAK) !== 0,
    })),
    defines: (definitions ? readVersionDefinitions(definitions, count(C.DT_VERDEFNUM), strings) : []).map(
      ({ name }) => name,
    ),
  };
}
