import { PT_LOAD, SHN_UNDEF, STT_FUNC, STT_GNU_IFUNC } from "../../elf/constants.js";
import type { ElfFile } from "../../elf/file.js";
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

/**
 * The function that holds an offset of a file, and how far into it that is: by the full table of symbols, or where the
 * file is stripped by the dynamic one. Throws `FormatError` where the file is damaged.
 */
export function functionAt(elf: ElfFile, offset: number): string | undefined {
  const segment = elf.segments.find(
    ({ p_type, p_offset, p_filesz }) => p_type === PT_LOAD && offset >= p_offset && offset < p_offset + p_filesz,
  );
  if (!segment) return undefined;
  const address = segment.p_vaddr + BigInt(offset - segment.p_offset);
  for (const symbols of [elf.symbols, elf.dynamicSymbols]) {
    const found = symbols.find(
      ({ type, st_shndx, st_value, st_size }) =>
        (type === STT_FUNC || type === STT_GNU_IFUNC) &&
        st_shndx !== SHN_UNDEF &&
        st_value <= address &&
        address < st_value + st_size,
    );
    if (found) return `${found.name}+0x${(address - found.st_value).toString(16)}`;
  }
  return undefined;
}
