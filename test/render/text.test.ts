import { describe, expect, it } from "vitest";
import { parseMaps } from "../../src/linux/maps.js";
import { addressBars, barText } from "../../src/render/address-map.js";
import { renderAuxv } from "../../src/render/auxv.js";
import { renderDisasm } from "../../src/render/disasm.js";
import { renderExplain, wrap } from "../../src/render/explain.js";
import { lddProblems, lddText, lddTree } from "../../src/render/ldd.js";
import { renderReport } from "../../src/render/report.js";
import { terminalStyle } from "../../src/render/style.js";
import { renderSymbols } from "../../src/render/symbols.js";
import { humanSize, table } from "../../src/render/table.js";
import { visible } from "../../src/render/visible.js";
import { resolveTarget } from "../../src/targets/resolve.js";
import { imageTarget } from "../../src/targets/target.js";
import { locateVdso } from "../../src/vdso/locate.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { disasm } from "../../src/verbs/disasm.js";
import { explain } from "../../src/verbs/explain.js";
import { report } from "../../src/verbs/report.js";
import { symbols } from "../../src/verbs/symbols.js";
import { articleImage } from "../support/article-image.js";
import { imageBytes } from "../support/images.js";

describe("tables", () => {
  it("align columns, to the right where asked, and pad no last column", () => {
    expect(
      table(
        [
          ["a", "1", "x"],
          ["bbb", "22", ""],
        ],
        { right: [1] },
      ),
    ).toBe("a     1  x\nbbb  22\n");
  });

  it("align coloured cells by their text", () => {
    const plain = table([
      [{ text: "a", style: "bold" }, "x"],
      ["bbb", "y"],
    ]);
    const coloured = table(
      [
        [{ text: "a", style: "bold" }, "x"],
        ["bbb", "y"],
      ],
      { style: terminalStyle },
    );
    expect(coloured.replace(/\p{Cc}\[\d+m/gu, "")).toBe(plain);
    expect(coloured).not.toBe(plain);
  });

  it("say sizes as people do", () => {
    expect([0, 1023, 8192, 1536, 3 << 20].map(humanSize)).toEqual([
      "0 bytes",
      "1023 bytes",
      "8 KiB",
      "1.5 KiB",
      "3 MiB",
    ]);
    expect(humanSize(1n << 47n)).toBe("128 TiB");
  });

  it("wrap prose between words, behind an indent", () => {
    expect(wrap("one two three", "  ", 9)).toBe("  one two\n  three\n");
  });
});

describe("what a terminal would obey", () => {
  const evil = "a\nb\u001b[2J\u007f\u009b\u202e\u2028z";
  const written = "a\\x0ab\\x1b[2J\\x7f\\x9b\\u{202e}\\u{2028}z";

  it("is written out, and nothing else is touched", () => {
    expect(visible(evil)).toBe(written);
    expect(visible(written)).toBe(written);
    expect(visible("naïve 時計 👩‍💻 \u00a0\ufffd")).toBe("naïve 時計 👩‍💻 \u00a0\ufffd");
  });

  it("is written out in cells, before they are aligned and coloured", () => {
    expect(table([[evil, "x"]])).toBe(`${written}  x\n`);
    expect(table([[{ text: evil, style: "bold" }, "x"]], { style: terminalStyle })).toBe(
      `\u001b[1m${written}\u001b[22m  x\n`,
    );
  });

  it("is written out in prose", () => {
    expect(wrap(`one ${evil}`)).toBe(`one ${written}\n`);
  });

  it("is written out in what a report says of a target", () => {
    const missing = [{ what: "maps", why: evil }] as const;
    const host = { system: evil, architecture: evil };
    const text = renderReport({ host, parts: [{ target: evil, problem: evil, missing, notes: [evil] }] });
    expect(text.split(written)).toHaveLength(7);
    expect(text).not.toMatch(/[^\P{Cc}\n]|\p{Bidi_Control}/u);
  });

  it("is written out in names of programs and libraries", () => {
    const objects = [
      { name: `1${evil}`, kind: "virtual", neededBy: [] },
      { name: `2${evil}`, kind: "missing", neededBy: [evil] },
      { name: `3${evil}`, path: evil, kind: "library", neededBy: [evil], error: evil },
      { name: "x", path: evil, kind: "library", neededBy: [evil] },
    ] as const;
    const problems = [{ message: evil, fatal: false }];
    const program = { program: evil, kind: "dynamic", objects, problems, status: 0 } as const;
    for (const text of [lddText([program, program]), lddTree([program, program])]) {
      expect(text.split(written)).toHaveLength(2 * (1 + 6) + 1);
      expect(text).not.toMatch(/[^\P{Cc}\n\t]|\p{Bidi_Control}/u);
    }
    expect(lddProblems([program])).toEqual([written]);
  });

  it("is written out in strings of the auxiliary vector", () => {
    const entry = { tag: 31, name: "AT_EXECFN", kind: "string", meaning: "file name", value: 1n, text: evil } as const;
    const text = renderAuxv({ target: "self", pid: 1, wordSize: 8, entries: [entry], notes: [] });
    expect(text).toMatch(/file name: "a\\nb\\u001b\[2J\\x7f\\x9b\\u\{202e\}\\u\{2028\}z"\n$/);
  });
});

describe("the map of the address space", () => {
  const maps = parseMaps(
    [
      "08048000-08049000 r-xp 00000000 00:00 0 /x",
      "f7f4a000-f7f4e000 r--p 00000000 00:00 0 [vvar]",
      "f7f4e000-f7f50000 r-xp 00000000 00:00 0 [vdso]",
      "ffb60000-ffb81000 rw-p 00000000 00:00 0 [stack]",
      "",
    ].join("\n"),
  );
  const location = locateVdso([{ tag: 33, value: 0xf7f4e000n }], maps);
  if (!location) throw new Error("not located");
  const [whole, near] = addressBars(maps, location);

  it("is to scale", () => {
    expect([whole?.start, whole?.end]).toEqual([0n, 1n << 32n]);
    const vdso = whole?.regions.find(({ kind }) => kind === "vdso");
    expect(vdso?.from).toBeCloseTo(0xf7f4e000 / 2 ** 32, 5);
    const zoomed = near?.regions.find(({ kind }) => kind === "vdso");
    const span = Number((near?.end ?? 0n) - (near?.start ?? 0n));
    expect((zoomed?.to ?? 0) - (zoomed?.from ?? 0)).toBeCloseTo(0x2000 / span, 5);
  });

  it("is drawn in marks, none of which is lost for being narrow", () => {
    const text = barText(whole as NonNullable<typeof whole>, 72);
    expect(text).toHaveLength(72);
    expect(text.indexOf("█")).toBe(Math.floor((0xf7f4e000 / 2 ** 32) * 72));
    expect(text).toMatch(/^·+▒·+█·▒$/);
  });

  it("does not leave the address space where the vDSO is at its very end", () => {
    const old = parseMaps("ffffe000-fffff000 ---p 00000000 00:00 0 [vdso]\n");
    const place = locateVdso([{ tag: 33, value: 0xffffe000n }], old);
    for (const bar of addressBars(old, place as NonNullable<typeof place>)) {
      expect(bar.start).toBeGreaterThanOrEqual(0n);
      expect(bar.end).toBeLessThanOrEqual(1n << 32n);
      expect(barText(bar, 40)).toContain("█");
    }
  });
});

describe("the annotated disassembly", () => {
  const decode = async (name: string, wanted: string) => {
    const target = imageTarget(name, imageBytes(name));
    const decoder = await decoderFor(target.image.abi);
    if (!decoder) throw new Error("no decoder");
    return renderDisasm(disasm(target, decoder, { symbols: [wanted] }));
  };

  it("draws a branch from its line to its destination", async () => {
    const text = await decode("host618__native__i386", "__vdso_getcpu");
    expect(text.split("\n").filter((line) => /[╭│╰]/.test(line))).toHaveLength(9);
    expect(text).toMatch(/╭── +je +18f1 <__vdso_getcpu\+0x21>/);
    expect(text).toMatch(/^18f1 .*╰─▶ +test +%edx,%edx$/m);
  });

  it("says what is read of the kernel's data", async () => {
    const text = await decode("host618__native__amd64", "__vdso_getrandom");
    expect(text).toMatch(/; random-number state$/m);
  });

  it("covers all code where no function is named, code without a name too", async () => {
    const target = imageTarget("x", imageBytes("host618__native__amd64"));
    const decoder = await decoderFor("x86_64");
    if (!decoder) throw new Error("no decoder");
    const { blocks } = disasm(target, decoder);
    expect(blocks.flatMap(({ names }) => names)).toContain("__vdso_clock_gettime");
    expect(blocks.some(({ names }) => names.length === 0)).toBe(true);
    const bytes = blocks
      .flatMap(({ lines }) => lines)
      .reduce((sum, { instruction }) => sum + instruction.bytes.length, 0);
    expect(bytes).toBe(0xcdc + 0x2c);
  });
});

describe("the article's own image", () => {
  const target = imageTarget("linux-gate.dso", articleImage());

  it("is explained as the article wondered: the jump is for restarts", async () => {
    const text = renderExplain(explain(target, await decoderFor("i386")));
    expect(text).toMatch(/ffffe405 +0f 34 +sysenter +ENTERS THE KERNEL/);
    expect(text).toMatch(/ffffe40e +eb f3 +jmp +0xffffe403 +restart: the kernel steps back 2 bytes/);
    expect(text).toMatch(/The jump behind it is not run on the way in/);
  });

  it("has its symbols in the table", () => {
    expect(renderSymbols(symbols(target))).toMatch(
      /^ffffe400 +20 +T +FUNC +GLOBAL +\.text +LINUX_2\.5 +__kernel_vsyscall$/m,
    );
  });
});

it("the report of this process has every step of the article", async () => {
  const target = await resolveTarget("x86_64");
  try {
    const part = await report(target, ({ abi }) => decoderFor(abi));
    const text = renderReport({ parts: [part] });
    for (const step of [
      /^ +ldd +linux-vdso\.so\.1 \(0x[0-9a-f]+\): no file, the kernel maps it$/m,
      /^ +maps +[0-9a-f]{12}-[0-9a-f]{12} r--p \[vvar\] +\d+ KiB$/m,
      / r-xp \[vdso\] +\d+ KiB$/m,
      /^ +auxv +AT_SYSINFO_EHDR 0x[0-9a-f]+: its ELF header$/m,
      /^ +file +ELF 64-bit LSB shared object, x86-64/m,
      /^ +build-id +[0-9a-f]{40}$/m,
      /^ +kernel +\d+\.\d+\.\d+ \(note "Linux"\)$/m,
      /LINUX_2\.6 +__vdso_clock_gettime \(clock_gettime\)/,
      /There is no entry to call/,
      /the whole address space, \d+ TiB/,
    ]) {
      expect(text).toMatch(step);
    }
  } finally {
    await target.close();
  }
});
