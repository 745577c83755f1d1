import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { ElfFile } from "../../src/elf/file.js";
import { type Cpu, parseCpuinfo } from "../../src/vdso/boot/cpu.js";
import { findCpu } from "../../src/vdso/boot/cpu-models.js";
import { readInForce } from "../../src/vdso/boot/in-force.js";
import { predictImage } from "../../src/vdso/boot/predict.js";
import { parseImage } from "../../src/vdso/image.js";
import { setSectionSize } from "../support/alternative-table.js";
import { bootedImage } from "../support/boots.js";
import { imageBytes } from "../support/images.js";

/** How many mutated images are predicted: more in CI. */
const RUNS = process.env.CI ? 20_000 : 1_500;
/** Milliseconds that one may take. */
const LIMIT = 500;

const images = [
  bootedImage("5.10-686__i386"),
  bootedImage("6.1-686__i386"),
  bootedImage("6.12-cloud-amd64__i386"),
  bootedImage("7.2-cloud-amd64__i386"),
  bootedImage("7.2-cloud-amd64__amd64"),
  imageBytes("amd64__EPYC__i386"),
  imageBytes("arm64__arm64__embedded"),
];

const cpus = ["486", "pentium-pro", "core2", "epyc", "panther-lake", "neoverse-v3"].map((name) => findCpu(name) as Cpu);

/** Bytes to be changed, most of them in the table and where it points. */
function places(bytes: Uint8Array): fc.Arbitrary<number> {
  const elf = new ElfFile(bytes);
  const table = elf.section(".altinstructions");
  const code = elf.section(".altinstr_replacement");
  const within = (from: number, size: number) => fc.nat(size - 1).map((at) => from + at);
  return fc.oneof(
    { weight: 6, arbitrary: within(table?.sh_offset ?? 0, table?.sh_size ?? 1) },
    { weight: 1, arbitrary: within(code?.sh_offset ?? 0, code?.sh_size ?? 1) },
    { weight: 2, arbitrary: within(elf.header.e_shoff, bytes.length - elf.header.e_shoff) },
    { weight: 1, arbitrary: fc.nat(bytes.length - 1) },
  );
}

const mutated = fc.constantFrom(...images).chain((image) =>
  fc.record({
    image: fc.constant(image),
    changes: fc.array(fc.tuple(places(image), fc.nat(255)), { minLength: 1, maxLength: 12 }),
    tableSize: fc.option(fc.nat(0x2000)),
    cpu: fc.constantFrom(...cpus),
    width: fc.constantFrom(32 as const, 64 as const, undefined),
    cmdline: fc.constantFrom("", "clearcpuid=11,110,rdtscp setcpuid=rdpid", "vdso=0 vdso32=7", "fred=on nosep"),
  }),
);

describe("a mutated image", () => {
  it("is predicted, or is refused with a FormatError, in bounded time", () => {
    fc.assert(
      fc.property(mutated, ({ image, changes, tableSize, cpu, width, cmdline }) => {
        const bytes = new Uint8Array(image);
        if (tableSize !== null) setSectionSize(bytes, ".altinstructions", tableSize);
        for (const [at, value] of changes) bytes[at] = value;
        const before = new Uint8Array(bytes);
        const start = performance.now();
        try {
          const parsed = parseImage(bytes, { mapped: true });
          const prediction = predictImage(parsed, { cpu, width, cmdline });
          readInForce(parsed);
          for (const { after, length } of prediction.sites) if (after) expect(after).toHaveLength(length);
          if (prediction.bytes) expect(prediction.bytes).toHaveLength(bytes.length);
        } catch (error) {
          if (!(error instanceof FormatError)) throw error;
        }
        expect(performance.now() - start).toBeLessThan(LIMIT);
        expect(Buffer.compare(bytes, before)).toBe(0);
      }),
      { numRuns: RUNS },
    );
  });

  it("with a table over all of it is read in bounded time", () => {
    for (const image of images) {
      const { sh_offset = 0 } = new ElfFile(image).section(".altinstructions") ?? {};
      for (const record of [12, 13, 14]) {
        const bytes = new Uint8Array(image);
        const size = Math.floor((image.length - sh_offset) / record) * record;
        setSectionSize(bytes, ".altinstructions", size);
        const start = performance.now();
        expect(() => predictImage(parseImage(bytes), { cpu: cpus[2] as Cpu, width: 64 })).toThrow(FormatError);
        expect(performance.now() - start).toBeLessThan(LIMIT);
      }
    }
  });
});

describe("any text", () => {
  it("is a processor, or is refused with a FormatError", () => {
    const lines = fc.array(fc.oneof(fc.string(), fc.constantFrom("flags: sep", "model: x", "vendor_id", "Features:")));
    fc.assert(
      fc.property(lines, (text) => {
        try {
          parseCpuinfo(text.join("\n"));
        } catch (error) {
          if (!(error instanceof FormatError)) throw error;
        }
      }),
      { numRuns: 500 },
    );
  });
});
