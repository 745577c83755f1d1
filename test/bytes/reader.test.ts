import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { hex, hexBytes, paddedHex } from "../../src/bytes/hex.js";
import { Reader } from "../../src/bytes/reader.js";
import { Writer } from "../../src/bytes/writer.js";

const bytes = Uint8Array.of(0x81, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x88, 0x09);

describe("Reader", () => {
  it("reads numbers in either byte order", () => {
    const little = new Reader(bytes);
    const big = new Reader(bytes, { littleEndian: false });
    expect(little.u8At(0)).toBe(0x81);
    expect([little.u16At(0), big.u16At(0)]).toEqual([0x0281, 0x8102]);
    expect([little.u32At(0), big.u32At(0)]).toEqual([0x04030281, 0x81020304]);
    expect([little.i32At(4), big.i32At(0)]).toEqual([-0x77f8f9fb, -0x7efdfcfc]);
    expect([little.u64At(0), big.u64At(0)]).toEqual([0x8807060504030281n, 0x8102030405060788n]);
    expect([little.i64At(0), big.i64At(1)]).toEqual([-0x77f8f9fafbfcfd7fn, 0x0203040506078809n]);
  });

  it("reads words of the size that it was made for", () => {
    expect(new Reader(bytes, { wordSize: 4 }).wordAt(0)).toBe(0x04030281n);
    expect(new Reader(bytes).wordAt(0)).toBe(0x8807060504030281n);
    expect(new Reader(bytes, { wordSize: 4 }).sizeAt(1)).toBe(0x05040302);
  });

  it("refuses a size that no file has", () => {
    expect(() => new Reader(bytes).sizeAt(0)).toThrow("a size or offset of 0x8807060504030281 is beyond any file");
    expect(new Reader(Uint8Array.of(255, 255, 255, 255, 255, 255, 31, 0)).sizeAt(0)).toBe(Number.MAX_SAFE_INTEGER);
  });

  it.each([
    ["before the start", -1, 1],
    ["past the end", 9, 1],
    ["across the end", 8, 2],
    ["of a size below zero", 1, -1],
    ["of half a byte", 0, 0.5],
    ["at no number", Number.NaN, 1],
    ["at infinity", Number.POSITIVE_INFINITY, 0],
    ["beyond safe integers", 2 ** 53, 0],
  ])("throws FormatError for bytes %s", (_, offset, size) => {
    expect(() => new Reader(bytes).bytesAt(offset, size)).toThrow(FormatError);
    expect(() => new Reader(bytes).slice(offset, size)).toThrow(FormatError);
  });

  it("gives no bytes at the very end, which is inside", () => {
    expect(new Reader(bytes).bytesAt(9, 0).length).toBe(0);
  });

  it("names what it reads, the place in the whole and the value", () => {
    const inner = new Reader(bytes, { what: "file", origin: 0x100 }).slice(4, 3, "table");
    let error: unknown;
    try {
      inner.u32At(1);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(FormatError);
    expect(error).toMatchObject({
      name: "FormatError",
      offset: 0x105,
      value: 4,
      message: "Cannot read table: 4 bytes at 0x1 end past the last of 3 bytes (at offset 0x105)",
    });
    expect(inner.named("other").what).toBe("other");
    expect(inner.named("other").origin).toBe(0x104);
  });

  it("reads strings of one byte a character up to a NUL, and refuses one without", () => {
    const every = Uint8Array.from({ length: 256 }, (_, i) => (i + 1) & 0xff);
    const text = new Reader(every).cstringAt(0);
    // windows-1252 would have other characters for 0x80 to 0x9f.
    expect([...text].map((c) => c.charCodeAt(0))).toEqual([...every.subarray(0, 255)]);
    expect(() => new Reader(bytes).cstringAt(0)).toThrow("a string has no end");
    expect(() => new Reader(bytes).cstringAt(9)).toThrow(FormatError);
    expect(new Reader(Uint8Array.of(0)).cstringAt(0)).toBe("");
  });

  it("reads a string of a million characters", () => {
    const long = new Uint8Array(1_000_001).fill(0x61, 0, 1_000_000);
    expect(new Reader(long).cstringAt(0).length).toBe(1_000_000);
  });

  it("reads a view that does not start where its buffer does", () => {
    expect(new Reader(bytes.subarray(1)).u8At(0)).toBe(2);
    expect(new Reader(bytes.subarray(1)).bytesAt(1, 2)).toEqual(Uint8Array.of(3, 4));
  });
});

describe("Writer", () => {
  it.each([true, false])("writes what Reader reads (little-endian: %s)", (littleEndian) => {
    for (const wordSize of [4, 8] as const) {
      const out = new Writer({ littleEndian, wordSize });
      out.u8(0xfe).u16(0xfedc).u32(0xfedcba98).u64(0xfedcba9876543210n).word(0x12345678n).word(-2).cstring("n\u00e9");
      const reader = new Reader(out.finish(), { littleEndian, wordSize });
      expect(reader.u8At(0)).toBe(0xfe);
      expect(reader.u16At(1)).toBe(0xfedc);
      expect(reader.u32At(3)).toBe(0xfedcba98);
      expect(reader.u64At(7)).toBe(0xfedcba9876543210n);
      expect(reader.wordAt(15)).toBe(0x12345678n);
      expect(reader.wordAt(15 + wordSize)).toBe(BigInt.asUintN(8 * wordSize, -2n));
      expect(reader.cstringAt(15 + 2 * wordSize)).toBe("n\u00e9");
    }
  });

  it("pads with zeros, forwards only", () => {
    const out = new Writer().u8(1).align(4).u8(2).padTo(6);
    expect(out.finish()).toEqual(Uint8Array.of(1, 0, 0, 0, 2, 0));
    expect(out.align(3).length).toBe(6);
    expect(() => out.padTo(5)).toThrow("cannot pad to 5: 6 bytes are written");
  });

  it("grows to any size, and gives copies", () => {
    const out = new Writer().raw(new Uint8Array(5000).fill(7));
    const first = out.finish();
    first[0] = 1;
    expect(out.finish()[0]).toBe(7);
    expect(out.u8(3).finish().length).toBe(5001);
  });
});

describe("hex", () => {
  it("writes numbers and bytes in lower case", () => {
    expect([hex(0), hex(255), hex(-255n), hex(0xffffffffff600000n)]).toEqual([
      "0x0",
      "0xff",
      "-0xff",
      "0xffffffffff600000",
    ]);
    expect(paddedHex(0xabn, 8)).toBe("000000ab");
    expect(hexBytes(Uint8Array.of(0, 1, 0xab))).toBe("0001ab");
    expect(hexBytes(Uint8Array.of(0, 1, 0xab), " ")).toBe("00 01 ab");
    expect(hexBytes(new Uint8Array(0))).toBe("");
  });
});
