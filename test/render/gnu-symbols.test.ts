import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as C from "../../src/elf/constants.js";
import { ElfFile } from "../../src/elf/file.js";
import { bfdTarget } from "../../src/render/gnu/bfd-target.js";
import { gnuDynamicSymbols } from "../../src/render/gnu/dynamic-symbols.js";
import { articleImage } from "../support/article-image.js";
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

  it.skipIf(!hasObjdump)("with symbols of odd places and versions", () => {
    const local = { name: "", bind: C.STB_LOCAL, version: 0 };
    const places = [C.SHN_UNDEF, C.SHN_ABS, C.SHN_COMMON, 11, 999];
    const symbols = [
      ...places.map((shndx) => ({ ...local, type: C.STT_SECTION, shndx })),
      { ...local, type: C.STT_FILE, shndx: C.SHN_ABS },
      { name: "in_the_names_of_sections", shndx: 11, version: 2 },
      { name: "of_no_known_version", version: 9 },
      { name: "hidden_of_no_known_version", version: 9 | C.VERSYM_HIDDEN },
      { name: "undefined_of_a_defined_version", shndx: C.SHN_UNDEF, version: 2 },
      { name: "defined_of_a_needed_version", version: 4 },
    ];
    const path = saved(buildLibrary({ ...layouts[2], hash: "sysv", sectionHeaders: true, symbols }));
    expect(new ElfFile(new Uint8Array(readFileSync(path))).sections[11]?.name).toBe(".shstrtab");
    expect(ours(path)).toBe(objdump(path));
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

describe("the image that a 2.6 kernel mapped at 0xffffe000", () => {
  it.skipIf(!hasObjdump)("is listed as objdump lists it", () => {
    const path = saved(articleImage(), "linux-gate.dso");
    expect(ours(path)).toBe(objdump(path));
  });

  it("is listed with the columns that objdump had in 2005, and now the names of sections", () => {
    const lines = gnuDynamicSymbols(new ElfFile(articleImage()), "linux-gate.dso").split("\n");
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
