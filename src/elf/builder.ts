import { Writer } from "../bytes/writer.js";
import { ELFCLASS32, ELFCLASS64, ELFDATA2LSB, ELFDATA2MSB, SHF_ALLOC, SHT_NOBITS, SHT_STRTAB } from "./constants.js";
import { RECORD_SIZE } from "./header.js";

/** Where the parts of a file that is being built lie: what the contents of one may say of another. */
export interface ElfLayout {
  /** Virtual address of a section. */
  addressOf(section: string): bigint;
  /** Index of a section among the section headers. */
  indexOf(section: string): number;
}

/** A section of a file to be built. Sections lie in the file, and in memory, in the order given. */
export interface SectionPlan {
  readonly name: string;
  readonly type: number;
  /** SHF_*; with SHF_ALLOC the section has an address: the base of the file plus its offset. */
  readonly flags: number;
  /** The contents, or their size and a function that writes them once the layout is known. */
  readonly content: Uint8Array | { readonly size: number; write(layout: ElfLayout): Uint8Array };
  /** Alignment in bytes, a power of two; 1 unless said. */
  readonly align?: number;
  /** Name of the section that `sh_link` is to refer to. */
  readonly link?: string;
  readonly info?: number;
  readonly entsize?: number;
}

/** A program header of a file to be built. */
export interface SegmentPlan {
  readonly type: number;
  readonly flags: number;
  /** First and last section inside, or `headers` for the start of the file; absent: a header that covers nothing. */
  readonly covers?: readonly [first: string, last: string];
  readonly align?: number;
  /** Bytes that the segment has in memory beyond those in the file. */
  readonly extraMemory?: number;
}

/** A whole file to be built. */
export interface ElfPlan {
  readonly class: 32 | 64;
  /** Unless said, little-endian. */
  readonly littleEndian?: boolean;
  readonly type: number;
  readonly machine: number;
  readonly flags?: number;
  /** Address of the first byte of the file; 0 unless said. */
  readonly base?: bigint;
  /** Name of the section at whose start the program is entered. */
  readonly entry?: string;
  /** Bytes from there to where it is entered; 0 unless said. */
  readonly entryOffset?: number;
  readonly sections: readonly SectionPlan[];
  readonly segments: readonly SegmentPlan[];
  /** Whether the file is to have section headers (and their names, in a last section `.shstrtab`). */
  readonly sectionHeaders: boolean;
}

interface Placed extends SectionPlan {
  readonly offset: number;
  readonly size: number;
}

/**
 * Writes an ELF file.
 *
 * Layout: header, program headers, the sections in order, section names, section headers. Throws `RangeError` on a plan
 * that contradicts itself (an unknown section name, contents of another size than said).
 */
export function buildElf(plan: ElfPlan): Uint8Array {
  const size = RECORD_SIZE[plan.class];
  const base = plan.base ?? 0n;
  const { placed, end } = place(plan, size.header + plan.segments.length * size.segment);
  const find = (name: string): Placed => {
    const section = placed.find((candidate) => candidate.name === name);
    if (!section) throw new RangeError(`no section is named ${name}`);
    return section;
  };
  const layout: ElfLayout = {
    addressOf: (name) => base + BigInt(find(name).offset),
    indexOf: (name) => placed.indexOf(find(name)) + 1,
  };

  const out = new Writer({ littleEndian: plan.littleEndian ?? true, wordSize: plan.class === 64 ? 8 : 4 });
  const shoff = plan.sectionHeaders ? Math.ceil(end / out.wordSize) * out.wordSize : 0;
  writeHeader(out, plan, {
    entry: plan.entry === undefined ? 0n : layout.addressOf(plan.entry) + BigInt(plan.entryOffset ?? 0),
    shoff,
    shnum: plan.sectionHeaders ? placed.length + 1 : 0,
  });
  for (const segment of plan.segments) writeSegment(out, plan, segment, base, find);
  for (const section of placed) {
    if (section.type === SHT_NOBITS) continue;
    const { content } = section;
    const bytes = content instanceof Uint8Array ? content : content.write(layout);
    if (bytes.length !== section.size) {
      throw new RangeError(`section ${section.name} was to have ${section.size} bytes, not ${bytes.length}`);
    }
    out.padTo(section.offset).raw(bytes);
  }
  if (plan.sectionHeaders) writeSectionHeaders(out.padTo(shoff), placed, base, layout);
  return out.finish();
}

/** Gives each section its offset, and adds the section of names where there are to be section headers. */
function place(plan: ElfPlan, start: number): { placed: Placed[]; end: number } {
  const sections = [...plan.sections];
  if (plan.sectionHeaders) {
    const names = new Writer().u8(0);
    for (const { name } of sections) names.cstring(name);
    names.cstring(".shstrtab");
    sections.push({ name: ".shstrtab", type: SHT_STRTAB, flags: 0, content: names.finish() });
  }
  let end = start;
  const placed = sections.map((section) => {
    const size = section.content instanceof Uint8Array ? section.content.length : section.content.size;
    const align = section.align ?? 1;
    const offset = Math.ceil(end / align) * align;
    if (section.type !== SHT_NOBITS) end = offset + size;
    return { ...section, offset, size };
  });
  return { placed, end };
}

function writeHeader(out: Writer, plan: ElfPlan, where: { entry: bigint; shoff: number; shnum: number }): void {
  const size = RECORD_SIZE[plan.class];
  const ident = [plan.class === 64 ? ELFCLASS64 : ELFCLASS32, out.littleEndian ? ELFDATA2LSB : ELFDATA2MSB, 1];
  out.raw(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, ...ident)).padTo(16);
  out.u16(plan.type).u16(plan.machine).u32(1);
  out
    .word(where.entry)
    .word(plan.segments.length > 0 ? size.header : 0)
    .word(where.shoff);
  out.u32(plan.flags ?? 0).u16(size.header);
  out.u16(plan.segments.length > 0 ? size.segment : 0).u16(plan.segments.length);
  out
    .u16(where.shnum > 0 ? size.section : 0)
    .u16(where.shnum)
    .u16(Math.max(0, where.shnum - 1));
}

function writeSegment(
  out: Writer,
  plan: ElfPlan,
  segment: SegmentPlan,
  base: bigint,
  find: (name: string) => Placed,
): void {
  let offset = 0;
  let filesz = 0;
  if (segment.covers) {
    const [first, last] = segment.covers;
    const end = find(last);
    offset = first === "headers" ? 0 : find(first).offset;
    filesz = end.offset + (end.type === SHT_NOBITS ? 0 : end.size) - offset;
  }
  const address = segment.covers ? base + BigInt(offset) : 0n;
  const memsz = filesz + (segment.extraMemory ?? 0);
  out.u32(segment.type);
  if (plan.class === 64) out.u32(segment.flags);
  out.word(offset).word(address).word(address).word(filesz).word(memsz);
  if (plan.class === 32) out.u32(segment.flags);
  out.word(segment.align ?? 1);
}

function writeSectionHeaders(out: Writer, placed: readonly Placed[], base: bigint, layout: ElfLayout): void {
  // Section 0 is all zeros.
  out.padTo(out.length + RECORD_SIZE[out.wordSize === 8 ? 64 : 32].section);
  let nameAt = 1;
  for (const section of placed) {
    const address = section.flags & SHF_ALLOC ? base + BigInt(section.offset) : 0n;
    out.u32(nameAt).u32(section.type).word(section.flags).word(address).word(section.offset).word(section.size);
    out.u32(section.link === undefined ? 0 : layout.indexOf(section.link)).u32(section.info ?? 0);
    out.word(section.align ?? 1).word(section.entsize ?? 0);
    nameAt += section.name.length + 1;
  }
}
