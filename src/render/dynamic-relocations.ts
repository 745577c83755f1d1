import { Reader } from "../bytes/reader.js";
import * as C from "../elf/constants.js";
import type { ElfFile } from "../elf/file.js";

/** A relocation that the dynamic linker applies. */
export interface DynamicRelocation {
  /** Where it is applied. */
  readonly address: bigint;
  /** Index in `.dynsym`; 0 for none. */
  readonly symbol: number;
  /** 0 where the addend stands in the relocated place. */
  readonly addend: bigint;
}

const SHT_RELA = 4;
const SHT_REL = 9;

/**
 * The relocations of all sections that refer to `.dynsym`, sorted by address.
 *
 * Throws `FormatError` where such a section does not lie in the file.
 */
export function dynamicRelocations(elf: ElfFile): DynamicRelocation[] {
  const relocations: DynamicRelocation[] = [];
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
        symbol: Number(wide ? info >> 32n : info >> 8n),
        addend,
      });
    }
  }
  return relocations.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
}
