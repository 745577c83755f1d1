import type { Reader } from "../bytes/reader.js";
import { type ElfHeader, RECORD_SIZE, type SectionCounts } from "./header.js";
import { StringTable } from "./strings.js";

/** One section header. `sh_offset` is in bytes of the file. */
export interface Section {
  readonly index: number;
  readonly name: string;
  readonly sh_type: number;
  readonly sh_flags: bigint;
  readonly sh_addr: bigint;
  readonly sh_offset: number;
  readonly sh_size: number;
  readonly sh_link: number;
  readonly sh_info: number;
  readonly sh_addralign: bigint;
  readonly sh_entsize: number;
}

/**
 * Reads the section headers with their names.
 *
 * The bytes of a section are not checked here: a stripped or mapped file may lack those that it describes. Throws
 * `FormatError` where the headers themselves do not lie inside the file.
 */
export function readSections(header: ElfHeader, reader: Reader, counts: SectionCounts): Section[] {
  if (counts.shnum === 0) return [];
  const size = RECORD_SIZE[header.class].section;
  const table = reader.slice(header.e_shoff, counts.shnum * size, "ELF section headers");
  const word = header.class === 64 ? 8 : 4;
  const raw = [];
  for (let i = 0; i < counts.shnum; i++) {
    const at = i * size;
    const behind = at + 8 + 4 * word;
    raw.push({
      index: i,
      sh_name: table.u32At(at),
      sh_type: table.u32At(at + 4),
      sh_flags: table.wordAt(at + 8),
      sh_addr: table.wordAt(at + 8 + word),
      sh_offset: table.sizeAt(at + 8 + 2 * word),
      sh_size: table.sizeAt(at + 8 + 3 * word),
      sh_link: table.u32At(behind),
      sh_info: table.u32At(behind + 4),
      sh_addralign: table.wordAt(behind + 8),
      sh_entsize: table.sizeAt(behind + 8 + word),
    });
  }
  // Index 0 (SHN_UNDEF) means that the sections have no names.
  const namesAt = raw[counts.shstrndx];
  if (counts.shstrndx !== 0 && namesAt === undefined) {
    throw table.error(`the names are in section ${counts.shstrndx} of ${raw.length}`, 0, counts.shstrndx);
  }
  const names =
    namesAt === undefined || counts.shstrndx === 0
      ? undefined
      : new StringTable(reader.slice(namesAt.sh_offset, namesAt.sh_size, "ELF section names"));
  return raw.map(({ sh_name, ...fields }) => ({ ...fields, name: names?.at(sh_name) ?? "" }));
}
