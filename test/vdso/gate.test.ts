import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Code } from "../../src/vdso/code.js";
import { type Gate, readGate } from "../../src/vdso/gate.js";
import { parseImage, type VdsoImage } from "../../src/vdso/image.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { articleImage } from "../support/article-image.js";
import { imageBytes, imageNames } from "../support/images.js";

const decoder = await decoderFor("i386");
if (!decoder) throw new Error("no decoder for i386");

const gateOf = (image: VdsoImage): Gate | undefined => readGate(image, new Code(image.elf, decoder));

describe("the gate of i386 images", () => {
  const names = imageNames.filter((name) => name.includes("i386"));

  it("has images of every mechanism to read", () => {
    expect(names.length).toBeGreaterThanOrEqual(15);
    const seen = new Set(names.map((name) => gateOf(parseImage(imageBytes(name)))?.mechanism));
    expect([...seen].sort()).toEqual(["int $0x80", "syscall", "sysenter"]);
  });

  it.each(names)("%s: the first instruction that enters the kernel, not any int $0x80", (name) => {
    const image = parseImage(imageBytes(name));
    const gate = gateOf(image) as Gate;
    // The entry's own bytes say: 0f 34 sysenter, 0f 05 syscall, cd 80 int $0x80.
    const offset = Number(gate.entry.address);
    const code = Buffer.from(image.bytes.subarray(offset, offset + 13)).toString("hex");
    const expected = code.includes("0f34") ? "sysenter" : code.includes("0f05") ? "syscall" : "int $0x80";
    expect(gate.mechanism).toBe(expected);
    expect(gate.restart).toBe(expected === "int $0x80" ? undefined : "int $0x80");
    expect(gate.sixthArgument).toBe(expected === "int $0x80" ? "register" : "stack");
    expect(gate.steps.at(-1)?.purpose.kind).toBe("return");
    expect(gate.steps.filter(({ purpose }) => purpose.kind === "other")).toEqual([]);
  });

  it("sees the fast ways that lie ready behind int $0x80 and a return", () => {
    const path = new URL("../fixtures/boots/7.2-cloud-amd64__i386.so", import.meta.url);
    const gate = gateOf(parseImage(new Uint8Array(readFileSync(path)))) as Gate;
    expect(gate.mechanism).toBe("int $0x80");
    expect(gate.steps.map(({ purpose }) => purpose.kind)).toEqual(["enter", "return"]);
    expect(gate.alternatives).toEqual(["sysenter", "syscall"]);
  });

  it("returns behind the restart instruction", () => {
    const gate = gateOf(parseImage(imageBytes("686__pentium3__i386"))) as Gate;
    const landing = gate.steps.find(({ purpose }) => purpose.kind === "restore" && purpose.landing);
    expect(landing?.instruction.address).toBe(0x559n);
    expect(gate.landing).toBe(0x559n);
  });

  it("lists the ways that the image carries as alternatives", () => {
    const amd = gateOf(parseImage(imageBytes("amd64__EPYC__i386"))) as Gate;
    expect(amd.mechanism).toBe("syscall");
    expect([...amd.alternatives].sort()).toEqual(["syscall", "sysenter"]);
    const unpatched = gateOf(parseImage(imageBytes("amd64__i386__embedded"))) as Gate;
    expect(unpatched.mechanism).toBe("int $0x80");
    expect([...unpatched.alternatives].sort()).toEqual(["syscall", "sysenter"]);
  });
});

describe("the article's own gate, of 2005", () => {
  const gate = gateOf(parseImage(articleImage())) as Gate;

  it("uses sysenter, and restarts by a jump back to where %ebp is set", () => {
    expect(gate.mechanism).toBe("sysenter");
    expect(gate.restart).toBe("jump");
    const restart = gate.steps.find(({ purpose }) => purpose.kind === "restart");
    expect(restart?.purpose).toEqual({ kind: "restart", by: "jump", to: 0xffffe403n });
    expect(gate.landing).toBe(0xffffe410n);
    expect(gate.alternatives).toEqual([]);
  });

  it("is read instruction by instruction", () => {
    const kinds = gate.steps.map(({ purpose }) => purpose.kind);
    expect(kinds).toEqual([
      ...["save", "save", "save", "pass-stack", "enter"],
      ...Array.from({ length: 7 }, () => "padding"),
      ...["restart", "restore", "restore", "restore", "return"],
    ]);
  });
});

it("an image whose entry enters the kernel in no known way has no gate", () => {
  const bytes = articleImage(Uint8Array.of(0xc3));
  expect(gateOf(parseImage(bytes))).toBeUndefined();
});

it("an image without an entry has no gate", () => {
  expect(gateOf(parseImage(imageBytes("host618__native__amd64")))).toBeUndefined();
});

it.each([
  ["686__pentium3__i386", "sysenter"],
  ["686__EPYC__i386", "sysenter"],
  ["686__pentium3_-sep__i386", "int $0x80"],
  ["686__pentium3+clearcpuid_11__i386", "int $0x80"],
  ["amd64__Nehalem__i386", "sysenter"],
  ["amd64__EPYC__i386", "syscall"],
  ["amd64__EPYC+clearcpuid110__i386", "int $0x80"],
  ["host618__native__i386", "syscall"],
])("the kernel and processor of %s chose %s", (name, mechanism) => {
  expect(gateOf(parseImage(imageBytes(name)))?.mechanism).toBe(mechanism);
});
