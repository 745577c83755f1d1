import { describe, expect, it } from "vitest";
import { renderDiff } from "../../src/render/diff.js";
import { terminalStyle } from "../../src/render/style.js";
import { imageTarget } from "../../src/targets/target.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { diff } from "../../src/verbs/diff.js";
import { imageBytes } from "../support/images.js";

const target = (name: string, as = name) => imageTarget(as, imageBytes(name));
const compare = (a: string, b: string, abiOnly = false) => diff([target(a)], [target(b)], { abiOnly, decoderFor });
const OLD = "amd64__amd64__embedded";
const NEW = "host618__native__amd64";

/** The lines below the name of a function. */
function partOf(text: string, name: string): string[] {
  const lines = text.split("\n");
  const start = lines.findIndex((line) => line === name || line.startsWith(`${name} (`));
  return lines.slice(start + 1, lines.indexOf("", start));
}

describe("the answer", () => {
  const sentence = (text: string) => text.split("\n").slice(2).join(" ").split("  what a C library sees")[0]?.trim();

  it.each([
    [OLD, OLD, "Both are the same image, byte for byte."],
    [OLD, "amd64__EPYC__amd64", "Both are the same image: only what boot put in 3 places differs."],
    [
      "686__i386__embedded",
      "amd64__i386__embedded",
      "The code of 6 of 8 functions changed; a C library would notice nothing.",
    ],
    [
      OLD,
      NEW,
      "The code of 5 of 6 functions changed, 1 is gone and 1 is new; a C library would notice that __vdso_getrandom and getrandom are new and __vdso_sgx_enter_enclave is gone.",
    ],
    [
      OLD,
      "arm64__arm64__embedded",
      "The images are of different ABIs, x86_64 and aarch64: no program could use one in place of the other, and their code has nothing in common.",
    ],
  ])("for %s and %s", async (a, b, answer) => {
    expect(sentence(renderDiff(await compare(a, b)))).toBe(answer);
  });

  it("is a warning where a byte was changed that boot leaves alone", async () => {
    const bytes = imageBytes(OLD).slice();
    bytes[0x945] = 0xcc;
    const text = renderDiff(await diff([target(OLD)], [imageTarget("changed", bytes)], { decoderFor }));
    expect(text).toMatch(/^WARNING: both say that they are the same build, but 1 byte differs/m);
    expect(text).toMatch(/^ {2}0x945-0x946 +1 byte +not what boot puts there$/m);
  });

  /** The image as another build of it: with another build-id, and these bytes changed. */
  const rebuilt = (name: string, offsets: readonly number[] = []) => {
    const bytes = imageBytes(name).slice();
    const id = Buffer.from(target(name).image.buildId as string, "hex");
    for (const at of [Buffer.from(bytes).indexOf(id), ...offsets]) bytes[at] = (bytes[at] as number) ^ 1;
    return imageTarget("rebuilt", bytes);
  };
  const answer = async (name: string, offsets: readonly number[] = []) =>
    sentence(renderDiff(await diff([target(name)], [rebuilt(name, offsets)], { decoderFor })));

  it("says where only notes or data differ between two builds", async () => {
    const nothing = "; a C library would notice nothing.";
    expect(await answer(OLD)).toBe(`The code is the same, and beside it only notes differ, as the build-id${nothing}`);
    const rules = target(OLD).image.elf.section(".eh_frame")?.sh_offset as number;
    expect(await answer(OLD, [rules + 40])).toBe(`The code is the same; the data in .eh_frame differs${nothing}`);
  });

  it("says of code that is not decoded no more than its bytes tell", async () => {
    const name = "arm64__arm64__embedded";
    const { image } = target(name);
    const { address } = image.functions.find((one) => one.name === "__kernel_gettimeofday") as { address: bigint };
    expect(await answer(name, [Number(address - image.linkBase)])).toMatch(
      /^The bytes of 1 of \d functions differ, which may only be where things lie; a C library would notice nothing\.$/,
    );
  });

  it("says what it means that something is gone", async () => {
    const name = "686__i386__embedded";
    const bytes = imageBytes(name).slice();
    const at = Buffer.from(bytes).indexOf("__kernel_vsyscall\0");
    bytes.set(Buffer.from("x"), at);
    const changed = imageTarget("changed", bytes);
    const text = renderDiff(await diff([target(name)], [changed], { abiOnly: true, decoderFor }));
    expect(text).toMatch(/Without __kernel_vsyscall, C libraries of i386 enter the kernel by int \$0x80\./);
    expect(text).not.toContain("\ncode\n");
    expect(renderDiff(await compare(NEW, OLD, true))).toContain(
      "Without __vdso_getrandom and getrandom, callers make the system call.",
    );
  });
});

describe("code side by side", () => {
  it("keeps to the width, with a mark between the columns", async () => {
    const text = renderDiff(await compare(OLD, NEW), { width: 110 });
    const lines = partOf(text, "__vdso_time");
    expect(lines.length).toBeGreaterThan(5);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(110);
    const middle = lines.filter((line) => !line.startsWith("  …")).map((line) => line.slice(2 + 52, 2 + 52 + 3));
    expect(middle.every((mark) => /^( [ |<>*] ?)?$/.test(mark))).toBe(true);
  });

  it("counts the instructions that it leaves out", async () => {
    const result = await compare(OLD, NEW);
    const one = result.images[0]?.comparison?.content?.code?.functions.find(
      ({ name }) => name === "__vdso_clock_gettime",
    );
    const lines = partOf(renderDiff(result), "__vdso_clock_gettime");
    const count = lines.reduce((sum, line) => sum + Number(/… (\d+) instructions? the same/.exec(line)?.[1] ?? 1), 0);
    expect(count).toBe(one?.rows.length);
  });

  it("names a branch by where it leads, and marks one that leads elsewhere", async () => {
    const lines = partOf(
      renderDiff(await compare("686__i386__embedded", "amd64__i386__embedded")),
      "__kernel_vsyscall",
    );
    expect(lines[3]).toMatch(/nop +\[boot: mov %esp,%ebp; sysenter\] +\| +553 +nop +\[boot: mov %esp,%ebp; sysenter/);
  });

  it("stands one under the other where there is no room, with every instruction of both", async () => {
    const result = await compare(OLD, NEW);
    const lines = partOf(renderDiff(result, { width: 80 }), "__vdso_getcpu");
    const one = result.images[0]?.comparison?.content?.code?.functions.find(({ name }) => name === "__vdso_getcpu");
    const addresses = (mark: RegExp) =>
      lines.filter((line) => mark.test(line)).map((line) => BigInt(`0x${line.slice(2).trim().split(" ")[0]}`));
    const changed = one?.rows.filter(({ change }) => change !== "same" && change !== "boot") ?? [];
    expect(addresses(/^-/)).toEqual(changed.flatMap(({ a }) => a?.address ?? []));
    expect(addresses(/^\+/)).toEqual(changed.flatMap(({ b }) => b?.address ?? []));
  });
});

it("colour adds nothing but colour", async () => {
  const result = await compare("amd64__Nehalem__i386", "host618__native__i386");
  for (const width of [80, 130]) {
    const coloured = renderDiff(result, { width, style: terminalStyle });
    expect(coloured).not.toBe(renderDiff(result, { width }));
    expect(coloured.replace(/\p{Cc}\[\d+m/gu, "")).toBe(renderDiff(result, { width }));
  }
});

it("what a terminal would obey is written out", async () => {
  const bytes = imageBytes(NEW).slice();
  const at = Buffer.from(bytes).indexOf("__vdso_time\0", 0, "latin1");
  bytes.set([0x1b, 0x5b, 0x32, 0x4a], at + 7);
  const evil = imageTarget("a\u001b[2J", bytes);
  const text = renderDiff(await diff([target(OLD)], [evil], { decoderFor }));
  expect(text).toContain("__vdso_\\x1b[2J");
  expect(text).not.toMatch(/[^\P{Cc}\n]/u);
});
