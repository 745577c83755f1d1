import * as C from "../elf/constants.js";
import type { ElfFile } from "../elf/file.js";
import type { ElfSymbol } from "../elf/symbol.js";
import type { Target } from "../targets/target.js";
import type { VdsoImage } from "../vdso/image.js";
import { type Identity, identify } from "./identity.js";

/** One dynamic symbol with all that `nm -D`, `readelf --dyn-syms` and `objdump -T` say of it. */
export interface SymbolRow {
  readonly index: number;
  readonly name: string;
  readonly version?: string;
  /** Not the default version of its name. */
  readonly hidden: boolean;
  /** As in the file. */
  readonly value: bigint;
  /** Where it lies in the process that was looked at. */
  readonly address?: bigint;
  readonly size: bigint;
  readonly type: string;
  readonly bind: string;
  readonly visibility: string;
  /** Section name, `*ABS*`, `*UND*` or `*COM*`. */
  readonly section: string;
  /** The letter of nm. */
  readonly letter: string;
}

/** The dynamic symbols of an image. */
export interface SymbolsResult {
  readonly target: string;
  readonly identity: Identity;
  readonly base?: bigint;
  readonly symbols: readonly SymbolRow[];
  readonly notes: readonly string[];
}

const TYPES: Readonly<Record<number, string>> = {
  [C.STT_NOTYPE]: "NOTYPE",
  [C.STT_OBJECT]: "OBJECT",
  [C.STT_FUNC]: "FUNC",
  [C.STT_SECTION]: "SECTION",
  [C.STT_FILE]: "FILE",
  [C.STT_TLS]: "TLS",
  [C.STT_GNU_IFUNC]: "IFUNC",
};

const BINDS: Readonly<Record<number, string>> = {
  [C.STB_LOCAL]: "LOCAL",
  [C.STB_GLOBAL]: "GLOBAL",
  [C.STB_WEAK]: "WEAK",
  [C.STB_GNU_UNIQUE]: "UNIQUE",
};

const VISIBILITIES = ["DEFAULT", "INTERNAL", "HIDDEN", "PROTECTED"] as const;

/** The dynamic symbols of a target's image, in the order of the file; symbol 0 is left out. */
export function symbols(target: Target): SymbolsResult {
  const { image } = target;
  return {
    target: target.name,
    identity: identify(image),
    ...(target.location && { base: target.location.base }),
    symbols: symbolRows(image, target.bias),
    notes: target.notes,
  };
}

/** One row a dynamic symbol; `bias` gives them addresses. */
export function symbolRows(image: VdsoImage, bias: bigint | undefined): SymbolRow[] {
  return image.elf.dynamicSymbols.slice(1).map((symbol) => ({
    index: symbol.index,
    name: symbol.name,
    ...(symbol.version && { version: symbol.version.name }),
    hidden: symbol.version?.hidden ?? false,
    value: symbol.st_value,
    ...(bias !== undefined && hasAddress(symbol) && { address: symbol.st_value + bias }),
    size: symbol.st_size,
    type: TYPES[symbol.type] ?? `type ${symbol.type}`,
    bind: BINDS[symbol.bind] ?? `bind ${symbol.bind}`,
    visibility: VISIBILITIES[symbol.st_other & 3] as string,
    section: sectionName(image.elf, symbol),
    letter: nmLetter(image.elf, symbol),
  }));
}

function hasAddress(symbol: ElfSymbol): boolean {
  return symbol.st_shndx !== C.SHN_UNDEF && symbol.st_shndx < C.SHN_LORESERVE;
}

function sectionName(elf: ElfFile, symbol: ElfSymbol): string {
  if (symbol.st_shndx === C.SHN_UNDEF) return "*UND*";
  if (symbol.st_shndx === C.SHN_ABS) return "*ABS*";
  if (symbol.st_shndx === C.SHN_COMMON) return "*COM*";
  return elf.sections[symbol.st_shndx]?.name ?? String(symbol.st_shndx);
}

/** The letter that nm writes for a symbol; lower-case for local ones. */
function nmLetter(elf: ElfFile, symbol: ElfSymbol): string {
  const undefinedSymbol = symbol.st_shndx === C.SHN_UNDEF;
  if (symbol.bind === C.STB_WEAK) {
    const letter = symbol.type === C.STT_OBJECT ? "v" : "w";
    return undefinedSymbol ? letter : letter.toUpperCase();
  }
  if (undefinedSymbol) return "U";
  if (symbol.bind === C.STB_GNU_UNIQUE) return "u";
  if (symbol.type === C.STT_GNU_IFUNC) return "i";
  if (symbol.st_shndx === C.SHN_COMMON) return "C";
  const letter = symbol.st_shndx === C.SHN_ABS ? "A" : sectionLetter(elf, symbol.st_shndx);
  return symbol.bind === C.STB_LOCAL ? letter.toLowerCase() : letter;
}

function sectionLetter(elf: ElfFile, index: number): string {
  const section = elf.sections[index];
  if (!section) return "?";
  if (section.sh_flags & BigInt(C.SHF_EXECINSTR)) return "T";
  if (section.sh_type === C.SHT_NOBITS) return "B";
  return section.sh_flags & BigInt(C.SHF_WRITE) ? "D" : "R";
}
