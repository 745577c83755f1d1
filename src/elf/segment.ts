import type { Reader } from "../bytes/reader.js";
import { type ElfHeader, RECORD_SIZE } from "./header.js";

/** One program header. `p_offset` and `p_filesz` are bytes of the file, the rest addresses or memory sizes. */
export interface Segment {
  readonly p_type: number;
  readonly p_flags: number;
  readonly p_offset: number;
  readonly p_vaddr: bigint;
  readonly p_paddr: bigint;
  readonly p_filesz: number;
  readonly p_memsz: bigint;
  readonly p_align: bigint;
}

/** Reads `count` program headers. Throws `FormatError` where they do not lie inside the file. */
export function readSegments(header: ElfHeader, reader: Reader, count: number): Segment[] {
  if (count === 0) return [];
  const size = RECORD_SIZE[header.class].segment;
  const table = reader.slice(header.e_phoff, count * size, "ELF program headers");
  const segments: Segment[] = [];
  for (let i = 0; i < count; i++) {
    const at = i * size;
    // p_flags moved when the class grew: behind p_type in 64-bit files, behind p_memsz in 32-bit ones.
    segments.push(
      header.class === 64
        ? {
            p_type: table.u32At(at),
            p_flags: table.u32At(at + 4),
            p_offset: table.sizeAt(at + 8),
            p_vaddr: table.u64At(at + 16),
            p_paddr: table.u64At(at + 24),
            p_filesz: table.sizeAt(at + 32),
            p_memsz: table.u64At(at + 40),
            p_align: table.u64At(at + 48),
          }
        : {
            p_type: table.u32At(at),
            p_offset: table.u32At(at + 4),
            p_vaddr: table.wordAt(at + 8),
            p_paddr: table.wordAt(at + 12),
            p_filesz: table.u32At(at + 16),
            p_memsz: table.wordAt(at + 20),
            p_flags: table.u32At(at + 24),
            p_align: table.wordAt(at + 28),
          },
    );
  }
  return segments;
}
