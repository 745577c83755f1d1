import { execFileSync } from "node:child_process";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { Writer } from "../../src/bytes/writer.js";
import { buildElf } from "../../src/elf/builder.js";
import * as C from "../../src/elf/constants.js";
import { ElfFile } from "../../src/elf/file.js";
import { gnuFile } from "../../src/render/gnu/file.js";
import { articleImage } from "../support/article-image.js";
import { buildLibrary, layouts, notesOf, withExtendedCounts, withoutSectionHeaders } from "../support/elf-writer.js";
import { imageBytes, imageNames, imagePath } from "../support/images.js";
import { needs, output } from "../support/referee.js";

const hasFile = needs("file", "file");
const hasGcc = needs("gcc", "gcc");

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "linux-gate-file-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What `file -b` says of each file. */
function file(paths: readonly string[]): string[] {
  const lines: string[] = [];
  for (let i = 0; i < paths.length; i += 1000) {
    lines.push(
      ...output("file", "-b", "-L", ...paths.slice(i, i + 1000))
        .trimEnd()
        .split("\n"),
    );
  }
  return lines;
}

/** What `file -b` says of files with these bytes, none of them executable. */
function fileOf(contents: readonly Uint8Array[]): string[] {
  const paths = contents.map((bytes, i) => {
    const path = join(folder, `f${i}`);
    writeFileSync(path, bytes, { mode: 0o644 });
    return path;
  });
  return file(paths);
}

function ours(path: string): string {
  return gnuFile(new ElfFile(new Uint8Array(readFileSync(path))));
}

function expectAsFile(contents: readonly Uint8Array[]): void {
  expect(contents.map((bytes) => gnuFile(new ElfFile(bytes)))).toEqual(fileOf(contents));
}

/** A header and nothing else but some zeros. */
function headerOnly(fields: {
  class: 32 | 64;
  littleEndian: boolean;
  machine: number;
  flags?: number;
  type?: number;
  osabi?: number;
  version?: number;
}): Uint8Array {
  const { class: bits, littleEndian, machine, flags = 0, type = C.ET_DYN, osabi = 0, version = 1 } = fields;
  const out = new Writer({ littleEndian, wordSize: bits === 64 ? 8 : 4 });
  out.raw(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, bits / 32, littleEndian ? 1 : 2, 1, osabi)).padTo(16);
  out.u16(type).u16(machine).u32(version).word(0).word(0).word(0).u32(flags);
  return out
    .u16(bits === 64 ? 64 : 52)
    .padTo(128)
    .finish();
}

describe("gnuFile() is what file -b says", () => {
  it.skipIf(!hasFile)("of every image", () => {
    expect(imageNames.map((name) => ours(imagePath(name)))).toEqual(file(imageNames.map(imagePath)));
  });

  it.skipIf(!hasFile)("of every program in /usr/bin, but for permissions", { timeout: 60_000 }, () => {
    const paths = readdirSync("/usr/bin")
      .map((name) => join("/usr/bin", name))
      .filter(isSmallElf);
    expect(paths.length).toBeGreaterThan(100);
    const said = file(paths).map((line) => line.replace(/^((setuid|setgid|sticky),? )+/, ""));
    expect(paths.map(ours)).toEqual(said);
  });

  it.skipIf(!hasFile)("of libraries of both widths, objects and the dynamic linker", () => {
    const folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib32", "/usr/lib/gcc/x86_64-linux-gnu/12"];
    const paths = folders.flatMap((folder) => {
      try {
        return readdirSync(folder)
          .map((name) => join(folder, name))
          .filter(isSmallElf)
          .slice(0, 150);
      } catch {
        return [];
      }
    });
    expect(paths.length).toBeGreaterThan(20);
    expect(paths.map(ours)).toEqual(file(paths));
  });

  it.skipIf(!hasFile || !hasGcc)("of what gcc writes", () => {
    const source = join(folder, "a.c");
    writeFileSync(source, "int main(void) { return 0; }");
    const paths = [
      ["-g"],
      ["-static"],
      ["-static-pie"],
      ["-no-pie"],
      ["-shared", "-fPIC"],
      ["-c"],
      ["-g", "-c"],
      ["-s"],
      ["-Wl,--build-id=md5"],
      ["-Wl,--build-id=uuid"],
      ["-Wl,--build-id=0x0123456789abcdef"],
      ["-Wl,--build-id=0x01020304050607"],
      ["-Wl,--build-id=none"],
      ["-Wl,--dynamic-linker=/odd\tname"],
    ].map((flags, i) => {
      const path = join(folder, `gcc${i}`);
      execFileSync("gcc", [...flags, "-o", path, source], { stdio: "pipe" });
      return path;
    });
    expect(paths.map(ours)).toEqual(file(paths));
  });
});

function isSmallElf(path: string): boolean {
  try {
    const { size } = statSync(path);
    if (size < 64 || size > 2 << 20) return false;
    const start = Buffer.alloc(4);
    const descriptor = openSync(path, "r");
    readSync(descriptor, start);
    closeSync(descriptor);
    return start.equals(Buffer.from("\x7fELF", "latin1"));
  } catch {
    return false;
  }
}

describe("gnuFile() names", () => {
  const machines = [
    ...[0, 2, 3, 4, 8, 10, 15, 18, 20, 21, 22, 40, 41, 42, 43, 46, 50, 62, 76, 88, 92, 93, 94, 106, 113, 164, 167, 183],
    ...[189, 191, 195, 243, 247, 252, 258, 0x9026, 0xa390, 269],
  ];

  it.skipIf(!hasFile)("machines of both widths and byte orders", () => {
    expectAsFile(machines.flatMap((machine) => layouts.map((layout) => headerOnly({ ...layout, machine }))));
  });

  it.skipIf(!hasFile).each<[string, number, number[]]>([
    [
      "MIPS instruction sets and the n32 ABI",
      C.EM_MIPS,
      [...Array(16).keys()].flatMap((isa) => [isa << 28, (isa << 28) | 0x20]),
    ],
    [
      "ARM EABI versions and byte orders",
      C.EM_ARM,
      [0, 1, 4, 5, 6].flatMap((v) => [0, 0x400000, 0x800000, 0x200].map((f) => (v << 24) | f)),
    ],
    ["PowerPC ABIs", C.EM_PPC64, [0, 1, 2, 3, 4]],
    ["RISC-V extensions and float ABIs", C.EM_RISCV, [...Array(32).keys()]],
    [
      "SPARC V9 extensions and memory orderings",
      C.EM_SPARCV9,
      [0, 1, 2, 3].flatMap((o) => [0, 0x100, 0x200, 0x400, 0x800, 0x300].map((e) => e | o)),
    ],
    [
      "SPARC V8+ extensions and memory orderings",
      18,
      [0, 1, 2, 3].flatMap((o) => [0, 0x100, 0x200, 0x400, 0x800, 0x300].map((e) => e | o)),
    ],
    ["PA-RISC versions", C.EM_PARISC, [0, 8, 0x20b, 0x210, 0x214, 0x80214, 0x02140008, 0x020b0000]],
    ["Motorola processors", 4, [0, 1, 0x01000000, 0x00810000, 0x00800000, 0xffffffff]],
    ["no LoongArch ABI", C.EM_LOONGARCH, [0, 1, 2, 3, 0x41, 0x43]],
  ])("%s", (_, machine, flags) => {
    expectAsFile(flags.flatMap((flag) => layouts.map((layout) => headerOnly({ ...layout, machine, flags: flag }))));
  });

  it.skipIf(!hasFile)("systems, types and versions", () => {
    const common = { class: 64, littleEndian: true, machine: C.EM_X86_64 } as const;
    expectAsFile([
      ...[...Array(256).keys()].map((osabi) => headerOnly({ ...common, osabi })),
      ...[0, 1, 2, 3, 4, 5, 0xfe00, 0xff00, 0xffff].map((type) => headerOnly({ ...common, type })),
      ...[0, 1, 2, 0xffffffff].map((version) => headerOnly({ ...common, version })),
    ]);
  });

  it.skipIf(!hasFile)("notes: kinds of build-ids, systems, Go and cores", () => {
    const notes: (readonly [string, number, Uint8Array])[][] = [
      ...[3, 4, 8, 12, 16, 19, 20, 21, 32].map((size) => [["GNU", 3, new Uint8Array(size).fill(0xa5)] as const]),
      ...[0, 1, 2, 3, 4, 5].map((system) => [["GNU", 1, words(system, 2, 6, 32)] as const]),
      [["GNU", 1, words(0, 0xffffffff, 1, 2)]],
      [["Go\0", 4, Buffer.from("an/identification")]],
      [
        ["Go\0", 4, Buffer.from("first")],
        ["GNU", 3, new Uint8Array(20)],
        ["Go\0", 4, Buffer.from("second")],
      ],
      [
        ["GNU", 3, new Uint8Array(20)],
        ["GNU", 3, new Uint8Array(16)],
        ["GNU", 1, words(0, 3, 2, 0)],
      ],
      [["CORE", 3, new Uint8Array(136)]],
      [
        ["LINUX", 0, new Uint8Array(0)],
        ["GNU", 3, new Uint8Array(20)],
      ],
      Array.from({ length: 300 }, () => ["Many", 9, new Uint8Array(4)] as const),
    ];
    const contents = notes.flatMap((list) =>
      [true, false].flatMap((sectionHeaders) => [4, 8].map((align) => noteFile(list, sectionHeaders, align))),
    );
    expectAsFile(contents);
  });
});

function words(...values: number[]): Uint8Array {
  const out = new Writer();
  for (const value of values) out.u32(value);
  return out.finish();
}

function noteFile(
  notes: readonly (readonly [string, number, Uint8Array])[],
  sectionHeaders: boolean,
  align: number,
): Uint8Array {
  const content = notesOf(new Writer(), align === 8 ? 8 : 4, notes);
  return buildElf({
    class: 64,
    type: C.ET_DYN,
    machine: C.EM_X86_64,
    sectionHeaders,
    sections: [{ name: ".note", type: C.SHT_NOTE, flags: C.SHF_ALLOC, content, align: 8 }],
    segments: [{ type: C.PT_NOTE, flags: C.PF_R, covers: [".note", ".note"], align }],
  });
}

describe("gnuFile() of a core file", () => {
  /** A core with one note of each kind that `file` looks at, and one page in which strings are. */
  function core(bits: 32 | 64, littleEndian: boolean, name: string, command: string): Uint8Array {
    const options = { littleEndian, wordSize: bits === 64 ? 8 : 4 } as const;
    const place = bits === 64 ? { name: 40, command: 56, size: 136 } : { name: 28, command: 44, size: 124 };
    const info = new Writer(options).padTo(place.name).cstring(name.slice(0, 15)).padTo(place.command);
    info.cstring(command.slice(0, 79)).padTo(place.size);
    const memory = new Writer()
      .padTo(16)
      .cstring("/bin/program")
      .padTo(64)
      .cstring("odd\u0001text")
      .padTo(96)
      .cstring("v8l");
    const plan = (base: bigint) => {
      const auxv = new Writer(options);
      for (const [tag, value] of [
        [33n, 0xf7f00000n],
        [11n, 1000n],
        [12n, 0xffffffffn],
        [13n, 100n],
        [14n, 100n],
        [31n, base + 16n],
        [15n, base + 96n],
        [0n, 0n],
      ] as const) {
        auxv.word(tag).word(value);
      }
      const notes = notesOf(new Writer(options), 4, [
        ["CORE", 1, new Uint8Array(bits === 64 ? 336 : 144)],
        ["CORE", 3, info.finish()],
        ["CORE", 6, auxv.finish()],
      ]);
      return {
        class: bits,
        littleEndian,
        type: 4,
        machine: littleEndian ? (bits === 64 ? C.EM_X86_64 : C.EM_386) : bits === 64 ? C.EM_S390 : C.EM_PPC,
        base: 0x10000n,
        sectionHeaders: false,
        sections: [
          { name: "notes", type: C.SHT_NOTE, flags: C.SHF_ALLOC, content: notes },
          { name: "memory", type: C.SHT_PROGBITS, flags: C.SHF_ALLOC, content: memory.finish(), align: 4096 },
        ],
        segments: [
          { type: C.PT_NOTE, flags: 0, covers: ["notes", "notes"] as const },
          { type: C.PT_LOAD, flags: C.PF_R, covers: ["memory", "memory"] as const, align: 4096 },
        ],
      };
    };
    return buildElf(plan(0x11000n));
  }

  it.skipIf(!hasFile)("has the program, the users and the strings of the auxiliary vector", () => {
    const commands = ["program", "/bin/program --with arguments ", `./program ${"x".repeat(90)}`, "it's quoted", ""];
    const contents = commands.flatMap((command) =>
      layouts.map((layout) => core(layout.class, layout.littleEndian, "program", command)),
    );
    expectAsFile(contents);
    expect(gnuFile(new ElfFile(contents[2] as Uint8Array))).toBe(
      "ELF 64-bit LSB core file, x86-64, version 1 (SYSV), SVR4-style, from 'program', real uid: 1000, " +
        "effective uid: -1, real gid: 100, effective gid: 100, execfn: '/bin/program', platform: 'v8l'",
    );
  });
});

describe("gnuFile() of files that something has happened to", () => {
  const originals = [
    imageBytes("amd64__EPYC__amd64"),
    imageBytes("host618__native__i386"),
    buildLibrary({ ...layouts[1], hash: "both", sectionHeaders: true }),
    buildLibrary({ ...layouts[3], hash: "both", sectionHeaders: true }),
  ];

  it.skipIf(!hasFile)("cut off anywhere", () => {
    const cuts = originals.flatMap((bytes) =>
      [...Array(60).keys()].map((i) => bytes.subarray(0, 65 + Math.floor((bytes.length / 60) * i))),
    );
    expectAsFile(cuts);
  });

  it.skipIf(!hasFile)("without section headers, or with counts in section 0", () => {
    expectAsFile([...originals.map(withoutSectionHeaders), ...originals.map(withExtendedCounts)]);
  });

  it.skipIf(!hasFile)("with any field of its headers changed", () => {
    const changed = originals.flatMap((bytes) => changes(bytes));
    const readable = changed.flatMap((bytes) => {
      try {
        return [{ bytes, line: gnuFile(new ElfFile(bytes)) }];
      } catch (error) {
        // Offsets and sizes that no file has.
        expect(error).toBeInstanceOf(FormatError);
        return [];
      }
    });
    expect(readable.length / changed.length).toBeGreaterThan(0.8);
    expect(readable.map(({ line }) => line)).toEqual(fileOf(readable.map(({ bytes }) => bytes)));
  });

  /** Copies with each 16-bit field of the ELF header, and each 32-bit word of the other headers, made odd values. */
  function changes(bytes: Uint8Array): Uint8Array[] {
    const { header, segments, sections } = new ElfFile(bytes);
    const little = header.littleEndian;
    const copies: Uint8Array[] = [];
    const change = (edit: (view: DataView) => void) => {
      const copy = bytes.slice();
      edit(new DataView(copy.buffer));
      copies.push(copy);
    };
    for (let at = header.class === 64 ? 52 : 40; at < (header.class === 64 ? 64 : 52); at += 2) {
      for (const value of [0, 1, 3, 300, 0xffff]) change((view) => view.setUint16(at, value, little));
    }
    const word = header.class === 64 ? 8 : 4;
    const tables = [
      { at: header.e_phoff, size: header.e_phentsize, count: segments.length },
      { at: header.e_shoff, size: header.e_shentsize, count: sections.length },
    ];
    for (const { at, size, count } of tables) {
      for (let record = 0; record < count; record++) {
        for (let field = 0; field < size; field += 4) {
          // Of 64-bit fields only the half that counts: the other one makes values beyond any file.
          if (word === 8 && field >= 8 && (field % 8 === 0) !== little) continue;
          for (const value of [0, 1, 4, 0x6000])
            change((view) => view.setUint32(at + record * size + field, value, little));
        }
      }
    }
    return copies;
  }

  it.skipIf(!hasFile)("is told from a static and from a position-independent program by its dynamic section", () => {
    const dynamic = (...entries: [number, bigint][]) => {
      const out = new Writer();
      for (const [tag, value] of entries) out.word(tag).word(value);
      return buildElf({
        class: 64,
        type: C.ET_DYN,
        machine: C.EM_X86_64,
        sectionHeaders: true,
        sections: [{ name: ".dynamic", type: 6, flags: C.SHF_ALLOC, content: out.finish() }],
        segments: [{ type: C.PT_DYNAMIC, flags: C.PF_R, covers: [".dynamic", ".dynamic"] }],
      });
    };
    const contents = [
      dynamic([C.DT_NULL, 0n]),
      dynamic([C.DT_FLAGS_1, 0n], [C.DT_NULL, 0n]),
      dynamic([C.DT_FLAGS_1, 0x08000000n], [C.DT_NULL, 0n]),
      dynamic([C.DT_NEEDED, 1n], [C.DT_FLAGS_1, 1n]),
      dynamic([C.DT_NULL, 0n], [C.DT_FLAGS_1, 0x08000000n]),
      dynamic([C.DT_FLAGS_1, 0x08000000n], [C.DT_FLAGS_1, 0n]),
    ];
    expectAsFile(contents);
  });
});

describe("the image that a 2.6 kernel mapped at 0xffffe000", () => {
  it.skipIf(!hasFile)("is what it was in 2005, and now said to be dynamically linked", () => {
    expect(gnuFile(new ElfFile(articleImage()))).toBe(
      "ELF 32-bit LSB shared object, Intel 80386, version 1 (SYSV), dynamically linked, stripped",
    );
    expectAsFile([articleImage()]);
  });
});
