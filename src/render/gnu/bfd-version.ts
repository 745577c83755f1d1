import { Reader } from "../../bytes/reader.js";
import * as C from "../../elf/constants.js";
import type { ElfFile } from "../../elf/file.js";
import { utf8Name } from "./utf8-name.js";

/** The version of a dynamic symbol as binutils (its BFD library) sees it. */
export interface BfdVersion {
  /** Empty for a symbol without one; "Base" for the file itself. */
  readonly name: string;
  /** Not the default one of the symbol's name, or defined by another file. */
  readonly hidden: boolean;
}

/**
 * The versions of dynamic symbols by the place of each in `.dynsym`; `undefined` for all in a file without versions.
 *
 * Not the `version` of an `ElfSymbol`: binutils takes the number of a version at its word, also where the symbol is
 * undefined and the version is one that the file defines, and heeds no versions that are not as many as the symbols.
 */
export function bfdVersions(elf: ElfFile, symbolCount: number): (index: number) => BfdVersion | undefined {
  const { versionDefinitions: definitions, versionNeeds: needs } = elf;
  const section = elf.sections.find(({ sh_type }) => sh_type === C.SHT_GNU_VERSYM);
  if (!section || (definitions.length === 0 && needs.length === 0)) return () => undefined;

  const bytes = elf.sectionBytes(section);
  const table = new Reader(bytes, { littleEndian: elf.header.littleEndian, what: "ELF symbol versions" });
  const sound = Math.floor(bytes.length / 2) === symbolCount;
  const defined = new Map(definitions.map((definition) => [definition.vd_ndx, definition]));
  const last = Math.max(0, ...defined.keys());
  const needed = new Map(needs.map((need) => [need.vna_other, need.name]));

  return (index) => {
    const value = sound ? table.u16At(index * 2) : 0;
    const number = value & ~C.VERSYM_HIDDEN;
    const hidden = (value & C.VERSYM_HIDDEN) !== 0;
    if (number === C.VER_NDX_LOCAL) return { name: "", hidden };
    if (number === C.VER_NDX_GLOBAL && (last === 0 || defined.get(1)?.vd_flags === C.VER_FLG_BASE)) {
      return { name: "Base", hidden };
    }
    if (number <= last) return { name: utf8Name(defined.get(number)?.name ?? ""), hidden };
    const need = needed.get(number);
    return need === undefined ? { name: "<corrupt>", hidden } : { name: utf8Name(need), hidden: true };
  };
}
