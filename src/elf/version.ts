import type { Reader } from "../bytes/reader.js";
import type { StringTable } from "./strings.js";

/** A version that the file defines (`.gnu.version_d`). */
export interface VersionDefinition {
  readonly vd_flags: number;
  /** The number by which `.gnu.version` refers to it. */
  readonly vd_ndx: number;
  readonly vd_hash: number;
  readonly name: string;
  /** Names of the versions that it inherits from. */
  readonly parents: readonly string[];
}

/** A version that the file needs of another (`.gnu.version_r`). */
export interface VersionNeed {
  /** The file that defines it: one of the DT_NEEDED. */
  readonly file: string;
  readonly name: string;
  readonly vna_hash: number;
  readonly vna_flags: number;
  /** The number by which `.gnu.version` refers to it. */
  readonly vna_other: number;
}

/** Walks a chain of records of at least `size` bytes, each of which says how far the next one lies. */
function* chain(reader: Reader, start: number, size: number, nextAt: number, count: number): Generator<number> {
  let at = start;
  for (let i = 0; i < count; i++) {
    yield at;
    const next = reader.u32At(at + nextAt);
    if (next === 0) return;
    if (next < size) throw reader.error(`a record of ${size} bytes is followed by one ${next} bytes on`, at, next);
    at += next;
  }
}

/** No two records share bytes in a sound file, which bounds how many there can be. */
function recordBudget(reader: Reader): (size: number) => void {
  let left = reader.length;
  return (size) => {
    left -= size;
    if (left < 0) throw reader.error("its records overlap", 0);
  };
}

/** Reads `count` definitions. Source: Solaris Linker Guide, "Version Definition Section"; LSB core, 10.7. */
export function readVersionDefinitions(reader: Reader, count: number, strings: StringTable): VersionDefinition[] {
  const spend = recordBudget(reader);
  const definitions: VersionDefinition[] = [];
  for (const at of chain(reader, 0, 20, 16, count)) {
    spend(20);
    const names: string[] = [];
    for (const aux of chain(reader, at + reader.u32At(at + 12), 8, 4, reader.u16At(at + 6))) {
      spend(8);
      names.push(strings.at(reader.u32At(aux)));
    }
    const [name = "", ...parents] = names;
    definitions.push({
      vd_flags: reader.u16At(at + 2),
      vd_ndx: reader.u16At(at + 4),
      vd_hash: reader.u32At(at + 8),
      name,
      parents,
    });
  }
  return definitions;
}

/** Reads the needs of `count` files. Source: as for definitions, "Version Dependency Section". */
export function readVersionNeeds(reader: Reader, count: number, strings: StringTable): VersionNeed[] {
  const spend = recordBudget(reader);
  const needs: VersionNeed[] = [];
  for (const at of chain(reader, 0, 16, 12, count)) {
    spend(16);
    const file = strings.at(reader.u32At(at + 4));
    for (const aux of chain(reader, at + reader.u32At(at + 8), 16, 12, reader.u16At(at + 2))) {
      spend(16);
      needs.push({
        file,
        name: strings.at(reader.u32At(aux + 8)),
        vna_hash: reader.u32At(aux),
        vna_flags: reader.u16At(aux + 4),
        vna_other: reader.u16At(aux + 6),
      });
    }
  }
  return needs;
}
