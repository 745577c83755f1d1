import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { EM_386, EM_X86_64, VERSYM_HIDDEN } from "../../src/elf/constants.js";
import { ElfFile } from "../../src/elf/file.js";
import { createX86Decoder } from "../../src/isa/x86/decode.js";
import { loadIced } from "../../src/isa/x86/load.js";
import { bfdTarget } from "../../src/render/gnu/bfd-target.js";
import { type GnuDisassemblyOptions, gnuDisassembly } from "../../src/render/gnu/disassembly.js";
import { buildLibrary, layouts } from "../support/elf-writer.js";
import { imageBytes, imageNames, imagePath } from "../support/images.js";
import { needs, output } from "../support/referee.js";

const objdump = needs("objdump", "binutils");
const native = "host618__native__amd64";

const x86Images = imageNames.filter((name) => {
  const { e_machine } = new ElfFile(imageBytes(name)).header;
  return e_machine === EM_386 || e_machine === EM_X86_64;
});

function disassemble(path: string, options: Omit<GnuDisassemblyOptions, "fileName"> = {}): string {
  const elf = new ElfFile(new Uint8Array(readFileSync(path)));
  const decoder = createX86Decoder(loadIced(), elf.header.e_machine === EM_386 ? 32 : 64);
  return gnuDisassembly(elf, decoder, { fileName: path, ...options });
}

/** Compares line by line, so that a failure shows what differs and not the whole. */
function expectSameLines(ours: string, theirs: string): void {
  const [a, b] = [ours.split("\n"), theirs.split("\n")];
  const differing = a.flatMap((line, i) => (line === b[i] ? [] : [`${b[i]}  but  ${line}`]));
  expect(differing.slice(0, 10)).toEqual([]);
  expect(a.length).toBe(b.length);
}

describe("gnuDisassembly()", () => {
  it.skipIf(!objdump).each(x86Images)("writes %s as objdump -d does, every line", (name) => {
    const path = imagePath(name);
    expectSameLines(disassemble(path), output("objdump", "-d", path));
  });

  it.skipIf(!objdump)("writes a program with a procedure linkage table as objdump -d does", () => {
    expectSameLines(disassemble("/bin/true"), output("objdump", "-d", "/bin/true"));
  });

  it.skipIf(!objdump)("shows the addresses between --start-address and --stop-address", () => {
    const path = imagePath(native);
    for (const [startAddress, stopAddress] of [
      [0x780n, 0x7c0n],
      [0xac5n, 0xad3n],
      [0n, 0x790n],
      [0xf00n, 0x10_0000n],
      [0x10_0000n, 0x10_0010n],
    ] as const) {
      const theirs = output("objdump", "-d", `--start-address=${startAddress}`, `--stop-address=${stopAddress}`, path);
      expectSameLines(disassemble(path, { startAddress, stopAddress }), theirs);
    }
    expectSameLines(
      disassemble(path, { startAddress: 0xf00n }),
      output("objdump", "-d", "--start-address=0xf00", path),
    );
  });

  it.skipIf(!objdump).each(["__vdso_time", "time", "__vdso_getcpu", "clock_gettime", "LINUX_2.6", "absent"])(
    "shows %s alone as objdump --disassemble does",
    (symbol) => {
      const path = imagePath(native);
      expectSameLines(disassemble(path, { symbols: [symbol] }), output("objdump", `--disassemble=${symbol}`, path));
    },
  );

  it("refuses a section that does not lie in the file", () => {
    const bytes = imageBytes(native);
    const elf = new ElfFile(bytes);
    const text = elf.section(".text");
    if (!text) throw new Error("the image has no .text");
    const headers = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    headers.setBigUint64(elf.header.e_shoff + text.index * elf.header.e_shentsize + 24, 0x1_0000_0000n, true);
    const decoder = createX86Decoder(loadIced(), 64);
    expect(() => gnuDisassembly(new ElfFile(bytes), decoder, { fileName: "bad" })).toThrow(FormatError);
  });
});

const gcc = spawnSync("sh", ["-c", "command -v gcc"]).status === 0;
const folder = mkdtempSync(join(tmpdir(), "linux-gate-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Tables between functions, runs of zeros, local symbols, several sections. */
const SOURCE = `
  .text
  .globl first
  .type first, @function
first:
  call second
  jmp first
  .zero 23
.Llocal:
  nop
  .zero 9
  .type table, @object
table:
  .long 1, 2, 0, 0, 0, 0x41424344
  .ascii "text"
  .size table, .-table
  .weak twin
  .type second, @function
twin:
second:
  ret
  .zero 2
  .section .text.cold,"ax",@progbits
cold:
  jmp cold
  call first
  .byte 0xe8
`;

describe.skipIf(!(objdump && gcc))("gnuDisassembly() of what gcc makes", () => {
  it.each(["-m32", "-m64"])("writes an object file (%s) as objdump -d does", (width) => {
    const source = join(folder, "code.s");
    const object = join(folder, `code${width}.o`);
    writeFileSync(source, SOURCE);
    output("gcc", width, "-c", source, "-o", object);
    expectSameLines(disassemble(object), output("objdump", "-d", object));
    const first = output("objdump", "--disassemble=first", object);
    expectSameLines(disassemble(object, { symbols: ["first"] }), first);
  });
});

describe.skipIf(!objdump)("gnuDisassembly() of built libraries", () => {
  const built = (name: string, bytes: Uint8Array) => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    expectSameLines(disassemble(path), output("objdump", "-d", path));
  };
  const plan = { ...layouts[2], hash: "sysv", sectionHeaders: true } as const;

  it.each([
    ["32", "with", { ...plan, ...layouts[0] }],
    ["64", "with", plan],
    ["64", "without", { ...plan, versions: false }],
  ])("names symbols of every kind as objdump does: %s bits, %s versions", (bits, versions, library) => {
    built(`library${bits}${versions}`, buildLibrary(library));
  });

  it("names symbols of odd versions and types as objdump does", () => {
    const symbols = [
      { name: "of_no_known_version", value: 0n, size: 4, version: 9 },
      { name: "hidden_of_no_known_version", value: 4n, size: 4, version: 9 | VERSYM_HIDDEN },
      { name: "defined_of_a_needed_version", value: 8n, size: 4, version: 4 },
      { name: "common_type", value: 12n, size: 4, type: 5, version: 2 },
    ];
    built("odd", buildLibrary({ ...plan, symbols }));
  });

  it("heeds no versions that are more than the symbols, as objdump", () => {
    const bytes = buildLibrary(plan);
    const elf = new ElfFile(bytes);
    const section = elf.section(".gnu.version");
    if (!section) throw new Error("the library has no .gnu.version");
    const sizeAt = elf.header.e_shoff + section.index * elf.header.e_shentsize + 32;
    new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(sizeAt, BigInt(section.sh_size + 2), true);
    built("more", bytes);
  });
});

describe("bfdTarget()", () => {
  it.skipIf(!objdump)("names the format as objdump does", () => {
    for (const name of x86Images) {
      expect(output("objdump", "-h", imagePath(name))).toContain(
        `file format ${bfdTarget(new ElfFile(imageBytes(name)))}\n`,
      );
    }
  });

  it("names the formats of other machines", () => {
    const target = (name: string) => bfdTarget(new ElfFile(imageBytes(name)));
    expect(target("arm64__cortex-a57__arm64")).toBe("elf64-littleaarch64");
    expect(target("arm64__arm32__embedded")).toBe("elf32-littlearm");
  });

  it("falls back to the word size and the byte order", () => {
    const bytes = imageBytes(native);
    bytes[18] = 0x34;
    bytes[19] = 0x12;
    expect(bfdTarget(new ElfFile(bytes))).toBe("elf64-little");
  });
});
