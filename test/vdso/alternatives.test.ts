import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { type AlternativeTable, alternativesOf } from "../../src/vdso/alternatives.js";
import { x86Shape } from "../../src/vdso/boot/x86-length.js";
import { parseImage } from "../../src/vdso/image.js";
import { permittedVariants } from "../../src/vdso/variants.js";
import { rewritten, setSectionSize } from "../support/alternative-table.js";
import { bootedImage } from "../support/boots.js";
import { imageBytes, imagePath } from "../support/images.js";
import { needs, output } from "../support/referee.js";

const tableOf = (bytes: Uint8Array) => alternativesOf(parseImage(bytes, { mapped: true })) as AlternativeTable;

describe("alternativesOf", () => {
  it.each([
    ["686__i386__embedded", 12, 10, 19],
    ["amd64__amd64__embedded", 12, 4, 7],
    ["amd64__i386__embedded", 12, 10, 20],
    ["arm64__arm64__embedded", 12, 4, 4],
    ["host618__native__i386", 14, 9, 17],
  ])("reads the records of %s", (name, recordSize, sites, records) => {
    const table = tableOf(imageBytes(name));
    expect(table.recordSize).toBe(recordSize);
    expect(table.sites).toHaveLength(sites);
    expect(table.sites.flatMap(({ alternatives }) => alternatives)).toHaveLength(records);
  });

  it("tells records of 12, 13 and 14 bytes by reading them", () => {
    const image = bootedImage("7.2-cloud-amd64__i386");
    const original = tableOf(image);
    const records = original.sites.flatMap(({ alternatives }) => alternatives);
    for (const recordSize of [12, 13, 14] as const) {
      const table = tableOf(rewritten(image, { recordSize }));
      expect(table.recordSize).toBe(recordSize);
      const read = table.sites.flatMap(({ alternatives }) => alternatives);
      expect(read.map(({ address, feature }) => [address, feature])).toEqual(
        records.map(({ address, feature }) => [address, feature]),
      );
    }
  });

  it("tells 12 from 13 bytes where both divide the section", () => {
    // 156 bytes: 13 records of 12 bytes, or 12 of 13.
    const image = rewritten(bootedImage("6.1-686__i386"), { recordSize: 12 });
    setSectionSize(image, ".altinstructions", 156);
    expect(tableOf(image).recordSize).toBe(12);
    const other = rewritten(bootedImage("7.2-cloud-amd64__i386"), { recordSize: 13 });
    setSectionSize(other, ".altinstructions", 156);
    expect(tableOf(other).recordSize).toBe(13);
  });

  it("names the function of a site, and none for a static one", () => {
    const { sites } = tableOf(imageBytes("686__i386__embedded"));
    expect(sites[0]?.functionName).toBe("__kernel_vsyscall");
    expect(sites[1]?.functionName).toBeUndefined();
  });

  it("has none where the image has none", () => {
    expect(alternativesOf(parseImage(imageBytes("arm64__arm32__embedded")))).toBeUndefined();
  });

  it("reads bit 15 of a feature as the inversion, in records without flags", () => {
    const image = rewritten(bootedImage("6.1-686__i386"), { change: (i) => (i === 0 ? { feature: 0x800b } : {}) });
    expect(tableOf(image).sites[0]?.alternatives[0]).toMatchObject({ feature: 11, inverted: true });
  });

  it.each([
    ["a site without bytes", { length: 0, replacementLength: 0 }],
    ["a replacement longer than its site", { length: 1 }],
    ["a site outside the code", { address: 0x100000n }],
    ["a site in the header", { address: 0n }],
    ["a site across the end of the code", { length: 255 }],
    ["flags that no vDSO uses", { flags: 2 }],
    ["unknown flags", { flags: 0x8000 }],
  ])("refuses %s", (_, change) => {
    const image = rewritten(bootedImage("6.12-cloud-amd64__i386"), { change: (i) => (i === 3 ? change : {}) });
    expect(() => tableOf(image)).toThrow(FormatError);
  });

  it("refuses sites that overlap", () => {
    const table = tableOf(bootedImage("6.12-cloud-amd64__i386"));
    const beside = (table.sites[1]?.address as bigint) + 2n;
    const image = rewritten(bootedImage("6.12-cloud-amd64__i386"), {
      change: (i) => (i === 0 ? { address: beside } : {}),
    });
    expect(() => tableOf(image)).toThrow(/overlap/);
  });
});

describe("permittedVariants", () => {
  it("has what booted kernels put there, whatever is known of them", () => {
    const embedded = tableOf(imageBytes("amd64__i386__embedded"));
    const original = imageBytes("amd64__i386__embedded");
    for (const name of ["amd64__EPYC__i386", "amd64__Nehalem__i386", "amd64__EPYC+clearcpuid110__i386"]) {
      const live = imageBytes(name);
      for (const site of embedded.sites) {
        const end = site.offset + site.length;
        const variants = permittedVariants(site, { original: original.subarray(site.offset, end) });
        const found = variants.map(({ bytes }) => Buffer.from(bytes).toString("hex"));
        expect(found).toContain(Buffer.from(live.subarray(site.offset, end)).toString("hex"));
      }
    }
  });

  it("has no two that are alike, and none of another length", () => {
    for (const site of tableOf(bootedImage("7.2-cloud-amd64__i386")).sites) {
      const variants = permittedVariants(site);
      const keys = variants.map(({ bytes, alternative }) => `${alternative?.index} ${bytes.join()}`);
      expect(new Set(keys).size).toBe(keys.length);
      expect(variants.every(({ bytes }) => bytes.length === site.length)).toBe(true);
    }
  });
});

describe("x86Shape", () => {
  const objdump = needs("objdump", "binutils");
  it.skipIf(!objdump).each([
    ["host618__native__i386", 32],
    ["686__i386__embedded", 32],
    ["host618__native__amd64", 64],
    ["amd64__amd64__embedded", 64],
  ] as const)("finds the lengths that objdump finds in %s", (name, width) => {
    const bytes = imageBytes(name);
    const lines = output("objdump", "-dw", "-j", ".text", imagePath(name)).matchAll(
      /^ +([0-9a-f]+):\t((?:[0-9a-f]{2} )+)/gm,
    );
    let count = 0;
    for (const [, address, code] of lines) {
      const at = Number.parseInt(address as string, 16);
      expect([address, x86Shape(bytes, at, width)?.length]).toEqual([
        address,
        (code as string).trim().split(" ").length,
      ]);
      count += 1;
    }
    expect(count).toBeGreaterThan(300);
  });
});
