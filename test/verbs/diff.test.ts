import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import * as C from "../../src/elf/constants.js";
import { type ImageTarget, imageTarget } from "../../src/targets/target.js";
import type { FunctionComparison } from "../../src/vdso/compare/code.js";
import { isNop } from "../../src/vdso/gate.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { type DiffResult, diff } from "../../src/verbs/diff.js";
import { imageBytes, imageNames, imagePath } from "../support/images.js";
import { needs, output } from "../support/referee.js";

const target = (name: string) => imageTarget(name, imageBytes(name));
const compare = (a: ImageTarget, b: ImageTarget) => diff([a], [b], { decoderFor });
const neverDecodes = { decoderFor: () => Promise.reject(new Error("asked for a decoder")) };

function functionsOf({ images }: DiffResult): readonly FunctionComparison[] {
  return images[0]?.comparison?.content?.code?.functions ?? [];
}

const PAIRS = [
  ["686__i386__embedded", "amd64__i386__embedded"],
  ["amd64__i386__embedded", "host618__native__i386"],
  ["amd64__amd64__embedded", "host618__native__amd64"],
  ["686__EPYC__i386", "host618__native__i386"],
] as const;

describe.skipIf(!needs("nm", "binutils"))("the ABI", () => {
  /** `T __vdso_time@@LINUX_2.6`, as nm lists it. */
  const listed = (name: string) =>
    new Set(
      output("nm", "-D", "--defined-only", "--with-symbol-versions", imagePath(name))
        .split("\n")
        .filter((line) => line !== "" && !/ A LINUX_/.test(line))
        .map((line) => line.replace(/^[0-9a-f]+ /, "")),
    );
  const LETTERS: Readonly<Record<number, string>> = { [C.STB_GLOBAL]: "T", [C.STB_WEAK]: "W" };

  it.each([...PAIRS, ["arm64__arm64__embedded", "arm64__arm32__embedded"]] as const)(
    "of %s and %s differs as nm -D says",
    async (a, b) => {
      const { images } = await diff([target(a)], [target(b)], { abiOnly: true, ...neverDecodes });
      const abi = images[0]?.comparison?.abi;
      const [inA, inB] = [listed(a), listed(b)];
      const written = (side: "a" | "b") =>
        abi?.symbols
          .flatMap((one) => one[side] ?? [])
          .map(({ name, version, bind }) => `${LETTERS[bind]} ${name}@@${version}`)
          .sort();
      expect(written("a")).toEqual([...inA].filter((one) => !inB.has(one)).sort());
      expect(written("b")).toEqual([...inB].filter((one) => !inA.has(one)).sort());
      expect(abi?.unchanged).toBe([...inA].filter((one) => inB.has(one)).length);
    },
  );

  it("has the sizes of functions that readelf shows, and counts them as no difference", async () => {
    const result = await diff([target("686__i386__embedded")], [target("amd64__i386__embedded")], {
      abiOnly: true,
      ...neverDecodes,
    });
    expect(result.different).toBe(false);
    const sizes = (name: string) =>
      new Map(
        output("readelf", "--dyn-syms", "--wide", imagePath(name))
          .split("\n")
          .map((line) => line.trim().split(/\s+/))
          .filter(([index]) => /^\d+:$/.test(index ?? ""))
          .map(([, , size, , , , , symbol]) => [symbol?.replace(/@.*/, ""), BigInt(size ?? 0)] as const),
      );
    const [a, b] = [sizes("686__i386__embedded"), sizes("amd64__i386__embedded")];
    const found = result.images[0]?.comparison?.abi.sizes ?? [];
    expect(found.length).toBeGreaterThan(3);
    for (const one of found) expect([one.a, one.b]).toEqual([a.get(one.name), b.get(one.name)]);
  });
});

describe("what a C library relies on", () => {
  const name = "amd64__amd64__embedded";

  /** The image with one dynamic entry turned into a harmless one (DT_DEBUG). */
  const without = (tag: bigint) => {
    const bytes = imageBytes(name).slice();
    const dynamic = target(name).image.elf.section(".dynamic");
    const view = new DataView(bytes.buffer);
    const start = dynamic?.sh_offset ?? 0;
    for (let at = start; at < start + (dynamic?.sh_size ?? 0); at += 16) {
      if (view.getBigUint64(at, true) === tag) view.setBigUint64(at, 21n, true);
    }
    return imageTarget("changed", bytes);
  };

  it.each([
    ["DT_HASH", 4n, "hash table"],
    ["DT_GNU_HASH", 0x6ffffef5n, "hash table"],
  ] as const)("is seen to miss %s", async (value, tag, aspect) => {
    const result = await diff([target(name)], [without(tag)], { abiOnly: true, ...neverDecodes });
    expect(result.different).toBe(true);
    expect(result.images[0]?.comparison?.abi.aspects).toEqual([{ aspect, change: "removed", value }]);
  });

  it("is seen to have another version, of one name and of all that have it", async () => {
    const bytes = imageBytes(name).slice();
    const at = Buffer.from(bytes).indexOf("LINUX_2.6\0", 0, "latin1");
    bytes[at + 8] = "7".charCodeAt(0);
    const result = await diff([target(name)], [imageTarget("changed", bytes)], { abiOnly: true, ...neverDecodes });
    const abi = result.images[0]?.comparison?.abi;
    expect(abi?.symbols.map(({ change, fields }) => [change, ...fields])).toEqual(
      Array.from({ length: 11 }, () => ["changed", "version"]),
    );
    expect(abi?.aspects).toContainEqual({ aspect: "version definition", change: "added", value: "LINUX_2.7" });
  });
});

describe("two copies of one build", () => {
  it.each(imageNames.filter((name) => /^(686|amd64|arm64)__(?!.*embedded)/.test(name)))(
    "%s is the image of its kernel, but for what boot put there",
    async (name) => {
      const [kernel, , abi] = name.split("__");
      const result = await compare(target(`${kernel}__${abi}__embedded`), target(name));
      const [image] = result.images;
      expect(image?.summary).toMatchObject({ different: false, sameBuild: true, outside: 0, abiChanged: false });
      const changes = functionsOf(result).map(({ change }) => change);
      expect(changes.filter((change) => change !== "same" && change !== "boot")).toEqual([]);
    },
  );

  it("are told by what boot chose: each place with what is in force", async () => {
    const result = await compare(target("amd64__Nehalem__i386"), target("amd64__EPYC__i386"));
    const contents = result.images[0]?.comparison?.content?.code?.contents ?? [];
    expect(contents.filter((one) => one.function === "__kernel_vsyscall")).toMatchObject([
      { kind: "choice", a: { text: "mov %esp,%ebp; sysenter" }, b: { text: "mov %ecx,%ebp; syscall" } },
    ]);
  });

  it("are accused of one byte that differs outside of the places that boot patches", async () => {
    const bytes = imageBytes("amd64__EPYC__amd64").slice();
    const original = target("amd64__amd64__embedded");
    const at = original.image.functions.find(({ name }) => name === "__vdso_time")?.address ?? 0n;
    bytes[Number(at) + 3] = (bytes[Number(at) + 3] ?? 0) ^ 1;
    const result = await compare(original, imageTarget("changed", bytes));
    expect(result.different).toBe(true);
    expect(result.images[0]?.summary).toMatchObject({ sameBuild: true, outside: 1, functions: { changed: 1 } });
    const ranges = result.images[0]?.comparison?.content?.bytes.ranges ?? [];
    expect(ranges.filter(({ where }) => where === "outside")).toEqual([
      { offset: Number(at) + 3, length: 1, where: "outside" },
    ]);
  });

  it("are accused of another thing in a place that boot patches, which is no alternative", async () => {
    const bytes = imageBytes("686__i386__embedded").slice();
    const original = target("686__i386__embedded");
    const entry = Number(original.image.entry?.address ?? 0n);
    // push %eax, pop %eax, twice: where sysenter may be put.
    bytes.set([0x50, 0x58, 0x50, 0x58], entry + 3);
    const result = await compare(original, imageTarget("changed", bytes));
    expect(result.different).toBe(true);
    expect(functionsOf(result).find(({ name }) => name === "__kernel_vsyscall")?.change).toBe("changed");
    expect(result.images[0]?.summary?.outside).toBe(4);
  });

  it("that are the same byte for byte need no decoder, zeros behind one or not", async () => {
    const name = "686__EPYC__i386";
    const longer = new Uint8Array(imageBytes(name).length + 4096);
    longer.set(imageBytes(name));
    const result = await diff([target(name)], [imageTarget("longer", longer)], neverDecodes);
    expect(result).toMatchObject({ different: false, images: [{ summary: { identical: true } }] });
  });
});

describe.skipIf(!needs("objdump", "binutils"))("code", () => {
  /** Functions as objdump decodes them: addresses as distances inside the function, or from the image or its table. */
  const theirs = (path: string, image: ImageTarget["image"]): Map<string, string[]> => {
    const lines = output("objdump", "-d", "--no-show-raw-insn", "--section=.text", path)
      .split("\n")
      .map((line) => /^ *([0-9a-f]+):\t(.*)$/.exec(line))
      .filter((match) => match !== null)
      .map(([, address, text]) => ({ address: BigInt(`0x${address}`), text: (text as string).trimEnd() }));
    const texts = new Map(lines.map(({ address, text }) => [address, text]));
    const thunk = (address: bigint) => /^mov +\(%esp\),%e..$/.test(texts.get(address) ?? "");
    let table = 0n;
    const functions = new Map<string, string[]>();
    const inTable = (distance: string) => BigInt.asIntN(32, BigInt(distance) + table).toString();
    for (const { name, address: start, size } of image.functions) {
      const normal: string[] = [];
      let called = false;
      for (const { address, text } of lines) {
        if (address < start || address >= start + BigInt(size)) continue;
        const branch = /^(.*?) +([0-9a-f]+) <([^+>@]*).*>$/.exec(text);
        const relative = /^(.*?)-?0x[0-9a-f]+(\(%rip\).*?) +# ([0-9a-f]+)/.exec(text);
        const adds = /^add +\$(0x[0-9a-f]+),(%e..)$/.exec(text);
        const lea = /^lea +0x(f[0-9a-f]{7}),(%e..)$/.exec(text);
        const far = /^(.*?)-(0x[0-9a-f]{4})(\(%e[abcds][xi]\).*)$/.exec(text);
        const wasCalled = called;
        called = false;
        if (branch) {
          const to = BigInt(`0x${branch[2]}`);
          const inside = to >= start && to < start + BigInt(size);
          called = branch[1] === "call" && thunk(to);
          normal.push(`${branch[1]} ${inside ? to - start : called ? "thunk" : "elsewhere"}`);
        } else if (relative) {
          normal.push(`${relative[1]}${BigInt.asIntN(64, BigInt(`0x${relative[3]}`))}${relative[2]}`);
        } else if (wasCalled && adds) {
          table = BigInt.asUintN(32, BigInt(adds[1] as string) + address);
          normal.push(`add table,${adds[2]}`);
        } else if (lea) {
          normal.push(`lea ${inTable(`0x${lea[1]}`)},${lea[2]}`);
        } else if (far) {
          normal.push(`${far[1]}${BigInt.asIntN(32, table - BigInt(far[2] as string))}${far[3]}`);
        } else {
          normal.push(text);
        }
      }
      functions.set(name, normal);
    }
    return functions;
  };

  it.each(PAIRS)("of %s and %s changed where objdump's text did", async (a, b) => {
    const [one, other] = [target(a), target(b)];
    const result = await compare(one, other);
    const [inA, inB] = [theirs(imagePath(a), one.image), theirs(imagePath(b), other.image)];
    let compared = 0;
    for (const { name, change, local } of functionsOf(result)) {
      if (local || change === "added" || change === "removed" || change === "boot") continue;
      compared += 1;
      const same = inA.get(name)?.join("\n") === inB.get(name)?.join("\n");
      expect(`${name} ${change === "changed" ? "changed" : "same"}`).toBe(`${name} ${same ? "same" : "changed"}`);
    }
    expect(compared).toBeGreaterThan(4);
  });

  it.each(PAIRS)("of %s and %s stands side by side whole and in order", async (a, b) => {
    const result = await compare(target(a), target(b));
    for (const { change, rows, a: inA, b: inB, aligned } of functionsOf(result)) {
      expect(aligned).toBe(true);
      if (change !== "changed" || !inA || !inB) continue;
      for (const [side, extent] of [
        ["a", inA],
        ["b", inB],
      ] as const) {
        let address = extent.address;
        for (const row of rows) {
          const line = row[side];
          if (!line) continue;
          expect(line.address).toBe(address);
          address += BigInt(line.bytes.length);
        }
        expect(address).toBe(extent.address + BigInt(extent.size));
      }
    }
  });
});

const compiles = needs("gcc", "gcc") && process.arch === "x64";

describe.skipIf(!compiles)("code that a linker puts elsewhere", () => {
  const folder = mkdtempSync(join(tmpdir(), "diff-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  const SOURCES: Readonly<Record<string, string>> = {
    time: `
      static const int table[4] = {3, 1, 4, 1};
      static __attribute__((noipa)) long helper(const int *from, long x) { return from[x & 3] * x + CONSTANT; }
      long __vdso_time(long x) { long s = 0; for (long i = 0; i < x; i++) s += helper(table, i) ^ x; return s; }`,
    getcpu: `
      static const double scale[] = {1.5, 2.5, 3.5};
      static __attribute__((noipa)) int pick(const double *from, unsigned i) { return (int)from[i % 3]; }
      int __vdso_getcpu(unsigned *cpu) { if (!cpu) return -1; *cpu = pick(scale, *cpu); return 0; }`,
    padding: `__asm__(".text\\n.skip 240, 0x90\\n.section .rodata\\n.skip 48, 7\\n");`,
  };

  /** An image of these sources in this order. */
  const build = (bits: 32 | 64, order: readonly string[], definitions: readonly string[] = []): ImageTarget => {
    const map = join(folder, "map");
    writeFileSync(map, "LINUX_2.6 { global: __vdso_*; local: *; };\n");
    const files = order.map((name) => {
      const file = join(folder, `${name}.c`);
      writeFileSync(file, SOURCES[name] as string);
      return file;
    });
    const path = join(folder, `image-${bits}.so`);
    const flags = ["-DCONSTANT=5", ...definitions, `-m${bits}`, "-O2", "-fPIC", "-shared", "-nostdlib"];
    const link = [`-Wl,--version-script=${map}`, "-Wl,-soname=linux-vdso.so.1", "-Wl,--hash-style=both"];
    output("gcc", ...flags, ...link, "-o", path, ...files);
    return imageTarget(path, new Uint8Array(readFileSync(path)));
  };

  it.each([64, 32] as const)("of %i bits is the same, elsewhere", async (bits) => {
    const result = await compare(build(bits, ["time", "getcpu"]), build(bits, ["padding", "getcpu", "time"]));
    const changes = functionsOf(result)
      .filter(({ a, b }) => a && b)
      .map(({ name, change, a, b }) => [name, change, a?.address !== b?.address]);
    expect(changes).toContainEqual(["__vdso_time", expect.stringMatching(/same|moved/), true]);
    expect(changes).toContainEqual(["__vdso_getcpu", "moved", true]);
    expect(changes.filter(([, change]) => change !== "same" && change !== "moved")).toEqual([]);
    expect(changes.some(([name]) => /^local_/.test(String(name)))).toBe(true);
    expect(result.images[0]?.summary?.abiChanged).toBe(false);
  });

  it.each([64, 32] as const)(
    "of %i bits is told from code that changed, and from code that leads to it",
    async (bits) => {
      const result = await compare(
        build(bits, ["time", "getcpu"]),
        build(bits, ["padding", "getcpu", "time"], ["-DCONSTANT=6"]),
      );
      const byName = new Map(functionsOf(result).map((one) => [one.name, one]));
      expect(byName.get("__vdso_getcpu")?.change).toBe("moved");
      const time = byName.get("__vdso_time");
      const changed = functionsOf(result).filter(({ change, local }) => local && change === "changed");
      expect(changed).toHaveLength(1);
      expect(time?.change).toMatch(/same|moved/);
      expect(time?.reaches).toEqual([changed[0]?.name]);
      const rows = changed[0]?.rows.filter(({ change }) => change !== "same") ?? [];
      expect(rows).toHaveLength(1);
      expect(rows[0]?.a?.text).toContain("0x5");
      expect(rows[0]?.b?.text).toContain("0x6");
    },
  );
});

describe("instructions that do nothing", () => {
  it.each([
    ["nopw 0(%rax,%rax)", "x86_64", [0x66, 0x0f, 0x1f, 0x44, 0, 0], true],
    ["xchg %ax,%ax", "x86_64", [0x66, 0x90], true],
    ["mov %edi,%edi", "i386", [0x89, 0xff], true],
    ["mov %edi,%edi, which clears half of %rdi", "x86_64", [0x89, 0xff], false],
    ["lea 0(%esi,%eiz,1),%esi", "i386", [0x8d, 0x74, 0x26, 0], true],
    ["mov %esi,%edi", "i386", [0x89, 0xf7], false],
    ["int3", "i386", [0xcc], false],
  ] as const)("%s, on %s", async (_, abi, bytes, does) => {
    const decoder = await decoderFor(abi);
    const [instruction] = decoder?.decode(Uint8Array.from(bytes), 0n) ?? [];
    expect(instruction && isNop(instruction, abi !== "i386")).toBe(does);
  });
});

describe("several images", () => {
  const kernel = (name: string, images: readonly string[]) =>
    images.map((image) => ({ ...target(image), name: `${name} (${image})`, kernel: {} }));
  const cloud = kernel("cloud", ["amd64__amd64__embedded", "amd64__i386__embedded"]);
  const small = kernel("686", ["686__i386__embedded"]);

  it("are compared each with that of its ABI, and one that is missing is a difference", async () => {
    const result = await diff(cloud, small, { abiOnly: true, ...neverDecodes });
    expect(result.different).toBe(true);
    expect(result.images.map(({ a, b }) => [a?.identity.abi, b?.identity.abi])).toEqual([
      ["x86_64", undefined],
      ["i386", "i386"],
    ]);
  });

  it("are picked by ABI", async () => {
    const result = await diff(cloud, small, { abiOnly: true, only: "i386", ...neverDecodes });
    expect(result.different).toBe(false);
    expect(result.images).toHaveLength(1);
    await expect(diff(cloud, small, { only: "aarch64", ...neverDecodes })).rejects.toThrow(/neither side/);
  });

  it("are compared with the one image of a file or a process alone", async () => {
    const result = await diff(cloud, [target("amd64__EPYC__i386")], { decoderFor });
    expect(result.images).toHaveLength(1);
    expect(result.different).toBe(false);
  });
});

it("code that is not decoded is compared by its bytes, and boot's places apart", async () => {
  const original = target("arm64__arm64__embedded");
  const bytes = imageBytes("arm64__arm64__embedded").slice();
  const one = original.image.functions.find(({ name }) => name === "__kernel_clock_getres");
  const at = Number(one?.address ?? 0n);
  bytes[at] = (bytes[at] ?? 0) ^ 0xff;
  const result = await compare(original, imageTarget("changed", bytes));
  expect(result.images[0]?.comparison?.content?.code?.decoded).toBe(false);
  const changed = functionsOf(result).filter(({ change }) => change !== "same");
  expect(changed.map(({ name }) => name)).toEqual(["__kernel_clock_getres"]);
  expect(result.images[0]?.summary?.outside).toBe(1);
});
