import type { Reader } from "../bytes/reader.js";
import * as C from "./constants.js";
import { type DynamicEntry, readDynamic } from "./dynamic.js";
import { type HashTable, readGnuHash, readSysvHash } from "./hash.js";
import { type ElfHeader, RECORD_SIZE, readHeader, readSectionCounts, readSegmentCount } from "./header.js";
import { findBuildId, type Note, readNotes } from "./note.js";
import { readSections, type Section } from "./section.js";
import { readSegments, type Segment } from "./segment.js";
import { StringTable } from "./strings.js";
import { type ElfSymbol, readSymbols, type SymbolVersion } from "./symbol.js";
import { readVersionDefinitions, readVersionNeeds, type VersionDefinition, type VersionNeed } from "./version.js";

/** How the bytes of an {@link ElfFile} came to be. */
export interface ElfOptions {
  /**
   * The bytes are what a process has mapped, not a file: section headers beyond them are absent rather than an error.
   */
  readonly mapped?: boolean;
}

/**
 * An ELF file of either class and byte order, read on demand.
 *
 * Only the header is read by the constructor; each table is read when first asked for. Every getter throws
 * `FormatError` where the bytes are not what the format says, and gives `[]` or `undefined` where the file has none.
 */
export class ElfFile {
  readonly bytes: Uint8Array;
  readonly header: ElfHeader;
  readonly #reader: Reader;
  readonly #mapped: boolean;
  readonly #memo = new Map<string, () => unknown>();

  constructor(bytes: Uint8Array, options: ElfOptions = {}) {
    const { header, reader } = readHeader(bytes);
    this.bytes = bytes;
    this.header = header;
    this.#reader = reader.named("ELF file");
    this.#mapped = options.mapped ?? false;
  }

  /** Errors are kept as results are: a table that is long to read and broken at its end is read once too. */
  #once<T>(key: string, make: () => T): T {
    let result = this.#memo.get(key);
    if (!result) {
      result = attempt(make);
      this.#memo.set(key, result);
    }
    return result() as T;
  }

  /** Program headers, in order. */
  get segments(): readonly Segment[] {
    return this.#once("segments", () =>
      readSegments(this.header, this.#reader, readSegmentCount(this.header, this.#reader)),
    );
  }

  /** Section headers, in order, section 0 included; `[]` where the file has none. */
  get sections(): readonly Section[] {
    return this.#once("sections", () => {
      const { e_shoff, class: bits } = this.header;
      const size = RECORD_SIZE[bits].section;
      // Section 0 must be there before its count can be asked for.
      if (this.#mapped && e_shoff + size > this.bytes.length) return [];
      const counts = readSectionCounts(this.header, this.#reader);
      if (this.#mapped && e_shoff + counts.shnum * size > this.bytes.length) return [];
      return readSections(this.header, this.#reader, counts);
    });
  }

  /** The first section of this name. */
  section(name: string): Section | undefined {
    return this.sections.find((section) => section.name === name);
  }

  /**
   * The sections with instructions in the file, in order. Throws `FormatError` where they have far more bytes than the
   * file: sections of a sound one do not overlap, and these would be decoded over and over.
   */
  get codeSections(): readonly Section[] {
    return this.#once("code", () => {
      const code = this.sections.filter(
        ({ sh_flags, sh_type }) => (sh_flags & BigInt(C.SHF_EXECINSTR)) !== 0n && sh_type !== C.SHT_NOBITS,
      );
      const total = code.reduce((sum, { sh_size }) => sum + sh_size, 0);
      if (total > 2 * this.bytes.length) {
        throw this.#reader.error(`its sections with code have ${total} bytes, of ${this.bytes.length}`, 0, total);
      }
      return code;
    });
  }

  /** The bytes of a section (none for SHT_NOBITS); a view. */
  sectionBytes(section: Section): Uint8Array {
    if (section.sh_type === C.SHT_NOBITS) return new Uint8Array(0);
    return this.#sectionReader(section).bytes;
  }

  #sectionReader(section: Section): Reader {
    return this.#reader.slice(section.sh_offset, section.sh_size, `ELF section ${section.name || section.index}`);
  }

  /** The file offset of a virtual address, through the loadable segments; `undefined` where none holds it. */
  offsetOf(vaddr: bigint): number | undefined {
    const segment = this.#segmentOf(vaddr);
    return segment && offsetIn(segment, vaddr);
  }

  #segmentOf(vaddr: bigint): Segment | undefined {
    return this.segments.find(
      ({ p_type, p_vaddr, p_filesz }) => p_type === C.PT_LOAD && vaddr >= p_vaddr && vaddr - p_vaddr < BigInt(p_filesz),
    );
  }

  /** The bytes from a virtual address to the end of its segment (as far as the file goes). */
  #readerAt(vaddr: bigint, what: string): Reader {
    const segment = this.#segmentOf(vaddr);
    if (!segment || offsetIn(segment, vaddr) > this.bytes.length) {
      throw this.#reader.named(what).error(`address 0x${vaddr.toString(16)} is in no loadable segment`, 0, vaddr);
    }
    const offset = offsetIn(segment, vaddr);
    return this.#reader.slice(offset, Math.min(segment.p_offset + segment.p_filesz, this.bytes.length) - offset, what);
  }

  /** The dynamic section, up to DT_NULL: through PT_DYNAMIC, else through the section headers. */
  get dynamic(): readonly DynamicEntry[] {
    return this.#once("dynamic", () => {
      const segment = this.segments.find(({ p_type }) => p_type === C.PT_DYNAMIC);
      if (segment) return readDynamic(this.#reader.slice(segment.p_offset, segment.p_filesz, "ELF dynamic section"));
      const section = this.section(".dynamic");
      return section && section.sh_type !== C.SHT_NOBITS ? readDynamic(this.#sectionReader(section)) : [];
    });
  }

  /** The value of the last dynamic entry of this tag (the one that a dynamic linker keeps). */
  dynamicValue(tag: number): bigint | undefined {
    return this.#once("dynamic values", () => new Map(this.dynamic.map(({ d_tag, d_val }) => [d_tag, d_val]))).get(tag);
  }

  get #dynamicStrings(): StringTable | undefined {
    return this.#once("dynstr", () => {
      const address = this.dynamicValue(C.DT_STRTAB);
      if (address === undefined) return undefined;
      const reader = this.#readerAt(address, "ELF dynamic strings");
      const size = this.dynamicValue(C.DT_STRSZ);
      if (size === undefined) return new StringTable(reader);
      if (size > BigInt(reader.length)) throw reader.error(`DT_STRSZ is ${size}`, 0, size);
      return new StringTable(reader.slice(0, Number(size)));
    });
  }

  /** The strings of all dynamic entries of this tag: DT_NEEDED, DT_SONAME, DT_RPATH, DT_RUNPATH. */
  dynamicStrings(tag: number): string[] {
    const entries = this.dynamic.filter(({ d_tag }) => d_tag === tag);
    if (entries.length === 0) return [];
    const strings = this.#dynamicStrings;
    if (!strings) throw this.#reader.error("the dynamic section names strings but has no DT_STRTAB", 0);
    return entries.map(({ d_val }) => strings.at(Number(d_val)));
  }

  /** DT_SONAME. */
  get soname(): string | undefined {
    return this.dynamicStrings(C.DT_SONAME).at(-1);
  }

  /** DT_NEEDED, in order. */
  get needed(): string[] {
    return this.dynamicStrings(C.DT_NEEDED);
  }

  /** PT_INTERP: the dynamic linker that the file asks for. */
  get interpreter(): string | undefined {
    const segment = this.segments.find(({ p_type }) => p_type === C.PT_INTERP);
    if (!segment) return undefined;
    return this.#reader.slice(segment.p_offset, segment.p_filesz, "ELF interpreter").cstringAt(0);
  }

  /** All notes, through PT_NOTE, else (an object file) through SHT_NOTE. */
  get notes(): readonly Note[] {
    return this.#once("notes", () => {
      const segments = this.segments
        .filter(({ p_type }) => p_type === C.PT_NOTE)
        .map(({ p_offset, p_filesz, p_align }) => ({ offset: p_offset, size: p_filesz, align: p_align }));
      if (segments.length > 0) return this.#notesIn(segments);
      return this.#notesIn(
        this.sections
          .filter(({ sh_type }) => sh_type === C.SHT_NOTE)
          .map(({ sh_offset, sh_size, sh_addralign }) => ({ offset: sh_offset, size: sh_size, align: sh_addralign })),
      );
    });
  }

  /** Notes do not share bytes in a sound file: thousands of headers could all name the same long run of them. */
  #notesIn(ranges: readonly { offset: number; size: number; align: bigint }[]): Note[] {
    const total = ranges.reduce((sum, { size }) => sum + size, 0);
    if (total > this.bytes.length) throw this.#reader.error(`its notes have ${total} bytes`, 0, total);
    return ranges.flatMap(({ offset, size, align }) =>
      readNotes(this.#reader.slice(offset, size, "ELF notes"), align === 8n ? 8 : 4),
    );
  }

  /** The bytes of the NT_GNU_BUILD_ID note. */
  get buildId(): Uint8Array | undefined {
    return findBuildId(this.notes);
  }

  /**
   * The hash table that a C library would use: DT_GNU_HASH before DT_HASH. `undefined` where the dynamic section has
   * neither.
   */
  get hashTable(): HashTable | undefined {
    return this.#once("hash", () => {
      const gnu = this.dynamicValue(C.DT_GNU_HASH);
      if (gnu !== undefined) return readGnuHash(this.#readerAt(gnu, "ELF DT_GNU_HASH"));
      const sysv = this.dynamicValue(C.DT_HASH);
      return sysv === undefined ? undefined : this.#sysvHash(sysv);
    });
  }

  #sysvHash(address: bigint): HashTable {
    // The psABIs of 64-bit s390 and of Alpha give the words of DT_HASH 8 bytes.
    const { e_machine, class: bits } = this.header;
    const wide = bits === 64 && (e_machine === C.EM_S390 || e_machine === C.EM_ALPHA);
    return readSysvHash(this.#readerAt(address, "ELF DT_HASH"), wide ? 8 : 4);
  }

  /** Versions that the file defines. */
  get versionDefinitions(): readonly VersionDefinition[] {
    return this.#once("verdef", () =>
      this.#versions(C.DT_VERDEF, C.DT_VERDEFNUM, C.SHT_GNU_VERDEF, readVersionDefinitions),
    );
  }

  /** Versions that the file needs of others. */
  get versionNeeds(): readonly VersionNeed[] {
    return this.#once("verneed", () =>
      this.#versions(C.DT_VERNEED, C.DT_VERNEEDNUM, C.SHT_GNU_VERNEED, readVersionNeeds),
    );
  }

  #versions<T>(
    tag: number,
    countTag: number,
    sectionType: number,
    read: (reader: Reader, count: number, strings: StringTable) => T[],
  ): T[] {
    const address = this.dynamicValue(tag);
    if (address !== undefined && this.#dynamicStrings) {
      const count = Number(BigInt.asUintN(32, this.dynamicValue(countTag) ?? 0n));
      return read(this.#readerAt(address, "ELF symbol versions"), count, this.#dynamicStrings);
    }
    const section = this.sections.find(({ sh_type }) => sh_type === sectionType);
    const strings = section && this.sections[section.sh_link];
    if (!section || !strings) return [];
    return read(this.#sectionReader(section), section.sh_info, new StringTable(this.#sectionReader(strings)));
  }

  /** Resolves the entries of `.gnu.version`; `undefined` where the file has none. */
  #versionOf(versym: Reader | undefined): ((index: number, st_shndx: number) => SymbolVersion | undefined) | undefined {
    if (!versym) return undefined;
    const defined = new Map(this.versionDefinitions.map((definition) => [definition.vd_ndx, definition]));
    const needed = new Map(this.versionNeeds.map((need) => [need.vna_other & ~C.VERSYM_HIDDEN, need]));
    return (index, st_shndx) => {
      const value = versym.u16At(index * 2);
      const ndx = value & ~C.VERSYM_HIDDEN;
      const hidden = (value & C.VERSYM_HIDDEN) !== 0;
      if (ndx === C.VER_NDX_LOCAL) return undefined;
      const definition = st_shndx === C.SHN_UNDEF ? undefined : defined.get(ndx);
      if (definition) {
        const base = (definition.vd_flags & C.VER_FLG_BASE) !== 0;
        return { name: definition.name, hidden, kind: base ? "base" : "defined" };
      }
      const need = needed.get(ndx);
      return need && { name: need.name, hidden: true, kind: "needed" };
    };
  }

  /**
   * The dynamic symbols, symbol 0 included: through `.dynsym` where there are section headers, else through the dynamic
   * section alone, as a loader has to, with the count that the hash table gives.
   */
  get dynamicSymbols(): readonly ElfSymbol[] {
    return this.#once("dynsym", () => {
      const section = this.sections.find(({ sh_type }) => sh_type === C.SHT_DYNSYM);
      return section ? this.#symbolsOfSection(section) : this.loaderSymbols;
    });
  }

  /**
   * The dynamic symbols found without section headers. Throws `FormatError` where there is a symbol table but no hash
   * table that says how long it is.
   */
  get loaderSymbols(): readonly ElfSymbol[] {
    return this.#once("loaderSymbols", () => {
      const address = this.dynamicValue(C.DT_SYMTAB);
      if (address === undefined) return [];
      const reader = this.#readerAt(address, "ELF dynamic symbols");
      const strings = this.#dynamicStrings;
      if (!strings) throw reader.error("there is a DT_SYMTAB but no DT_STRTAB", 0);
      // DT_HASH says the count outright; DT_GNU_HASH does not know it where no symbol is defined.
      const sysv = this.dynamicValue(C.DT_HASH);
      const table = sysv === undefined ? this.hashTable : this.#sysvHash(sysv);
      if (!table) throw reader.error("nothing says how many there are (no DT_HASH, no DT_GNU_HASH)", 0);
      const versym = this.dynamicValue(C.DT_VERSYM);
      const versionOf = this.#versionOf(versym === undefined ? undefined : this.#readerAt(versym, "ELF DT_VERSYM"));
      return readSymbols(reader, table.symbolCount, { strings, ...(versionOf && { versionOf }) });
    });
  }

  /** The symbols of `.symtab`; `[]` in a stripped file. */
  get symbols(): readonly ElfSymbol[] {
    return this.#once("symtab", () => {
      const section = this.sections.find(({ sh_type }) => sh_type === C.SHT_SYMTAB);
      return section ? this.#symbolsOfSection(section) : [];
    });
  }

  #symbolsOfSection(section: Section): ElfSymbol[] {
    const reader = this.#sectionReader(section);
    const stringSection = this.sections[section.sh_link];
    if (!stringSection) throw reader.error(`its strings are in section ${section.sh_link}`, 0, section.sh_link);
    const linked = (type: number) =>
      this.sections.find(({ sh_type, sh_link }) => sh_type === type && sh_link === section.index);
    const versym = linked(C.SHT_GNU_VERSYM);
    const indexes = linked(C.SHT_SYMTAB_SHNDX);
    const versionOf = this.#versionOf(versym && this.#sectionReader(versym));
    return readSymbols(reader, Math.floor(reader.length / RECORD_SIZE[this.header.class].symbol), {
      strings: new StringTable(this.#sectionReader(stringSection)),
      ...(versionOf && { versionOf }),
      ...(indexes && { extendedIndexes: this.#sectionReader(indexes) }),
    });
  }

  /**
   * Finds a defined symbol by name, and version where given, through the hash table as dlvsym and dlsym do: local and
   * undefined symbols, and versions other than the one asked for, are passed over; without a version the default one
   * is taken. A file that versions none of its symbols gives them for any version asked for; the name of the file
   * itself (a base definition) is no version.
   */
  lookup(name: string, version?: string): ElfSymbol | undefined {
    const table = this.hashTable;
    if (!table) return undefined;
    const symbols = this.loaderSymbols;
    const versioned = this.dynamicValue(C.DT_VERSYM) !== undefined;
    for (const index of table.candidates(name)) {
      const symbol = symbols[index];
      if (symbol?.name !== name || symbol.st_shndx === C.SHN_UNDEF || symbol.bind === C.STB_LOCAL) continue;
      if (version === undefined ? !isDefault(symbol) : versioned && !hasVersion(symbol, version)) continue;
      return symbol;
    }
    return undefined;
  }
}

/** A function that gives what `make` gave, or throws what it threw, without running it again. */
function attempt(make: () => unknown): () => unknown {
  try {
    const value = make();
    return () => value;
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

function offsetIn(segment: Segment, vaddr: bigint): number {
  return segment.p_offset + Number(vaddr - segment.p_vaddr);
}

/** A program's copy of a library's variable has the version that it needs of the library, and is a default all the same. */
function isDefault({ version }: ElfSymbol): boolean {
  return !version?.hidden || version.kind === "needed";
}

function hasVersion({ version }: ElfSymbol, name: string): boolean {
  return version !== undefined && version.kind !== "base" && version.name === name;
}
