import { FormatError } from "../bytes/error.js";
import { Reader } from "../bytes/reader.js";
import { StringTable } from "../elf/strings.js";
import { pathText } from "./ldso/path.js";

/** One library in the cache. */
export interface CacheEntry {
  /** The name that it is looked up by: a SONAME or a file name. */
  readonly name: string;
  readonly path: string;
  /** What it was built for: the C library's number in the low byte (3 is glibc 2), the ABI's in the next. */
  readonly flags: number;
  /** Lowest kernel version that the file asks for, one byte a part (0x030200 is 3.2.0); 0 for none. */
  readonly osversion: number;
  /** Bits of processor features that the file asks for; 0 in entries of the `glibc-hwcaps` kind. */
  readonly hwcap: bigint;
  /** The subfolder of `glibc-hwcaps` that the file is in. */
  readonly hwcapFolder?: string;
}

/** A whole /etc/ld.so.cache. */
export interface LdCache {
  /** `compat`: the current format behind the one of libc 5, as ldconfig wrote it before glibc 2.32. */
  readonly format: "new" | "compat" | "old";
  readonly littleEndian: boolean;
  /** In the order of the file, in which a look-up takes the first that fits. */
  readonly entries: readonly CacheEntry[];
  /** What wrote it: "ldconfig (GNU libc) stable release version 2.36". */
  readonly generator?: string;
}

const OLD_MAGIC = "ld.so-1.7.0";
const NEW_MAGIC = "glibc-ld.so.cache1.1";
const OLD_HEADER = 16;
const OLD_ENTRY = 12;
const NEW_HEADER = 48;
const NEW_ENTRY = 24;
const EXTENSION_MAGIC = 0xeaa42174;
const EXTENSION_GENERATOR = 0;
const EXTENSION_HWCAPS = 1;
/** Bit of `hwcap`: its low 32 bits are an index into the table of `glibc-hwcaps` subfolders. */
const HWCAP_EXTENSION = 1n << 62n;

function startsWith(bytes: Uint8Array, at: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

/** Where the current format starts: at 0, or behind the old one, aligned as its 8-byte fields are on the ABI. */
function findNew(bytes: Uint8Array, littleEndian: boolean): number | undefined {
  if (startsWith(bytes, 0, NEW_MAGIC)) return 0;
  if (!startsWith(bytes, 0, OLD_MAGIC)) {
    throw new FormatError(`Cannot read ld.so.cache: it starts neither with ${NEW_MAGIC} nor with ${OLD_MAGIC}`, 0);
  }
  const end = OLD_HEADER + new Reader(bytes, { littleEndian, what: "ld.so.cache" }).u32At(12) * OLD_ENTRY;
  return [8, 4].map((unit) => Math.ceil(end / unit) * unit).find((at) => startsWith(bytes, at, NEW_MAGIC));
}

interface Extensions {
  readonly hwcaps: readonly string[];
  readonly generator?: string;
}

/** The directory of extensions, whose offsets count from the start of the whole file. */
function readExtensions(file: Reader, offset: number, strings: StringTable): Extensions {
  if (offset === 0) return { hwcaps: [] };
  const what = file.named("ld.so.cache extensions");
  const magic = what.u32At(offset);
  if (magic !== EXTENSION_MAGIC) throw what.error(`magic is 0x${magic.toString(16)}`, offset, magic);
  const count = what.u32At(offset + 4);
  what.check(offset + 8, count * 16);
  let hwcaps: string[] = [];
  let generator: string | undefined;
  for (let i = 0; i < count; i++) {
    const at = offset + 8 + i * 16;
    const section = what.slice(what.u32At(at + 8), what.u32At(at + 12));
    switch (what.u32At(at)) {
      case EXTENSION_GENERATOR:
        generator = pathText(String.fromCharCode(...section.bytes.subarray(0, 256)));
        break;
      case EXTENSION_HWCAPS:
        hwcaps = Array.from({ length: Math.floor(section.length / 4) }, (_, index) =>
          strings.at(section.u32At(index * 4)),
        );
        break;
    }
  }
  return { hwcaps, ...(generator !== undefined && { generator }) };
}

function readNew(file: Reader, start: number): Pick<LdCache, "entries" | "generator"> {
  const table = file.slice(start, file.length - start, "ld.so.cache");
  const count = table.u32At(20);
  table.check(NEW_HEADER, count * NEW_ENTRY);
  const strings = new StringTable(table);
  const { hwcaps, generator } = readExtensions(file, table.u32At(32), strings);
  const entries: CacheEntry[] = [];
  for (let i = 0; i < count; i++) {
    const at = NEW_HEADER + i * NEW_ENTRY;
    const hwcap = table.u64At(at + 16);
    const extended = (hwcap & HWCAP_EXTENSION) !== 0n;
    const folder = extended ? hwcaps[Number(hwcap & 0xffff_ffffn)] : undefined;
    if (extended && folder === undefined) {
      throw table.error(`entry ${i} is for subfolder ${hwcap & 0xffff_ffffn} of ${hwcaps.length}`, at + 16, hwcap);
    }
    entries.push({
      name: pathText(strings.at(table.u32At(at + 4))),
      path: pathText(strings.at(table.u32At(at + 8))),
      flags: table.u32At(at),
      osversion: table.u32At(at + 12),
      hwcap: extended ? 0n : hwcap,
      ...(folder !== undefined && { hwcapFolder: folder }),
    });
  }
  return { entries, ...(generator !== undefined && { generator }) };
}

function readOld(file: Reader): CacheEntry[] {
  const count = file.u32At(12);
  const end = OLD_HEADER + count * OLD_ENTRY;
  const strings = new StringTable(file.slice(end, file.length - end, "ld.so.cache strings"));
  return Array.from({ length: count }, (_, i) => {
    const at = OLD_HEADER + i * OLD_ENTRY;
    return {
      name: pathText(strings.at(file.u32At(at + 4))),
      path: pathText(strings.at(file.u32At(at + 8))),
      flags: file.u32At(at),
      osversion: 0,
      hwcap: 0n,
    };
  });
}

/**
 * Parses /etc/ld.so.cache, which ldconfig writes and glibc's dynamic linker reads.
 *
 * The current format says its byte order; `littleEndian` is for older files, which do not (little unless said).
 * Source: glibc, sysdeps/generic/dl-cache.h. Throws {@link FormatError}.
 */
export function parseLdCache(bytes: Uint8Array, littleEndian = true): LdCache {
  const start = findNew(bytes, littleEndian);
  if (start === undefined) {
    const file = new Reader(bytes, { littleEndian, what: "ld.so.cache" });
    return { format: "old", littleEndian, entries: readOld(file) };
  }
  const order = new Reader(bytes, { what: "ld.so.cache" }).u8At(start + 28) & 3;
  const little = order === 2 || (order !== 3 && littleEndian);
  const file = new Reader(bytes, { littleEndian: little, what: "ld.so.cache" });
  return { format: start === 0 ? "new" : "compat", littleEndian: little, ...readNew(file, start) };
}

/** What the dynamic linker that looks a library up can use. */
export interface CacheUse {
  /** The {@link CacheEntry.flags} of its own ABI. */
  readonly flags: number;
  /** Subfolders of `glibc-hwcaps` that it searches, best first. */
  readonly hwcapFolders: readonly string[];
  /**
   * Bits of {@link CacheEntry.hwcap} that the processor has; `undefined` for one that knows none (from glibc 2.37 on),
   * which passes over entries with any.
   */
  readonly hwcapBits: bigint | undefined;
}

/** Entries for any ABI: files of libc 4 and 5, and those that ldconfig could not tell. */
const ANY_ABI = 1;

/**
 * The path that the dynamic linker takes for a name, of the entries with that name in the order of the file: the first
 * that is for its ABI, unless a better `glibc-hwcaps` subfolder follows.
 */
export function chooseCacheEntry(entries: readonly CacheEntry[], use: CacheUse): CacheEntry | undefined {
  let best: CacheEntry | undefined;
  let bestRank = Number.POSITIVE_INFINITY;
  for (const entry of entries) {
    if (entry.flags !== use.flags && entry.flags !== ANY_ABI) continue;
    if (best !== undefined && entry.flags !== use.flags) continue;
    if (entry.hwcapFolder !== undefined) {
      const rank = use.hwcapFolders.indexOf(entry.hwcapFolder);
      if (rank < 0 || rank >= bestRank) continue;
      best = entry;
      bestRank = rank;
      continue;
    }
    if (entry.hwcap !== 0n && (use.hwcapBits === undefined || (entry.hwcap & ~use.hwcapBits) !== 0n)) continue;
    // A plain entry that comes first wins even over subfolders behind it; ldconfig writes it last.
    if (bestRank === Number.POSITIVE_INFINITY) best = entry;
    if (entry.flags === use.flags) break;
  }
  return best;
}
