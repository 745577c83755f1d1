import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { Writer } from "../../src/bytes/writer.js";
import { buildElf, type SectionPlan, type SegmentPlan } from "../../src/elf/builder.js";
import * as C from "../../src/elf/constants.js";
import { ElfFile } from "../../src/elf/file.js";
import { gnuDynamicSymbols } from "../../src/render/gnu/dynamic-symbols.js";
import { gnuFile } from "../../src/render/gnu/file.js";
import { buildLibrary, layouts, withExtendedCounts, withoutSectionHeaders } from "../support/elf-writer.js";
import { imageBytes } from "../support/images.js";

/** How many mutated files are read: all of them in CI. */
const RUNS = process.env.CI ? 100_000 : 5_000;
/** Milliseconds that one file may take. */
const LIMIT = 250;
/** Milliseconds that a trap of a megabyte or two may take, for which a reader that falls into it needs minutes. */
const TRAP_LIMIT = 1000;

const images = [
  "amd64__EPYC__amd64",
  "amd64__EPYC__i386",
  "686__i386__embedded",
  "arm64__max__arm64",
  "arm64__arm32__embedded",
  "host618__native__amd64",
  "host618__native__i386",
].map(imageBytes);

const built = layouts.flatMap((layout) =>
  (["sysv", "gnu", "both"] as const).flatMap((hash) => {
    const library = buildLibrary({ ...layout, hash, sectionHeaders: true });
    return [library, withoutSectionHeaders(library), withExtendedCounts(library)];
  }),
);

/** A file to be changed, with the places of its fields: what they mean is known, so that changes hit what is read. */
interface Base {
  readonly bytes: Uint8Array;
  readonly fields: readonly { readonly at: number; readonly size: 1 | 2 | 4 | 8 }[];
}

const bases: readonly Base[] = [...images, ...built].map((bytes) => ({ bytes, fields: fieldsOf(bytes) }));

function fieldsOf(bytes: Uint8Array): Base["fields"] {
  const elf = new ElfFile(bytes);
  const wide = elf.header.class === 64;
  const word = wide ? 8 : 4;
  const fields: { at: number; size: 1 | 2 | 4 | 8 }[] = [];
  const record = (at: number, sizes: readonly (1 | 2 | 4 | 8)[]) => {
    for (const size of sizes) {
      if (at + size <= bytes.length) fields.push({ at, size });
      at += size;
    }
  };
  record(16, [2, 2, 4, word, word, word, 4, 2, 2, 2, 2, 2, 2]);
  const segment = [4, ...(wide ? [4] : []), word, word, word, word, word, ...(wide ? [] : [4]), word] as const;
  elf.segments.forEach((_, i) => {
    record(elf.header.e_phoff + i * (wide ? 56 : 32), segment as readonly (4 | 8)[]);
  });
  elf.sections.forEach((_, i) => {
    record(elf.header.e_shoff + i * (wide ? 64 : 40), [4, 4, word, word, word, word, 4, 4, word, word]);
  });
  const dynamic = elf.segments.find(({ p_type }) => p_type === C.PT_DYNAMIC);
  elf.dynamic.forEach((_, i) => {
    record((dynamic?.p_offset ?? 0) + i * 2 * word, [word, word]);
  });
  const tableAt = (tag: number) => {
    const address = elf.dynamicValue(tag);
    return address === undefined ? undefined : elf.offsetOf(address);
  };
  const tables: [number, readonly (1 | 2 | 4 | 8)[], number][] = [
    [C.DT_HASH, [4], 24],
    [C.DT_GNU_HASH, [4], 24],
    [C.DT_VERSYM, [2], 16],
    [C.DT_VERDEF, [2, 2, 2, 2, 4, 4, 4, 4, 4], 3],
    [C.DT_VERNEED, [2, 2, 4, 4, 4, 4, 2, 2, 4, 4], 1],
    [C.DT_SYMTAB, wide ? [4, 1, 1, 2, 8, 8] : [4, 4, 4, 1, 1, 2], 8],
  ];
  for (const [tag, sizes, count] of tables) {
    const at = tableAt(tag);
    const size = sizes.reduce<number>((sum, one) => sum + one, 0);
    if (at !== undefined) for (let i = 0; i < count; i++) record(at + i * size, sizes);
  }
  for (const { p_type, p_offset } of elf.segments) if (p_type === C.PT_NOTE) record(p_offset, [4, 4, 4, 4]);
  return fields;
}

const INTERESTING = [
  0, 1, 2, 3, 4, 7, 8, 16, 0x7f, 0xff, 0x7fff, 0xff00, 0xfff1, 0xffff, 0x10000, 0x7fffffff, 0xffffffff,
];
const INTERESTING_WIDE = [...INTERESTING.map(BigInt), 1n << 32n, 1n << 53n, 1n << 63n, (1n << 64n) - 1n];

type Change =
  | { readonly kind: "field"; readonly which: number; readonly value: bigint | "length" | "file" | "nudge" }
  | { readonly kind: "bit"; readonly which: number }
  | { readonly kind: "cut"; readonly which: number }
  | { readonly kind: "splice"; readonly from: number; readonly at: number; readonly to: number; readonly size: number }
  | { readonly kind: "fill"; readonly at: number; readonly size: number; readonly byte: number };

const position = fc.nat(0x7fffffff);
const change: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("field" as const),
      which: position,
      value: fc.oneof(fc.constantFrom(...INTERESTING_WIDE), fc.constantFrom("length", "file", "nudge")),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("bit" as const), which: position }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("cut" as const), which: position }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("splice" as const),
      from: position,
      at: position,
      to: position,
      size: fc.integer({ min: 1, max: 512 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("fill" as const),
      at: position,
      size: fc.integer({ min: 1, max: 256 }),
      byte: fc.constantFrom(0, 1, 0x41, 0xff),
    }),
  },
);

function mutated(base: Base, changes: readonly Change[]): Uint8Array {
  let bytes = base.bytes.slice();
  const little = bytes[5] === 1;
  for (const one of changes) {
    if (bytes.length === 0) return bytes;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    switch (one.kind) {
      case "field": {
        const field = base.fields[one.which % base.fields.length];
        if (!field || field.at + field.size > bytes.length) break;
        const { at, size } = field;
        const old = size === 8 ? view.getBigUint64(at, little) : size === 4 ? BigInt(view.getUint32(at, little)) : 0n;
        const length = BigInt(bytes.length);
        const value = { length, file: length - old, nudge: old + BigInt(one.which % 33) - 16n }[String(one.value)];
        const written = value ?? BigInt(one.value);
        if (size === 8) view.setBigUint64(at, BigInt.asUintN(64, written), little);
        else if (size === 4) view.setUint32(at, Number(BigInt.asUintN(32, written)), little);
        else if (size === 2) view.setUint16(at, Number(BigInt.asUintN(16, written)), little);
        else view.setUint8(at, Number(BigInt.asUintN(8, written)));
        break;
      }
      case "bit": {
        const at = one.which % bytes.length;
        bytes[at] = (bytes[at] ?? 0) ^ (1 << (one.which & 7));
        break;
      }
      case "cut":
        bytes = bytes.subarray(0, one.which % bytes.length);
        break;
      case "splice": {
        const source = (bases[one.from % bases.length] as Base).bytes;
        const start = one.at % source.length;
        const to = one.to % bytes.length;
        bytes.set(source.subarray(start, start + Math.min(one.size, bytes.length - to)), to);
        break;
      }
      case "fill":
        bytes.fill(one.byte, one.at % bytes.length, (one.at % bytes.length) + one.size);
        break;
    }
  }
  return bytes;
}

/** Reads all there is to read, and returns how many of the readings ended in FormatError; throws any other error. */
function readAll(bytes: Uint8Array, mapped: boolean): number {
  let refusals = 0;
  const attempt = (read: () => unknown) => {
    try {
      read();
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      refusals += 1;
    }
  };
  let elf: ElfFile;
  try {
    elf = new ElfFile(bytes, { mapped });
  } catch (error) {
    if (error instanceof FormatError) return 1;
    throw error;
  }
  for (const read of GETTERS) attempt(() => read(elf));
  attempt(() => {
    for (const section of elf.sections.slice(0, 64)) attempt(() => elf.sectionBytes(section));
  });
  for (const tag of [C.DT_NEEDED, C.DT_SONAME, C.DT_RPATH, C.DT_RUNPATH]) attempt(() => elf.dynamicStrings(tag));
  attempt(() => {
    for (const { p_vaddr } of elf.segments.slice(0, 16)) elf.offsetOf(p_vaddr);
  });
  attempt(() => {
    for (const { name, version } of elf.loaderSymbols.slice(0, 32)) attempt(() => elf.lookup(name, version?.name));
  });
  for (const name of ["", "first", "__vdso_time", "__kernel_vsyscall"]) {
    attempt(() => elf.lookup(name));
    attempt(() => elf.lookup(name, "LINUX_2.6"));
  }
  attempt(() => gnuFile(elf));
  attempt(() => gnuDynamicSymbols(elf, "file"));
  return refusals;
}

const GETTERS: readonly ((elf: ElfFile) => unknown)[] = [
  (elf) => elf.segments,
  (elf) => elf.sections,
  (elf) => elf.section(".text"),
  (elf) => elf.dynamic,
  (elf) => elf.soname,
  (elf) => elf.needed,
  (elf) => elf.interpreter,
  (elf) => elf.notes,
  (elf) => elf.buildId,
  (elf) => elf.hashTable,
  (elf) => elf.versionDefinitions,
  (elf) => elf.versionNeeds,
  (elf) => elf.dynamicSymbols,
  (elf) => elf.loaderSymbols,
  (elf) => elf.symbols,
];

/** Milliseconds that reading takes: the least of three where the first was slow, for others use the machine too. */
function timed(read: () => void, limit = LIMIT): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3 && least > limit; i++) {
    const start = performance.now();
    read();
    least = Math.min(least, performance.now() - start);
  }
  return least;
}

function heapAfterCollection(): number {
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
  return process.memoryUsage().heapUsed;
}

describe("files that somebody made up", () => {
  // Millions of errors are thrown and caught here, of which most of the time would go into stack traces.
  const { stackTraceLimit } = Error;
  beforeAll(() => {
    Error.stackTraceLimit = 0;
  });
  afterAll(() => {
    Error.stackTraceLimit = stackTraceLimit;
  });

  it(`only FormatError leaves the reader: ${RUNS} changed files, each within ${LIMIT} ms`, { timeout: 300_000 }, () => {
    let refused = 0;
    let slowest = 0;
    const before = heapAfterCollection();
    fc.assert(
      fc.property(
        fc.nat(bases.length - 1),
        fc.array(change, { minLength: 1, maxLength: 6 }),
        fc.boolean(),
        (which, changes, mapped) => {
          const bytes = mutated(bases[which] as Base, changes);
          const time = timed(() => {
            if (readAll(bytes, mapped) > 0) refused += 1;
          });
          slowest = Math.max(slowest, time);
          return time <= LIMIT;
        },
      ),
      { numRuns: RUNS },
    );
    expect(slowest).toBeLessThan(LIMIT);
    // Changes that no one notices, or that end all reading at once, would prove nothing.
    expect(refused / RUNS).toBeGreaterThan(0.3);
    expect(refused / RUNS).toBeLessThan(0.95);
    expect(heapAfterCollection() - before).toBeLessThan(32 << 20);
  });

  it("files that start nothing like ELF are refused", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 128 }), (bytes) => {
        expect(() => new ElfFile(bytes)).toThrow(FormatError);
      }),
      { numRuns: 1000 },
    );
  });

  it("any bytes after a sound identification are read or refused", () => {
    const identifications = layouts.map((layout) => {
      const order = layout.littleEndian ? 1 : 2;
      return [0x7f, 0x45, 0x4c, 0x46, layout.class / 32, order, 1];
    });
    fc.assert(
      fc.property(
        fc.constantFrom(...identifications),
        fc.uint8Array({ maxLength: 256 }),
        fc.boolean(),
        (start, rest, mapped) => {
          readAll(Uint8Array.of(...start, ...rest), mapped);
        },
      ),
      { numRuns: 2000 },
    );
  });
});

/** Large files that make a careless reader work for the square of their size. */
describe("traps", () => {
  const options = { littleEndian: true, wordSize: 8 } as const;
  const MEGABYTE = 1 << 20;

  /** A library of the given tables, its dynamic section naming them by tag. */
  function trap(
    tables: readonly (readonly [tag: number, name: string, content: Uint8Array])[],
    more: [number, bigint][] = [],
  ) {
    const sections: SectionPlan[] = tables.map(([, name, content]) => ({
      name,
      type: C.SHT_PROGBITS,
      flags: C.SHF_ALLOC,
      content,
      align: 8,
    }));
    const size = 16 * (tables.length + more.length + 1);
    sections.push({
      name: ".dynamic",
      type: 6,
      flags: C.SHF_ALLOC,
      align: 8,
      content: {
        size,
        write(layout) {
          const out = new Writer(options);
          for (const [tag, name] of tables) out.word(tag).word(layout.addressOf(name));
          for (const [tag, value] of more) out.word(tag).word(value);
          return out.word(0).word(0).finish();
        },
      },
    });
    const segments: SegmentPlan[] = [
      { type: C.PT_LOAD, flags: C.PF_R, covers: ["headers", ".dynamic"], align: 4096 },
      { type: C.PT_DYNAMIC, flags: C.PF_R, covers: [".dynamic", ".dynamic"], align: 8 },
    ];
    return buildElf({ class: 64, type: C.ET_DYN, machine: C.EM_X86_64, sections, segments, sectionHeaders: false });
  }

  function words(count: number, at: (index: number) => number): Uint8Array {
    const out = new Writer(options);
    for (let i = 0; i < count; i++) out.u32(at(i));
    return out.finish();
  }

  /** `count` symbols; each has the name at the offset that `name` gives. */
  function symbols(count: number, name: (index: number) => number): Uint8Array {
    const out = new Writer(options);
    for (let i = 0; i < count; i++) out.u32(name(i)).u8(0x12).u8(0).u16(1).u64(1).u64(1);
    return out.finish();
  }

  const longString = new Uint8Array(MEGABYTE).fill(0x61, 1, MEGABYTE - 1);
  const COUNT = 40_000;
  const sysv = (buckets: number, symbols: number, first: number, chain: (index: number) => number) =>
    words(2 + buckets + symbols, (i) =>
      i === 0 ? buckets : i === 1 ? symbols : i < 2 + buckets ? first : chain(i - 2 - buckets),
    );

  it.each<[string, () => Uint8Array]>([
    [
      "symbols whose names are all the ends of one long string",
      () =>
        trap([
          [C.DT_HASH, ".hash", sysv(1, COUNT, 1, (i) => (i + 1) % COUNT)],
          [C.DT_STRTAB, ".dynstr", longString],
          [C.DT_SYMTAB, ".dynsym", symbols(COUNT, (i) => 1 + i)],
        ]),
    ],
    [
      "one hash chain of all symbols",
      () =>
        trap([
          [C.DT_HASH, ".hash", sysv(1, COUNT, 1, (i) => (i + 1) % COUNT)],
          [C.DT_STRTAB, ".dynstr", new Uint8Array(100)],
          [C.DT_SYMTAB, ".dynsym", symbols(COUNT, () => 0)],
        ]),
    ],
    [
      "a hash chain that goes round",
      () =>
        trap([
          [C.DT_HASH, ".hash", sysv(1, COUNT, 1, () => 1)],
          [C.DT_STRTAB, ".dynstr", new Uint8Array(100)],
          [C.DT_SYMTAB, ".dynsym", symbols(COUNT, () => 0)],
        ]),
    ],
    [
      "a GNU hash table that starts at symbol 2^32 - 1",
      () =>
        trap([
          [
            C.DT_GNU_HASH,
            ".gnu.hash",
            words(MEGABYTE / 4, (i) => [1, 0xffffffff, 1, 0, 0xffffffff, 0xffffffff][i] ?? 0xffffffff),
          ],
          [C.DT_STRTAB, ".dynstr", new Uint8Array(100)],
          [C.DT_SYMTAB, ".dynsym", symbols(10, () => 0)],
        ]),
    ],
    [
      "a GNU hash chain without an end",
      () =>
        trap([
          [
            C.DT_GNU_HASH,
            ".gnu.hash",
            words(MEGABYTE / 4, (i) => [1, 1, 1, 0, 0xffffffff, 0xffffffff][i] ?? (i === 6 ? 1 : 2)),
          ],
          [C.DT_STRTAB, ".dynstr", new Uint8Array(100)],
          [C.DT_SYMTAB, ".dynsym", symbols(10, () => 0)],
        ]),
    ],
    [
      "2^32 - 1 version definitions, each of 65535 names that all are one",
      () => {
        const records = new Writer(options);
        for (let i = 0; i < MEGABYTE / 20; i++) {
          // The names start at the record's own end and lead 8 bytes on, through the records that follow.
          records.u16(1).u16(8).u16(2).u16(0xffff).u32(8).u32(8).u32(20);
        }
        return trap(
          [
            [C.DT_STRTAB, ".dynstr", longString],
            [C.DT_VERDEF, ".verdef", records.finish()],
          ],
          [[C.DT_VERDEFNUM, 0xffffffffn]],
        );
      },
    ],
    [
      "65535 version needs, each with 65535 versions",
      () => {
        const records = new Writer(options);
        for (let i = 0; i < MEGABYTE / 16; i++) records.u16(1).u16(0xffff).u32(16).u32(16).u32(16);
        return trap(
          [
            [C.DT_STRTAB, ".dynstr", longString],
            [C.DT_VERNEED, ".verneed", records.finish()],
          ],
          [[C.DT_VERNEEDNUM, 0xffffn]],
        );
      },
    ],
    [
      "as many DT_NEEDED as fit, all of one long string",
      () =>
        trap(
          [[C.DT_STRTAB, ".dynstr", longString]],
          Array.from({ length: 60_000 }, (_, i) => [C.DT_NEEDED, BigInt(1 + i)] as [number, bigint]),
        ),
    ],
    [
      "thousands of PT_NOTE, each of the whole file",
      () => {
        const content = new Uint8Array(MEGABYTE / 2);
        const sections = [{ name: ".note", type: C.SHT_NOTE, flags: C.SHF_ALLOC, content }];
        const segment: SegmentPlan = { type: C.PT_NOTE, flags: C.PF_R, covers: ["headers", ".note"], align: 4 };
        const segments = Array.from({ length: 9000 }, () => segment);
        return buildElf({ class: 64, type: C.ET_DYN, machine: C.EM_X86_64, sections, segments, sectionHeaders: false });
      },
    ],
    [
      "thousands of sections whose names are the ends of one",
      () => {
        const sections = Array.from({ length: 10_000 }, (_, i) => ({
          name: "a",
          type: i === 0 ? C.SHT_STRTAB : C.SHT_DYNSYM,
          flags: 0,
          content: i === 0 ? longString : new Uint8Array(0),
        }));
        const bytes = buildElf({
          class: 64,
          type: C.ET_DYN,
          machine: C.EM_X86_64,
          sections,
          segments: [],
          sectionHeaders: true,
        });
        const view = new DataView(bytes.buffer);
        view.setUint16(62, 1, true);
        const table = Number(view.getBigUint64(40, true));
        for (let i = 1; i < 10_000; i++) view.setUint32(table + 64 * i, i, true);
        return bytes;
      },
    ],
  ])("%s", (_, make) => {
    const bytes = make();
    expect(bytes.length).toBeGreaterThan(MEGABYTE / 2);
    for (const mapped of [false, true])
      expect(timed(() => readAll(bytes, mapped), TRAP_LIMIT)).toBeLessThan(TRAP_LIMIT);
  });
});
