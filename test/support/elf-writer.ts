import { Writer } from "../../src/bytes/writer.js";
import { buildElf, type ElfPlan, type SectionPlan } from "../../src/elf/builder.js";
import * as C from "../../src/elf/constants.js";
import { gnuHash, sysvHash } from "../../src/elf/hash.js";

/** A dynamic symbol to be written. */
interface SymbolPlan {
  readonly name: string;
  readonly value?: bigint;
  readonly size?: number;
  readonly bind?: number;
  readonly type?: number;
  readonly other?: number;
  /** Index of its section or SHN_*; `.text` unless said. */
  readonly shndx?: number;
  /** Entry in `.gnu.version`. */
  readonly version?: number;
}

/** What kind of shared library {@link buildLibrary} is to write. */
interface LibraryPlan {
  readonly class: 32 | 64;
  readonly littleEndian: boolean;
  readonly machine: number;
  readonly hash: "sysv" | "gnu" | "both";
  readonly sectionHeaders: boolean;
  readonly symbols?: readonly SymbolPlan[];
  /** Whether there are `.gnu.version`, `.gnu.version_d` and `.gnu.version_r`; so unless said. */
  readonly versions?: boolean;
  readonly base?: bigint;
}

/** Class and byte order in all four ways, with a machine that has them. */
export const layouts = [
  { class: 32, littleEndian: true, machine: C.EM_386 },
  { class: 32, littleEndian: false, machine: C.EM_PPC },
  { class: 64, littleEndian: true, machine: C.EM_X86_64 },
  { class: 64, littleEndian: false, machine: C.EM_PPC64 },
] as const;

/** Numbers by which `.gnu.version` of a built library refers to its versions. */
const VERSION = { base: 1, one: 2, two: 3, needed: 4 } as const;

/** Every kind of symbol that a library has: versions hidden and default, bindings, types, visibilities, sections. */
const variedSymbols: readonly SymbolPlan[] = [
  { name: "", type: C.STT_SECTION, bind: C.STB_LOCAL, version: 0 },
  { name: "needed_function", shndx: C.SHN_UNDEF, version: VERSION.needed },
  { name: "wanted_by_nobody", shndx: C.SHN_UNDEF, bind: C.STB_WEAK, type: C.STT_NOTYPE, version: VERSION.base },
  { name: "ONE", shndx: C.SHN_ABS, type: C.STT_OBJECT, version: VERSION.one },
  { name: "TWO", shndx: C.SHN_ABS, type: C.STT_OBJECT, version: VERSION.two },
  { name: "first", value: 0n, size: 4, version: VERSION.one },
  { name: "both", value: 4n, size: 4, version: VERSION.one | C.VERSYM_HIDDEN },
  { name: "both", value: 8n, size: 8, version: VERSION.two },
  { name: "only_hidden", value: 16n, size: 1, version: VERSION.one | C.VERSYM_HIDDEN },
  { name: "plain", value: 17n, size: 1, version: VERSION.base },
  { name: "weak", value: 18n, size: 1, bind: C.STB_WEAK, version: VERSION.two },
  { name: "unique", value: 19n, size: 1, bind: C.STB_GNU_UNIQUE, type: C.STT_OBJECT, version: VERSION.two },
  { name: "chosen", value: 20n, size: 1, type: C.STT_GNU_IFUNC, version: VERSION.two },
  { name: "thread", value: 0n, size: 8, type: C.STT_TLS, version: VERSION.two },
  { name: "common", value: 8n, size: 32, type: C.STT_OBJECT, shndx: C.SHN_COMMON, version: VERSION.two },
  { name: "protected", value: 24n, size: 1, other: C.STV_PROTECTED, version: VERSION.two },
  { name: "hidden", value: 25n, size: 1, other: C.STV_HIDDEN, version: VERSION.two },
  { name: "internal", value: 26n, size: 1, other: C.STV_INTERNAL, version: VERSION.two },
  { name: "other", value: 27n, size: 1, other: 0x80, version: VERSION.two },
  { name: "\u00c3\u0085ngstr\u00c3\u00b6m", value: 28n, size: 1, version: VERSION.two },
];

const SHT_GNU_HASH = 0x6ffffff6;
const ELFOSABI_GNU = 3;

const BUCKETS = 3;

/**
 * Writes a shared library with every table that a dynamic linker reads.
 *
 * Its versions are ONE and TWO, which inherits from it, and NEEDED of `libneeded.so.1`; its text is 64 zero bytes. The
 * symbols keep their order but for the GNU hash table's: what that leaves out comes first, the rest is sorted by bucket.
 */
export function buildLibrary(plan: LibraryPlan): Uint8Array {
  const bytes = buildElf(libraryPlan(plan));
  // Of which unique and indirect symbols are extensions.
  bytes[7] = ELFOSABI_GNU;
  return bytes;
}

/** The plan that {@link buildLibrary} builds, for a test to add to. */
export function libraryPlan(plan: LibraryPlan): ElfPlan {
  const { class: bits, littleEndian, machine, hash, versions = true } = plan;
  const writer = () => new Writer({ littleEndian, wordSize: bits === 64 ? 8 : 4 });
  const strings = new StringPool();
  const isHashed = (symbol: SymbolPlan) => symbol.shndx !== C.SHN_UNDEF && symbol.bind !== C.STB_LOCAL;
  const given = plan.symbols ?? variedSymbols;
  const hashed = given.filter(isHashed).sort((a, b) => (gnuHash(a.name) % BUCKETS) - (gnuHash(b.name) % BUCKETS));
  const symbols: SymbolPlan[] = [
    { name: "", shndx: 0, bind: 0, type: 0 },
    ...given.filter((s) => !isHashed(s)),
    ...hashed,
  ];
  const offset = symbols.length - hashed.length;
  for (const { name } of symbols) strings.add(name);
  const soname = strings.add("libbuilt.so.1");
  const needed = strings.add("libneeded.so.1");
  const verdef = versions ? versionDefinitions(writer(), strings) : new Uint8Array(0);
  const verneed = versions ? versionNeeds(writer(), strings) : new Uint8Array(0);
  const wideHash = bits === 64 && (machine === C.EM_S390 || machine === C.EM_ALPHA);

  const sections: SectionPlan[] = [];
  const table = (name: string, type: number, content: SectionPlan["content"], rest: Partial<SectionPlan> = {}) =>
    sections.push({ name, type, flags: C.SHF_ALLOC, content, align: bits / 8, ...rest });
  if (hash !== "gnu") {
    const content = sysvTable(writer(), symbols, wideHash ? 8 : 4);
    table(".hash", 5, content, { link: ".dynsym", entsize: wideHash ? 8 : 4 });
  }
  if (hash !== "sysv") table(".gnu.hash", SHT_GNU_HASH, gnuTable(writer(), hashed, offset), { link: ".dynsym" });
  const symbolSize = bits === 64 ? 24 : 16;
  table(
    ".dynsym",
    C.SHT_DYNSYM,
    {
      size: symbols.length * symbolSize,
      write: (layout) => symbolTable(writer(), symbols, strings, layout.indexOf(".text"), layout.addressOf(".text")),
    },
    { link: ".dynstr", info: 1 + given.filter((s) => s.bind === C.STB_LOCAL).length, entsize: symbolSize },
  );
  if (versions) {
    const numbers = writer();
    for (const { version = 0 } of symbols) numbers.u16(version);
    table(".gnu.version", C.SHT_GNU_VERSYM, numbers.finish(), { link: ".dynsym", entsize: 2, align: 2 });
    table(".gnu.version_d", C.SHT_GNU_VERDEF, verdef, { link: ".dynstr", info: 3 });
    table(".gnu.version_r", C.SHT_GNU_VERNEED, verneed, { link: ".dynstr", info: 1 });
  }
  const four = notesOf(writer(), 4, [["GNU", C.NT_GNU_BUILD_ID, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)]]);
  table(".note.four", C.SHT_NOTE, four, { align: 4 });
  const eight = notesOf(writer(), 8, [
    ["Eight", 7, Uint8Array.of(9)],
    ["Other", 5, new Uint8Array(8)],
  ]);
  table(".note.eight", C.SHT_NOTE, eight, { align: 8 });
  table(".text", C.SHT_PROGBITS, new Uint8Array(64), { flags: C.SHF_ALLOC | C.SHF_EXECINSTR, align: 16 });

  const entries: (readonly [number, bigint | string])[] = [
    [C.DT_NEEDED, BigInt(needed)],
    [C.DT_SONAME, BigInt(soname)],
    ...(hash === "gnu" ? [] : [[C.DT_HASH, ".hash"] as const]),
    ...(hash === "sysv" ? [] : [[C.DT_GNU_HASH, ".gnu.hash"] as const]),
    [C.DT_STRTAB, ".dynstr"],
    [C.DT_SYMTAB, ".dynsym"],
    [C.DT_STRSZ, BigInt(strings.size)],
    [C.DT_SYMENT, BigInt(symbolSize)],
    ...(versions
      ? ([
          [C.DT_VERSYM, ".gnu.version"],
          [C.DT_VERDEF, ".gnu.version_d"],
          [C.DT_VERDEFNUM, 3n],
          [C.DT_VERNEED, ".gnu.version_r"],
          [C.DT_VERNEEDNUM, 1n],
        ] as const)
      : []),
    [C.DT_NULL, 0n],
  ];
  table(
    ".dynamic",
    6,
    {
      size: (entries.length * bits) / 4,
      write(layout) {
        const out = writer();
        for (const [tag, value] of entries)
          out.word(tag).word(typeof value === "string" ? layout.addressOf(value) : value);
        return out.finish();
      },
    },
    { link: ".dynstr", entsize: bits / 4 },
  );
  // Last, so that everything above has given it its strings.
  table(".dynstr", C.SHT_STRTAB, strings.finish(), { align: 1 });

  return {
    class: bits,
    littleEndian,
    machine,
    type: C.ET_DYN,
    sectionHeaders: plan.sectionHeaders,
    sections,
    segments: [
      { type: C.PT_LOAD, flags: C.PF_R | C.PF_X, covers: ["headers", ".dynstr"], align: 4096 },
      { type: C.PT_DYNAMIC, flags: C.PF_R, covers: [".dynamic", ".dynamic"], align: bits / 8 },
      { type: C.PT_NOTE, flags: C.PF_R, covers: [".note.four", ".note.four"], align: 4 },
      { type: C.PT_NOTE, flags: C.PF_R, covers: [".note.eight", ".note.eight"], align: 8 },
    ],
    ...(plan.base !== undefined && { base: plan.base }),
  };
}

/** Strings, each once, and where they are in the table. */
class StringPool {
  readonly #writer = new Writer().u8(0);
  readonly #places = new Map<string, number>([["", 0]]);

  add(text: string): number {
    const known = this.#places.get(text);
    if (known !== undefined) return known;
    const at = this.#writer.length;
    this.#writer.cstring(text);
    this.#places.set(text, at);
    return at;
  }

  get size(): number {
    return this.#writer.length;
  }

  finish(): Uint8Array {
    return this.#writer.finish();
  }
}

function symbolTable(
  out: Writer,
  symbols: readonly SymbolPlan[],
  strings: StringPool,
  text: number,
  address: bigint,
): Uint8Array {
  for (const symbol of symbols) {
    const { name, value = 0n, size = 0, bind = C.STB_GLOBAL, type = C.STT_FUNC, other = 0, shndx = text } = symbol;
    const inText = shndx === text && type !== C.STT_TLS;
    const info = (bind << 4) | type;
    out.u32(strings.add(name));
    if (out.wordSize === 8) out.u8(info).u8(other).u16(shndx);
    out.word(inText ? address + value : value).word(size);
    if (out.wordSize === 4) out.u8(info).u8(other).u16(shndx);
  }
  return out.finish();
}

function sysvTable(out: Writer, symbols: readonly SymbolPlan[], entrySize: 4 | 8): Uint8Array {
  const buckets = new Array<number>(BUCKETS).fill(0);
  const chains = new Array<number>(symbols.length).fill(0);
  symbols.forEach(({ name }, index) => {
    if (index === 0) return;
    const bucket = sysvHash(name) % BUCKETS;
    chains[index] = buckets[bucket] ?? 0;
    buckets[bucket] = index;
  });
  for (const value of [BUCKETS, symbols.length, ...buckets, ...chains])
    entrySize === 8 ? out.u64(value) : out.u32(value);
  return out.finish();
}

/** With two words of Bloom filter, which lets through just what it is told to. */
function gnuTable(out: Writer, hashed: readonly SymbolPlan[], offset: number): Uint8Array {
  const bits = out.wordSize * 8;
  const shift = 5;
  const bloom = [0n, 0n];
  for (const { name } of hashed) {
    const hash = gnuHash(name);
    const word = Math.floor(hash / bits) % bloom.length;
    bloom[word] = (bloom[word] ?? 0n) | (1n << BigInt(hash % bits)) | (1n << BigInt((hash >>> shift) % bits));
  }
  out.u32(BUCKETS).u32(offset).u32(bloom.length).u32(shift);
  for (const word of bloom) out.word(word);
  const bucketOf = ({ name }: SymbolPlan) => gnuHash(name) % BUCKETS;
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    const first = hashed.findIndex((symbol) => bucketOf(symbol) === bucket);
    out.u32(first < 0 ? 0 : offset + first);
  }
  hashed.forEach((symbol, i) => {
    const next = hashed[i + 1];
    const last = !next || bucketOf(next) !== bucketOf(symbol);
    out.u32((gnuHash(symbol.name) & ~1) | (last ? 1 : 0));
  });
  return out.finish();
}

function versionDefinitions(out: Writer, strings: StringPool): Uint8Array {
  const define = (index: number, flags: number, names: readonly string[], last: boolean) => {
    out
      .u16(1)
      .u16(flags)
      .u16(index)
      .u16(names.length)
      .u32(sysvHash(names[0] ?? ""))
      .u32(20);
    out.u32(last ? 0 : 20 + 8 * names.length);
    names.forEach((name, i) => {
      out.u32(strings.add(name)).u32(i + 1 < names.length ? 8 : 0);
    });
  };
  define(VERSION.base, C.VER_FLG_BASE, ["libbuilt.so.1"], false);
  define(VERSION.one, 0, ["ONE"], false);
  define(VERSION.two, 0, ["TWO", "ONE"], true);
  return out.finish();
}

function versionNeeds(out: Writer, strings: StringPool): Uint8Array {
  out.u16(1).u16(1).u32(strings.add("libneeded.so.1")).u32(16).u32(0);
  out.u32(sysvHash("NEEDED")).u16(0).u16(VERSION.needed).u32(strings.add("NEEDED")).u32(0);
  return out.finish();
}

/** Notes, whose names and contents `align` pads. */
export function notesOf(
  out: Writer,
  align: 4 | 8,
  notes: readonly (readonly [name: string, type: number, desc: Uint8Array])[],
): Uint8Array {
  for (const [name, type, desc] of notes) {
    out
      .u32(name.length + 1)
      .u32(desc.length)
      .u32(type)
      .cstring(name)
      .align(align)
      .raw(desc)
      .align(align);
  }
  return out.finish();
}

/** Offsets of fields of the header and of section 0 by class. */
const FIELDS = {
  32: { e_shoff: 32, e_phnum: 44, sh_size: 20, sh_link: 24, sh_info: 28 },
  64: { e_shoff: 40, e_phnum: 56, sh_size: 32, sh_link: 40, sh_info: 44 },
} as const;

/** A copy of an ELF file without its section headers: `e_shoff`, `e_shnum` and `e_shstrndx` are 0. */
export function withoutSectionHeaders(file: Uint8Array): Uint8Array {
  const bytes = file.slice();
  const { e_shoff, e_phnum } = FIELDS[file[4] === 2 ? 64 : 32];
  bytes.fill(0, e_shoff, e_shoff + (file[4] === 2 ? 8 : 4));
  bytes.fill(0, e_phnum + 4, e_phnum + 8);
  return bytes;
}

/** A copy of an ELF file whose counts are all where they are when they do not fit the header: in section 0. */
export function withExtendedCounts(file: Uint8Array): Uint8Array {
  const bytes = file.slice();
  const wide = file[4] === 2;
  const little = file[5] === 1;
  const view = new DataView(bytes.buffer);
  const at = FIELDS[wide ? 64 : 32];
  const zero = wide ? Number(view.getBigUint64(at.e_shoff, little)) : view.getUint32(at.e_shoff, little);
  const take = (offset: number, instead: number) => {
    const value = view.getUint16(offset, little);
    view.setUint16(offset, instead, little);
    return value;
  };
  view.setUint32(zero + at.sh_info, take(at.e_phnum, C.PN_XNUM), little);
  const shnum = take(at.e_phnum + 4, 0);
  if (wide) view.setBigUint64(zero + at.sh_size, BigInt(shnum), little);
  else view.setUint32(zero + at.sh_size, shnum, little);
  view.setUint32(zero + at.sh_link, take(at.e_phnum + 6, C.SHN_XINDEX), little);
  return bytes;
}

/** A copy of an ELF file with one tag of its dynamic section made another, which no one knows. */
export function withoutDynamicTag(file: Uint8Array, dynamicOffset: number, tag: number): Uint8Array {
  const bytes = file.slice();
  const wide = file[4] === 2;
  const little = file[5] === 1;
  const view = new DataView(bytes.buffer);
  for (let at = dynamicOffset; at + 8 <= bytes.length; at += wide ? 16 : 8) {
    const low = view.getUint32(wide && !little ? at + 4 : at, little);
    if (low === C.DT_NULL) break;
    if (low === tag) view.setUint32(wide && !little ? at + 4 : at, 0x6fff0000, little);
  }
  return bytes;
}
