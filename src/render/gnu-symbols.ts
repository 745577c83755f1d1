import { paddedHex } from "../bytes/hex.js";
import { Reader } from "../bytes/reader.js";
import * as C from "../elf/constants.js";
import type { ElfFile } from "../elf/file.js";
import type { Section } from "../elf/section.js";
import type { ElfSymbol } from "../elf/symbol.js";
import { bfdTarget } from "./bfd-target.js";

/** A Thumb function of the old ARM ABI: STT_LOPROC. */
const STT_ARM_TFUNC = 13;
const STT_COMMON = 5;
/** `e_flags` of MIPS: code of functions with odd values is microMIPS, else MIPS16. */
const EF_MIPS_MICROMIPS = 0x02000000;

/**
 * What `objdump -T FILE` of binutils 2.40 prints to its standard output for a file named `fileName`.
 *
 * As objdump, it goes by the section headers alone: where a shared library has none, the text ends after its first
 * line, and a file without a table of dynamic symbols has "no symbols". Throws `FormatError` where a table that it
 * needs is malformed.
 */
export function gnuDynamicSymbols(elf: ElfFile, fileName: string): string {
  const head = `\n${fileName}:     file format ${bfdTarget(elf)}\n\n`;
  const table = elf.sections.find(({ sh_type }) => sh_type === C.SHT_DYNSYM);
  if (!table && elf.header.e_type === C.ET_DYN) return head;
  // Symbol 0 stands for no symbol.
  const symbols = table ? elf.dynamicSymbols.slice(1) : [];
  const versionOf = versionColumns(elf, symbols.length + 1);
  const lines = symbols.map((symbol) => `${line(elf, symbol, versionOf(symbol))}\n`);
  return `${head}DYNAMIC SYMBOL TABLE:\n${lines.length > 0 ? lines.join("") : "no symbols\n"}\n\n`;
}

function line(elf: ElfFile, symbol: ElfSymbol, version: string): string {
  const digits = elf.header.class / 4;
  const common = symbol.st_shndx === C.SHN_COMMON;
  // Of a common symbol, which has no place yet, objdump gives first the size and then the alignment.
  const first = common ? symbol.st_size : addressOf(elf, symbol);
  const second = common ? symbol.st_value : symbol.st_size;
  const section = sectionOf(elf, symbol);
  const columns = `${paddedHex(first, digits)} ${flags(elf, symbol)} ${section}\t${paddedHex(second, digits)}`;
  return `${columns}${version}${other(elf, symbol)} ${unicode(nameOf(symbol, section))}`;
}

/** The lowest bit of a function's value may be no part of its address but name its instruction set. */
function addressOf(elf: ElfFile, symbol: ElfSymbol): bigint {
  const { type, st_value } = symbol;
  const thumb = elf.header.e_machine === C.EM_ARM && (type === C.STT_FUNC || type === C.STT_GNU_IFUNC);
  return thumb || isShortMips(elf, symbol) ? st_value & ~1n : st_value;
}

/** Whether a function is of MIPS16 or microMIPS code. */
function isShortMips({ header }: ElfFile, { type, st_value }: ElfSymbol): boolean {
  return header.e_machine === C.EM_MIPS && type === C.STT_FUNC && (st_value & 1n) !== 0n;
}

/** The seven columns of letters; three of them are for what ELF does not have. */
function flags(elf: ElfFile, { bind, type, st_shndx }: ElfSymbol): string {
  const placed = st_shndx !== C.SHN_UNDEF && st_shndx !== C.SHN_COMMON;
  const global = bind === C.STB_GLOBAL && placed;
  const scope = bind === C.STB_LOCAL ? "l" : global ? "g" : bind === C.STB_GNU_UNIQUE ? "u" : " ";
  const weak = bind === C.STB_WEAK ? "w" : " ";
  const indirect = type === C.STT_GNU_IFUNC ? "i" : " ";
  const debugging = type === C.STT_SECTION || type === C.STT_FILE ? "d" : "D";
  return `${scope}${weak}  ${indirect}${debugging}${kind(elf, type)}`;
}

function kind(elf: ElfFile, type: number): string {
  switch (type) {
    case C.STT_FUNC:
      return "F";
    case C.STT_FILE:
      return "f";
    case C.STT_OBJECT:
    case STT_COMMON:
      return "O";
    case STT_ARM_TFUNC:
      return elf.header.e_machine === C.EM_ARM ? "F" : " ";
    default:
      return " ";
  }
}

function sectionOf(elf: ElfFile, { st_shndx }: ElfSymbol): string {
  if (st_shndx === C.SHN_UNDEF) return "*UND*";
  if (st_shndx === C.SHN_COMMON) return "*COM*";
  const section = elf.sections[st_shndx];
  return section && isBfdSection(section) ? unicode(section.name) : "*ABS*";
}

/** The tables that only tools read are no sections to binutils; symbols in them count as absolute. */
function isBfdSection({ sh_type, sh_flags }: Section): boolean {
  if ((sh_flags & BigInt(C.SHF_ALLOC)) !== 0n) return sh_type !== 0;
  return sh_type !== 0 && sh_type !== C.SHT_SYMTAB && sh_type !== C.SHT_STRTAB && sh_type !== C.SHT_SYMTAB_SHNDX;
}

/** Symbols of sections have as a rule no name of their own. */
function nameOf({ name, type }: ElfSymbol, section: string): string {
  return name === "" && type === C.STT_SECTION ? section : name;
}

/**
 * How the version of each symbol is written, with the blanks around it.
 *
 * Not {@link ElfSymbol.version}: objdump takes the number of a version at its word, also where the symbol is undefined
 * and the version is one that the file defines.
 */
function versionColumns(elf: ElfFile, symbolCount: number): (symbol: ElfSymbol) => string {
  const { versionDefinitions: definitions, versionNeeds: needs } = elf;
  const section = elf.sections.find(({ sh_type }) => sh_type === C.SHT_GNU_VERSYM);
  if (!section || (definitions.length === 0 && needs.length === 0)) return () => "";

  const bytes = elf.sectionBytes(section);
  const table = new Reader(bytes, { littleEndian: elf.header.littleEndian, what: "ELF symbol versions" });
  const sound = Math.floor(bytes.length / 2) === symbolCount;
  const defined = new Map(definitions.map((definition) => [definition.vd_ndx, definition]));
  const last = Math.max(0, ...defined.keys());
  const needed = new Map(needs.map((need) => [need.vna_other, need.name]));

  return ({ index }) => {
    const value = sound ? table.u16At(index * 2) : 0;
    const number = value & ~C.VERSYM_HIDDEN;
    let hidden = (value & C.VERSYM_HIDDEN) !== 0;
    let name: string;
    if (number === C.VER_NDX_LOCAL) name = "";
    else if (number === C.VER_NDX_GLOBAL && (last === 0 || defined.get(1)?.vd_flags === C.VER_FLG_BASE)) name = "Base";
    else if (number <= last) name = defined.get(number)?.name ?? "";
    else {
      const need = needed.get(number);
      hidden ||= need !== undefined;
      name = need ?? "<corrupt>";
    }
    return hidden ? ` ${`(${unicode(name)})`.padEnd(12)}` : `  ${unicode(name).padEnd(11)}`;
  };
}

function other(elf: ElfFile, symbol: ElfSymbol): string {
  const st_other = otherByte(elf, symbol);
  switch (st_other) {
    case 0:
      return "";
    case C.STV_INTERNAL:
      return " .internal";
    case C.STV_HIDDEN:
      return " .hidden";
    case C.STV_PROTECTED:
      return " .protected";
    default:
      return ` 0x${paddedHex(st_other, 2)}`;
  }
}

/** As objdump completes it: for MIPS, with the instruction set in the upper bits. */
function otherByte(elf: ElfFile, symbol: ElfSymbol): number {
  const { st_other } = symbol;
  if (!isShortMips(elf, symbol)) return st_other;
  return elf.header.e_flags & EF_MIPS_MICROMIPS ? (st_other & 0x3f) | 0x80 : st_other | 0xf0;
}

/** Names are bytes, one a character; those beyond ASCII are UTF-8 by custom, and are to be written as they were. */
function unicode(name: string): string {
  for (let i = 0; i < name.length; i++) {
    if (name.charCodeAt(i) > 0x7f) return new TextDecoder().decode(Uint8Array.from(name, (c) => c.charCodeAt(0)));
  }
  return name;
}
