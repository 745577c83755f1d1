import type { ElfFile } from "../../elf/file.js";
import type { Section } from "../../elf/section.js";
import { pltSymbols } from "./bfd-plt-symbols.js";
import { dynamicRelocations, hasRelocations } from "./bfd-relocation.js";
import { type BfdSymbol, dynamicSymbols, staticSymbols } from "./bfd-symbol.js";
import { utf8Name } from "./utf8-name.js";

/** Names of compilers, which older ones left as symbols, say nothing about the code. */
const COMPILED = /gnu_compiled|gcc2_compiled/;

/** Whether a symbol marks the compiler, not the code. */
export function marksCompiler({ name }: BfdSymbol): boolean {
  return COMPILED.test(name);
}

/** A name with its version, if any: `@@` before the default one, `@` before others and those that other files define. */
function versionedName({ name, section, version }: BfdSymbol): string {
  if (!version || version.name === "") return name;
  return `${name}${version.hidden || section === "*UND*" ? "@" : "@@"}${version.name}`;
}

/** Symbols that name no place in the code; `.plt` and `.got` are kept even as symbols of sections. */
function isUseful({ name, flags, section }: BfdSymbol): boolean {
  if (name === "" || section === "*UND*" || section === "*COM*") return false;
  return !flags.has("debugging") || name.startsWith(".plt") || name.startsWith(".got");
}

/** The one that holds of only one of two: that one is sorted first (or last). */
function first(a: boolean, b: boolean): number {
  return Number(b) - Number(a);
}

function isFileName(name: string): boolean {
  return name.length > 2 && /\.[oa]$/.test(name);
}

/** Of sections it does not count. */
function sizeOf({ flags, size }: BfdSymbol): bigint {
  return flags.has("section") ? 0n : size;
}

/** Sorts by address, and those at the same address so that the one that says most comes first. */
function compare(a: BfdSymbol, b: BfdSymbol, section: string): number {
  if (a.value !== b.value) return a.value > b.value ? 1 : -1;
  const [sizeA, sizeB] = [sizeOf(a), sizeOf(b)];
  return (
    first(a.sectionName === section, b.sectionName === section) ||
    first(marksCompiler(b), marksCompiler(a)) ||
    first(isFileName(b.name), isFileName(a.name)) ||
    first(b.flags.has("debugging"), a.flags.has("debugging")) ||
    first(b.flags.has("section"), a.flags.has("section")) ||
    first(a.flags.has("function"), b.flags.has("function")) ||
    first(a.flags.has("object"), b.flags.has("object")) ||
    first(b.flags.has("local"), a.flags.has("local")) ||
    first(a.flags.has("global"), b.flags.has("global")) ||
    (sizeA === sizeB ? 0 : sizeA > sizeB ? -1 : 1) ||
    first(b.name.startsWith("."), a.name.startsWith(".")) ||
    (a.name === b.name ? 0 : a.name < b.name ? -1 : 1)
  );
}

/**
 * The symbols among which objdump looks for names of addresses while it disassembles one section: those of `.symtab`,
 * in a stripped file the dynamic ones, and those made up for the procedure linkage table.
 */
export class DisassemblySymbols {
  readonly #useful: readonly BfdSymbol[];
  readonly #hasRelocations: boolean;
  /** Names of places that the dynamic linker fills, by address. */
  readonly #relocations = new Map<bigint, BfdSymbol>();
  #section: Section | undefined;
  /** In the order of {@link compare} for the section that was selected last. */
  sorted: readonly BfdSymbol[] = [];

  constructor(elf: ElfFile) {
    const all = staticSymbols(elf);
    const dynamic = dynamicSymbols(elf) ?? [];
    const relocations = dynamicRelocations(elf, dynamic);
    this.#useful = [...(all.length > 0 ? all : dynamic).filter(isUseful), ...pltSymbols(elf, relocations)];
    this.#hasRelocations = hasRelocations(elf);
    for (const { address, symbol } of relocations) {
      if (symbol && symbol.section !== "*ABS*" && !this.#relocations.has(address)) {
        this.#relocations.set(address, symbol);
      }
    }
  }

  /** Sorts for the disassembly of a section. */
  select(section: Section): void {
    this.#section = section;
    const name = utf8Name(section.name);
    this.sorted = [...this.#useful].sort((a, b) => compare(a, b, name));
  }

  #fits(symbol: BfdSymbol | undefined, onlySection: boolean): boolean {
    return symbol !== undefined && (!onlySection || symbol.section === this.#section);
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
      if ((sorted[middle] as BfdSymbol).value > address) high = middle;
      else low = middle;
    }
    const nearest = (sorted[low] as BfdSymbol).value;
    let start = low;
    while (sorted[start - 1]?.value === nearest) start -= 1;
    // Of several at this address one in this section is preferred.
    let end = start;
    for (; sorted[end]?.value === nearest; end++) {
      if (sorted[end]?.section === section) return end;
    }
    const inside = address >= section.sh_addr && address < section.sh_addr + BigInt(section.sh_size);
    const wantsSection = onlySection || (this.#hasRelocations && inside);
    if (this.#fits(sorted[start], wantsSection)) return start;

    // The nearest one below that fits, the first at its address; else the next above.
    let below: number | undefined;
    for (let i = end - 1; i >= 0; i--) {
      if (!this.#fits(sorted[i], wantsSection)) continue;
      if (below !== undefined && sorted[i]?.value !== sorted[below]?.value) break;
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

  #symbolFor(address: bigint): BfdSymbol | undefined {
    const place = this.placeOf(address, false);
    const symbol = place === undefined ? undefined : this.sorted[place];
    if (!symbol || symbol.section === this.#section || symbol.flags.has("synthetic")) return symbol;
    // A place that the dynamic linker fills is named by what it puts there, unless code of this section comes last
    // before it.
    return this.#relocations.get(address) ?? symbol;
  }

  /** An address relative to a symbol, or where there is none to the selected section. */
  labelFrom(symbol: BfdSymbol | undefined, address: bigint): string {
    const name = symbol ? versionedName(symbol) : utf8Name(this.#section?.name ?? "");
    const start = symbol?.value ?? this.#section?.sh_addr ?? 0n;
    // Undefined symbols have no address to be relative to.
    if (address === start || symbol?.section === "*UND*") return name;
    return start > address
      ? `${name}-0x${(start - address).toString(16)}`
      : `${name}+0x${(address - start).toString(16)}`;
  }
}
