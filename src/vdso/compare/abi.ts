import * as C from "../../elf/constants.js";
import type { VdsoImage } from "../image.js";

/** A name that an image exports, as a C library finds it. */
export interface ExportedSymbol {
  readonly name: string;
  /** The version under which it is looked up; absent in an image without versions. */
  readonly version?: string;
  /** Not the default version of its name. */
  readonly hidden: boolean;
  /** STT_*. */
  readonly type: number;
  /** STB_*. */
  readonly bind: number;
  /** STV_*. */
  readonly visibility: number;
  /** The main name of the function, where this is another name of the same code. */
  readonly aliasOf?: string;
  /** In bytes; no part of the ABI, for nothing looks at it. */
  readonly size: bigint;
}

/** What of a symbol may change for those that look it up. */
export type SymbolField = "version" | "default" | "type" | "bind" | "visibility" | "alias";

/** An exported name that one of two images lacks, or that is another thing in the second. */
export interface SymbolChange {
  readonly change: "added" | "removed" | "changed";
  readonly name: string;
  readonly a?: ExportedSymbol;
  readonly b?: ExportedSymbol;
  /** What differs, where both have it. */
  readonly fields: readonly SymbolField[];
}

/** What a C library relies on beside the names. */
export type AbiAspect =
  | "ABI"
  | "ELF flags"
  | "SONAME"
  | "version definition"
  | "hash table"
  | "dynamic entry"
  | "program header";

/** One thing that a C library relies on and that only one image has. A change is a value removed and another added. */
export interface AspectChange {
  readonly aspect: AbiAspect;
  readonly change: "added" | "removed";
  /** `LINUX_2.6`, `DT_HASH`, `PT_GNU_EH_FRAME`. */
  readonly value: string;
}

/** The size of a function that both images have, where it differs. */
export interface SizeChange {
  readonly name: string;
  readonly a: bigint;
  readonly b: bigint;
}

/** Two images as a C library sees them. */
export interface AbiComparison {
  /** Whether a C library would notice nothing. */
  readonly same: boolean;
  readonly symbols: readonly SymbolChange[];
  readonly aspects: readonly AspectChange[];
  /** How many exported names are the same in both. */
  readonly unchanged: number;
  /** By name; sizes are no part of the ABI. */
  readonly sizes: readonly SizeChange[];
}

const PT_GNU_EH_FRAME = 0x6474e550;

/** Program headers that are looked for: by the set-up of the vDSO, by unwinders, and by readers of notes. */
const PROGRAM_HEADERS: ReadonlyMap<number, string> = new Map([
  [C.PT_LOAD, "PT_LOAD"],
  [C.PT_DYNAMIC, "PT_DYNAMIC"],
  [C.PT_NOTE, "PT_NOTE"],
  [PT_GNU_EH_FRAME, "PT_GNU_EH_FRAME"],
]);

/** Dynamic entries without which a symbol of a vDSO is not found. */
const DYNAMIC_ENTRIES: ReadonlyMap<number, string> = new Map([
  [C.DT_STRTAB, "DT_STRTAB"],
  [C.DT_SYMTAB, "DT_SYMTAB"],
  [C.DT_VERSYM, "DT_VERSYM"],
  [C.DT_VERDEF, "DT_VERDEF"],
]);

const HASH_TABLES: ReadonlyMap<number, string> = new Map([
  [C.DT_HASH, "DT_HASH"],
  [C.DT_GNU_HASH, "DT_GNU_HASH"],
]);

/**
 * The names that an image exports, in the order of its table. The names of the versions themselves, which linkers put
 * among the symbols, are left out: they are told as version definitions.
 */
export function exportedSymbols(image: VdsoImage): ExportedSymbol[] {
  const versions = new Set(image.elf.versionDefinitions.map(({ name }) => name));
  const mainNames = new Map(
    image.functions.flatMap(({ name, aliases }) => aliases.map((alias) => [alias, name] as const)),
  );
  return image.elf.dynamicSymbols
    .filter(
      ({ name, bind, st_shndx }) =>
        name !== "" &&
        bind !== C.STB_LOCAL &&
        st_shndx !== C.SHN_UNDEF &&
        !(st_shndx === C.SHN_ABS && versions.has(name)),
    )
    .map((symbol) => {
      const aliasOf = mainNames.get(symbol.name);
      return {
        name: symbol.name,
        ...(symbol.version && { version: symbol.version.name }),
        hidden: symbol.version?.hidden ?? false,
        type: symbol.type,
        bind: symbol.bind,
        visibility: symbol.st_other & 3,
        ...(aliasOf !== undefined && { aliasOf }),
        size: symbol.st_size,
      };
    });
}

/** Compares two images as far as a C library looks at them. Nothing is decoded. */
export function compareAbi(a: VdsoImage, b: VdsoImage): AbiComparison {
  const pairs = pairSymbols(exportedSymbols(a), exportedSymbols(b));
  const symbols: SymbolChange[] = [];
  const sizes: SizeChange[] = [];
  for (const pair of pairs) {
    const { name } = pair.a ?? pair.b;
    if (!pair.a || !pair.b) {
      symbols.push({ change: pair.a ? "removed" : "added", name, ...pair, fields: [] });
      continue;
    }
    const fields = changedFields(pair.a, pair.b);
    if (fields.length > 0) symbols.push({ change: "changed", name, ...pair, fields });
    if (pair.a.size !== pair.b.size && pair.a.aliasOf === undefined) {
      sizes.push({ name, a: pair.a.size, b: pair.b.size });
    }
  }
  const aspects = compareAspects(a, b);
  const unchanged = pairs.length - symbols.length;
  return { same: symbols.length === 0 && aspects.length === 0, symbols, aspects, unchanged, sizes };
}

type SymbolPair =
  | { readonly a: ExportedSymbol; readonly b?: ExportedSymbol }
  | { readonly a?: never; readonly b: ExportedSymbol };

/** Pairs by name and version, then what is left by name alone: its version has changed. */
function pairSymbols(a: readonly ExportedSymbol[], b: readonly ExportedSymbol[]): SymbolPair[] {
  const exact = ({ name, version }: ExportedSymbol) => `${name}@${version ?? ""}`;
  const first = pairBy(a, b, exact);
  const second = pairBy(first.a, first.b, ({ name }) => name);
  const pairs: SymbolPair[] = [
    ...first.pairs,
    ...second.pairs,
    ...second.a.map((symbol) => ({ a: symbol })),
    ...second.b.map((symbol) => ({ b: symbol })),
  ];
  const nameOf = (pair: SymbolPair) => (pair.a ?? pair.b).name;
  return pairs.sort((one, other) => (nameOf(one) < nameOf(other) ? -1 : nameOf(one) > nameOf(other) ? 1 : 0));
}

/** Pairs items of equal keys in order; what finds no partner is left over. */
export function pairBy<T>(
  a: readonly T[],
  b: readonly T[],
  key: (item: T) => string,
): { readonly pairs: { readonly a: T; readonly b: T }[]; readonly a: T[]; readonly b: T[] } {
  const waiting = new Map<string, T[]>();
  // Taken from the end: reversed, so that the first of equal keys comes first.
  for (const item of [...b].reverse()) {
    const list = waiting.get(key(item));
    if (list) list.push(item);
    else waiting.set(key(item), [item]);
  }
  const pairs: { a: T; b: T }[] = [];
  const left: T[] = [];
  const taken = new Set<T>();
  for (const item of a) {
    const partner = waiting.get(key(item))?.pop();
    if (partner === undefined) left.push(item);
    else {
      pairs.push({ a: item, b: partner });
      taken.add(partner);
    }
  }
  return { pairs, a: left, b: b.filter((item) => !taken.has(item)) };
}

function changedFields(a: ExportedSymbol, b: ExportedSymbol): SymbolField[] {
  const fields: SymbolField[] = [];
  if (a.version !== b.version) fields.push("version");
  if (a.hidden !== b.hidden) fields.push("default");
  if (a.type !== b.type) fields.push("type");
  if (a.bind !== b.bind) fields.push("bind");
  if (a.visibility !== b.visibility) fields.push("visibility");
  if (a.aliasOf !== b.aliasOf) fields.push("alias");
  return fields;
}

function compareAspects(a: VdsoImage, b: VdsoImage): AspectChange[] {
  const changes: AspectChange[] = [];
  const compare = (aspect: AbiAspect, valuesOf: (image: VdsoImage) => readonly string[]) => {
    const inA = new Set(valuesOf(a));
    const inB = new Set(valuesOf(b));
    for (const value of inA) if (!inB.has(value)) changes.push({ aspect, change: "removed", value });
    for (const value of inB) if (!inA.has(value)) changes.push({ aspect, change: "added", value });
  };
  compare("ABI", ({ abi }) => [abi]);
  compare("ELF flags", ({ elf }) => [`0x${elf.header.e_flags.toString(16)}`]);
  compare("SONAME", ({ soname }) => (soname === undefined ? [] : [soname]));
  compare("version definition", ({ elf }) =>
    elf.versionDefinitions.filter(({ vd_flags }) => (vd_flags & C.VER_FLG_BASE) === 0).map(({ name }) => name),
  );
  compare("hash table", entriesAmong(HASH_TABLES));
  compare("dynamic entry", entriesAmong(DYNAMIC_ENTRIES));
  compare("program header", ({ elf }) => elf.segments.flatMap(({ p_type }) => PROGRAM_HEADERS.get(p_type) ?? []));
  return changes;
}

function entriesAmong(names: ReadonlyMap<number, string>): (image: VdsoImage) => string[] {
  return ({ elf }) => elf.dynamic.flatMap(({ d_tag }) => names.get(d_tag) ?? []);
}
