import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Instruction } from "../../src/isa/instruction.js";
import { createX86Decoder } from "../../src/isa/x86/decode.js";
import { FlowControl, Iced, OpKind } from "../../src/isa/x86/iced.js";
import { loadIced } from "../../src/isa/x86/load.js";

const decoders = {
  16: createX86Decoder(loadIced(), 16),
  32: createX86Decoder(loadIced(), 32),
  64: createX86Decoder(loadIced(), 64),
};

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.split(" "), (byte) => Number.parseInt(byte, 16));
}

function decodeOne(bits: 32 | 64, hex: string, address = 0x1000n): Instruction {
  const instructions = decoders[bits].decode(bytesOf(hex), address);
  expect(instructions).toHaveLength(1);
  return instructions[0] as Instruction;
}

function textOf(bits: 16 | 32 | 64, hex: string, address = 0x1000n): string[] {
  return decoders[bits].decode(bytesOf(hex), address).map((instruction) => decoders[bits].text(instruction));
}

describe("the decoder of x86", () => {
  it("reads the entry of 2005 as GNU objdump writes it", () => {
    const code = bytesOf("51 52 55 89 e5 0f 34 90 90 90 90 90 90 90 eb f3 5d 5a 59 c3");
    const instructions = decoders[32].decode(code, 0xffffe400n);
    expect(instructions.map((instruction) => decoders[32].text(instruction))).toEqual([
      "push   %ecx",
      "push   %edx",
      "push   %ebp",
      "mov    %esp,%ebp",
      "sysenter",
      ...Array.from({ length: 7 }, () => "nop"),
      "jmp    0xffffe403",
      "pop    %ebp",
      "pop    %edx",
      "pop    %ecx",
      "ret",
    ]);
    expect(instructions.map(({ flow }) => flow).filter((flow) => flow !== "next")).toEqual(["gate", "jump", "return"]);
    expect(instructions.find(({ flow }) => flow === "jump")?.target).toBe(0xffffe403n);
  });

  it("gives operands in AT&T order, with what memory is read", () => {
    expect(decodeOne(64, "48 8b 44 24 08")).toMatchObject({
      mnemonic: "mov",
      prefixes: [],
      flow: "next",
      operands: [
        { kind: "memory", base: "rsp", scale: 1, displacement: 8n, displacementSize: 1, size: 8 },
        { kind: "register", name: "rax" },
      ],
    });
    expect(decodeOne(32, "8b 04 8d f8 ff ff ff").operands[0]).toMatchObject({
      index: "ecx",
      scale: 4,
      displacement: -8n,
    });
  });

  it("resolves addresses that depend on the program counter alone, and absolute ones", () => {
    expect(decodeOne(64, "8b 15 7a d8 ff ff", 0x780n).operands[0]).toMatchObject({
      base: "rip",
      displacement: -0x2786n,
      address: 0xffff_ffff_ffff_e000n,
      size: 4,
    });
    expect(decodeOne(32, "a1 00 a0 04 08").operands[0]).toMatchObject({ address: 0x804a000n });
    // Relative to a segment, the address is not known.
    expect(decodeOne(32, "65 a1 10 00 00 00").operands[0]).toEqual({
      kind: "memory",
      segment: "gs",
      scale: 1,
      displacement: 0x10n,
      displacementSize: 4,
      size: 4,
    });
  });

  it("tells what instructions do to the flow of control", () => {
    const flows = [
      "90",
      "eb 00",
      "74 00",
      "e8 00 00 00 00",
      "ff e0",
      "ff d0",
      "c3",
      "0f 05",
      "0f 34",
      "cd 80",
      "0f 0b",
      "f4",
      "cc",
    ];
    expect(flows.map((hex) => decodeOne(64, hex).flow)).toEqual([
      "next",
      "jump",
      "branch",
      "call",
      "indirect-jump",
      "indirect-call",
      "return",
      "gate",
      "gate",
      "gate",
      "stop",
      "stop",
      "stop",
    ]);
    expect(decodeOne(64, "e8 00 00 00 00").target).toBe(0x1005n);
  });

  it("wraps addresses at the width of the code", () => {
    expect(textOf(32, "eb 10", 0xfffffffan)).toEqual(["jmp    0xc"]);
    expect(textOf(64, "eb 10", 0xffff_ffff_ffff_fff8n)).toEqual(["jmp    0xa"]);
  });

  it("marks what is no instruction, and what ends too early, without losing bytes", () => {
    expect(textOf(64, "3f c3")).toEqual(["(bad)", "ret"]);
    expect(decoders[64].decode(bytesOf("3f"), 0n)[0]?.flow).toBe("invalid");
    expect(textOf(64, "e8 00 00")).toEqual([".byte 0xe8", "add    %al,(%rax)"]);
    expect(textOf(64, "48")).toEqual(["rex.W"]);
    expect(decoders[64].decode(new Uint8Array(0), 0n)).toEqual([]);
  });

  it("knows 16-bit code", () => {
    expect(textOf(16, "8b 47 02 66 b8 01 00 00 00 cd 10")).toEqual([
      "mov    0x2(%bx),%ax",
      "mov    $0x1,%eax",
      "int    $0x10",
    ]);
  });

  it.each([
    [64, "66 66 2e 0f 1f 84 00 00 00 00 00", "data16 cs nopw 0x0(%rax,%rax,1)"],
    [64, "f3 aa", "rep stos %al,%es:(%rdi)"],
    [64, "f3 c3", "repz ret"],
    [64, "f0 0f b1 17", "lock cmpxchg %edx,(%rdi)"],
    [64, "66 90", "xchg   %ax,%ax"],
    [64, "48 69 c0 d3 4d 62 10", "imul   $0x10624dd3,%rax,%rax"],
    [64, "66 48 8d 3d 00 00 00 00", "data16 lea 0x0(%rip),%rdi        # 0x1008"],
    [64, "9b d9 7c 24 02", "fstcw  0x2(%rsp)"],
    [64, "64 48 8b 04 25 28 00 00 00", "mov    %fs:0x28,%rax"],
    [64, "62 f1 7d 49 6f 07", "vmovdqa32 (%rdi),%zmm0{%k1}"],
    [64, "3e ff e0", "notrack jmp *%rax"],
    [32, "8d b4 26 00 00 00 00", "lea    0x0(%esi,%eiz,1),%esi"],
    [32, "2e 8d b4 26 00 00 00 00", "lea    %cs:0x0(%esi,%eiz,1),%esi"],
    [32, "ff 75 08", "push   0x8(%ebp)"],
  ] as const)("writes %i-bit %s as %s", (bits, hex, text) => {
    expect(textOf(bits, hex)).toEqual([text]);
  });

  it.each([32, 64] as const)("accounts for every byte of anything, %i-bit", (bits) => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (bytes, address) => {
        const decoder = decoders[bits];
        const instructions = decoder.decode(bytes, address);
        let at = 0;
        for (const instruction of instructions) {
          expect(instruction.address).toBe(BigInt.asUintN(bits, address + BigInt(at)));
          expect(instruction.bytes.length).toBeGreaterThan(0);
          expect(Array.from(instruction.bytes)).toEqual(Array.from(bytes.subarray(at, at + instruction.bytes.length)));
          expect(decoder.text(instruction)).not.toContain("undefined");
          at += instruction.bytes.length;
        }
        expect(at).toBe(bytes.length);
      }),
      { numRuns: 300 },
    );
  });

  it("frees what it takes", () => {
    const iced = loadIced();
    const decoder = createX86Decoder(iced, 64);
    const code = Uint8Array.from({ length: 40 }, (_, i) => (i * 7919) & 0xff);
    for (let i = 0; i < 100; i++) decoder.decode(code, 0n);
    const before = iced.memoryBytes;
    for (let i = 0; i < 10_000; i++) decoder.decode(code, BigInt(i));
    expect(iced.memoryBytes).toBe(before);
  });

  it("takes time in proportion to the code", () => {
    const code = new Uint8Array(1 << 18).fill(0x90);
    const start = performance.now();
    expect(decoders[64].decode(code, 0n)).toHaveLength(1 << 18);
    expect(performance.now() - start).toBeLessThan(20_000);
  });
});

describe("the WebAssembly of iced-x86", () => {
  it("numbers operands and flows as the package says", () => {
    const iced = createRequire(import.meta.url)("iced-x86") as typeof import("iced-x86");
    const names = (values: Readonly<Record<string, number>>) =>
      Object.fromEntries(Object.entries(values).map(([name, value]) => [value, name.toLowerCase()]));
    const theirs = (values: object) =>
      Object.fromEntries(
        Object.entries(values)
          .filter(([, value]) => typeof value === "number")
          .map(([name, value]) => [value, name.toLowerCase().replace("_2nd", "second")]),
      );
    expect(names(OpKind)).toEqual(theirs(iced.OpKind));
    expect({ ...names(FlowControl), 8: "xbeginxabortxend" }).toEqual(theirs(iced.FlowControl));
  });

  it("is refused where it is another module", () => {
    const empty = Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    expect(() => new Iced(empty)).toThrow("exports no memory: it is not version 1.21");
  });

  it("is loaded once", () => {
    expect(loadIced()).toBe(loadIced());
  });

  it("leaves nothing that holds a process up", () => {
    const script = `
      import { loadIced, startQuickly } from ${JSON.stringify(new URL("../../src/isa/x86/load.ts", import.meta.url).pathname)};
      startQuickly();
      loadIced();
      process.stdout.write("loaded");
    `;
    const bundle = spawnSync(
      "node_modules/.bin/esbuild",
      ["--bundle", "--platform=node", "--format=esm", "--external:iced-x86", "--loader=ts"],
      { input: script, encoding: "utf8" },
    );
    expect(bundle.stderr).toBe("");
    const run = spawnSync(process.execPath, ["--input-type=module", "-"], { input: bundle.stdout, encoding: "utf8" });
    expect(run).toMatchObject({ stdout: "loaded", status: 0 });
  });
});
