import { FormatError } from "../bytes/error.js";
import type { Reader } from "../bytes/reader.js";
import { NT_GNU_BUILD_ID } from "./constants.js";

/** One note: who defined it, its type in that owner's numbering, and its contents. */
export interface Note {
  readonly name: string;
  readonly type: number;
  readonly desc: Uint8Array;
}

/**
 * Reads the notes of one PT_NOTE segment or SHT_NOTE section.
 *
 * `align` is that of the segment: 8 pads names and descriptions to 8 bytes (as `.note.gnu.property` has it), all else
 * means 4. Trailing bytes that cannot hold a note are padding. Throws `FormatError` on sizes beyond the end.
 */
export function readNotes(reader: Reader, align: number): Note[] {
  if (align !== 8) return readPadded(reader, 4);
  try {
    return readPadded(reader, 8);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    // A linker that merges notes of both kinds (riscv's vDSO of Linux 7.2) says 8, and pads only those that are so.
    try {
      return readPadded(reader, 4, { skipZeros: true });
    } catch {
      throw error;
    }
  }
}

/** Reads notes padded to `unit` bytes; `skipZeros` takes a zero where a note should start for padding. */
function readPadded(reader: Reader, unit: 4 | 8, { skipZeros = false } = {}): Note[] {
  const padded = (size: number) => Math.ceil(size / unit) * unit;
  const notes: Note[] = [];
  let at = 0;
  while (at + 12 <= reader.length) {
    const namesz = reader.u32At(at);
    if (skipZeros && namesz === 0) {
      at += 4;
      continue;
    }
    const descsz = reader.u32At(at + 4);
    const type = reader.u32At(at + 8);
    const nameBytes = reader.bytesAt(at + 12, namesz);
    const descAt = padded(at + 12 + namesz);
    const desc = reader.bytesAt(descAt, descsz);
    const end = nameBytes.indexOf(0);
    const name = String.fromCharCode(...nameBytes.subarray(0, Math.min(end < 0 ? namesz : end, 256)));
    notes.push({ name, type, desc });
    at = padded(descAt + descsz);
  }
  return notes;
}

/** The build-id among the notes, its bytes; `undefined` where there is none. */
export function findBuildId(notes: readonly Note[]): Uint8Array | undefined {
  return notes.find((note) => note.name === "GNU" && note.type === NT_GNU_BUILD_ID && note.desc.length > 0)?.desc;
}
