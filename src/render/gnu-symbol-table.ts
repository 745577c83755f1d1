import { Reader } from "../bytes/reader.js";
import * as C from "../elf/constants.js";
import type { ElfFile } from "../elf/file.js";
import type { Section } from "../elf/section.js";
import type { ElfSymbol } from "../elf/symbol.js";
import { type DynamicRelocation, dynamicRelocations } from "./dynamic-relocations.js";
import { type GnuSymbol, symbolPlace } from "./gnu-symbol.js";
import { pltSymbols } from "./plt-symbols.js";

/** Names of compilers, which older ones left as symbols, say nothing about the code. */
const COMPILED = /gnu_compiled|gcc2_compiled/;

/** Whether a symbol marks the compiler, not the code. */
export function marksCompiler({ name }: GnuSymbol): boolean {
  return COMPILED.test(name);
}

/**
 * Writes the version of dynamic symbols behind their names: `@@` for the default one, `@` for others and for those
 * that other files define. binutils counts versions from the tables as they are, so a symbol without a version of its
 * own in a file that has versions is of version "Base".
 */
function versionLabels(elf: ElfFile): (symbol: ElfSymbol) => string {
  const section = elf.sections.find(({ sh_type }) => sh_type === C.SHT_GNU_VERSYM);
  const { versionDefinitions: definitions, versionNeeds: needs } = elf;
  if (!section || (definitions.length === 0 && needs.length === 0)) return () => "";
  const bytes = elf.sectionBytes(section);
  const table = new Reader(bytes, { littleEndian: elf.header.littleEndian, what: "ELF symbol versions" });
  const defined = new Map(definitions.map((definition) => [definition.vd_ndx, definition]));
  const last = Math.max(0, ...defined.keys());
  const needed = new Map(needs.map(({ vna_other, name }) => [vna_other & ~C.VERSYM_HIDDEN, name]));
  return ({ index, st_shndx }) => {
    const value = table.u16At(index * 2);
    const number = value & ~C.VERSYM_HIDDEN;
    if (number === C.VER_NDX_LOCAL) return "";
    const isBase =
      number === C.VER_NDX_GLOBAL && (last === 0 || ((defined.get(1)?.vd_flags ?? 0) & C.VER_FLG_BASE) !== 0);
    const definition = defined.get(number)?.name;
    const name = isBase ? "Base" : (definition ?? needed.get(number) ?? "");
    // What another file defines is not this file's default, also where it has been copied here.
    const foreign = st_shndx === C.SHN_UNDEF || (!isBase && definition === undefined);
    const hidden = (value & C.VERSYM_HIDDEN) !== 0 || foreign;
    return name === "" ? "" : `${hidden ? "@" : "@@"}${name}`;
  };
}

function gnuSymbol(elf: ElfFile, symbol: ElfSymbol, version: string): GnuSymbol {
  const place = symbolPlace(elf, symbol.st_shndx);
  const isSection = symbol.type === C.STT_SECTION;
  const name = symbol.name === "" && isSection && typeof place === "object" ? place.name : symbol.name;
  // In object files values are relative to sections, which all start at their sh_addr.
  const start = elf.header.e_type === ET_REL && typeof place === "object" ? place.sh_addr : 0n;
  return {
    name,
    label: name + version,
    address: symbol.st_value + start,
    size: isSection ? 0n : symbol.st_size,
    place,
    isFunction: symbol.type === C.STT_FUNC,
    isObject: symbol.type === C.STT_OBJECT,
    isLocal: symbol.bind === C.STB_LOCAL,
    isGlobal: symbol.bind === C.STB_GLOBAL && place !== "undefined" && place !== "common",
    isDebugging: isSection || symbol.type === C.STT_FILE,
    isSection,
    isSynthetic: false,
  };
}

const ET_REL = 1;
const SHT_RELA = 4;
const SHT_REL = 9;

/** Symbols that name no place in the code; `.plt` and `.got` are kept even as symbols of sections. */
function isUseful({ name, isDebugging, place }: GnuSymbol): boolean {
  if (name === "" || place === "undefined" || place === "common") return false;
  return !isDebugging || name.startsWith(".plt") || name.startsWith(".got");
}

/** The one that holds of only one of two: that one is sorted first (or last). */
function first(a: boolean, b: boolean): number {
  return Number(b) - Number(a);
}

function isFileName(name: string): boolean {
  return name.length > 2 && /\.[oa]$/.test(name);
}

function isIn(symbol: GnuSymbol, name: string): boolean {
  return typeof symbol.place === "object" && symbol.place.name === name;
}

/** Sorts by address, and those at the same address so that the one that says most comes first. */
function compare(a: GnuSymbol, b: GnuSymbol, section: string): number {
  if (a.address !== b.address) return a.address > b.address ? 1 : -1;
  return (
    first(isIn(a, section), isIn(b, section)) ||
    first(marksCompiler(b), marksCompiler(a)) ||
    first(isFileName(b.name), isFileName(a.name)) ||
    first(b.isDebugging, a.isDebugging) ||
    first(b.isSection, a.isSection) ||
    first(a.isFunction, b.isFunction) ||
    first(a.isObject, b.isObject) ||
    first(b.isLocal, a.isLocal) ||
    first(a.isGlobal, b.isGlobal) ||
    (a.size === b.size ? 0 : a.size > b.size ? -1 : 1) ||
    first(b.name.startsWith("."), a.name.startsWith(".")) ||
    (a.name === b.name ? 0 : a.name < b.name ? -1 : 1)
  );
}

/**
 * The symbols among which objdump looks for names of addresses while it disassembles one section: those of `.symtab`,
 * in a stripped file the dynamic ones, and those made up for the procedure linkage table.
 */
export class GnuSymbolTable {
  readonly #useful: readonly GnuSymbol[];
  readonly #hasRelocations: boolean;
  /** Names of places that the dynamic linker fills, by address. */
  readonly #relocations = new Map<bigint, GnuSymbol>();
  readonly #firstRelocation: bigint | undefined;
  readonly #lastRelocation: bigint | undefined;
  #section: Section | undefined;
  /** In the order of {@link compare} for the section that was selected last. */
  sorted: readonly GnuSymbol[] = [];

  constructor(elf: ElfFile) {
    const versions = versionLabels(elf);
    const hasDynamic = elf.sections.some(({ sh_type }) => sh_type === C.SHT_DYNSYM);
    const dynamic = hasDynamic ? elf.dynamicSymbols : [];
    const table: GnuSymbol[] =
      elf.symbols.length > 1
        ? elf.symbols.slice(1).map((symbol) => gnuSymbol(elf, symbol, ""))
        : dynamic.slice(1).map((symbol) => gnuSymbol(elf, symbol, versions(symbol)));
    const relocations = hasDynamic ? dynamicRelocations(elf) : [];
    const named = (relocation: DynamicRelocation) => {
      const symbol = relocation.symbol === 0 ? undefined : dynamic[relocation.symbol];
      return symbol && gnuSymbol(elf, symbol, versions(symbol));
    };
    this.#useful = [...table.filter(isUseful), ...pltSymbols(elf, relocations, dynamic)];
    this.#hasRelocations =
      elf.header.e_type === ET_REL &&
      elf.sections.some(({ sh_type, sh_info }) => (sh_type === SHT_RELA || sh_type === SHT_REL) && sh_info > 0);
    for (const relocation of relocations) {
      const symbol = named(relocation);
      if (symbol && symbol.place !== "absolute" && !this.#relocations.has(relocation.address)) {
        this.#relocations.set(relocation.address, symbol);
      }
    }
    this.#firstRelocation = relocations[0]?.address;
    this.#lastRelocation = relocations.at(-1)?.address;
  }

  /** Sorts for the disassembly of a section. */
  select(section: Section): void {
    this.#section = section;
    this.sorted = [...this.#useful].sort((a, b) => compare(a, b, section.name));
  }

  #fits(symbol: GnuSymbol | undefined, onlySection: boolean): boolean {
    return symbol !== undefined && (!onlySection || symbol.place === this.#section);
  }

  /** Place in {@link sorted} of the symbol by which objdump names an address of the selected section. */
  placeOf(address: bigint, onlySection: boolean): number | undefined {
    const { sorted } = this;
    const section = this.#section;
    if (sorted.length === 0 || !section) return undefined;
    let low = 0;
    let high = sorted.length;
    while (low + 1 < high) {
      const middle = (low + high) >> 1;
      if ((sorted[middle] as GnuSymbol).address > address) high = middle;
      else low = middle;
    }
    const nearest = (sorted[low] as GnuSymbol).address;
    let start = low;
    while (sorted[start - 1]?.address === nearest) start -= 1;
    // Of several at this address one in this section is preferred.
    let end = start;
    for (; sorted[end]?.address === nearest; end++) {
      if (sorted[end]?.place === section) return end;
    }
    const inside = address >= section.sh_addr && address < section.sh_addr + BigInt(section.sh_size);
    const wantsSection = onlySection || (this.#hasRelocations && inside);
    if (this.#fits(sorted[start], wantsSection)) return start;

    // The nearest one below that fits, the first at its address; else the next above.
    let below: number | undefined;
    for (let i = end - 1; i >= 0; i--) {
      if (!this.#fits(sorted[i], wantsSection)) continue;
      if (below !== undefined && sorted[i]?.address !== sorted[below]?.address) break;
      below = i;
    }
    if (below !== undefined) return below;
    const above = sorted.findIndex((symbol, i) => i > start && this.#fits(symbol, wantsSection));
    return above < 0 ? undefined : above;
  }

  /** What objdump writes in angle brackets for an address; `undefined` in a file without symbols. */
  label(address: bigint): string | undefined {
    if (this.sorted.length === 0) return undefined;
    return this.labelFrom(this.#symbolFor(address), address);
  }

  #symbolFor(address: bigint): GnuSymbol | undefined {
    const place = this.placeOf(address, false);
    const symbol = place === undefined ? undefined : this.sorted[place];
    const [low, high] = [this.#firstRelocation, this.#lastRelocation];
    if (!symbol || symbol.place === this.#section) return symbol;
    // A place that the dynamic linker fills is named by what it puts there, unless code of this section comes last
    // before it.
    if (!symbol.isSynthetic && low !== undefined && high !== undefined && low <= address && address <= high) {
      return this.#relocations.get(address) ?? symbol;
    }
    return symbol;
  }

  /** An address relative to a symbol, or where there is none to the selected section. */
  labelFrom(symbol: GnuSymbol | undefined, address: bigint): string {
    const name = symbol?.label ?? this.#section?.name ?? "";
    const start = symbol?.address ?? this.#section?.sh_addr ?? 0n;
    // Undefined symbols have no address to be relative to.
    if (address === start || symbol?.place === "undefined") return name;
    return start > address
      ? `${name}-0x${(start - address).toString(16)}`
      : `${name}+0x${(address - start).toString(16)}`;
  }
}
