import type { Reader } from "../bytes/reader.js";
import { DT_NULL } from "./constants.js";

/** One entry of the dynamic section: a tag and a value or address, as written. */
export interface DynamicEntry {
  readonly d_tag: number;
  readonly d_val: bigint;
}

/** Reads entries up to `DT_NULL` or the end of the table. `reader` covers just the table. */
export function readDynamic(reader: Reader): DynamicEntry[] {
  const entries: DynamicEntry[] = [];
  const size = 2 * reader.wordSize;
  for (let at = 0; at + size <= reader.length; at += size) {
    // The tags of use have 32 bits in both classes; a larger one may lose its last bits here but never becomes one.
    const d_tag = Number(reader.wordAt(at));
    if (d_tag === DT_NULL) break;
    entries.push({ d_tag, d_val: reader.wordAt(at + reader.wordSize) });
  }
  return entries;
}
