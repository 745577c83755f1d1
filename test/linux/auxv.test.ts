import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { Writer } from "../../src/bytes/writer.js";
import { EM_X86_64 } from "../../src/elf/constants.js";
import { AT_HWCAP, auxvTag, auxvWordSize, parseAuxv } from "../../src/linux/auxv.js";
import { hwcapNames } from "../../src/linux/hwcap.js";

/** A vector as the kernel makes it: AT_PHENT is the size of a program header of the process's class. */
function vector(wordSize: 4 | 8, littleEndian: boolean, entries: readonly (readonly [number, bigint])[]): Uint8Array {
  const out = new Writer({ wordSize, littleEndian });
  for (const [tag, value] of entries) out.word(tag).word(value);
  return out.finish();
}

const entries = [
  [33, 0xf7f8f000n],
  [16, 0x178bfbffn],
  [4, 0n],
  [0, 0n],
] as const;

describe.each([4, 8] as const)("an auxiliary vector of %d-byte words", (wordSize) => {
  describe.each([true, false])("little-endian: %s", (littleEndian) => {
    const withPhent = entries.map(([tag, value]) => [tag, tag === 4 ? (wordSize === 8 ? 56n : 32n) : value] as const);
    const bytes = vector(wordSize, littleEndian, withPhent);

    it("tells its own word size", () => {
      expect(auxvWordSize(bytes, littleEndian)).toBe(wordSize);
    });

    it("is read up to AT_NULL", () => {
      const padded = new Uint8Array([...bytes, ...bytes]);
      expect(parseAuxv(padded, { wordSize, littleEndian })).toEqual(
        withPhent.slice(0, -1).map(([tag, value]) => ({ tag, value })),
      );
    });

    it("that is cut short is an error with the offset", () => {
      const cut = bytes.subarray(0, bytes.length - 1 - wordSize);
      expect(() => parseAuxv(cut, { wordSize, littleEndian })).toThrow(FormatError);
    });
  });
});

it("an empty vector has no entries and no word size", () => {
  expect(parseAuxv(new Uint8Array(0), { wordSize: 8, littleEndian: true })).toEqual([]);
  expect(auxvWordSize(new Uint8Array(0), true)).toBeUndefined();
});

it("garbage has no word size", () => {
  expect(auxvWordSize(new Uint8Array(333).fill(0xee), true)).toBeUndefined();
});

it("unknown tags are named by number", () => {
  expect(auxvTag(33).name).toBe("AT_SYSINFO_EHDR");
  expect(auxvTag(0x1234).name).toBe("AT_??? (0x1234)");
});

it("HWCAP bits have the names of /proc/cpuinfo", () => {
  expect(hwcapNames(EM_X86_64, AT_HWCAP, 0x178bfbffn)).toEqual(
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht".split(" "),
  );
  expect(hwcapNames(EM_X86_64, AT_HWCAP, 1n << 10n)).toEqual(["bit 10"]);
  expect(hwcapNames(0xffff, AT_HWCAP, 1n)).toBeUndefined();
});
