import { Reader } from "../../bytes/reader.js";
import * as C from "../../elf/constants.js";
import type { ElfFile } from "../../elf/file.js";
import { type BfdSymbol, isObjectFile } from "./bfd-symbol.js";

/** A relocation that the dynamic linker applies, as binutils (its BFD library) sees it. */
export interface BfdRelocation {
  /** Where it is applied. */
  readonly address: bigint;
  /** Absent where it refers to none. */
  readonly symbol: BfdSymbol | undefined;
  /** 0 where the addend stands in the relocated place. */
  readonly addend: bigint;
}

const SHT_RELA = 4;
const SHT_REL = 9;

/** Whether a linker has still to relocate the file. */
export function hasRelocations(elf: ElfFile): boolean {
  return (
    isObjectFile(elf) &&
    elf.sections.some(({ sh_type, sh_info }) => (sh_type === SHT_RELA || sh_type === SHT_REL) && sh_info > 0)
  );
}

/**
 * The relocations of all sections that refer to `.dynsym`, whose symbols are given without symbol 0; sorted by address.
 *
 * Throws `FormatError` where such a section does not lie in the file.
 */
export function dynamicRelocations(elf: ElfFile, symbols: readonly BfdSymbol[]): BfdRelocation[] {
  const relocations: BfdRelocation[] = [];
  const wide = elf.header.class === 64;
  const word = wide ? 8 : 4;
  for (const section of elf.sections) {
    if (section.sh_type !== SHT_RELA && section.sh_type !== SHT_REL) continue;
    if (elf.sections[section.sh_link]?.sh_type !== C.SHT_DYNSYM) continue;
    const reader = new Reader(elf.sectionBytes(section), {
      littleEndian: elf.header.littleEndian,
      wordSize: word,
      what: `ELF section ${section.name}`,
    });
    const size = section.sh_type === SHT_RELA ? 3 * word : 2 * word;
    for (let at = 0; at + size <= reader.length; at += size) {
      const info = reader.wordAt(at + word);
      const addend = section.sh_type === SHT_REL ? 0n : reader.wordAt(at + 2 * word);
      relocations.push({
        address: reader.wordAt(at),
        symbol: symbols[Number(wide ? info >> 32n : info >> 8n) - 1],
        addend,
      });
    }
  }
  return relocations.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
}
