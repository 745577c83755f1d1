import { FormatError } from "../../../bytes/error.js";
import { Reader } from "../../../bytes/reader.js";
import * as C from "../../../elf/constants.js";
import type { ElfFile } from "../../../elf/file.js";
import { RECORD_SIZE } from "../../../elf/header.js";
import { StringTable } from "../../../elf/strings.js";
import { readSymbols } from "../../../elf/symbol.js";
import { checkSymbols, MAX_SYMBOLS } from "../../file/bounds.js";

/** Makes bytes of the file present that are about to be read. */
export type Fetch = (offset: number, size: number) => void;

/**
 * The names of the symbols that a file imports. Of a large program few of the symbols are: the others, which
 * DT_GNU_HASH keeps behind them, are not read.
 *
 * `fetch` is asked for each part before it is read. Throws `FormatError` where the file is damaged.
 */
export function importedNames(elf: ElfFile, fetch: Fetch): string[] {
  const table = symbolTable(elf, fetch);
  if (!table) {
    fetch(0, elf.bytes.length);
    checkSymbols(elf, C.SHT_DYNSYM);
    return elf.dynamicSymbols.filter(({ st_shndx }) => st_shndx === C.SHN_UNDEF).map(({ name }) => name);
  }
  const { header } = elf;
  const { offset, count, strings } = table;
  if (count > MAX_SYMBOLS) throw new FormatError("Cannot read ELF symbols: there are too many", offset, count);
  const options = { littleEndian: header.littleEndian, wordSize: header.class === 64 ? 8 : 4 } as const;
  const size = count * RECORD_SIZE[header.class].symbol;
  fetch(offset, size);
  fetch(strings.offset, strings.size);
  const whole = new Reader(elf.bytes, { ...options, what: "ELF dynamic symbols" });
  const names = new StringTable(whole.slice(strings.offset, strings.size, "ELF dynamic strings"));
  return readSymbols(whole.slice(offset, size), count, { strings: names })
    .filter(({ st_shndx }) => st_shndx === C.SHN_UNDEF)
    .map(({ name }) => name);
}

interface Table {
  readonly offset: number;
  readonly count: number;
  readonly strings: { readonly offset: number; readonly size: number };
}

/** The part of the table of dynamic symbols that is not hashed; `undefined` where that cannot be told. */
function symbolTable(elf: ElfFile, fetch: Fetch): Table | undefined {
  const at = (tag: number): number | undefined => {
    const address = elf.dynamicValue(tag);
    return address === undefined ? undefined : elf.offsetOf(address);
  };
  const [hash, offset, strings] = [at(C.DT_GNU_HASH), at(C.DT_SYMTAB), at(C.DT_STRTAB)];
  const size = elf.dynamicValue(C.DT_STRSZ);
  if (hash === undefined || offset === undefined || strings === undefined || size === undefined) return undefined;
  if (size > BigInt(elf.bytes.length - strings)) return undefined;
  fetch(hash, 8);
  const reader = new Reader(elf.bytes, { littleEndian: elf.header.littleEndian, what: "ELF DT_GNU_HASH" });
  const count = reader.u32At(hash + 4);
  // Where nothing is defined, linkers write 1, however many are imported.
  return count <= 1 ? undefined : { offset, count, strings: { offset: strings, size: Number(size) } };
}
