import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Writer } from "../../src/bytes/writer.js";
import { buildElf, type ElfLayout } from "../../src/elf/builder.js";
import * as C from "../../src/elf/constants.js";
import { ElfFile } from "../../src/elf/file.js";
import { sysvHash } from "../../src/elf/hash.js";
import { bfdTarget } from "../../src/render/bfd-target.js";
import { gnuDynamicSymbols } from "../../src/render/gnu-symbols.js";
import { buildLibrary, layouts, withoutSectionHeaders } from "../support/elf-writer.js";
import { imageNames, imagePath } from "../support/images.js";
import { needs } from "../support/referee.js";

const hasObjdump = needs("objdump", "binutils");
const hasGcc = needs("gcc", "gcc");
/** Debian's objdump for the machine it runs on knows of other machines' files only their class and byte order. */
const crossTools = new Map<number, readonly [tool: string, debianPackage: string]>([
  [C.EM_AARCH64, ["aarch64-linux-gnu-objdump", "binutils-aarch64-linux-gnu"]],
  [C.EM_ARM, ["arm-linux-gnueabihf-objdump", "binutils-arm-linux-gnueabihf"]],
]);

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "linux-gate-symbols-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function saved(bytes: Uint8Array, name = "file"): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** What `objdump -T` prints, whatever it thinks of the file. */
function objdump(path: string, tool = "objdump"): string {
  const env = { ...process.env, LC_ALL: "C" };
  return spawnSync(tool, ["-T", path], { encoding: "utf8", maxBuffer: 1 << 26, env }).stdout;
}

function ours(path: string): string {
  return gnuDynamicSymbols(new ElfFile(new Uint8Array(readFileSync(path))), path);
}

const systemFiles = [
  "/bin/ls",
  "/lib/x86_64-linux-gnu/libc.so.6",
  "/lib/x86_64-linux-gnu/libm.so.6",
  "/lib64/ld-linux-x86-64.so.2",
  "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
  "/usr/lib/x86_64-linux-gnu/crt1.o",
  "/lib32/libc.so.6",
  "/lib/ld-linux.so.2",
].filter((path) => existsSync(path));

describe("gnuDynamicSymbols() is what objdump -T prints", () => {
  for (const name of imageNames) {
    const path = imagePath(name);
    const { e_machine } = new ElfFile(new Uint8Array(readFileSync(path))).header;
    const [tool, debianPackage] = crossTools.get(e_machine) ?? ["objdump", "binutils"];
    it.skipIf(!needs(tool, debianPackage))(`of image ${name}`, () => expect(ours(path)).toBe(objdump(path, tool)));
  }

  it.skipIf(!hasObjdump).each(systemFiles)("of %s", (path) => expect(ours(path)).toBe(objdump(path)));

  it.skipIf(!hasObjdump || !hasGcc).each([
    ["a static program, which has none", ["-static"]],
    ["a program with copies of a library's variables", ["-no-pie"]],
    ["a library that needs and defines nothing", ["-shared", "-nostdlib", "-fPIC"]],
  ])("of %s", (_, flags) => {
    const source = saved(Buffer.from("extern char **environ; int main(void) { return environ != 0; }"), "a.c");
    const program = join(folder, "program");
    execFileSync("gcc", [...flags, "-Wl,--allow-shlib-undefined", "-o", program, source], { stdio: "pipe" });
    expect(ours(program)).toBe(objdump(program));
  });
});

describe("gnuDynamicSymbols() of built libraries is what objdump -T prints", () => {
  for (const layout of layouts) {
    for (const hash of ["sysv", "gnu"] as const) {
      for (const versions of [true, false]) {
        const kind = `${layout.class} bits, ${layout.littleEndian ? "little" : "big"}-endian, ${hash}`;
        it.skipIf(!hasObjdump)(`${kind}, ${versions ? "with" : "without"} versions`, () => {
          const path = saved(buildLibrary({ ...layout, hash, versions, sectionHeaders: true }));
          const target = bfdTarget(new ElfFile(new Uint8Array(readFileSync(path))));
          const generic = `elf${layout.class}-${layout.littleEndian ? "little" : "big"}`;
          expect(ours(path)).toBe(objdump(path).replace(`file format ${generic}\n`, `file format ${target}\n`));
        });
      }
    }
  }

  const hasCrossTools = [...crossTools.values()].every(([tool, name]) => needs(tool, name));
  const crosses = [...crossTools].map(([machine, [tool]]) => [machine, tool] as const);
  it.skipIf(!hasCrossTools).each(crosses)("for machine %i, whose own objdump knows it better", (machine, tool) => {
    const bits = machine === C.EM_ARM ? 32 : 64;
    const plan = { class: bits, littleEndian: true, machine, hash: "sysv", sectionHeaders: true } as const;
    const symbols = [
      { name: "thumb", value: 1n, size: 4, version: 2 },
      { name: "thumb_chosen", value: 5n, size: 4, type: C.STT_GNU_IFUNC, version: 2 },
      { name: "odd_object", value: 9n, size: 4, type: C.STT_OBJECT, version: 3 },
      { name: "old_thumb", value: 12n, size: 4, type: 13, version: 3 },
    ];
    const path = saved(buildLibrary({ ...plan, symbols }));
    expect(ours(path)).toBe(objdump(path, tool));
  });

  it("for MIPS, marks the functions of MIPS16 and microMIPS code", () => {
    // As mipsel-linux-gnu-objdump of binutils-mipsel-linux-gnu has it.
    const plan = { class: 32, littleEndian: true, machine: C.EM_MIPS, hash: "sysv", sectionHeaders: true } as const;
    const bytes = buildLibrary({
      ...plan,
      versions: false,
      symbols: [{ name: "odd", value: 1n, other: C.STV_HIDDEN }],
    });
    expect(gnuDynamicSymbols(new ElfFile(bytes), "f")).toMatch(/\n[0-9a-f]{7}0 g {4}DF \.text\t00000000 0xf2 odd\n/);
    new DataView(bytes.buffer).setUint32(36, 0x02000000, true);
    expect(gnuDynamicSymbols(new ElfFile(bytes), "f")).toMatch(/\n[0-9a-f]{7}0 g {4}DF \.text\t00000000 0x82 odd\n/);
  });

  it.skipIf(!hasObjdump)("without section headers, where objdump gives up", () => {
    const library = buildLibrary({ ...layouts[2], hash: "both", sectionHeaders: true });
    const path = saved(withoutSectionHeaders(library));
    expect(ours(path)).toBe(objdump(path));
    expect(ours(path)).toBe(`\n${path}:     file format elf64-x86-64\n\n`);
  });
});

/** The symbols of the image that a 2.6 kernel mapped at 0xffffe000, in its order. */
const PRELINKED = [
  { value: 0xffffe400, bind: C.STB_LOCAL, type: C.STT_SECTION, section: ".text", size: 0, name: "" },
  { value: 0xffffe460, bind: C.STB_LOCAL, type: C.STT_SECTION, section: ".eh_frame_hdr", size: 0, name: "" },
  { value: 0xffffe484, bind: C.STB_LOCAL, type: C.STT_SECTION, section: ".eh_frame", size: 0, name: "" },
  { value: 0xffffe608, bind: C.STB_LOCAL, type: C.STT_SECTION, section: ".useless", size: 0, name: "" },
  { value: 0xffffe400, bind: C.STB_GLOBAL, type: C.STT_FUNC, section: ".text", size: 0x14, name: "__kernel_vsyscall" },
  { value: 0, bind: C.STB_GLOBAL, type: C.STT_OBJECT, section: "*ABS*", size: 0, name: "LINUX_2.5" },
  { value: 0xffffe440, bind: C.STB_GLOBAL, type: C.STT_FUNC, section: ".text", size: 7, name: "__kernel_rt_sigreturn" },
  { value: 0xffffe420, bind: C.STB_GLOBAL, type: C.STT_FUNC, section: ".text", size: 8, name: "__kernel_sigreturn" },
];

/** An i386 image as kernels had it before its address was random: linked to where it was mapped. */
function prelinkedImage(): Uint8Array {
  const options = { littleEndian: true, wordSize: 4 } as const;
  const strings = new Writer().u8(0);
  const string = (text: string) => {
    const at = strings.length;
    strings.cstring(text);
    return at;
  };
  const soname = string("linux-gate.so.1");
  const names = PRELINKED.map(({ name }) => (name === "" ? 0 : string(name)));
  const version = names[5] ?? 0;

  const hash = new Writer(options).u32(1).u32(9).u32(1);
  for (const next of [0, 2, 3, 4, 5, 6, 7, 8, 0]) hash.u32(next);
  const numbers = new Writer(options).u16(0);
  for (const { bind } of PRELINKED) numbers.u16(bind === C.STB_LOCAL ? 0 : 2);
  const definitions = new Writer(options);
  definitions
    .u16(1)
    .u16(C.VER_FLG_BASE)
    .u16(1)
    .u16(1)
    .u32(sysvHash("linux-gate.so.1"))
    .u32(20)
    .u32(28)
    .u32(soname)
    .u32(0);
  definitions.u16(1).u16(0).u16(2).u16(1).u32(sysvHash("LINUX_2.5")).u32(20).u32(0).u32(version).u32(0);

  const symbols = (layout: ElfLayout) => {
    const out = new Writer(options).padTo(16);
    PRELINKED.forEach(({ value, size, bind, type, section }, i) => {
      const index = section === "*ABS*" ? C.SHN_ABS : layout.indexOf(section);
      out
        .u32(names[i] ?? 0)
        .u32(value)
        .u32(size)
        .u8((bind << 4) | type)
        .u8(0)
        .u16(index);
    });
    return out.finish();
  };
  const dynamic = (layout: ElfLayout) => {
    const out = new Writer(options).u32(C.DT_SONAME).u32(soname);
    for (const [tag, name] of [
      [C.DT_HASH, ".hash"],
      [C.DT_STRTAB, ".dynstr"],
      [C.DT_SYMTAB, ".dynsym"],
      [C.DT_VERSYM, ".gnu.version"],
      [C.DT_VERDEF, ".gnu.version_d"],
    ] as const) {
      out.u32(tag).word(layout.addressOf(name));
    }
    return out.u32(C.DT_VERDEFNUM).u32(2).u32(C.DT_NULL).u32(0).finish();
  };

  const alloc = C.SHF_ALLOC;
  return buildElf({
    class: 32,
    type: C.ET_DYN,
    machine: C.EM_386,
    base: 0xffffe000n,
    entry: ".text",
    sectionHeaders: true,
    sections: [
      { name: ".hash", type: 5, flags: alloc, content: hash.finish(), align: 4, link: ".dynsym", entsize: 4 },
      {
        name: ".dynsym",
        type: C.SHT_DYNSYM,
        flags: alloc,
        content: { size: 144, write: symbols },
        align: 4,
        link: ".dynstr",
        info: 5,
        entsize: 16,
      },
      { name: ".dynstr", type: C.SHT_STRTAB, flags: alloc, content: strings.finish() },
      {
        name: ".gnu.version",
        type: C.SHT_GNU_VERSYM,
        flags: alloc,
        content: numbers.finish(),
        align: 2,
        link: ".dynsym",
        entsize: 2,
      },
      {
        name: ".gnu.version_d",
        type: C.SHT_GNU_VERDEF,
        flags: alloc,
        content: definitions.finish(),
        align: 4,
        link: ".dynstr",
        info: 2,
      },
      {
        name: ".text",
        type: C.SHT_PROGBITS,
        flags: alloc | C.SHF_EXECINSTR,
        content: new Uint8Array(0x60),
        align: 1024,
      },
      { name: ".eh_frame_hdr", type: C.SHT_PROGBITS, flags: alloc, content: new Uint8Array(0x24), align: 4 },
      { name: ".eh_frame", type: C.SHT_PROGBITS, flags: alloc, content: new Uint8Array(0x184), align: 4 },
      { name: ".useless", type: C.SHT_PROGBITS, flags: alloc, content: new Uint8Array(12), align: 4 },
      {
        name: ".dynamic",
        type: 6,
        flags: alloc,
        content: { size: 64, write: dynamic },
        align: 4,
        link: ".dynstr",
        entsize: 8,
      },
    ],
    segments: [
      { type: C.PT_LOAD, flags: C.PF_R | C.PF_X, covers: ["headers", ".dynamic"], align: 4096 },
      { type: C.PT_DYNAMIC, flags: C.PF_R, covers: [".dynamic", ".dynamic"], align: 4 },
    ],
  });
}

describe("the image that a 2.6 kernel mapped at 0xffffe000", () => {
  it.skipIf(!hasObjdump)("is listed as objdump lists it", () => {
    const path = saved(prelinkedImage(), "linux-gate.dso");
    expect(ours(path)).toBe(objdump(path));
  });

  it("is listed with the columns that objdump had in 2005, and now the names of sections", () => {
    const lines = gnuDynamicSymbols(new ElfFile(prelinkedImage()), "linux-gate.dso").split("\n");
    expect(lines.slice(0, 4)).toEqual(["", "linux-gate.dso:     file format elf32-i386", "", "DYNAMIC SYMBOL TABLE:"]);
    const columns = lines.slice(4, 12).map((line) => line.split(/\s+/));
    expect(columns).toEqual([
      ["ffffe400", "l", "d", ".text", "00000000", ".text"],
      ["ffffe460", "l", "d", ".eh_frame_hdr", "00000000", ".eh_frame_hdr"],
      ["ffffe484", "l", "d", ".eh_frame", "00000000", ".eh_frame"],
      ["ffffe608", "l", "d", ".useless", "00000000", ".useless"],
      ["ffffe400", "g", "DF", ".text", "00000014", "LINUX_2.5", "__kernel_vsyscall"],
      ["00000000", "g", "DO", "*ABS*", "00000000", "LINUX_2.5", "LINUX_2.5"],
      ["ffffe440", "g", "DF", ".text", "00000007", "LINUX_2.5", "__kernel_rt_sigreturn"],
      ["ffffe420", "g", "DF", ".text", "00000008", "LINUX_2.5", "__kernel_sigreturn"],
    ]);
  });
});
