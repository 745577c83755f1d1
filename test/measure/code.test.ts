import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import iced from "iced-x86";
import { afterAll, describe, expect, it } from "vitest";
import { measuringCode } from "../../src/measure/code.js";
import { measuringImages } from "../../src/measure/images.js";
import { needs, output } from "../support/referee.js";

const scratch = mkdtempSync(join(tmpdir(), "measure-code-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const objdump = needs("objdump", "binutils");

const ABIS = ["x86_64", "i386"] as const;
const MACHINES = { x86_64: "i386:x86-64", i386: "i386" } as const;

describe.each(ABIS)("the measuring code of %s", (abi) => {
  const { base64, routines } = measuringImages[abi];
  const bytes = Buffer.from(base64, "base64");

  it("is what its source assembles to (scripts/build-agent.mjs writes it anew)", () => {
    const code = measuringCode(iced, abi);
    expect(Buffer.from(code.bytes).toString("base64")).toBe(base64);
    expect(code.routines).toEqual(routines);
  });

  /** Mnemonics and operands from a routine on, as objdump has them. */
  function disassembly(from: number): string[] {
    const file = join(scratch, abi);
    writeFileSync(file, bytes);
    const options = ["-D", "-b", "binary", "-m", MACHINES[abi], "--no-show-raw-insn", `--start-address=${from}`];
    return output("objdump", ...options, file)
      .split("\n")
      .flatMap((line) => /^\s+[0-9a-f]+:\s+(.*?)\s*$/.exec(line)?.[1]?.replace(/\s+/g, " ") ?? []);
  }

  it.skipIf(!objdump)(
    "enters the kernel by the instruction that a routine is named for, and returns by no `ret`",
    () => {
      const [int80, instructions] = [disassembly(routines.int80 as number), disassembly(routines.syscall as number)];
      expect(int80.slice(0, 3)).toEqual([
        "int $0x80",
        expect.stringMatching(/^pop %[er]cx$/),
        expect.stringMatching(/^jmp \*%[er]cx$/),
      ]);
      if (abi === "x86_64") {
        expect(instructions.slice(0, 3)).toEqual(["syscall", "pop %rcx", "jmp *%rcx"]);
      } else {
        expect(instructions.slice(0, 5)).toEqual(["push %ecx", "push %edx", "push %ebp", "mov %ecx,%ebp", "syscall"]);
        const sysenter = disassembly(routines.sysenter as number);
        expect(sysenter.slice(0, 5)).toEqual(["push %ecx", "push %edx", "push %ebp", "mov %esp,%ebp", "sysenter"]);
      }
    },
  );

  it.skipIf(!objdump)("reads the time stamp counter between fences", () => {
    expect(disassembly(routines.readTsc as number).slice(0, 3)).toEqual(["lfence", "rdtsc", "lfence"]);
  });

  it("begins each of its routines at the start of a cache line, so that none is cut by chance", () => {
    expect(Object.values(routines).filter((offset) => offset % 64 !== 0)).toEqual([]);
  });
});
