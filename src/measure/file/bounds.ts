import { FormatError } from "../../bytes/error.js";
import { PN_XNUM, SHT_DYNSYM, type SHT_SYMTAB } from "../../elf/constants.js";
import { ElfFile } from "../../elf/file.js";
import { RECORD_SIZE } from "../../elf/header.js";

/** Most symbols of a table: several times what the largest programs have. */
export const MAX_SYMBOLS = 1 << 21;

/**
 * An ELF file of somebody else's process. Throws {@link FormatError} where it has so many segments or sections that the
 * header cannot say how many, which no program has: a file may be made to cost whoever looks at it gigabytes.
 */
export function boundedElf(bytes: Uint8Array): ElfFile {
  const elf = new ElfFile(bytes);
  const { e_phnum, e_shnum, e_shoff } = elf.header;
  if (e_phnum === PN_XNUM) throw new FormatError("Cannot read ELF segments: there are too many", 0, e_phnum);
  if (e_shoff !== 0 && e_shnum === 0) throw new FormatError("Cannot read ELF sections: there are too many", e_shoff);
  return elf;
}

/** Throws {@link FormatError} where a table of symbols has more than {@link MAX_SYMBOLS}. */
export function checkSymbols(
  { bytes, header, sections }: Pick<ElfFile, "bytes" | "header" | "sections">,
  type: typeof SHT_SYMTAB | typeof SHT_DYNSYM,
): void {
  // Without the section, dynamic symbols are as many as a hash table says, at most as many as the file has room for.
  const section = sections.find(({ sh_type }) => sh_type === type);
  const size = section?.sh_size ?? (type === SHT_DYNSYM ? bytes.length : 0);
  const count = Math.floor(size / RECORD_SIZE[header.class].symbol);
  if (count > MAX_SYMBOLS) throw new FormatError("Cannot read ELF symbols: there are too many", 0, count);
}
