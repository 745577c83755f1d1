import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { hexBytes } from "../../src/bytes/hex.js";
import { type AlternativeTable, alternativesOf, type Site } from "../../src/vdso/boot/alternatives.js";
import { siteCode } from "../../src/vdso/boot/code-words.js";
import { findCpu } from "../../src/vdso/boot/cpu-models.js";
import { NOPS } from "../../src/vdso/boot/nops.js";
import { patchArm64, patchX86 } from "../../src/vdso/boot/patch.js";
import { nopsOfCpu, type PatchRules, rulesFor } from "../../src/vdso/boot/rules.js";
import { permittedVariants } from "../../src/vdso/boot/variants.js";
import { x86Shape } from "../../src/vdso/boot/x86-length.js";
import { parseImage } from "../../src/vdso/image.js";
import { repeated, rewritten, setSectionSize } from "../support/alternative-table.js";
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

  it("refuses a site among the replacements", () => {
    const image = bootedImage("6.12-cloud-amd64__i386");
    const address = tableOf(image).sites[0]?.alternatives[0]?.replacementAddress as bigint;
    expect(() => tableOf(rewritten(image, { change: (i) => (i === 3 ? { address } : {}) }))).toThrow(
      /outside the code/,
    );
  });

  it("refuses more records than any image has, at once", () => {
    const image = bootedImage("6.1-686__i386");
    expect(tableOf(repeated(image, 8)).sites.map(({ alternatives }) => alternatives.length)).toEqual([8]);
    const start = performance.now();
    expect(() => tableOf(repeated(image, 9))).toThrow(/has 9 records/);
    expect(() => tableOf(repeated(image, 1025))).toThrow(/more than 1024 records/);
    expect(() => tableOf(repeated(image, 1_000_000))).toThrow(FormatError);
    expect(performance.now() - start).toBeLessThan(2000);
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

describe("what is put at a site", () => {
  const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, "hex"));
  /** A site at 0x100 with one record for each text, all of them stored at 0x200. */
  const siteOf = (
    length: number,
    ...replacements: readonly { code: string; length?: number; padding?: number }[]
  ): Site => ({
    address: 0x100n,
    offset: 0x100,
    length,
    alternatives: replacements.map(({ code, ...rest }, index) => ({
      index,
      address: 0x100n,
      offset: 0x100,
      length,
      replacement: bytesOf(code),
      replacementAddress: 0x200n,
      feature: 1,
      inverted: false,
      flags: 0,
      ...rest,
    })),
  });
  const skylake = findCpu("skylake");
  const rules = (recordSize: 12 | 13 | 14, release: number) =>
    rulesFor(recordSize, { release, width: 64, cpu: skylake }) as PatchRules;
  const old = rules(13, 5004);
  const runs = rules(12, 6001);
  const inPlace = rules(14, 6006);
  const copied = rules(14, 6012);
  const put = (code: string, by: PatchRules, length = code.length / 2) =>
    hexBytes(patchX86(siteOf(length, { code }), bytesOf("cc".repeat(length)), [true], by));
  const left = (original: string, by: PatchRules, padding = 0) =>
    hexBytes(patchX86(siteOf(original.length / 2, { code: "", padding }), bytesOf(original), [false], by));

  it("leads where it led from where it was stored", () => {
    // To 0x300: from the end of the replacement 0xfb, from that of the site 0x1fb.
    for (const by of [old, runs, inPlace, copied]) {
      expect(put("e8fb000000", by)).toBe("e8fb010000");
      expect(put("e9fb000000", by)).toBe("e9fb010000");
    }
    for (const by of [inPlace, copied]) {
      // A conditional jump, and an operand that is relative to the next instruction.
      expect(put("0f84fa000000", by)).toBe("0f84fa010000");
      expect(put("488b05f9000000", by)).toBe("488b05f9010000");
      // One within the replacement stays.
      expect(put("eb0131c0", by)).toBe("eb0131c0");
    }
  });

  it("is a short jump where one reaches: up to 6.4 forwards alone, with NOPs behind it, since 6.5 with breakpoints", () => {
    // To 0x120, and to 0xf0.
    for (const by of [old, runs]) {
      expect(put("e91bffffff", by)).toBe("eb1e0f1f00");
      expect(put("e9ebfeffff", by)).toBe("e9ebffffff");
    }
    for (const by of [inPlace, copied]) {
      expect(put("e91bffffff", by)).toBe("eb1ecccccc");
      expect(put("e9ebfeffff", by)).toBe("ebeecccccc");
    }
  });

  it("keeps of what was there all but the NOPs that its generation shortens", () => {
    // Single bytes and a longer one; a longer one at the end; a jump over some.
    const texts = ["c3909066900000", "c3666690", "eb029090c3", "c39090", "9090c3"];
    const of = (by: PatchRules, padding = 0) => texts.map((text) => left(text, by, padding));
    expect(of(rules(12, 4000))).toEqual(texts);
    expect(of(old)).toEqual(texts);
    expect(left("909090", old, 3)).toBe("0f1f00");
    expect(of(runs)).toEqual(["c3669066900000", "c3666690", "eb026690c3", "c36690", "6690c3"]);
    expect(of(inPlace)).toEqual(["c30f1f40000000", "c30f1f00", "0f1f4000c3", "c36690", "6690c3"]);
    expect(of(copied)).toEqual(["c30f1f40000000", "c3666690", "eb026690c3", "c36690", "6690c3"]);
  });

  it("fills the whole site since 6.10, and as much as the record says before", () => {
    const site = siteOf(6, { code: "c3", length: 3 });
    const of = (by: PatchRules) => hexBytes(patchX86(site, bytesOf("cccccccccccc"), [true], by));
    expect(of(runs)).toBe("c36690cccccc");
    expect(of(inPlace)).toBe("c36690cccccc");
    expect(of(copied)).toBe("c30f1f440000");
  });

  it("is that of the last record that applies", () => {
    const site = siteOf(2, { code: "31c0" }, { code: "31db" }, { code: "31c9" });
    const of = (...applies: boolean[]) => hexBytes(patchX86(site, bytesOf("cccc"), applies, copied));
    expect(of(true, true, true)).toBe("31c9");
    expect(of(true, true, false)).toBe("31db");
    expect(of(false, false, false)).toBe("cccc");
  });

  it("on arm64 has its branches moved, but for those within", () => {
    const of = (code: string) => hexBytes(patchArm64(siteOf(8, { code }), bytesOf("0".repeat(16)), [true]));
    // b .+4, within; b .+0x20, cbz x0 .+0x20 and tbz x0,#0 .+0x20, out of it: 0x100 further from the site.
    expect(of("010000141f2003d5")).toBe("010000141f2003d5");
    expect(of("080000141f2003d5")).toBe("480000141f2003d5");
    expect(of("000100b41f2003d5")).toBe("000900b41f2003d5");
    expect(of("000100361f2003d5")).toBe("000900361f2003d5");
  });
});

describe("the NOPs of kernels", () => {
  it("depend on the processor up to 5.12", () => {
    const of = (vendor: string, family: number, model: number, width: 32 | 64, release = 5010) =>
      nopsOfCpu({ name: "", machine: "x86", flags: new Set(), booted: false, vendor, family, model }, width, release);
    const intel = (model: number) => of("GenuineIntel", 6, model, 64);
    expect([0x0e, 0x0f, 0x1c, 0x26, 0x27, 0x2f, 0x30].map(intel)).toEqual(["p6", "k8", "p6", "p6", "p6", "k8", "p6"]);
    expect([of("GenuineIntel", 6, 0x1a, 32), of("GenuineIntel", 6, 8, 32)]).toEqual(["k8", "generic"]);
    const amd = (family: number, width: 32 | 64) => of("AuthenticAMD", family, 1, width);
    expect([5, 6, 15, 16].map((family) => amd(family, 32))).toEqual(["generic", "k7", "k8", "p6"]);
    expect([amd(15, 64), of("AuthenticAMD", 16, 1, 64, 4000)]).toEqual(["k8", "k8"]);
    expect([of("HygonGenuine", 24, 0, 64, 4020), of("HygonGenuine", 24, 0, 64, 4019)]).toEqual(["p6", "k8"]);
    expect([of("CentaurHauls", 6, 15, 64), of("CentaurHauls", 6, 15, 32)]).toEqual(["k8", "generic"]);
  });

  it.each([
    ["generic", "90 89f6 8d7600 8d742600 908d742600 8db600000000 8db42600000000 908db42600000000"],
    ["k8", "90 6690 666690 66666690 6666906690 666690666690 66666690666690 6666669066666690"],
    ["k7", "90 8bc0 8d0420 8d442000 8d44200090 8d8000000000 8d040500000000 8d04050000000090"],
    ["p6", "90 6690 0f1f00 0f1f4000 0f1f440000 660f1f440000 0f1f8000000000 0f1f840000000000"],
    ["32-bit", "90 89f6 8d7600 8d742600 3e8d742600 8db600000000 8db42600000000 3e8db42600000000"],
    ["64-bit", "90 6690 0f1f00 0f1f4000 0f1f440000 660f1f440000 0f1f8000000000 0f1f840000000000"],
  ] as const)("are, of %s, those of its source, and do nothing", (name, text) => {
    const found = NOPS[name].bytes.slice(1).map((bytes) => hexBytes(Uint8Array.from(bytes)));
    expect(found.join(" ")).toBe(text);
    for (const bytes of NOPS[name].bytes.slice(1)) expect(siteCode(Uint8Array.from(bytes), "i386")).toBe("nop");
  });

  it("have three longer ones since 6.5", () => {
    const long = NOPS["64-bit, long"].bytes;
    expect(long.slice(0, 9)).toEqual(NOPS["64-bit"].bytes);
    for (const bytes of long.slice(9)) expect(siteCode(Uint8Array.from(bytes), "x86_64")).toBe("nop");
    expect(long.slice(9).map((bytes) => hexBytes(Uint8Array.from(bytes)))).toEqual([
      "2e0f1f840000000000",
      "662e0f1f840000000000",
      "66662e0f1f840000000000",
    ]);
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
