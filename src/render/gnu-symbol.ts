import * as C from "../elf/constants.js";
import type { ElfFile } from "../elf/file.js";
import type { Section } from "../elf/section.js";

/** Where binutils puts a symbol: a section of the file, or one of those that are none. */
export type SymbolPlace = Section | "undefined" | "common" | "absolute";

/** The tables that only tools read are no sections to binutils. */
function isBfdSection({ sh_type, sh_flags }: Section): boolean {
  if (sh_type === 0) return false;
  if ((sh_flags & BigInt(C.SHF_ALLOC)) !== 0n) return true;
  return sh_type !== C.SHT_SYMTAB && sh_type !== C.SHT_STRTAB && sh_type !== C.SHT_SYMTAB_SHNDX;
}

/** The place of a symbol that says this `st_shndx`. */
export function symbolPlace(elf: ElfFile, st_shndx: number): SymbolPlace {
  if (st_shndx === C.SHN_UNDEF) return "undefined";
  if (st_shndx === C.SHN_COMMON) return "common";
  const section = elf.sections[st_shndx];
  return section && isBfdSection(section) ? section : "absolute";
}

/** A symbol as objdump's disassembler sees it. */
export interface GnuSymbol {
  readonly name: string;
  /** The name with its version, as it is written. */
  readonly label: string;
  readonly address: bigint;
  readonly size: bigint;
  readonly place: SymbolPlace;
  /** Ranks of the symbol among others at the same address. */
  readonly isFunction: boolean;
  readonly isObject: boolean;
  readonly isLocal: boolean;
  readonly isGlobal: boolean;
  readonly isDebugging: boolean;
  readonly isSection: boolean;
  /** Made up for an entry of the procedure linkage table. */
  readonly isSynthetic: boolean;
}
