import type { Reader } from "../bytes/reader.js";

/**
 * A table of NUL-terminated strings, addressed by offset.
 *
 * The total of characters handed out is bounded: a file may let every symbol share one string as long as the file, and
 * reading it once for each would take time in the square of the file's size.
 */
export class StringTable {
  readonly #reader: Reader;
  readonly #known = new Map<number, string>();
  #budget: number;

  constructor(reader: Reader) {
    this.#reader = reader;
    // Linkers let a name be the end of another, which adds less than a third to the size of the table.
    this.#budget = 4 * reader.length + 65_536;
  }

  /** The string at `offset`; throws `FormatError` where none starts and ends inside the table. */
  at(offset: number): string {
    const known = this.#known.get(offset);
    if (known !== undefined) return known;
    if (this.#budget < 0) throw this.#reader.error("its strings overlap beyond reason", offset);
    const text = this.#reader.cstringAt(offset);
    this.#budget -= text.length;
    this.#known.set(offset, text);
    return text;
  }
}
