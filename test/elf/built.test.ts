import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Writer } from "../../src/bytes/writer.js";
import { buildElf } from "../../src/elf/builder.js";
import * as C from "../../src/elf/constants.js";
import { ElfFile } from "../../src/elf/file.js";
import { expectAsReadelf, symbolFacts } from "../support/as-readelf.js";
import {
  buildLibrary,
  layouts,
  libraryPlan,
  notesOf,
  withExtendedCounts,
  withoutSectionHeaders,
} from "../support/elf-writer.js";
import { readelf } from "../support/readelf.js";
import { needs } from "../support/referee.js";

const hasReadelf = needs("readelf", "binutils");
const hashes = ["sysv", "gnu", "both"] as const;
const kinds = layouts.flatMap((layout) =>
  hashes.map((hash) => ({ ...layout, hash, bits: layout.class, order: layout.littleEndian ? "little" : "big" })),
);

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "linux-gate-built-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function saved(bytes: Uint8Array): string {
  const path = join(folder, "file");
  writeFileSync(path, bytes);
  return path;
}

describe.each(kinds)("a built library of $bits bits, $order-endian, with the $hash hash", (kind) => {
  it.skipIf(!hasReadelf)("is to readelf what it is to us", () => {
    expectAsReadelf(saved(buildLibrary({ ...kind, sectionHeaders: true })));
  });

  it.skipIf(!hasReadelf)("has the same symbols without section headers, to readelf as well", () => {
    const bytes = buildLibrary({ ...kind, sectionHeaders: false });
    const elf = new ElfFile(bytes);
    expect(elf.sections).toEqual([]);
    const whole = new ElfFile(buildLibrary({ ...kind, sectionHeaders: true }));
    expect(elf.dynamicSymbols).toEqual(whole.dynamicSymbols);
    expect(elf.dynamicSymbols.length).toBe(21);
    expect(elf.notes).toEqual(whole.notes);
    const { symbols } = readelf(saved(bytes), "-D");
    // Without section headers the symbol of a section has no name.
    expect(elf.dynamicSymbols.map((symbol) => symbolFacts(elf, symbol))).toEqual(symbols.get(""));
  });

  it("is looked up by name and version", () => {
    const elf = new ElfFile(buildLibrary({ ...kind, sectionHeaders: false }));
    const text = elf.lookup("first")?.st_value ?? -1n;
    expect(elf.lookup("both")?.st_value).toBe(text + 8n);
    expect(elf.lookup("both", "TWO")?.st_value).toBe(text + 8n);
    expect(elf.lookup("both", "ONE")?.st_value).toBe(text + 4n);
    expect(elf.lookup("first", "ONE")?.st_value).toBe(text);
    expect(elf.lookup("first", "TWO")).toBeUndefined();
    expect(elf.lookup("only_hidden")).toBeUndefined();
    expect(elf.lookup("only_hidden", "ONE")?.st_value).toBe(text + 16n);
    expect(elf.lookup("plain")?.st_value).toBe(text + 17n);
    expect(elf.lookup("plain", "libbuilt.so.1")).toBeUndefined();
    expect(elf.lookup("needed_function")).toBeUndefined();
    expect(elf.lookup("needed_function", "NEEDED")).toBeUndefined();
    expect(elf.lookup("TWO", "TWO")?.st_shndx).toBe(C.SHN_ABS);
    expect(elf.lookup("\u00c3\u0085ngstr\u00c3\u00b6m")?.st_value).toBe(text + 28n);
    expect(elf.lookup("nothing")).toBeUndefined();
    expect(elf.lookup("")).toBeUndefined();
  });

  it("gives its symbols for any version where it has no versions, as dlvsym does", () => {
    const elf = new ElfFile(buildLibrary({ ...kind, sectionHeaders: true, versions: false }));
    expect(elf.dynamicSymbols.every(({ version }) => version === undefined)).toBe(true);
    expect(elf.versionDefinitions).toEqual([]);
    expect(elf.lookup("first", "ANY")?.name).toBe("first");
    expect(elf.lookup("first")?.name).toBe("first");
  });
});

describe.each(layouts)("a built file of $class bits for machine $machine", (layout) => {
  const library = buildLibrary({ ...layout, hash: "both", sectionHeaders: true });

  it.skipIf(!hasReadelf)("may have its counts in section 0 (PN_XNUM, e_shnum 0, SHN_XINDEX)", () => {
    const bytes = withExtendedCounts(library);
    const elf = new ElfFile(bytes);
    expect([elf.header.e_phnum, elf.header.e_shnum, elf.header.e_shstrndx]).toEqual([0xffff, 0, 0xffff]);
    const plain = new ElfFile(library);
    expect(elf.segments).toEqual(plain.segments);
    expect(elf.sections.slice(1)).toEqual(plain.sections.slice(1));
    expect(elf.dynamicSymbols).toEqual(plain.dynamicSymbols);
    expectAsReadelf(saved(bytes));
  });

  it("keeps its program headers where its section headers cannot be read", () => {
    const plain = new ElfFile(library);
    const counts = withExtendedCounts(library);
    // Counts in section 0 of which the file has lost all: segments are fewer than PN_XNUM, so they need none of it.
    const view = new DataView(counts.buffer);
    view.setUint16(layout.class === 64 ? 56 : 44, plain.segments.length, layout.littleEndian);
    const cut = new ElfFile(counts.subarray(0, plain.header.e_shoff));
    expect(() => cut.sections).toThrow("end past the last");
    expect(cut.segments).toEqual(plain.segments);
    expect(cut.soname).toBe("libbuilt.so.1");
    const mapped = new ElfFile(counts.subarray(0, plain.header.e_shoff), { mapped: true });
    expect(mapped.sections).toEqual([]);
    expect(mapped.dynamicSymbols).toEqual(plain.dynamicSymbols);
  });

  it("throws where PN_XNUM has no section 0", () => {
    const bytes = withoutSectionHeaders(withExtendedCounts(library));
    expect(() => new ElfFile(bytes).segments).toThrow("e_shoff is 0");
  });

  it.skipIf(!hasReadelf)("resolves SHN_XINDEX of symbols through SHT_SYMTAB_SHNDX", () => {
    const options = { littleEndian: layout.littleEndian, wordSize: layout.class === 64 ? 8 : 4 } as const;
    const table = new Writer(options);
    for (const [name, shndx] of [
      [0, 0],
      [1, C.SHN_XINDEX],
      [5, 2],
      [1, C.SHN_XINDEX],
    ] as const) {
      table.u32(name);
      if (layout.class === 64) table.u8(0x10).u8(0).u16(shndx);
      table.word(name).word(0);
      if (layout.class === 32) table.u8(0x10).u8(0).u16(shndx);
    }
    const plan = libraryPlan({ ...layout, hash: "both", sectionHeaders: true });
    const indexes = new Writer(options).u32(0).u32(3).u32(0).u32(70_000).finish();
    const bytes = buildElf({
      ...plan,
      sections: [
        ...plan.sections,
        {
          name: ".symtab",
          type: C.SHT_SYMTAB,
          flags: 0,
          content: table.finish(),
          link: ".strtab",
          align: 8,
          info: 1,
          entsize: layout.class === 64 ? 24 : 16,
        },
        {
          name: ".symtab_shndx",
          type: C.SHT_SYMTAB_SHNDX,
          flags: 0,
          content: indexes,
          link: ".symtab",
          align: 4,
          entsize: 4,
        },
        {
          name: ".strtab",
          type: C.SHT_STRTAB,
          flags: 0,
          content: new Writer().u8(0).cstring("one").cstring("two").finish(),
        },
      ],
    });
    const elf = new ElfFile(bytes);
    expect(elf.symbols.map(({ name, st_shndx }) => [name, st_shndx])).toEqual([
      ["", 0],
      ["one", 3],
      ["two", 2],
      ["one", 70_000],
    ]);
    const said = readelf(saved(bytes)).symbols.get(".symtab");
    // The last one is beyond the sections that there are, which readelf calls bad.
    expect(said?.slice(0, 3).map(({ section }) => section)).toEqual(["UND", "3", "2"]);
  });

  it.skipIf(!hasReadelf)("has notes padded to 8 bytes where the segment says so", () => {
    const elf = new ElfFile(library);
    expect(elf.notes.map(({ name, type, desc }) => [name, type, desc.length])).toEqual([
      ["GNU", C.NT_GNU_BUILD_ID, 8],
      ["Eight", 7, 1],
      ["Other", 5, 8],
    ]);
    expect(elf.buildId).toEqual(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    expect(readelf(saved(library)).notes.map(({ owner, size }) => [owner, size])).toEqual([
      ["GNU", 8],
      ["Eight", 1],
      ["Other", 8],
    ]);
  });
});

describe("DT_HASH with words of 8 bytes", () => {
  it.skipIf(!hasReadelf).each([
    ["s390x", { class: 64, littleEndian: false, machine: C.EM_S390 }],
    ["Alpha", { class: 64, littleEndian: true, machine: C.EM_ALPHA }],
  ] as const)("is read on %s", (_, layout) => {
    const bytes = buildLibrary({ ...layout, hash: "sysv", sectionHeaders: false });
    const elf = new ElfFile(bytes);
    expect(elf.hashTable?.symbolCount).toBe(21);
    const { symbols } = readelf(saved(bytes), "-D");
    expect(elf.loaderSymbols.map((symbol) => symbolFacts(elf, symbol))).toEqual(symbols.get(""));
    expect(elf.lookup("both", "ONE")?.name).toBe("both");
  });

  it("is not on 31-bit s390", () => {
    const bytes = buildLibrary({
      class: 32,
      littleEndian: false,
      machine: C.EM_S390,
      hash: "sysv",
      sectionHeaders: false,
    });
    expect(new ElfFile(bytes).loaderSymbols.length).toBe(21);
  });
});

describe("a library that defines no symbol", () => {
  const plan = { class: 64, littleEndian: true, machine: C.EM_X86_64, sectionHeaders: false } as const;
  const symbols = [{ name: "needed_function", shndx: C.SHN_UNDEF, version: 4 }];

  it.each(hashes)("has its undefined ones by the %s hash", (hash) => {
    const elf = new ElfFile(buildLibrary({ ...plan, hash, symbols }));
    expect(elf.loaderSymbols.map(({ name }) => name)).toEqual(["", "needed_function"]);
    expect(elf.loaderSymbols[1]?.version).toEqual({ name: "NEEDED", hidden: true, kind: "needed" });
  });
});

describe("what a file may not have", () => {
  const layout = layouts[2];
  const library = buildLibrary({ ...layout, hash: "both", sectionHeaders: true });
  const u64 = (bytes: Uint8Array, at: number, value: bigint) =>
    new DataView(bytes.buffer).setBigUint64(at, value, true);
  const dynamicAt = new ElfFile(library).section(".dynamic")?.sh_offset ?? 0;

  it("a dynamic tag beyond 32 bits is no other tag", () => {
    const bytes = library.slice();
    // The first entry, a DT_NEEDED, gets the tag 2^32: its low half is DT_NULL.
    u64(bytes, dynamicAt, 1n << 32n);
    const elf = new ElfFile(bytes);
    expect(elf.dynamic[0]?.d_tag).toBe(2 ** 32);
    expect(elf.soname).toBe("libbuilt.so.1");
    expect(elf.needed).toEqual([]);
  });

  it("a string offset beyond the table is refused, however large", () => {
    for (const offset of [0xffffn, (1n << 53n) + 1n, (1n << 64n) - 1n]) {
      const bytes = library.slice();
      u64(bytes, dynamicAt + 8, offset);
      expect(() => new ElfFile(bytes).needed).toThrow("Cannot read ELF dynamic strings");
    }
  });

  it("tables end where their segment does", () => {
    const bytes = library.slice();
    const [load] = new ElfFile(library).segments;
    // The segment is cut in the middle of the dynamic symbols; the file goes on.
    const symbols = new ElfFile(library).section(".dynsym");
    u64(bytes, 64 + 32, BigInt((symbols?.sh_offset ?? 0) + 100));
    expect(load?.p_filesz).toBeGreaterThan(0);
    expect(() => new ElfFile(bytes).loaderSymbols).toThrow(/in no loadable segment|end past/);
  });

  it("notes that share their bytes are refused", () => {
    const options = { littleEndian: true, wordSize: 8 } as const;
    const many = notesOf(
      new Writer(options),
      4,
      Array.from({ length: 50 }, () => ["GNU", 9, new Uint8Array(4)] as const),
    );
    const bytes = buildElf({
      class: 64,
      type: C.ET_DYN,
      machine: C.EM_X86_64,
      sectionHeaders: false,
      sections: [{ name: ".note", type: C.SHT_NOTE, flags: C.SHF_ALLOC, content: many, align: 4 }],
      segments: Array.from({ length: 200 }, () => ({
        type: C.PT_NOTE,
        flags: C.PF_R,
        covers: [".note", ".note"] as const,
        align: 4,
      })),
    });
    expect(() => new ElfFile(bytes).notes).toThrow("its notes have 200000 bytes");
  });
});
