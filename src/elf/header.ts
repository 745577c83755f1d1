import { FormatError } from "../bytes/error.js";
import { Reader } from "../bytes/reader.js";
import { ELFCLASS32, ELFCLASS64, ELFDATA2LSB, ELFDATA2MSB, PN_XNUM, SHN_XINDEX } from "./constants.js";

/** The ELF header, raw fields under their own names. File offsets are numbers, addresses bigints. */
export interface ElfHeader {
  /** Word size of the file in bits. */
  readonly class: 32 | 64;
  readonly littleEndian: boolean;
  readonly osabi: number;
  readonly abiversion: number;
  readonly e_type: number;
  readonly e_machine: number;
  readonly e_version: number;
  readonly e_entry: bigint;
  readonly e_phoff: number;
  readonly e_shoff: number;
  readonly e_flags: number;
  readonly e_ehsize: number;
  readonly e_phentsize: number;
  /** As written: {@link PN_XNUM} means that `sh_info` of section 0 has the count. */
  readonly e_phnum: number;
  readonly e_shentsize: number;
  /** As written: 0 with a non-zero `e_shoff` means that `sh_size` of section 0 has the count. */
  readonly e_shnum: number;
  /** As written: {@link SHN_XINDEX} means that `sh_link` of section 0 has the index. */
  readonly e_shstrndx: number;
}

const MAGIC = [0x7f, 0x45, 0x4c, 0x46];

/** Whether the bytes start as an ELF file does. */
export function isElf(bytes: Uint8Array): boolean {
  return MAGIC.every((byte, i) => bytes[i] === byte);
}

/** Sizes in bytes of the records of each class. */
export const RECORD_SIZE = {
  32: { header: 52, segment: 32, section: 40, symbol: 16, dynamic: 8 },
  64: { header: 64, segment: 56, section: 64, symbol: 24, dynamic: 16 },
} as const;

/**
 * Reads the header and returns it with a reader of the file in its byte order and word size.
 *
 * Source: System V gABI, chapter 4, "ELF Header". Throws {@link FormatError}.
 */
export function readHeader(bytes: Uint8Array): { header: ElfHeader; reader: Reader } {
  const ident = new Reader(bytes, { what: "ELF header" });
  if (!isElf(bytes)) {
    const start = [...bytes.subarray(0, 4)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    throw new FormatError(`Cannot read ELF header: it starts with ${start || "nothing"}, not 7f 45 4c 46`, 0);
  }
  const classByte = ident.u8At(4);
  if (classByte !== ELFCLASS32 && classByte !== ELFCLASS64) throw ident.error(`class is ${classByte}`, 4, classByte);
  const order = ident.u8At(5);
  if (order !== ELFDATA2LSB && order !== ELFDATA2MSB) throw ident.error(`data encoding is ${order}`, 5, order);
  if (ident.u8At(6) !== 1) throw ident.error(`version is ${ident.u8At(6)}`, 6, ident.u8At(6));

  const wide = classByte === ELFCLASS64;
  const reader = new Reader(bytes, {
    littleEndian: order === ELFDATA2LSB,
    wordSize: wide ? 8 : 4,
    what: "ELF header",
  });
  // The three words follow the fixed fields; everything behind them moves by their size.
  const word = wide ? 8 : 4;
  const tail = 24 + 3 * word;
  const header: ElfHeader = {
    class: wide ? 64 : 32,
    littleEndian: order === ELFDATA2LSB,
    osabi: ident.u8At(7),
    abiversion: ident.u8At(8),
    e_type: reader.u16At(16),
    e_machine: reader.u16At(18),
    e_version: reader.u32At(20),
    e_entry: reader.wordAt(24),
    e_phoff: reader.sizeAt(24 + word),
    e_shoff: reader.sizeAt(24 + 2 * word),
    e_flags: reader.u32At(tail),
    e_ehsize: reader.u16At(tail + 4),
    e_phentsize: reader.u16At(tail + 6),
    e_phnum: reader.u16At(tail + 8),
    e_shentsize: reader.u16At(tail + 10),
    e_shnum: reader.u16At(tail + 12),
    e_shstrndx: reader.u16At(tail + 14),
  };
  const size = RECORD_SIZE[header.class];
  if (header.e_phnum > 0 && header.e_phentsize !== size.segment) {
    throw reader.error(`e_phentsize is ${header.e_phentsize}, not ${size.segment}`, tail + 6, header.e_phentsize);
  }
  if (header.e_shoff > 0 && header.e_shentsize !== size.section) {
    throw reader.error(`e_shentsize is ${header.e_shentsize}, not ${size.section}`, tail + 10, header.e_shentsize);
  }
  return { header, reader };
}

/**
 * The number of program headers, with `PN_XNUM` resolved through section 0.
 *
 * Apart from {@link readSectionCounts}, because program headers are there whatever has become of the section headers.
 * Throws {@link FormatError} where the header points to section 0 and there is none.
 */
export function readSegmentCount(header: ElfHeader, reader: Reader): number {
  if (header.e_phnum !== PN_XNUM) return header.e_phnum;
  return sectionZero(header, reader).u32At(header.class === 64 ? 44 : 28);
}

/** The counts of the section headers that the header gives, with those that do not fit it taken from section 0. */
export interface SectionCounts {
  readonly shnum: number;
  readonly shstrndx: number;
}

/**
 * Resolves `e_shnum` 0 and `SHN_XINDEX` through section 0; both are 0 where `e_shoff` is, for then there are no section
 * headers whatever the rest says.
 *
 * Throws {@link FormatError} where the header points to section 0 and the file ends before it.
 */
export function readSectionCounts(header: ElfHeader, reader: Reader): SectionCounts {
  const { e_shnum, e_shoff, e_shstrndx } = header;
  if (e_shoff === 0) return { shnum: 0, shstrndx: 0 };
  if (e_shnum !== 0 && e_shstrndx !== SHN_XINDEX) return { shnum: e_shnum, shstrndx: e_shstrndx };
  const zero = sectionZero(header, reader);
  const wide = header.class === 64;
  return {
    shnum: e_shnum === 0 ? zero.sizeAt(wide ? 32 : 20) : e_shnum,
    shstrndx: e_shstrndx === SHN_XINDEX ? zero.u32At(wide ? 40 : 24) : e_shstrndx,
  };
}

function sectionZero(header: ElfHeader, reader: Reader): Reader {
  if (header.e_shoff === 0) throw reader.error("its counts are in section 0, but e_shoff is 0", 0, header.e_phnum);
  return reader.slice(header.e_shoff, RECORD_SIZE[header.class].section, "ELF section 0");
}
