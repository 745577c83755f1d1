import type { Reader } from "../bytes/reader.js";
import { SHN_XINDEX } from "./constants.js";
import { RECORD_SIZE } from "./header.js";
import type { StringTable } from "./strings.js";

/** The version that `.gnu.version` gives a symbol. */
export interface SymbolVersion {
  readonly name: string;
  /** Not the default of its name: written `name@VERSION`, and by objdump in parentheses. */
  readonly hidden: boolean;
  /** `base`: the file itself stands for the version (VER_FLG_BASE), which tools show as "Base". */
  readonly kind: "defined" | "needed" | "base";
}

/** One symbol. `st_shndx` is as written, but for SHN_XINDEX, which is resolved. */
export interface ElfSymbol {
  /** Place in its table. */
  readonly index: number;
  readonly name: string;
  readonly st_value: bigint;
  readonly st_size: bigint;
  /** STB_*: the upper half of `st_info`. */
  readonly bind: number;
  /** STT_*: the lower half of `st_info`. */
  readonly type: number;
  readonly st_other: number;
  readonly st_shndx: number;
  /** Absent where the file has no versions or gives this symbol none. */
  readonly version?: SymbolVersion;
}

/** What a table of symbols is read with. */
export interface SymbolSources {
  readonly strings: StringTable;
  /** Index of the version of each symbol; absent where there is no `.gnu.version`. */
  readonly versionOf?: (index: number, st_shndx: number) => SymbolVersion | undefined;
  /** SHT_SYMTAB_SHNDX: the section index of symbols that say SHN_XINDEX. */
  readonly extendedIndexes?: Reader;
}

/** Reads `count` symbols; `reader` covers the table. Throws `FormatError` where it is shorter. */
export function readSymbols(reader: Reader, count: number, sources: SymbolSources): ElfSymbol[] {
  const wide = reader.wordSize === 8;
  const size = RECORD_SIZE[wide ? 64 : 32].symbol;
  reader.check(0, count * size);
  const symbols: ElfSymbol[] = [];
  for (let index = 0; index < count; index++) {
    const at = index * size;
    const info = reader.u8At(at + (wide ? 4 : 12));
    const written = reader.u16At(at + (wide ? 6 : 14));
    const st_shndx =
      written === SHN_XINDEX && sources.extendedIndexes ? sources.extendedIndexes.u32At(index * 4) : written;
    const version = sources.versionOf?.(index, st_shndx);
    symbols.push({
      index,
      name: sources.strings.at(reader.u32At(at)),
      st_value: reader.wordAt(at + (wide ? 8 : 4)),
      st_size: reader.wordAt(at + (wide ? 16 : 8)),
      bind: info >> 4,
      type: info & 15,
      st_other: reader.u8At(at + (wide ? 5 : 13)),
      st_shndx,
      ...(version && { version }),
    });
  }
  return symbols;
}
