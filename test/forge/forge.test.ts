import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { hexBytes } from "../../src/bytes/hex.js";
import { Reader } from "../../src/bytes/reader.js";
import { ElfFile } from "../../src/elf/file.js";
import { readGnuHash, readSysvHash } from "../../src/elf/hash.js";
import { ForgeError, type ForgePlan, forgeImage } from "../../src/forge/forge.js";
import { kernelVersionCode } from "../../src/forge/kernel-version.js";
import { Code } from "../../src/vdso/code.js";
import { readGate } from "../../src/vdso/gate.js";
import { isVdso, parseImage } from "../../src/vdso/image.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { allFacts } from "../../src/verbs/explain.js";
import { ARTICLE_ENTRY } from "../support/article-image.js";
import { forged, forgeTools, heard, KINDS, PLANS } from "../support/forged.js";
import { needs, output } from "../support/referee.js";

const scratch = mkdtempSync(join(tmpdir(), "forge-test-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const binutils = needs("objdump", "binutils") && needs("readelf", "binutils");
const elfutils = needs("eu-elflint", "elfutils");
const hasFile = needs("file", "file");

const fileOf = new Map(
  KINDS.map((kind) => {
    const path = join(scratch, `${kind}.dso`);
    writeFileSync(path, forged(kind));
    return [kind, path];
  }),
);
const pathOf = (kind: (typeof KINDS)[number]): string => fileOf.get(kind) as string;

/** What `objdump -T` lists in the article. */
const ARTICLE_LISTING = `
ffffe400 l    d  .text  00000000
ffffe460 l    d  .eh_frame_hdr  00000000
ffffe484 l    d  .eh_frame      00000000
ffffe608 l    d  .useless       00000000
ffffe400 g    DF .text  00000014  LINUX_2.5   __kernel_vsyscall
00000000 g    DO *ABS*  00000000  LINUX_2.5   LINUX_2.5
ffffe440 g    DF .text  00000007  LINUX_2.5   __kernel_rt_sigreturn
ffffe420 g    DF .text  00000008  LINUX_2.5   __kernel_sigreturn
`;

const NAMES = {
  i386: {
    "LINUX_2.5": ["__kernel_rt_sigreturn", "__kernel_sigreturn", "__kernel_vsyscall"],
    "LINUX_2.6": [
      "__vdso_clock_getres",
      "__vdso_clock_gettime",
      "__vdso_clock_gettime64",
      "__vdso_gettimeofday",
      "__vdso_time",
    ],
  },
  x86_64: {
    "LINUX_2.6": [
      ...["__vdso_clock_getres", "__vdso_clock_gettime", "__vdso_getcpu", "__vdso_gettimeofday", "__vdso_time"],
      ...["clock_getres", "clock_gettime", "getcpu", "gettimeofday", "time"],
    ],
  },
} as const;

describe("a forged image", () => {
  describe.each(KINDS)("of %s", (kind) => {
    it.skipIf(!elfutils)("is without fault to eu-elflint", () => {
      expect(heard("eu-elflint", "--gnu-ld", pathOf(kind))).toEqual({ stdout: "No errors\n", stderr: "", status: 0 });
    });

    it.skipIf(!binutils)("is read by readelf without a warning", () => {
      const { stdout, stderr, status } = heard("readelf", "-a", "-W", "--debug-dump=frames", pathOf(kind));
      expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
      expect(stdout).not.toMatch(/<corrupt|<unknown|warning/i);
    });

    it.skipIf(!hasFile)("is a stripped shared object to file", () => {
      const said = output("file", "-b", pathOf(kind)).trim();
      const machine =
        kind === "x86_64" ? "ELF 64-bit LSB shared object, x86-64" : "ELF 32-bit LSB shared object, Intel 80386";
      const buildId = parseImage(forged(kind)).buildId;
      expect(said).toBe(`${machine}, version 1 (SYSV), dynamically linked, BuildID[sha1]=${buildId}, stripped`);
    });

    it("is a vDSO to the reader of images", () => {
      const image = parseImage(forged(kind));
      expect(isVdso(image.elf)).toBe(true);
      expect(image.abi).toBe(PLANS[kind].abi);
      expect(image.soname).toBe(kind === "x86_64" ? "linux-vdso.so.1" : "linux-gate.so.1");
      expect(image.kernelVersion?.text).toBe("6.18.44");
      expect(image.linkBase).toBe(kind === "historical" ? 0xffffe000n : 0n);
      expect(image.loadSize).toBeLessThanOrEqual(4096n);
      expect(image.elf.needed).toEqual([]);
    });

    it("has as its build-id the hash of the file with zeros in its place", () => {
      const bytes = forged(kind);
      const id = parseImage(bytes).buildId as string;
      const at = Buffer.from(bytes).indexOf(Buffer.from(id, "hex"));
      expect(at).toBeGreaterThan(0);
      expect(
        createHash("sha1")
          .update(bytes.slice().fill(0, at, at + 20))
          .digest("hex"),
      ).toBe(id);
      expect(forged(kind)).toEqual(bytes);
    });

    it("has every symbol under every hash table, and no other", () => {
      const elf = new ElfFile(forged(kind));
      const symbols = elf.dynamicSymbols.filter(({ bind }) => bind !== 0);
      expect(elf.loaderSymbols).toEqual(elf.dynamicSymbols);
      const tables = elf.sections.filter(({ name }) => name === ".hash" || name === ".gnu.hash");
      expect(tables.map(({ name }) => name)).toEqual(kind === "historical" ? [".hash"] : [".hash", ".gnu.hash"]);
      for (const section of tables) {
        const reader = new Reader(elf.sectionBytes(section), { wordSize: kind === "x86_64" ? 8 : 4 });
        const table = section.name === ".hash" ? readSysvHash(reader) : readGnuHash(reader);
        expect(table.symbolCount).toBe(elf.dynamicSymbols.length);
        for (const { name, index } of symbols) expect([...table.candidates(name)]).toContain(index);
        expect(
          [...table.candidates("no such name")].filter((i) => elf.dynamicSymbols[i]?.name === "no such name"),
        ).toEqual([]);
      }
      for (const { name, version, index } of symbols) {
        expect(elf.lookup(name, version?.name)?.index).toBe(index);
        expect(elf.lookup(name)?.index).toBe(index);
        expect(elf.lookup(name, "LINUX_2.7")).toBeUndefined();
      }
    });
  });

  it.each(KINDS.filter((kind) => kind !== "historical"))("of %s exports the names of its ABI", (kind) => {
    const { elf, abi } = parseImage(forged(kind));
    const found: Record<string, string[]> = {};
    for (const { name, version, type } of elf.dynamicSymbols) {
      if (type !== 2) continue;
      found[version?.name ?? ""] ??= [];
      found[version?.name ?? ""]?.push(name);
    }
    for (const names of Object.values(found)) names.sort();
    expect(found).toEqual(NAMES[abi as "i386" | "x86_64"]);
  });

  it.skipIf(!binutils)("of x86_64 is listed by objdump -T as the kernel's are", () => {
    const lines = output("objdump", "-T", pathOf("x86_64")).split("\n").slice(4).filter(Boolean);
    expect(lines).toHaveLength(11);
    for (const line of lines) {
      expect(line).toMatch(
        /^0{13}[0-9a-f]{3} ( w {3}|g {4})DF \.text\t0{15}8 {2}LINUX_2\.6 {3}\w+$|^0{16} g {4}DO \*ABS\*\t0{16} {2}LINUX_2\.6 {3}LINUX_2\.6$/,
      );
    }
  });

  it.skipIf(!binutils)("of history is listed by objdump -T as in the article, line by line", () => {
    // Since 2.35 objdump shows the name of a section as that of its symbol.
    const lines = output("objdump", "-T", pathOf("historical"))
      .split("\n")
      .filter((line) => /^[0-9a-f]{8} /.test(line))
      .map((line) =>
        line
          .replace(/^(.* d {2}(\S+)\s+0{8})\s+\2$/, "$1")
          .replace(/\s+/g, " ")
          .trim(),
      );
    expect(lines).toEqual(
      ARTICLE_LISTING.trim()
        .split("\n")
        .map((line) => line.replace(/\s+/g, " ")),
    );
  });

  it.skipIf(!needs("gdb", "gdb"))("is disassembled by gdb, function by function", () => {
    for (const kind of KINDS) {
      for (const { name, aliases, size } of parseImage(forged(kind)).functions) {
        const text = output(
          "gdb",
          "-nx",
          "-q",
          "-batch",
          "-ex",
          `info symbol ${name}`,
          "-ex",
          `disassemble /r ${name}`,
          pathOf(kind),
        );
        expect(text).toMatch(new RegExp(`^(${[name, ...aliases].join("|")})\\b.* in section \\.text\n`));
        const bytes = text.match(/^ +0x[0-9a-f]+ <\+\d+>:\t[0-9a-f ]+\t/gm) ?? [];
        expect(
          bytes
            .join(" ")
            .replace(/ +0x\S+ <\+\d+>:\t/g, " ")
            .match(/\b[0-9a-f]{2}\b/g),
        ).toHaveLength(size);
        expect(text).toContain("End of assembler dump.");
      }
    }
  });

  it("of history has the entry of the article, byte for byte", () => {
    const bytes = forged("historical");
    expect(hexBytes(bytes.subarray(0x400, 0x414))).toBe(hexBytes(ARTICLE_ENTRY));
    expect(new ElfFile(bytes).header.e_entry).toBe(0xffffe400n);
  });

  it("lies where it is asked to, and nothing else of its code changes", () => {
    for (const kind of KINDS) {
      const here = new ElfFile(forged(kind, 0x40000000n));
      const there = new ElfFile(forged(kind, 0n));
      const text = (elf: ElfFile) =>
        elf.sectionBytes(elf.section(".text") as NonNullable<ReturnType<ElfFile["section"]>>);
      expect(text(here)).toEqual(text(there));
      expect(here.section(".text")?.sh_addr).toBe((there.section(".text")?.sh_addr ?? 0n) + 0x40000000n);
      expect(here.lookup("LINUX_2.6")?.st_value ?? 0n).toBe(0n);
    }
  });

  it("is refused where there is no page for it", () => {
    const at = (plan: ForgePlan, base: bigint) => () => forgeImage({ ...plan, base }, forgeTools);
    expect(at(PLANS.int80, 1n)).toThrow(ForgeError);
    expect(at(PLANS.int80, -4096n)).toThrow(ForgeError);
    expect(at(PLANS.int80, 0xfffff000n)).toThrow(/beyond the memory/);
    expect(at(PLANS.x86_64, 0x7ffffffff000n)).toThrow(/beyond the memory/);
    expect(at(PLANS.x86_64, 1n << 63n)).toThrow(ForgeError);
    expect(at(PLANS.int80, 0xffffe000n)).not.toThrow();
    expect(at(PLANS.x86_64, 0x7fffffffe000n)).not.toThrow();
  });

  it("is sound with any options", () => {
    const plans = fc.record({
      kind: fc.constantFrom(...KINDS),
      page: fc.integer({ min: 0, max: 0xffffe }),
      kernelVersion: fc.integer({ min: 0, max: 0xffffff }),
    });
    fc.assert(
      fc.property(plans, ({ kind, page, kernelVersion }) => {
        const base = BigInt(page) * 4096n;
        const image = parseImage(forgeImage({ ...PLANS[kind], base, kernelVersion }, forgeTools));
        expect(image.linkBase).toBe(base);
        expect(image.kernelVersion?.code).toBe(kernelVersion);
        expect(image.elf.loaderSymbols).toEqual(image.elf.dynamicSymbols);
        for (const { address, size } of image.functions) {
          expect(address).toBeGreaterThan(base);
          expect(address + BigInt(size)).toBeLessThanOrEqual(base + image.loadSize);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe("the entry of a forged image", () => {
  const gateOf = async (kind: (typeof KINDS)[number]) => {
    const image = parseImage(forged(kind));
    const decoder = await decoderFor(image.abi);
    return decoder && readGate(image, new Code(image.elf, decoder));
  };

  it.each([
    ["int80", { mechanism: "int $0x80", sixthArgument: "register" }],
    ["sysenter", { mechanism: "sysenter", sixthArgument: "stack", restart: "int $0x80", landing: 9n }],
    ["syscall", { mechanism: "syscall", sixthArgument: "stack", restart: "int $0x80", landing: 9n }],
    ["historical", { mechanism: "sysenter", sixthArgument: "stack", restart: "jump", landing: 16n }],
  ] as const)("by %s is read as what was asked for", async (kind, expected) => {
    const gate = await gateOf(kind);
    const { landing, ...rest } = { landing: undefined, ...expected };
    expect(gate).toMatchObject({ ...rest, alternatives: [] });
    expect(gate?.restart).toBe("restart" in expected ? expected.restart : undefined);
    expect(gate?.landing).toBe(landing === undefined ? undefined : (gate?.entry.address ?? 0n) + landing);
    expect(gate?.steps.filter(({ purpose }) => purpose.kind === "other")).toEqual([]);
  });

  it("of x86_64 is none", async () => {
    expect(await gateOf("x86_64")).toBeUndefined();
  });

  it.each(KINDS)("and the functions of %s make the system calls of their names", async (kind) => {
    const image = parseImage(forged(kind));
    const decoder = await decoderFor(image.abi);
    if (!decoder) throw new Error("no decoder");
    for (const facts of allFacts(image, new Code(image.elf, decoder))) {
      expect(facts.complete).toBe(true);
      expect(facts.dataAccesses).toEqual([]);
      if (facts.function.role === "entry") continue;
      const calls = facts.kernelEntries.map(({ name }) => name);
      expect(calls).toEqual([facts.function.name.replace(/^__(vdso|kernel)_/, "")]);
    }
  });
});

describe.skipIf(!binutils)("the instructions of a forged image", () => {
  /** What objdump disassembles of a function. */
  const disassembled = (kind: (typeof KINDS)[number], name: string): string[] => {
    const { address, size } = parseImage(forged(kind)).functions.find((one) => one.name === name) ?? {
      address: 0n,
      size: 0,
    };
    const range = [`--start-address=${address}`, `--stop-address=${address + BigInt(size)}`];
    return output("objdump", "-d", "--no-show-raw-insn", ...range, pathOf(kind))
      .split("\n")
      .filter((line) => /^ *[0-9a-f]+:\t/.test(line))
      .map((line) =>
        line
          .replace(/^ *[0-9a-f]+:\t/, "")
          .replace(/\s+/g, " ")
          .replace(/(call|jmp) [0-9a-f]+ /, "$1 ")
          .trim(),
      );
  };
  const saved = ["push %ecx", "push %edx", "push %ebp"];
  const back = ["pop %ebp", "pop %edx", "pop %ecx", "ret"];

  it.each([
    ["int80", ["int $0x80", "ret"]],
    ["sysenter", [...saved, "mov %esp,%ebp", "sysenter", "int $0x80", ...back]],
    ["syscall", [...saved, "mov %ecx,%ebp", "syscall", "int $0x80", ...back]],
    [
      "historical",
      [
        ...[...saved, "mov %esp,%ebp", "sysenter", "nop", "nop", "nop", "nop", "nop", "nop", "nop"],
        ...["jmp <__kernel_vsyscall@@LINUX_2.5+0x3>", ...back],
      ],
    ],
  ] as const)("enter by %s as objdump has them", (kind, expected) => {
    expect(disassembled(kind, "__kernel_vsyscall").map((line) => line.replace(/^(sysenter|syscall) $/, "$1"))).toEqual(
      expected,
    );
  });

  it.each(["int80", "sysenter", "syscall", "historical"] as const)("return from signals in %s", (kind) => {
    expect(disassembled(kind, "__kernel_sigreturn")).toEqual(["pop %eax", "mov $0x77,%eax", "int $0x80"]);
    expect(disassembled(kind, "__kernel_rt_sigreturn")).toEqual(["mov $0xad,%eax", "int $0x80"]);
  });

  it("call the entry from the clock functions of i386", () => {
    const called = (number: string, second: boolean) => [
      ...["push %ebx", "mov 0x8(%esp),%ebx", ...(second ? ["mov 0xc(%esp),%ecx"] : [])],
      ...[`mov $${number},%eax`, "call <__kernel_vsyscall@@LINUX_2.5>", "pop %ebx", "ret"],
    ];
    expect(disassembled("int80", "__vdso_time")).toEqual(called("0xd", false));
    expect(disassembled("int80", "__vdso_gettimeofday")).toEqual(called("0x4e", true));
    expect(disassembled("int80", "__vdso_clock_gettime")).toEqual(called("0x109", true));
    expect(disassembled("int80", "__vdso_clock_getres")).toEqual(called("0x10a", true));
    expect(disassembled("int80", "__vdso_clock_gettime64")).toEqual(called("0x193", true));
  });

  it("make the system call in those of x86_64", () => {
    for (const [name, number] of Object.entries({
      gettimeofday: 96,
      time: 201,
      clock_gettime: 228,
      clock_getres: 229,
      getcpu: 309,
    })) {
      const expected = [`mov $0x${number.toString(16)},%eax`, "syscall", "ret"];
      expect(disassembled("x86_64", `__vdso_${name}`)).toEqual(expected);
    }
  });
});

describe("kernelVersionCode()", () => {
  it("takes versions and releases, and nothing else", () => {
    expect(kernelVersionCode("6.18.44")).toBe(0x06122c);
    expect(kernelVersionCode("6.18.44-cloud-amd64")).toBe(0x06122c);
    expect(kernelVersionCode("6.1")).toBe(0x060100);
    expect(kernelVersionCode("7.0-rc1")).toBe(0x070000);
    expect(kernelVersionCode("4.4.302")).toBe(0x0404ff);
    for (const text of ["", "6", "six", "6.256", "256.1", "6.1.2.3", "-6.1", " 6.1", "6.1.", "9999999999.1"]) {
      expect(kernelVersionCode(text)).toBeUndefined();
    }
  });
});
