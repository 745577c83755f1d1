import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { buildElf, type SectionPlan } from "../../src/elf/builder.js";
import * as C from "../../src/elf/constants.js";
import type { ElfSymbol } from "../../src/elf/symbol.js";
import { renderDisasm } from "../../src/render/disasm.js";
import { gnuDisassembly } from "../../src/render/gnu/disassembly.js";
import type { ImageTarget } from "../../src/targets/target.js";
import { parseImage, type VdsoFunction } from "../../src/vdso/image.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { disasm } from "../../src/verbs/disasm.js";
import { explain } from "../../src/verbs/explain.js";

const decoder = await decoderFor("x86_64");
if (!decoder) throw new Error("no decoder");

const CODE = {
  name: ".text",
  type: C.SHT_PROGBITS,
  flags: C.SHF_ALLOC | C.SHF_EXECINSTR,
} as const;

/** An image with this code, and other sections behind it. */
function imageOf(code: Uint8Array, ...others: SectionPlan[]): Uint8Array {
  return buildElf({
    class: 64,
    type: C.ET_DYN,
    machine: C.EM_X86_64,
    sections: [{ ...CODE, content: code, align: 16 }, ...others],
    segments: [{ type: C.PT_LOAD, flags: C.PF_R | C.PF_X, covers: ["headers", ".text"] }],
    sectionHeaders: true,
  });
}

/** The image as a target, with functions of a size at these offsets in its code. */
function targetOf(bytes: Uint8Array, offsets: readonly number[], size: number): ImageTarget {
  const image = parseImage(bytes);
  const start = image.elf.section(".text")?.sh_addr ?? 0n;
  const functions = offsets.map(
    (offset, i): VdsoFunction => ({
      name: `function_${i}`,
      aliases: [],
      address: start + BigInt(offset),
      size,
      role: "other",
      symbol: {} as ElfSymbol,
    }),
  );
  const rest = { location: undefined, bias: undefined, notes: [], close: async () => {} };
  return { kind: "image", name: "hostile", image: { ...image, functions }, ...rest };
}

const repeated = (bytes: readonly number[], size: number) =>
  Uint8Array.from({ length: size }, (_, i) => bytes[i % bytes.length] as number);

describe("code made to be followed for ever", () => {
  // je to the next instruction: each is a place where paths meet, and every function reaches all behind it.
  const bytes = imageOf(repeated([0x74, 0x00], 0x4000));
  const target = targetOf(
    bytes,
    Array.from({ length: 2000 }, (_, i) => 2 * i),
    2,
  );

  it("is followed as far as the image's budget goes, and that is said", () => {
    const { functions } = explain(target, decoder);
    expect(functions).toHaveLength(2000);
    expect(functions[0]?.complete).toBe(true);
    expect(functions.at(-1)?.complete).toBe(false);
  }, 20_000);

  it("is disassembled all the same, with as many branches drawn as can be", () => {
    const text = renderDisasm(disasm(target, decoder));
    expect(text).toContain("function_1999");
  }, 20_000);
});

it("functions that overlap beyond reason are refused", () => {
  const offsets = Array.from({ length: 300 }, (_, i) => i);
  const target = targetOf(imageOf(repeated([0x90], 0x4000)), offsets, 0x3000);
  const named = { symbols: offsets.map((i) => `function_${i}`) };
  expect(() => disasm(target, decoder, named)).toThrow(FormatError);
});

it("sections with code that overlap beyond reason are refused", () => {
  const tiny = Array.from({ length: 50 }, (_, i) => ({ ...CODE, name: `.text${i}`, content: new Uint8Array(1) }));
  const bytes = imageOf(repeated([0x90], 0x1000), ...tiny);
  // Each of the small ones is made to lie where the first is, and to be as large: sh_addr, sh_offset, sh_size.
  const shoff = Number(new DataView(bytes.buffer).getBigUint64(40, true));
  for (let i = 2; i < 52; i++) bytes.copyWithin(shoff + i * 64 + 16, shoff + 64 + 16, shoff + 64 + 40);
  const target = targetOf(bytes, [], 0);
  expect(target.image.elf.sections.filter(({ sh_size }) => sh_size === 0x1000)).toHaveLength(51);
  expect(() => disasm(target, decoder)).toThrow(FormatError);
  expect(() => gnuDisassembly(target.image.elf, decoder, { fileName: "x" })).toThrow(FormatError);
});
