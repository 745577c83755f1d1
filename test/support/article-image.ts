import { Writer } from "../../src/bytes/writer.js";
import { buildElf, type ElfLayout, type SectionPlan } from "../../src/elf/builder.js";
import * as C from "../../src/elf/constants.js";
import { sysvHash } from "../../src/elf/hash.js";

/** The bytes of `__kernel_vsyscall` that "What is linux-gate.so.1?" shows, of a Linux 2.6 kernel that uses sysenter. */
export const ARTICLE_ENTRY = Uint8Array.from([
  ...[0x51, 0x52, 0x55, 0x89, 0xe5, 0x0f, 0x34, 0x90, 0x90, 0x90, 0x90, 0x90],
  ...[0x90, 0x90, 0xeb, 0xf3, 0x5d, 0x5a, 0x59, 0xc3],
]);

/** The sections that have symbols of their own in the article's listing, which come first. */
const SECTION_SYMBOLS = [".text", ".eh_frame_hdr", ".eh_frame", ".useless"] as const;

/** The global symbols of the article's listing, in its order; all of version LINUX_2.5. */
const SYMBOLS = [
  { name: "__kernel_vsyscall", value: 0xffffe400, size: 0x14, type: C.STT_FUNC },
  { name: "LINUX_2.5", value: 0, size: 0, type: C.STT_OBJECT },
  { name: "__kernel_rt_sigreturn", value: 0xffffe440, size: 7, type: C.STT_FUNC },
  { name: "__kernel_sigreturn", value: 0xffffe420, size: 8, type: C.STT_FUNC },
] as const;

/** Index of the first global symbol: symbol 0 and the sections' come before. */
const FIRST_GLOBAL = 1 + SECTION_SYMBOLS.length;
const SYMBOL_COUNT = FIRST_GLOBAL + SYMBOLS.length;

const LITTLE_32 = { littleEndian: true, wordSize: 4 } as const;
const BASE = 0xffffe000n;
const VERSION = "LINUX_2.5";
const SONAME = "linux-gate.so.1";

/**
 * An image as the article's: prelinked at 0xffffe000, with the symbols, the sections, the version and the entry that it
 * lists. No such kernel runs any more, so the file around the article's own bytes is made.
 */
export function articleImage(entry: Uint8Array = ARTICLE_ENTRY): Uint8Array {
  const strings = new Writer(LITTLE_32).u8(0);
  const stringAt = new Map<string, number>();
  for (const text of [...SYMBOLS.map(({ name }) => name), SONAME]) {
    stringAt.set(text, strings.length);
    strings.cstring(text);
  }
  const text = new Writer(LITTLE_32).raw(entry).padTo(0x20);
  text.raw(Uint8Array.of(0x58, 0xb8, 0x77, 0, 0, 0, 0xcd, 0x80)).padTo(0x40);
  text.raw(Uint8Array.of(0xb8, 0xad, 0, 0, 0, 0xcd, 0x80)).padTo(0x60);
  const symbols = {
    size: SYMBOL_COUNT * 16,
    write: (layout: ElfLayout) => symbolTable(stringAt, layout),
  };
  const sections: SectionPlan[] = [
    section(".hash", 5, hashTable(), { align: 4, link: ".dynsym", entsize: 4 }),
    section(".dynsym", C.SHT_DYNSYM, symbols, { align: 4, link: ".dynstr", info: FIRST_GLOBAL, entsize: 16 }),
    section(".dynstr", C.SHT_STRTAB, strings.finish()),
    section(".gnu.version", C.SHT_GNU_VERSYM, versionIndexes(), { align: 2, link: ".dynsym", entsize: 2 }),
    section(".gnu.version_d", C.SHT_GNU_VERDEF, versionDefinitions(stringAt), { align: 4, link: ".dynstr", info: 2 }),
    {
      ...section(".text", C.SHT_PROGBITS, text.finish(), { align: 0x400 }),
      flags: C.SHF_ALLOC | C.SHF_EXECINSTR,
    },
    // Unwind tables and room for alternatives, of which the article shows only where they are.
    section(".eh_frame_hdr", C.SHT_PROGBITS, new Uint8Array(0x24), { align: 4 }),
    section(".eh_frame", C.SHT_PROGBITS, new Uint8Array(0x184), { align: 4 }),
    section(".useless", C.SHT_PROGBITS, new Uint8Array(12), { align: 4 }),
    {
      name: ".dynamic",
      type: 6,
      flags: C.SHF_ALLOC | C.SHF_WRITE,
      align: 4,
      link: ".dynstr",
      entsize: 8,
      content: {
        size: 80,
        write: ({ addressOf }) => {
          const entries: [tag: number, value: bigint | number][] = [
            [C.DT_SONAME, stringAt.get(SONAME) ?? 0],
            [C.DT_HASH, addressOf(".hash")],
            [C.DT_STRTAB, addressOf(".dynstr")],
            [C.DT_SYMTAB, addressOf(".dynsym")],
            [C.DT_STRSZ, strings.length],
            [C.DT_SYMENT, 16],
            [C.DT_VERDEF, addressOf(".gnu.version_d")],
            [C.DT_VERDEFNUM, 2],
            [C.DT_VERSYM, addressOf(".gnu.version")],
            [C.DT_NULL, 0],
          ];
          const out = new Writer(LITTLE_32);
          for (const [tag, value] of entries) out.word(tag).word(value);
          return out.finish();
        },
      },
    },
  ];
  return buildElf({
    class: 32,
    type: C.ET_DYN,
    machine: C.EM_386,
    base: BASE,
    entry: ".text",
    sections,
    segments: [
      { type: C.PT_LOAD, flags: C.PF_R | C.PF_X, covers: ["headers", ".dynamic"], align: 0x1000 },
      { type: C.PT_DYNAMIC, flags: C.PF_R, covers: [".dynamic", ".dynamic"], align: 4 },
    ],
    sectionHeaders: true,
  });
}

function section(
  name: string,
  type: number,
  content: SectionPlan["content"],
  rest: Partial<SectionPlan> = {},
): SectionPlan {
  return { name, type, flags: C.SHF_ALLOC, content, ...rest };
}

/** One bucket: the chain goes through all global symbols, as a look-up may. */
function hashTable(): Uint8Array {
  const out = new Writer(LITTLE_32).u32(1).u32(SYMBOL_COUNT).u32(FIRST_GLOBAL);
  for (let i = 0; i < SYMBOL_COUNT; i++) out.u32(i >= FIRST_GLOBAL && i + 1 < SYMBOL_COUNT ? i + 1 : 0);
  return out.finish();
}

function symbolTable(stringAt: ReadonlyMap<string, number>, { addressOf, indexOf }: ElfLayout): Uint8Array {
  const out = new Writer(LITTLE_32).padTo(16);
  const symbol = (name: number, value: number, size: number, bind: number, type: number, shndx: number) => {
    out
      .u32(name)
      .u32(value)
      .u32(size)
      .u8((bind << 4) | type)
      .u8(0)
      .u16(shndx);
  };
  for (const name of SECTION_SYMBOLS) {
    symbol(0, Number(addressOf(name)), 0, C.STB_LOCAL, C.STT_SECTION, indexOf(name));
  }
  for (const { name, value, size, type } of SYMBOLS) {
    const shndx = type === C.STT_FUNC ? indexOf(".text") : C.SHN_ABS;
    symbol(stringAt.get(name) ?? 0, value, size, C.STB_GLOBAL, type, shndx);
  }
  return out.finish();
}

function versionIndexes(): Uint8Array {
  const out = new Writer(LITTLE_32);
  for (let i = 0; i < SYMBOL_COUNT; i++) out.u16(i < FIRST_GLOBAL ? C.VER_NDX_LOCAL : 2);
  return out.finish();
}

function versionDefinitions(stringAt: ReadonlyMap<string, number>): Uint8Array {
  const out = new Writer(LITTLE_32);
  const define = (flags: number, index: number, name: string, next: number) => {
    out.u16(1).u16(flags).u16(index).u16(1).u32(sysvHash(name)).u32(20).u32(next);
    out.u32(stringAt.get(name) ?? 0).u32(0);
  };
  define(C.VER_FLG_BASE, 1, SONAME, 28);
  define(0, 2, VERSION, 0);
  return out.finish();
}
