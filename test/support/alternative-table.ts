import { ElfFile } from "../../src/elf/file.js";
import { type AlternativeTable, alternativesOf, type RecordSize } from "../../src/vdso/boot/alternatives.js";
import { parseImage } from "../../src/vdso/image.js";

/** One record to be written: what of the image's own is to be otherwise. */
export interface RecordChange {
  readonly feature?: number;
  readonly flags?: number;
  readonly length?: number;
  readonly padding?: number;
  readonly replacementLength?: number;
  readonly address?: bigint;
}

/** A copy of an image with its records written in another size, and its kernel's version in the note changed. */
export function rewritten(
  image: Uint8Array,
  options: {
    readonly recordSize?: RecordSize;
    /** `major * 1000 + minor` */
    readonly release?: number;
    readonly change?: (index: number) => RecordChange;
  },
): Uint8Array {
  const bytes = new Uint8Array(image);
  const view = new DataView(bytes.buffer);
  const parsed = parseImage(image);
  const table = alternativesOf(parsed) as AlternativeTable;
  const size = options.recordSize ?? table.recordSize;
  // Behind the table lies what it puts in place.
  if (size > table.recordSize) throw new Error("the table has no room for longer records");
  const records = table.sites.flatMap(({ alternatives }) => alternatives).sort((a, b) => a.index - b.index);
  records.forEach((record, i) => {
    const change = options.change?.(i) ?? {};
    const at = table.offset + i * size;
    const from = table.address + BigInt(i * size);
    const length = change.length ?? record.length;
    const lengthAt = size === 14 ? 12 : 10;
    view.setInt32(at, Number((change.address ?? record.address) - from), true);
    view.setInt32(at + 4, Number(record.replacementAddress - from) - 4, true);
    view.setUint16(at + 8, change.feature ?? record.feature, true);
    if (size === 14) view.setUint16(at + 10, change.flags ?? 0, true);
    view.setUint8(at + lengthAt, length);
    view.setUint8(at + lengthAt + 1, change.replacementLength ?? record.replacement.length);
    if (size === 13) view.setUint8(at + 12, change.padding ?? 0);
  });
  setSectionSize(bytes, ".altinstructions", records.length * size);
  if (options.release !== undefined) setVersion(bytes, options.release);
  return bytes;
}

/** A copy of an i386 image whose table is `count` times the first record of its own, at the end of the file. */
export function repeated(image: Uint8Array, count: number): Uint8Array {
  const table = alternativesOf(parseImage(image)) as AlternativeTable;
  const [record] = table.sites[0]?.alternatives ?? [];
  const section = new ElfFile(image).section(".altinstructions");
  if (!record || !section) throw new Error("no table");
  const bytes = new Uint8Array(image.length + count * 12);
  bytes.set(image);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < count; i++) {
    const at = image.length + i * 12;
    view.setInt32(at, Number(record.address) - at, true);
    view.setInt32(at + 4, Number(record.replacementAddress) - at - 4, true);
    view.setUint16(at + 8, record.feature, true);
    view.setUint8(at + 10, record.length);
    view.setUint8(at + 11, record.replacement.length);
  }
  const header = new ElfFile(image).header.e_shoff + section.index * 40;
  for (const [field, value] of [
    [12, image.length],
    [16, image.length],
    [20, count * 12],
  ] as const) {
    view.setUint32(header + field, value, true);
  }
  return bytes;
}

/** A copy of an i386 image without section headers. */
export function withoutSections(image: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(image);
  // e_shoff, and e_shnum with e_shstrndx.
  bytes.fill(0, 32, 36);
  bytes.fill(0, 48, 52);
  return bytes;
}

/** A copy of an i386 image that has no alternatives, and takes one way in. */
export function separate(image: Uint8Array, code: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(image);
  setSectionSize(bytes, ".altinstructions", 0);
  const { entry, elf } = parseImage(bytes);
  bytes.set(code, elf.offsetOf(entry?.address as bigint));
  return bytes;
}

/** What old kernels' separate images start with: `int $0x80`, `sysenter` and `syscall`. */
export const SEPARATE = {
  slow: [0xcd, 0x80, 0xc3],
  sysenter: [0x51, 0x52, 0x55, 0x89, 0xe5, 0x0f, 0x34],
  syscall: [0x55, 0x89, 0xcd, 0x0f, 0x05],
} as const;

/** Changes `sh_size` of a section in place. */
export function setSectionSize(bytes: Uint8Array, name: string, size: number): void {
  const elf = new ElfFile(bytes);
  const section = elf.section(name);
  if (!section) throw new Error(`no ${name}`);
  const wide = elf.header.class === 64;
  const at = elf.header.e_shoff + section.index * (wide ? 64 : 40) + (wide ? 32 : 20);
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, size, true);
}

/** Changes the version in the image's `Linux` note. */
function setVersion(bytes: Uint8Array, release: number): void {
  const { kernelVersion } = parseImage(bytes);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + 4 <= 4096; at += 4) {
    // Behind the name `Linux` lies the version.
    if (view.getUint32(at, true) === kernelVersion?.code && view.getUint32(at - 8, true) === 0x756e694c) {
      view.setUint32(at, (Math.floor(release / 1000) << 16) | ((release % 1000) << 8), true);
      return;
    }
  }
  throw new Error("no version in the image");
}
