import { describe, expect, it } from "vitest";
import { Reader } from "../../src/bytes/reader.js";
import { Writer } from "../../src/bytes/writer.js";
import { ElfFile } from "../../src/elf/file.js";
import { gnuHash, readGnuHash, readSysvHash, sysvHash } from "../../src/elf/hash.js";
import { imageBytes, imageNames } from "../support/images.js";

describe("the hashes of names", () => {
  it.each([
    ["", 0, 0x00001505],
    ["printf", 0x077905a6, 0x156b2bb8],
    ["exit", 0x0006cf04, 0x7c967e3f],
    ["syscall", 0x0b09985c, 0xbac212a0],
    ["LINUX_2.6", 0x03ae75f6, 0x26c62a8a],
    ["__kernel_clock_gettime", 0x0b0cd725, 0xdfa941fd],
    // Bytes, not characters, and enough of them for every bit to be shifted out.
    ["\u00ff".repeat(20), 0x000010ef, 0x8bace5b1],
  ])("of %j are known", (name, sysv, gnu) => {
    expect(sysvHash(name)).toBe(sysv);
    expect(gnuHash(name)).toBe(gnu);
  });

  it.each(imageNames)("of the versions of %s are those that the linker wrote", (name) => {
    const definitions = new ElfFile(imageBytes(name)).versionDefinitions;
    expect(definitions.length).toBeGreaterThan(1);
    for (const { name, vd_hash } of definitions) expect(vd_hash).toBe(sysvHash(name));
  });
});

/** Reads a table of 32-bit words. */
function words(...values: number[]): Reader {
  const out = new Writer();
  for (const value of values) out.u32(value);
  return new Reader(out.finish(), { what: "hash table" });
}

describe("a hash table that somebody made up", () => {
  it("with a chain that goes round is refused", () => {
    // One bucket, three symbols: 1 leads to 2 and back.
    const table = readSysvHash(words(1, 3, 1, 0, 2, 1));
    expect(() => [...table.candidates("any")]).toThrow("a hash chain does not end");
  });

  it("with a chain that leaves the table is refused", () => {
    const table = readSysvHash(words(1, 3, 1, 0, 7, 0));
    expect(() => [...table.candidates("any")]).toThrow("a hash chain does not end");
  });

  it("with more buckets than bytes is refused before any are read", () => {
    expect(() => readSysvHash(words(0xffffffff, 0xffffffff, 0))).toThrow("end past the last");
    expect(() => readGnuHash(words(0xffffffff, 1, 0xffffffff, 5, 0))).toThrow("end past the last");
  });

  it("without buckets has no candidates", () => {
    expect([...readSysvHash(words(0, 3, 0, 0, 0)).candidates("any")]).toEqual([]);
    expect([...readGnuHash(words(0, 3, 0, 0)).candidates("any")]).toEqual([]);
  });

  it("of the GNU kind, whose last chain does not end, is refused", () => {
    // One bucket at symbol 1, one 64-bit Bloom word that lets all through, chain words without an end.
    expect(() => readGnuHash(words(1, 1, 1, 0, 0xffffffff, 0xffffffff, 1, 2, 4, 6))).toThrow("end past the last");
  });

  it("of the GNU kind counts the symbols up to the end of its last chain", () => {
    expect(readGnuHash(words(1, 1, 1, 0, 0, 0, 1, 2, 4, 7)).symbolCount).toBe(4);
    expect(readGnuHash(words(1, 5, 1, 0, 0, 0, 0)).symbolCount).toBe(5);
  });
});
