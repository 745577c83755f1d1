import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { buildElf } from "../../src/elf/builder.js";
import * as C from "../../src/elf/constants.js";
import type { ElfSymbol } from "../../src/elf/symbol.js";
import { renderDiff } from "../../src/render/diff.js";
import { type ImageTarget, imageTarget, TargetError } from "../../src/targets/target.js";
import { type Allowance, align } from "../../src/vdso/compare/align.js";
import { parseImage, type VdsoFunction } from "../../src/vdso/image.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { diff } from "../../src/verbs/diff.js";
import { imageBytes } from "../support/images.js";

describe("a longest common subsequence", () => {
  const word = fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 30 });

  it("is as long as the table of all prefixes says, in order, of equal items", () => {
    fc.assert(
      fc.property(word, word, (a, b) => {
        const matches = align(a, b, { steps: 1e6 }) ?? [];
        const best = Array.from({ length: a.length + 1 }, () => new Array<number>(b.length + 1).fill(0));
        const at = (i: number, j: number) => best[i]?.[j] ?? 0;
        for (let i = a.length - 1; i >= 0; i--) {
          for (let j = b.length - 1; j >= 0; j--) {
            const row = best[i] as number[];
            row[j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
          }
        }
        expect(matches).toHaveLength(at(0, 0));
        for (const [n, [i, j]] of matches.entries()) {
          expect(a[i]).toBe(b[j]);
          const [before, above] = matches[n - 1] ?? [-1, -1];
          expect(i > before && j > above).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("is given up where it would take too long, out of one allowance", () => {
    const allowance: Allowance = { steps: 100_000 };
    const many = (one: string, other: string) => Array.from({ length: 20_000 }, (_, i) => (i % 2 ? one : other + i));
    expect(align(many("x", "a"), many("x", "b"), allowance)).toBeUndefined();
    expect(allowance.steps).toBeLessThan(0);
    expect(align(["p", "q"], ["q", "p"], allowance)).toBeUndefined();
    expect(align(["p"], ["p"], allowance)).toEqual([[0, 0]]);
  });
});

describe("images that somebody damaged", () => {
  const NAMES = ["686__EPYC__i386", "host618__native__amd64", "arm64__max__arm64"] as const;

  it("are compared or refused, and nothing else", async () => {
    const change = fc.tuple(fc.nat(8191), fc.nat(255));
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...NAMES),
        fc.array(change, { minLength: 1, maxLength: 12 }),
        async (name, changes) => {
          const bytes = imageBytes(name).slice();
          for (const [at, value] of changes) bytes[at % bytes.length] = value;
          try {
            const changed = imageTarget("changed", bytes);
            const result = await diff([imageTarget(name, imageBytes(name))], [changed], { decoderFor });
            renderDiff(result);
          } catch (error) {
            if (!(error instanceof FormatError || error instanceof TargetError)) throw error;
          }
        },
      ),
      { numRuns: 60 },
    );
  }, 30_000);
});

describe("images made to be compared for ever", () => {
  /** An image with functions of this many bytes, one behind the other, all over its code. */
  const image = (code: Uint8Array, size: number): ImageTarget => {
    const bytes = buildElf({
      class: 64,
      type: C.ET_DYN,
      machine: C.EM_X86_64,
      sections: [
        { name: ".text", type: C.SHT_PROGBITS, flags: C.SHF_ALLOC | C.SHF_EXECINSTR, content: code, align: 16 },
      ],
      segments: [{ type: C.PT_LOAD, flags: C.PF_R | C.PF_X, covers: ["headers", ".text"] }],
      sectionHeaders: true,
    });
    const parsed = parseImage(bytes);
    const start = parsed.elf.section(".text")?.sh_addr ?? 0n;
    const functions = Array.from(
      { length: Math.floor(code.length / size) },
      (_, i): VdsoFunction => ({
        name: `function_${i}`,
        aliases: [],
        address: start + BigInt(i * size),
        size,
        role: "other",
        symbol: {} as ElfSymbol,
      }),
    );
    const rest = { location: undefined, bias: undefined, notes: [], close: async () => {} };
    return { kind: "image", name: "hostile", image: { ...parsed, functions }, ...rest };
  };
  const random = (size: number, seed: number) => {
    let state = seed;
    return Uint8Array.from({ length: size }, () => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      // push and pop of any register: one byte each.
      return 0x50 + ((state >>> 16) & 15);
    });
  };

  it("are shown whole where they differ beyond what is worth aligning", async () => {
    const size = 0x8000;
    const result = await diff([image(random(size, 1), size)], [image(random(size, 2), size)], { decoderFor });
    const [one] = result.images[0]?.comparison?.content?.code?.functions ?? [];
    expect(one).toMatchObject({ change: "changed", aligned: false });
    expect(one?.rows).toHaveLength(size);
    expect(renderDiff(result)).toContain("too different to be aligned");
  }, 20_000);

  it("are followed no further than the allowance where each function leads to all others", async () => {
    // jmp to the next function; the last one differs.
    const count = 4000;
    const code = Uint8Array.from({ length: count * 2 }, (_, i) => (i % 2 ? 0 : 0xeb));
    const other = code.slice();
    other.set([0x90, 0xc3], code.length - 2);
    const result = await diff([image(code, 2)], [image(other, 2)], { decoderFor });
    const { functions } = result.images[0]?.summary ?? {};
    expect(functions).toMatchObject({ total: count, changed: 1 });
    expect(functions?.affected).toBeGreaterThan(100);
    renderDiff(result);
  }, 20_000);
});
