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
import { shownTime } from "../../src/forge/clock.js";
import { ForgeError } from "../../src/forge/error.js";
import { type ForgePlan, forgeImage } from "../../src/forge/forge.js";
import { kernelVersionCode } from "../../src/forge/kernel-version.js";
import { Code } from "../../src/vdso/code.js";
import { readGate } from "../../src/vdso/gate.js";
import { isVdso, parseImage } from "../../src/vdso/image.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { allFacts } from "../../src/verbs/explain.js";
import { ARTICLE_ENTRY } from "../support/article-image.js";
import { forged, forgeTools, heard, KINDS, PLACES, PLANS, planOf, SHAPES } from "../support/forged.js";
import { needs, output } from "../support/referee.js";

const scratch = mkdtempSync(join(tmpdir(), "forge-test-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const binutils = needs("objdump", "binutils") && needs("readelf", "binutils");
const elfutils = needs("eu-elflint", "elfutils");
const hasFile = needs("file", "file");

const fileOf = new Map(
  [...SHAPES.keys()].map((kind) => {
    const path = join(scratch, `${kind}.dso`);
    writeFileSync(path, forged(kind));
    return [kind, path];
  }),
);
const pathOf = (kind: string): string => fileOf.get(kind) as string;

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
  describe.each([...SHAPES.keys()])("of %s", (kind) => {
    const { abi } = planOf(kind);
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
        abi === "x86_64" ? "ELF 64-bit LSB shared object, x86-64" : "ELF 32-bit LSB shared object, Intel 80386";
      const buildId = parseImage(forged(kind)).buildId;
      expect(said).toBe(`${machine}, version 1 (SYSV), dynamically linked, BuildID[sha1]=${buildId}, stripped`);
    });

    it("is a vDSO to the reader of images", () => {
      const image = parseImage(forged(kind));
      expect(isVdso(image.elf)).toBe(true);
      expect(image.abi).toBe(abi);
      expect(image.soname).toBe(abi === "x86_64" ? "linux-vdso.so.1" : "linux-gate.so.1");
      expect(image.kernelVersion?.text).toBe("6.18.44");
      expect(image.linkBase).toBe(kind === "historical" ? 0xffffe000n : 0n);
      expect(image.loadSize).toBeLessThanOrEqual(kind in PLANS ? 4096n : 8192n);
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
        const reader = new Reader(elf.sectionBytes(section), { wordSize: abi === "x86_64" ? 8 : 4 });
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
    for (const kind of [...KINDS, "x86_64-shifted", "i386-faster", "sysenter-placed-whole"]) {
      const { functions } = parseImage(forged(kind));
      const commands = functions.flatMap(({ name }) => [`info symbol ${name}`, `disassemble /r ${name}`]);
      const said = output("gdb", "-nx", "-q", "-batch", ...commands.flatMap((one) => ["-ex", one]), pathOf(kind));
      const texts = said.split(/^(?=\w+ .*in section)/m);
      expect(texts).toHaveLength(functions.length);
      functions.forEach(({ name, aliases, size }, i) => {
        const text = texts[i] as string;
        expect(text).toMatch(new RegExp(`^(${[name, ...aliases].join("|")})\\b.* in section \\.text\n`));
        const bytes = text.match(/^ +0x[0-9a-f]+ <\+\d+>:\t[0-9a-f ]+\t/gm) ?? [];
        expect(
          bytes
            .join(" ")
            .replace(/ +0x\S+ <\+\d+>:\t/g, " ")
            .match(/\b[0-9a-f]{2}\b/g),
        ).toHaveLength(size);
        expect(text).toContain("End of assembler dump.");
      });
    }
  });

  it("of history has the entry of the article, byte for byte", () => {
    const bytes = forged("historical");
    expect(hexBytes(bytes.subarray(0x400, 0x414))).toBe(hexBytes(ARTICLE_ENTRY));
    expect(new ElfFile(bytes).header.e_entry).toBe(0xffffe400n);
  });

  it("lies where it is asked to, and nothing else of its code changes", () => {
    for (const kind of SHAPES.keys()) {
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
      kind: fc.constantFrom(...SHAPES.keys()),
      page: fc.integer({ min: 0, max: 0xffffe }),
      kernelVersion: fc.integer({ min: 0, max: 0xffffff }),
    });
    fc.assert(
      fc.property(plans, ({ kind, page, kernelVersion }) => {
        const base = BigInt(page) * 4096n;
        const image = parseImage(forgeImage({ ...planOf(kind), base, kernelVersion }, forgeTools));
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

/** Bytes of an image at an offset. */
const bytesAt = (image: Uint8Array, at: number, hexadecimal: string): void => {
  const length = hexadecimal.length / 2;
  expect(Buffer.from(image.subarray(at, at + length)).toString("hex")).toBe(hexadecimal);
};

describe("an image for the kernel's place", () => {
  it.each([...SHAPES.keys()].filter((kind) => kind.includes("placed")))("has what is returned to there: %s", (kind) => {
    const image = forged(kind);
    expect(image).toHaveLength(PLACES.size);
    const restart = kind.startsWith("historical") ? "ebf3" : "cd80";
    bytesAt(image, PLACES.landing - 2, `${restart}5d5a59c3`);
    bytesAt(image, PLACES.sigreturn, "58b877000000cd80");
    bytesAt(image, PLACES.rtSigreturn, "b8ad000000cd80");
    const { functions, elf } = parseImage(image);
    const at = new Map(functions.map(({ name, address }) => [name, Number(address)]));
    expect(at.get("__kernel_sigreturn")).toBe(PLACES.sigreturn);
    expect(at.get("__kernel_rt_sigreturn")).toBe(PLACES.rtSigreturn);
    expect(at.get("__kernel_vsyscall")).toBeLessThan(PLACES.landing - 4);
    expect(Number(elf.header.e_entry)).toBe(at.get("__kernel_vsyscall"));
  });

  it("has the kernel's own entry, byte for byte, where it is by sysenter", () => {
    bytesAt(forged("sysenter-placed"), 0x550, "51525589e50f34cd805d5a59c3");
    bytesAt(forged("syscall-placed"), 0x550, "51525589cd0f05cd805d5a59c3");
    bytesAt(forged("int80-placed"), 0x554, "515255cd805d5a59c3");
    bytesAt(forged("historical-placed"), 0x549, "51525589e50f3490909090909090ebf35d5a59c3");
  });

  it("is made wherever there is room, and refused elsewhere", () => {
    const place = fc.integer({ min: 0, max: 0x1fff });
    const plan = fc.record({
      kind: fc.constantFrom("int80-placed", "historical-placed", "sysenter-placed-whole"),
      landing: place,
      sigreturn: place,
      rtSigreturn: place,
      size: fc.constantFrom(0x1000, 0x2000, 0x3000),
    });
    let made = 0;
    fc.assert(
      fc.property(plan, ({ kind, ...places }) => {
        let image: Uint8Array;
        try {
          image = forgeImage({ ...planOf(kind), places } as ForgePlan, forgeTools);
        } catch (error) {
          expect(error).toBeInstanceOf(ForgeError);
          return;
        }
        made += 1;
        expect(image).toHaveLength(places.size);
        bytesAt(image, places.landing, "5d5a59c3");
        bytesAt(image, places.sigreturn, "58b877000000cd80");
        bytesAt(image, places.rtSigreturn, "b8ad000000cd80");
        expect(parseImage(image).functions.length).toBeGreaterThan(7);
      }),
      { numRuns: 150 },
    );
    expect(made).toBeGreaterThan(10);
  });

  it("has its section headers while there is room for them", () => {
    const ofSize = (size: number): Uint8Array =>
      forgeImage({ ...PLANS.sysenter, places: { ...PLACES, size } } as ForgePlan, forgeTools);
    expect(new ElfFile(ofSize(0x2000)).sections.length).toBeGreaterThan(10);
    const needed = [...Array(0x2000).keys()].find((size) => {
      try {
        return size > 0x500 && size % 16 === 0 && ofSize(size).length === size;
      } catch {
        return false;
      }
    }) as number;
    const bare = new ElfFile(ofSize(needed));
    expect(bare.sections).toEqual([]);
    expect(bare.lookup("__kernel_vsyscall", "LINUX_2.5")?.st_value).toBe(0x550n);
    expect(() => ofSize(needed - 16)).toThrow(/^the image has \d+ bytes, and its place \d+$/);
  });
});

describe("an image with changed clocks", () => {
  it("has every name that the kernel's has, and its own entry and returns", () => {
    for (const [kind, plan] of SHAPES) {
      if (!plan.clocks) continue;
      const exported = new ElfFile(forged(kind)).dynamicSymbols
        .filter(({ type }) => type === 2)
        .map(({ name }) => name);
      const own = plan.abi === "i386" ? ["__kernel_rt_sigreturn", "__kernel_sigreturn", "__kernel_vsyscall"] : [];
      expect(exported.sort()).toEqual([...own, ...plan.clocks.kernel.keys()].sort());
    }
  });

  it("has aliases as weak names, and leaves out a kernel's own entry", () => {
    const kernel = new Map([
      ["getcpu", 0x1000n],
      ["__vdso_getcpu", 0x1000n],
      ["__kernel_vsyscall", 0x2000n],
    ]);
    const change = { rate: 0n, clocks: new Map() };
    const image = forgeImage({ abi: "x86_64", kernelVersion: 0, clocks: { change, kernel } }, forgeTools);
    const { functions, elf } = parseImage(image);
    expect(functions.map(({ name, aliases }) => [name, aliases])).toEqual([["__vdso_getcpu", ["getcpu"]]]);
    expect(elf.lookup("getcpu")?.bind).toBe(2);
  });

  it("is refused beyond what its arithmetic reaches, and without the functions that it calls", () => {
    const kernel = new Map([["__vdso_time", 0x1000n]]);
    const at =
      (rate: bigint, clock: number, real: bigint, shown: bigint, of = kernel) =>
      () => {
        const change = { rate, clocks: new Map([[clock, { real, shown }]]) };
        return forgeImage(
          { abi: "i386", entry: "syscall", kernelVersion: 0, clocks: { change, kernel: of } },
          forgeTools,
        );
      };
    const both = new Map([...kernel, ["__vdso_clock_gettime", 0x2000n]]);
    expect(at(1n << 48n, 0, (1n << 63n) - 1n, -(1n << 79n), both)).not.toThrow();
    expect(at((1n << 48n) + 1n, 0, 0n, 0n, both)).toThrow(ForgeError);
    expect(at(-1n, 0, 0n, 0n, both)).toThrow(/cannot run/);
    expect(at(1n, 0, 1n << 63n, 0n, both)).toThrow(/cannot have read/);
    expect(at(1n, 0, 0n, 1n << 79n, both)).toThrow(/cannot show/);
    expect(at(1n, 0.5, 0n, 0n, both)).toThrow(/no number of a clock/);
    expect(at(1n, 2 ** 31, 0n, 0n, both)).toThrow(/no number of a clock/);
    expect(at(1n, 5, 0n, 0n)).toThrow(/the kernel's image has no __vdso_clock_gettime64 and no __vdso_clock_gettime$/);
  });

  it("is refused counters that do not lie in 32-bit memory", () => {
    const at = (table: bigint, length: number) => () =>
      forgeImage({ abi: "i386", entry: "int $0x80", kernelVersion: 0, counters: { table, length } }, forgeTools);
    expect(at(0xffff_fff8n, 0)).not.toThrow();
    expect(at(0xffff_fff8n, 1)).toThrow(ForgeError);
    expect(at(-8n, 1)).toThrow(/do not lie/);
    expect(at(0n, 1.5)).toThrow(/do not lie/);
    expect(at(0n, -1)).toThrow(/do not lie/);
  });
});

describe("shownTime()", () => {
  it("is exact, rounds down, and knows only what was changed", () => {
    const clocks = new Map([[0, { real: 1000n, shown: 5n }]]);
    expect(shownTime({ rate: 1n << 32n, clocks }, 0, 1700n)).toBe(705n);
    expect(shownTime({ rate: 1n << 31n, clocks }, 0, 1001n)).toBe(5n);
    expect(shownTime({ rate: 1n << 31n, clocks }, 0, 999n)).toBe(4n);
    expect(shownTime({ rate: 0n, clocks }, 0, 999n)).toBe(5n);
    expect(shownTime({ rate: 1n, clocks }, 1, 999n)).toBeUndefined();
  });
});

describe("the entry of a forged image", () => {
  const gateOf = async (kind: string) => {
    const image = parseImage(forged(kind));
    const decoder = await decoderFor(image.abi);
    return decoder && readGate(image, new Code(image.elf, decoder));
  };

  it.each([
    ["int80", { mechanism: "int $0x80", sixthArgument: "register" }],
    ["sysenter", { mechanism: "sysenter", sixthArgument: "stack", restart: "int $0x80", landing: 9n }],
    ["syscall", { mechanism: "syscall", sixthArgument: "stack", restart: "int $0x80", landing: 9n }],
    ["historical", { mechanism: "sysenter", sixthArgument: "stack", restart: "jump", landing: 16n }],
    ["int80-placed", { mechanism: "int $0x80", sixthArgument: "register" }],
    ["sysenter-placed", { mechanism: "sysenter", sixthArgument: "stack", restart: "int $0x80", landing: 9n }],
    ["syscall-placed", { mechanism: "syscall", sixthArgument: "stack", restart: "int $0x80", landing: 9n }],
    ["historical-placed", { mechanism: "sysenter", sixthArgument: "stack", restart: "jump", landing: 16n }],
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
  const disassembled = (kind: string, name: string): string[] => {
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

  it.each(["int80", "sysenter", "syscall", "historical", "historical-placed-whole"])(
    "return from signals in %s",
    (kind) => {
      expect(disassembled(kind, "__kernel_sigreturn")).toEqual(["pop %eax", "mov $0x77,%eax", "int $0x80"]);
      expect(disassembled(kind, "__kernel_rt_sigreturn")).toEqual(["mov $0xad,%eax", "int $0x80"]);
    },
  );

  it.each(["int80", "sysenter", "syscall", "historical"])("enter by %s behind what counts them", (kind) => {
    const entry = disassembled(`${kind}-counted`, "__kernel_vsyscall");
    const counted = [
      ...["cmp $0x1d8,%eax", "jae", "lock addl $0x1,-0x8400000(,%eax,8)", "jae"],
      ...["lock addl $0x1,-0x83ffffc(,%eax,8)", "jmp", "lock addl $0x1,0xf7c00ec0", "jae", "lock addl $0x1,0xf7c00ec4"],
    ];
    const jumpless = (line: string): string => line.replace(/^(j\w+) .*$/, "$1");
    expect(entry.slice(0, counted.length).map(jumpless)).toEqual(counted);
    expect(entry.slice(counted.length).map(jumpless)).toEqual(disassembled(kind, "__kernel_vsyscall").map(jumpless));
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
