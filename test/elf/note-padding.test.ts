import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { Reader } from "../../src/bytes/reader.js";
import { Writer } from "../../src/bytes/writer.js";
import { NT_GNU_BUILD_ID } from "../../src/elf/constants.js";
import { findBuildId, readNotes } from "../../src/elf/note.js";
import { notesOf } from "../support/elf-writer.js";

const id = Uint8Array.from({ length: 20 }, (_, i) => i + 1);
const version = ["Linux", 0, Uint8Array.of(1, 0, 7, 0)] as const;
const build = ["GNU", NT_GNU_BUILD_ID, id] as const;
const property = ["GNU", 5, new Uint8Array(16)] as const;

/** As a linker merges `.note` (padded to 4) and `.note.gnu.property` (padded to 8) into a segment aligned to 8. */
function merged(littleEndian: boolean): Uint8Array {
  const options = { littleEndian };
  return new Writer(options)
    .raw(notesOf(new Writer(options), 4, [version, build]))
    .align(8)
    .raw(notesOf(new Writer(options), 8, [property]))
    .finish();
}

describe.each([true, false])("notes padded to 4 in a segment aligned to 8 (little-endian: %s)", (littleEndian) => {
  const read = (bytes: Uint8Array) => readNotes(new Reader(bytes, { littleEndian, what: "notes" }), 8);

  it("are all read, with those padded to 8 behind them", () => {
    const notes = read(merged(littleEndian));
    expect(notes.map(({ name, type }) => [name, type])).toEqual([
      ["Linux", 0],
      ["GNU", NT_GNU_BUILD_ID],
      ["GNU", 5],
    ]);
    expect(findBuildId(notes)).toEqual(id);
  });

  it("hide no damage: a size beyond the end, and an end in the middle of a note, are told", () => {
    const good = merged(littleEndian);
    for (const [at, name] of [
      [0, "name"],
      [4, "description"],
      [24, "name of the next"],
      [28, "description of the next"],
    ] as const) {
      const bytes = good.slice();
      new DataView(bytes.buffer).setUint32(at, 0x7fffff00, littleEndian);
      expect(() => read(bytes), name).toThrow(FormatError);
    }
    for (const cut of [21, 50, 80, 90]) expect(() => read(good.subarray(0, cut)), String(cut)).toThrow(FormatError);
  });
});
