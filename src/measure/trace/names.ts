import { PT_LOAD, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STT_FUNC, STT_GNU_IFUNC } from "../../elf/constants.js";
import type { ElfFile } from "../../elf/file.js";
import type { ElfSymbol } from "../../elf/symbol.js";
import { checkSymbols } from "../file/bounds.js";
import type { Place } from "./tally.js";

/** What a place is called in results. */
export interface NamedPlace {
  /** The file's path, or what the kernel calls the mapping; empty for code that was made at run time. */
  readonly file: string;
  /** In the file. */
  readonly offset: number;
  /** The function that it is in, and how far: `clock_gettime+0x1d`. */
  readonly symbol?: string;
}

/** A place with its function, which `symbolOf` looks for where there is a file. */
export function namedPlace(place: Place, symbolOf: (place: Place) => string | undefined): NamedPlace {
  const symbol = place.inode === 0n ? undefined : symbolOf(place);
  return { file: place.name, offset: Number(place.offset), ...(symbol !== undefined && { symbol }) };
}

/** The last part of a path, without what the kernel says of files that were deleted. */
export function libraryName(file: string): string {
  return file.replace(/ \(deleted\)$/, "").replace(/^.*\//, "") || "code made at run time";
}

/** The function's own name in a `symbol`. */
export function functionIn(symbol: string | undefined): string | undefined {
  return symbol?.replace(/\+0x[0-9a-f]+$/, "");
}

/** A function with its place. */
interface NamedRange {
  readonly name: string;
  readonly start: bigint;
  readonly size: bigint;
}

/** Functions that begin at or before an address and are looked at: those that lie one in another are few. */
const MOST_NESTED = 16;

/**
 * Finds the function that holds an offset of a file, and how far into it that is: by the full table of symbols, or where
 * the file is stripped by the dynamic one. Throws `FormatError` where the file is damaged.
 */
export function functionFinder(elf: ElfFile): (offset: number) => string | undefined {
  checkSymbols(elf, SHT_SYMTAB);
  checkSymbols(elf, SHT_DYNSYM);
  const tables = [sortedFunctions(elf.symbols), sortedFunctions(elf.dynamicSymbols)];
  const { segments } = elf;
  return (offset) => {
    const segment = segments.find(
      ({ p_type, p_offset, p_filesz }) => p_type === PT_LOAD && offset >= p_offset && offset < p_offset + p_filesz,
    );
    if (!segment) return undefined;
    const address = segment.p_vaddr + BigInt(offset - segment.p_offset);
    for (const functions of tables) {
      const found = functionAt(functions, address);
      if (found) return `${found.name}+0x${(address - found.start).toString(16)}`;
    }
    return undefined;
  };
}

/** By their addresses; of those at one, the first of the file comes last. */
function sortedFunctions(symbols: readonly ElfSymbol[]): NamedRange[] {
  return symbols
    .filter(({ type, st_shndx }) => (type === STT_FUNC || type === STT_GNU_IFUNC) && st_shndx !== SHN_UNDEF)
    .map(({ name, st_value, st_size }) => ({ name, start: st_value, size: st_size }))
    .reverse()
    .sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
}

function functionAt(functions: readonly NamedRange[], address: bigint): NamedRange | undefined {
  let [below, above] = [0, functions.length];
  while (below < above) {
    const middle = (below + above) >> 1;
    if ((functions[middle] as NamedRange).start <= address) below = middle + 1;
    else above = middle;
  }
  return functions.slice(Math.max(0, below - MOST_NESTED), below).findLast(({ start, size }) => address < start + size);
}
