import type { FormatError } from "../../bytes/error.js";
import { Reader } from "../../bytes/reader.js";
import * as C from "../../elf/constants.js";
import type { Section } from "../../elf/section.js";
import type { VdsoFunction, VdsoImage } from "../image.js";

/** One record of `.altinstructions`: bytes that the kernel puts in place of others at boot where a feature is there. */
export interface Alternative {
  /** Place in the table, which is the order of application: the last that applies wins. */
  readonly index: number;
  /** Address of the site, as linked. */
  readonly address: bigint;
  /** Offset of the site in the image's bytes. */
  readonly offset: number;
  /** Bytes of the site that the record speaks of, padding included. */
  readonly length: number;
  /** How many of them are padding, in records that say so (Linux 4.1 to 5.12). */
  readonly padding?: number;
  /** The bytes to put there, as stored: a relative jump in them is relative to where they are stored. */
  readonly replacement: Uint8Array;
  readonly replacementAddress: bigint;
  /** Number of the feature, as this kernel counts them; without flags. */
  readonly feature: number;
  /** Applied where the feature is absent. */
  readonly inverted: boolean;
  /** Flags as stored, of which bit 0 inverts; in records without them, bit 15 of the feature (on arm64: a callback). */
  readonly flags: number;
}

/** The records of one place, in order. */
export interface Site {
  /** As linked. */
  readonly address: bigint;
  /** In the image's bytes. */
  readonly offset: number;
  /** The longest of the records. */
  readonly length: number;
  readonly alternatives: readonly Alternative[];
  /** The exported function that it lies in. */
  readonly functionName?: string;
}

/** Bytes of a record of `.altinstructions`. */
export type RecordSize = 12 | 13 | 14;

/** `.altinstructions`, read. */
export interface AlternativeTable {
  /** Of the section, as linked. */
  readonly address: bigint;
  /** Of the section, in the image's bytes. */
  readonly offset: number;
  readonly recordSize: RecordSize;
  /** In the order in which the kernel first comes to each. */
  readonly sites: readonly Site[];
}

/** Bit of a record's flags: applied where the feature is absent. */
const ALT_FLAG_NOT = 1;

/** Before records had flags, this bit of the feature inverted it; on arm64 it says that a function makes the code. */
export const FEATURE_FLAG = 0x8000;

/** What of a record depends on its size; offsets in bytes from its start. */
interface Layout {
  readonly size: RecordSize;
  readonly flagsAt: number | undefined;
  readonly lengthAt: number;
  readonly paddingAt: number | undefined;
}

/**
 * The layouts of a record, which all start with two signed 32-bit distances, each from itself, to the site and to the
 * replacement, and a 16-bit feature:
 *
 * - 12 bytes: u8 length, u8 length of the replacement (x86 before 4.1 and from 5.13 to 6.2; arm64);
 * - 13 bytes: a third u8, how much of the length is padding (4.1 to 5.12);
 * - 14 bytes: u16 of flags before the two lengths (from 6.3).
 *
 * Source: arch/x86/include/asm/alternative.h, arch/arm64/include/asm/alternative.h.
 */
const LAYOUTS: readonly Layout[] = [
  { size: 12, flagsAt: undefined, lengthAt: 10, paddingAt: undefined },
  { size: 13, flagsAt: undefined, lengthAt: 10, paddingAt: 12 },
  { size: 14, flagsAt: 10, lengthAt: 12, paddingAt: undefined },
];

/** Most records of a table, and of one site in it: real images have twenty, and three. What is done with them grows. */
const MAX_RECORDS = 1024;
const MAX_AT_SITE = 8;

/** Machines whose alternatives are of these layouts; those of riscv, s390 and others are not. */
const MACHINES: ReadonlySet<number> = new Set([C.EM_386, C.EM_X86_64, C.EM_AARCH64]);

/**
 * The places that the kernel patches at boot; `undefined` where the image says of none: it has no section headers, no
 * `.altinstructions`, or one of a machine whose records are of another kind.
 *
 * Which size the records have is told by reading them: every site must lie in code and every replacement in the
 * image. Throws `FormatError` where that holds for no size, where sites overlap, and where there are more records than
 * any image has.
 */
export function alternativesOf(image: VdsoImage): AlternativeTable | undefined {
  const section = image.elf.section(".altinstructions");
  if (!section || section.sh_type === C.SHT_NOBITS || section.sh_size === 0) return undefined;
  if (!MACHINES.has(image.elf.header.e_machine)) return undefined;
  const reader = new Reader(image.elf.sectionBytes(section), {
    littleEndian: image.elf.header.littleEndian,
    what: ".altinstructions",
    origin: section.sh_offset,
  });
  let failure: FormatError | undefined;
  for (const layout of LAYOUTS) {
    const records = readRecords(image, section, reader, layout);
    if (Array.isArray(records)) {
      return {
        address: section.sh_addr,
        offset: section.sh_offset,
        recordSize: layout.size,
        sites: sitesOf(image, records, reader),
      };
    }
    failure ??= records;
  }
  throw failure ?? reader.error(`${reader.length} bytes are no number of records of 12, 13 or 14`, 0, reader.length);
}

/** Sections by which other machines have their images patched: riscv; powerpc, by features of several kinds. */
const FOREIGN = [".alternative", "__ftr_fixup", "__mmu_ftr_fixup", "__fw_ftr_fixup", "__lwsync_fixup"];

/** Why it is not known how an image is patched, in a sentence; `undefined` where it is. */
export function unreadAlternatives(image: VdsoImage): string | undefined {
  if (image.elf.sections.length === 0) return "it has no section headers, which say where its kernel patches it";
  const own = MACHINES.has(image.elf.header.e_machine);
  const section = image.elf.sections.find(
    ({ name, sh_size }) => sh_size > 0 && (FOREIGN.includes(name) || (!own && name === ".altinstructions")),
  );
  return section && `its kernel patches it by ${section.name}, which is not read here`;
}

/** The records, `undefined` where the bytes are no whole number of them, or what is wrong with the first that is. */
function readRecords(
  image: VdsoImage,
  section: Section,
  reader: Reader,
  layout: Layout,
): Alternative[] | FormatError | undefined {
  if (reader.length % layout.size !== 0) return undefined;
  if (reader.length > MAX_RECORDS * layout.size) {
    return reader.error(`it has more than ${MAX_RECORDS} records of ${layout.size} bytes`, 0, reader.length);
  }
  const arm64 = image.elf.header.e_machine === C.EM_AARCH64;
  const replacements = image.elf.section(".altinstr_replacement");
  const records: Alternative[] = [];
  for (let at = 0; at < reader.length; at += layout.size) {
    const length = reader.u8At(at + layout.lengthAt);
    const replacementLength = reader.u8At(at + layout.lengthAt + 1);
    const raw = reader.u16At(at + 8);
    const flags = layout.flagsAt === undefined ? raw & FEATURE_FLAG : reader.u16At(at + layout.flagsAt);
    const address = section.sh_addr + BigInt(at) + BigInt(reader.i32At(at));
    const replacementAddress = section.sh_addr + BigInt(at + 4) + BigInt(reader.i32At(at + 4));
    const wrong = (what: string, value: number | bigint) =>
      reader.error(`as records of ${layout.size} bytes, number ${records.length} ${what}`, at, value);

    if (length === 0) return wrong("is of a site without bytes", length);
    if (replacementLength > length) return wrong(`puts ${replacementLength} bytes in place of ${length}`, length);
    const padding = layout.paddingAt === undefined ? undefined : reader.u8At(at + layout.paddingAt);
    if (padding !== undefined && padding > length)
      return wrong(`has ${padding} bytes of padding in ${length}`, padding);
    if (layout.flagsAt !== undefined && (flags & ~ALT_FLAG_NOT) !== 0) {
      // Bit 1 makes a call through a variable direct; a vDSO has no such variables.
      return wrong("has flags that no vDSO uses", flags);
    }
    const offset = place(image, address, length);
    if (offset === undefined || isIn(replacements, address)) return wrong("is of a site outside the code", address);
    const from = replacementLength === 0 ? 0 : place(image, replacementAddress, replacementLength);
    if (from === undefined) return wrong("has its replacement outside the code", replacementAddress);

    records.push({
      index: records.length,
      address,
      offset,
      length,
      ...(padding !== undefined && { padding }),
      replacement: image.bytes.subarray(from, from + replacementLength),
      replacementAddress,
      feature: layout.flagsAt === undefined ? raw & ~FEATURE_FLAG : raw,
      inverted: layout.flagsAt === undefined ? flags !== 0 && !arm64 : (flags & ALT_FLAG_NOT) !== 0,
      flags,
    });
  }
  return records;
}

/** Offset of a run of bytes in the image; `undefined` where it is not all code of one section with instructions. */
function place(image: VdsoImage, address: bigint, length: number): number | undefined {
  const section = image.elf.codeSections.find(
    ({ sh_addr, sh_size }) => address >= sh_addr && address + BigInt(length) <= sh_addr + BigInt(sh_size),
  );
  if (!section) return undefined;
  const offset = section.sh_offset + Number(address - section.sh_addr);
  return offset + length <= image.bytes.length ? offset : undefined;
}

function isIn(section: Section | undefined, address: bigint): boolean {
  return section !== undefined && address >= section.sh_addr && address < section.sh_addr + BigInt(section.sh_size);
}

function sitesOf(image: VdsoImage, records: readonly Alternative[], reader: Reader): Site[] {
  const byAddress = new Map<bigint, Alternative[]>();
  for (const record of records) {
    const known = byAddress.get(record.address);
    if (known) known.push(record);
    else byAddress.set(record.address, [record]);
  }
  const sites = [...byAddress].map(([address, alternatives]): Site => {
    const { offset } = alternatives[0] as Alternative;
    if (alternatives.length > MAX_AT_SITE) {
      throw reader.error(`the site at 0x${address.toString(16)} has ${alternatives.length} records`, 0, address);
    }
    const length = alternatives.reduce((longest, { length }) => Math.max(longest, length), 0);
    const functionName = functionAt(image.functions, address)?.name;
    return { address, offset, length, alternatives, ...(functionName !== undefined && { functionName }) };
  });
  const sorted = [...sites].sort((a, b) => a.offset - b.offset);
  for (const [i, site] of sorted.entries()) {
    const next = sorted[i + 1];
    if (next && site.offset + site.length > next.offset) {
      throw reader.error(`the sites at 0x${site.address.toString(16)} and 0x${next.address.toString(16)} overlap`, 0);
    }
  }
  return sites;
}

/** The function whose code an address lies in; `functions` by address, as an image has them. */
export function functionAt(functions: readonly VdsoFunction[], address: bigint): VdsoFunction | undefined {
  let low = 0;
  let high = functions.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((functions[middle] as VdsoFunction).address <= address) low = middle + 1;
    else high = middle;
  }
  const found = functions[low - 1];
  return found && address < found.address + BigInt(Math.max(found.size, 1)) ? found : undefined;
}
