import * as C from "../../elf/constants.js";
import type { ElfFile } from "../../elf/file.js";
import type { Section } from "../../elf/section.js";
import type { ElfSymbol } from "../../elf/symbol.js";
import { type BfdVersion, bfdVersions } from "./bfd-version.js";
import { utf8Name } from "./utf8-name.js";

/** Where a symbol lies: in a section of the file, or in one of those that are none. */
export type BfdSection = Section | "*UND*" | "*COM*" | "*ABS*";

/** What a symbol is; one may be several of these. */
export type BfdFlag =
  | "local"
  /** Bound globally and defined here. */
  | "global"
  | "weak"
  | "unique"
  | "function"
  /** Whose address a function of its own chooses: STT_GNU_IFUNC. */
  | "indirect"
  | "object"
  | "file"
  | "section"
  /** Stands for a section or a source file, not for something in the program. */
  | "debugging"
  /** Made up for an entry of the procedure linkage table. */
  | "synthetic";

/** A symbol as binutils (its BFD library) sees it, which all listings of objdump go by. */
export interface BfdSymbol {
  readonly name: string;
  readonly section: BfdSection;
  readonly sectionName: string;
  /** The address as linked; of a common symbol, which has none yet, the size. */
  readonly value: bigint;
  readonly size: bigint;
  /** Of common symbols alone. */
  readonly alignment?: bigint;
  /** `st_other`, for MIPS with the instruction set in its upper bits. */
  readonly other: number;
  /** Absent in a file without versions, and of symbols that are not dynamic. */
  readonly version?: BfdVersion;
  readonly flags: ReadonlySet<BfdFlag>;
}

const ET_REL = 1;
const STT_COMMON = 5;
/** A Thumb function of the old ARM ABI: STT_LOPROC. */
const STT_ARM_TFUNC = 13;
/** `e_flags` of MIPS: code of functions with odd values is microMIPS, else MIPS16. */
const EF_MIPS_MICROMIPS = 0x02000000;

/** Whether the file is for a linker: values of symbols are relative to their sections. */
export function isObjectFile({ header }: ElfFile): boolean {
  return header.e_type === ET_REL;
}

/** The symbols of `.symtab` without symbol 0, which stands for none; `[]` in a stripped file. */
export function staticSymbols(elf: ElfFile): BfdSymbol[] {
  return elf.symbols.slice(1).map((symbol) => bfdSymbol(elf, symbol, undefined));
}

/**
 * The symbols of `.dynsym` without symbol 0; `undefined` where no section header tells of one.
 *
 * Throws `FormatError` where a table that they need is malformed.
 */
export function dynamicSymbols(elf: ElfFile): BfdSymbol[] | undefined {
  if (!elf.sections.some(({ sh_type }) => sh_type === C.SHT_DYNSYM)) return undefined;
  const symbols = elf.dynamicSymbols;
  const versionOf = bfdVersions(elf, symbols.length);
  return symbols.slice(1).map((symbol) => bfdSymbol(elf, symbol, versionOf(symbol.index)));
}

function bfdSymbol(elf: ElfFile, written: ElfSymbol, version: BfdVersion | undefined): BfdSymbol {
  const symbol = forMachine(elf, written);
  const section = sectionOf(elf, symbol.st_shndx);
  const isCommon = section === "*COM*";
  // Sections of object files all start at their sh_addr, which is as a rule 0.
  const start = isObjectFile(elf) && typeof section === "object" ? section.sh_addr : 0n;
  return {
    name: utf8Name(nameOf(elf, symbol)),
    section,
    sectionName: typeof section === "object" ? utf8Name(section.name) : section,
    value: isCommon ? symbol.st_size : start + symbol.st_value,
    size: symbol.st_size,
    ...(isCommon && { alignment: symbol.st_value }),
    other: symbol.st_other,
    ...(version && { version }),
    flags: new Set([...scopeOf(symbol, section), ...(KINDS[symbol.type] ?? [])]),
  };
}

/** The lowest bit of a function's value may be no part of its address but name its instruction set. */
function forMachine({ header }: ElfFile, symbol: ElfSymbol): ElfSymbol {
  const { type, st_value, st_other } = symbol;
  if (header.e_machine === C.EM_ARM) {
    if (type === STT_ARM_TFUNC) return { ...symbol, type: C.STT_FUNC };
    if (type === C.STT_FUNC || type === C.STT_GNU_IFUNC) return { ...symbol, st_value: st_value & ~1n };
  }
  if (header.e_machine === C.EM_MIPS && type === C.STT_FUNC && (st_value & 1n) !== 0n) {
    const micro = (header.e_flags & EF_MIPS_MICROMIPS) !== 0;
    return { ...symbol, st_value: st_value & ~1n, st_other: micro ? (st_other & 0x3f) | 0x80 : st_other | 0xf0 };
  }
  return symbol;
}

function sectionOf(elf: ElfFile, st_shndx: number): BfdSection {
  if (st_shndx === C.SHN_UNDEF) return "*UND*";
  if (st_shndx === C.SHN_COMMON) return "*COM*";
  const section = elf.sections[st_shndx];
  return section && isBfdSection(section) ? section : "*ABS*";
}

/** The tables that only tools read are no sections to binutils; symbols in them count as absolute. */
function isBfdSection({ sh_type, sh_flags }: Section): boolean {
  if (sh_type === 0) return false;
  if ((sh_flags & BigInt(C.SHF_ALLOC)) !== 0n) return true;
  return sh_type !== C.SHT_SYMTAB && sh_type !== C.SHT_STRTAB && sh_type !== C.SHT_SYMTAB_SHNDX;
}

/** Symbols of sections have as a rule no name of their own. */
function nameOf(elf: ElfFile, { name, type, st_shndx }: ElfSymbol): string {
  return name === "" && type === C.STT_SECTION ? (elf.sections[st_shndx]?.name ?? "") : name;
}

function scopeOf({ bind }: ElfSymbol, section: BfdSection): BfdFlag[] {
  switch (bind) {
    case C.STB_LOCAL:
      return ["local"];
    case C.STB_GLOBAL:
      return section === "*UND*" || section === "*COM*" ? [] : ["global"];
    case C.STB_WEAK:
      return ["weak"];
    case C.STB_GNU_UNIQUE:
      return ["unique"];
    default:
      return [];
  }
}

const KINDS: Readonly<Record<number, readonly BfdFlag[]>> = {
  [C.STT_OBJECT]: ["object"],
  [STT_COMMON]: ["object"],
  [C.STT_FUNC]: ["function"],
  [C.STT_GNU_IFUNC]: ["indirect"],
  [C.STT_SECTION]: ["section", "debugging"],
  [C.STT_FILE]: ["file", "debugging"],
};
