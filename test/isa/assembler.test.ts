import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import iced from "iced-x86";
import { afterAll, describe, expect, it } from "vitest";
import { hexBytes } from "../../src/bytes/hex.js";
import { Assembler, type Branch } from "../../src/isa/x86/assembler.js";
import { needs, output } from "../support/referee.js";

const scratch = mkdtempSync(path.join(os.tmpdir(), "assembler-test-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** What GNU as makes of a source in Intel syntax, at address 0. */
function gnu(bits: 32 | 64, source: string): string {
  const [text, object, raw] = ["s", "o", "bin"].map((end) => path.join(scratch, `t${bits}.${end}`)) as [
    string,
    string,
    string,
  ];
  writeFileSync(text, `.intel_syntax noprefix\n${source}\n`);
  output("as", `--${bits}`, "-o", object, text);
  output("objcopy", "-O", "binary", "-j", ".text", object, raw);
  return output("od", "-An", "-v", "-tx1", raw).replace(/\s/g, "");
}

const assembled = (asm: Assembler, at = 0n): string => hexBytes(asm.assemble(at).bytes);
const nops = (count: number): Uint8Array => new Uint8Array(count).fill(0x90);

describe("Assembler", () => {
  const referee = it.skipIf(!needs("as", "binutils"));

  referee("encodes registers, immediates and memory as GNU as does, in 64-bit code", () => {
    const asm = new Assembler(iced, 64)
      .op("Mov_rm64_r64", "rax", "rbx")
      .op("Mov_r32_imm32", "r9d", 0xffffffff)
      .op("Mov_r32_imm32", "eax", -1)
      .op("Mov_r64_imm64", "rcx", 0xfedcba9876543210n)
      .op("Mov_rm64_imm32", "rdx", -5)
      .op("Mov_r8_imm8", "al", 200)
      .op("Add_rm64_imm8", "rsp", -128)
      .op("Mov_r64_rm64", "rax", { base: "rbp" })
      .op("Mov_r64_rm64", "rax", { base: "rsp", displacement: 127 })
      .op("Mov_r64_rm64", "r12", { base: "r13", index: "r14", scale: 8, displacement: -1000 })
      .op("Mov_r64_rm64", "rax", { displacement: 0x28, segment: "fs" })
      .op("Mov_rm32_imm32", { base: "rdi", displacement: 8 }, 0x89abcdef)
      .op("Cmp_rm64_imm8", { base: "rdi", index: "rcx" }, -4)
      .op("Lea_r64_m", "rsi", { index: "rdx", scale: 4, displacement: 64 })
      .op("Imul_r64_rm64_imm32", "rax", "rcx", 1000)
      .op("Imul_r64_rm64_imm8", "rax", { base: "rcx" }, -3)
      .op("Push_r64", "r15")
      .op("Pushq_imm32", 0x1000)
      .op("Call_rm64", "r11")
      .op("Jmp_rm64", { base: "rip", displacement: 0x1000 })
      .op("Movq_xmm_rm64", "xmm1", "rax")
      .op("Syscall")
      .op("Retnq");
    expect(assembled(asm)).toBe(
      gnu(
        64,
        `1: mov rax, rbx
         mov r9d, 0xffffffff
         mov eax, -1
         movabs rcx, 0xfedcba9876543210
         mov rdx, -5
         mov al, 200
         add rsp, -128
         mov rax, [rbp]
         mov rax, [rsp+127]
         mov r12, [r13+r14*8-1000]
         mov rax, fs:0x28
         mov dword ptr [rdi+8], 0x89abcdef
         cmp qword ptr [rdi+rcx], -4
         lea rsi, [rdx*4+64]
         imul rax, rcx, 1000
         imul rax, [rcx], -3
         push r15
         push 0x1000
         call r11
         .byte 0xff, 0x25; .long 0x1000-(3f-1b)
         3: movq xmm1, rax
         syscall
         ret`,
      ),
    );
  });

  referee("encodes as GNU as does in 32-bit code", () => {
    const asm = new Assembler(iced, 32)
      .op("Mov_rm32_r32", "ebp", "esp")
      .op("Mov_r32_rm32", "eax", { displacement: 0xfffff010n })
      .op("Mov_r32_rm32", "ecx", { base: "esp", displacement: 4 })
      .op("Mov_r32_rm32", "ecx", { displacement: 0x10, segment: "gs" })
      .op("Mov_rm8_r8", { base: "edi", index: "eax", scale: 2 }, "dl")
      .op("Int_imm8", 0x80)
      .op("Sysenter")
      .op("Pushd_imm8", -2)
      .op("Retnd_imm16", 8);
    expect(assembled(asm)).toBe(
      gnu(
        32,
        `mov ebp, esp
         .byte 0x8b, 0x05; .long 0xfffff010
         mov ecx, [esp+4]
         .byte 0x65, 0x8b, 0x0d; .long 0x10
         mov [edi+eax*2], dl
         int 0x80
         sysenter
         push -2
         ret 8`,
      ),
    );
  });

  const distances = [0, 1, 125, 126, 127, 128, 129, 130, 131, 200, 1000];
  for (const bits of [32, 64] as const) {
    referee(`chooses the length of every ${bits}-bit jump as GNU as does`, () => {
      const conditions: Branch[] = ["jo", "jno", "jb", "jae", "je", "jne", "jbe", "ja", "js", "jns"];
      const others: Branch[] = ["jp", "jnp", "jl", "jge", "jle", "jg", "jmp", "call"];
      const asm = new Assembler(iced, bits);
      let source = "";
      // Pairs that jump across each other, forwards and backwards, with the second in reach only while the first is short.
      [...conditions, ...others].forEach((mnemonic, i) => {
        for (const distance of distances) {
          const name = `L${i}_${distance}`;
          asm
            .branch(mnemonic, `${name}f`)
            .label(`${name}b`)
            .data(nops(distance))
            .branch("jmp", `${name}b`)
            .label(`${name}f`)
            .branch(mnemonic, `${name}b`);
          source += `${mnemonic} ${name}f\n${name}b: .fill ${distance}, 1, 0x90\njmp ${name}b\n${name}f: ${mnemonic} ${name}b\n`;
        }
      });
      expect(assembled(asm)).toBe(gnu(bits, source));
    });
  }

  referee("aligns, places data, and reaches both by label", () => {
    const asm = new Assembler(iced, 64)
      .op("Lea_r64_m", "rsi", { label: "data" })
      .op("Mov_r32_rm32", "eax", { label: "data" })
      .branch("jmp", "end")
      .align(32, 0xcc)
      .label("data")
      .data(Uint8Array.of(1, 2, 3, 4, 5))
      .align(16, 0xcc)
      .label("end")
      .op("Retnq");
    const { bytes, labels } = asm.assemble(0n);
    expect(hexBytes(bytes)).toBe(
      gnu(
        64,
        "lea rsi,[rip+data]\nmov eax,[rip+data]\njmp end\n.balign 32,0xcc\ndata:.byte 1,2,3,4,5\n.balign 16,0xcc\nend:ret",
      ),
    );
    expect([...labels]).toEqual([
      ["data", 32n],
      ["end", 48n],
    ]);
  });

  it("gives the same code at any address, and labels there", () => {
    const asm = new Assembler(iced, 64).branch("call", "there").op("Retnq").label("there").op("Retnq").label("end");
    const low = asm.assemble(0n);
    const high = asm.assemble(0x7fff_ffff_f000n);
    expect(high.bytes).toEqual(low.bytes);
    expect(high.labels.get("there")).toBe(0x7fff_ffff_f006n);
    expect(high.labels.get("end")).toBe(0x7fff_ffff_f007n);
  });

  it("means an absolute address by a label in 32-bit memory operands", () => {
    const asm = new Assembler(iced, 32).op("Mov_r32_rm32", "eax", { label: "here" }).label("here");
    expect(assembled(asm, 0x8048000n)).toBe("8b0506800408");
  });

  it("throws on labels that are missing or defined twice", () => {
    expect(() => new Assembler(iced, 64).label("a").label("a")).toThrow("label a is defined twice");
    expect(() => new Assembler(iced, 64).branch("jmp", "a").assemble(0n)).toThrow("label a is not defined");
    const load = new Assembler(iced, 64).op("Mov_r64_rm64", "rax", { label: "a" });
    expect(() => load.assemble(0n)).toThrow("label a is not defined");
  });

  it("throws on what has no encoding, and names it", () => {
    const wrong: [32 | 64, (asm: Assembler) => Assembler][] = [
      [64, (asm) => asm.op("Mov_r32_rm32", "eax", "rbx")],
      [64, (asm) => asm.op("Push_r32", "eax")],
      [32, (asm) => asm.op("Syscall", "eax")],
      [32, (asm) => asm.op("Mov_r64_rm64", "rax", "rbx")],
      [64, (asm) => asm.op("Add_rm64_imm8", "rax", 200)],
      [64, (asm) => asm.op("Int_imm8", 0x1ff)],
      [64, (asm) => asm.op("Int_imm8", 0xffffffff)],
      [64, (asm) => asm.op("Mov_rm32_imm32", { base: "rax" }, 0x100000000)],
      [64, (asm) => asm.op("Mov_r64_imm64", "rax", 1n << 64n)],
      [64, (asm) => asm.op("Mov_r64_rm64", "rax", { base: "rax", displacement: 1n << 33n })],
      [64, (asm) => asm.op("Mov_rm64_r64", { base: "rax", index: "rsp" }, "rax")],
      [64, (asm) => asm.op("Imul_r64_rm64", "rax", "rcx", 1)],
      [64, (asm) => asm.align(3.5)],
    ];
    for (const [bits, write] of wrong) {
      expect(() => write(new Assembler(iced, bits)).assemble(0n)).toThrow(RangeError);
    }
    expect(() => new Assembler(iced, 64).op("Push_r32", "eax").assemble(0n)).toThrow(/^Cannot encode Push_r32: /);
  });

  it("can be assembled again after more was added", () => {
    const asm = new Assembler(iced, 64).branch("jmp", "end").data(nops(120)).label("middle");
    expect(() => asm.assemble(0n)).toThrow("label end is not defined");
    const first = asm.label("end").assemble(0n);
    expect(first.bytes.length).toBe(122);
    expect(asm.data(nops(10)).assemble(0n).bytes.length).toBe(132);
  });
});
