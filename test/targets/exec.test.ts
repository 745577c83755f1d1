import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import iced from "iced-x86";
import { afterAll, describe, expect, it } from "vitest";
import { buildElf } from "../../src/elf/builder.js";
import {
  EM_X86_64,
  ET_EXEC,
  PF_R,
  PF_X,
  PT_LOAD,
  SHF_ALLOC,
  SHF_EXECINSTR,
  SHT_PROGBITS,
} from "../../src/elf/constants.js";
import { readHeader } from "../../src/elf/header.js";
import { Assembler } from "../../src/isa/x86/assembler.js";
import { AT_SYSINFO_EHDR, auxvValue } from "../../src/linux/auxv.js";
import { mappingAt } from "../../src/linux/maps.js";
import { ProcessError, type ProcessView } from "../../src/linux/process.js";
import { resolveTarget } from "../../src/targets/resolve.js";
import { ProcessTarget } from "../../src/targets/target.js";
import { runsHere } from "../support/native.js";
import { needs } from "../support/referee.js";

const scratch = mkdtempSync(join(tmpdir(), "linux-gate-exec-"));
const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(scratch, { recursive: true, force: true });
});

const EXECVE = 59;
const AT_ENTRY = 9;

/** A program of a few bytes, loaded at `base`, that counts down from `turns` and then executes the file at `next`. */
function relay(base: bigint, turns: number, next: string): Uint8Array {
  const program = (path: bigint) => {
    const code = new Assembler(iced, 64)
      .op("Mov_r32_imm32", "ecx", turns)
      .label("again")
      .op("Sub_rm32_imm8", "ecx", 1)
      .branch("jne", "again")
      .op("Mov_r32_imm32", "eax", EXECVE)
      .op("Mov_r32_imm32", "edi", path)
      .op("Xor_r32_rm32", "esi", "esi")
      .op("Xor_r32_rm32", "edx", "edx")
      .op("Syscall")
      .assemble(0n).bytes;
    const text = new TextEncoder().encode(`${next}\0`);
    const elf = buildElf({
      class: 64,
      machine: EM_X86_64,
      base,
      type: ET_EXEC,
      entry: ".text",
      sections: [
        { name: ".text", type: SHT_PROGBITS, flags: SHF_ALLOC | SHF_EXECINSTR, content: Buffer.concat([code, text]) },
      ],
      segments: [{ type: PT_LOAD, flags: PF_R | PF_X, covers: ["headers", ".text"], align: 0x1000 }],
      sectionHeaders: false,
    });
    return { elf, path: readHeader(elf).header.e_entry + BigInt(code.length) };
  };
  // The place of the path is known once the file has been laid out; it is as long either way.
  return program(program(0n).path).elf;
}

/** Starts a process that is one program now and the other soon after, again and again; ends with the tests. */
function relayRace(name: string, turns: number, wrapper: readonly string[] = []): string {
  const files = ["one", "other"].map((which) => join(scratch, `${name}-${which}`)) as [string, string];
  writeFileSync(files[0], relay(0x400000n, turns, files[1]), { mode: 0o755 });
  writeFileSync(files[1], relay(0x10000000n, turns, files[0]), { mode: 0o755 });
  const [command, ...args] = [...wrapper, files[0]] as [string, ...string[]];
  const child = spawn(command, args, { stdio: "ignore" });
  children.push(child);
  return String(child.pid);
}

/** Looks at a process; whether the parts were of one program, or an error was given in their place. */
async function look(pid: string, own: Uint8Array): Promise<"whole" | "refused"> {
  const target = (await resolveTarget(pid)) as ProcessTarget;
  try {
    const { imageBytes, auxv, location } = target;
    expect(Buffer.from(imageBytes).equals(own)).toBe(true);
    expect(location?.base).toBe(auxvValue(auxv, AT_SYSINFO_EHDR));
    // The program's own mapping is the one that the vector speaks of.
    const entry = auxvValue(auxv, AT_ENTRY) as bigint;
    expect(mappingAt(target.mappings, entry)?.name).toMatch(/-(one|other)$/);
    return "whole";
  } catch (error) {
    if (!(error instanceof ProcessError)) throw error;
    expect(error.message).toMatch(/keeps executing other programs/);
    return "refused";
  } finally {
    await target.close();
  }
}

describe.skipIf(!runsHere("x86_64"))("a process that executes other programs all the time", () => {
  const own = async () => ((await resolveTarget("self")) as ProcessTarget).imageBytes;
  const cases: [string, number, string[]][] = [["programs at random places", 500_000, []]];
  if (needs("setarch", "util-linux"))
    cases.push(["programs at places that are not random", 500_000, ["setarch", "-R"]]);

  it.each(cases)("is seen as one program or not at all: %s", async (name, turns, wrapper) => {
    const vdso = await own();
    const pid = relayRace(name.replaceAll(" ", "-"), turns, wrapper);
    await new Promise((resolve) => setTimeout(resolve, 100));
    let whole = 0;
    for (let i = 0; i < 400; i++) whole += (await look(pid, vdso)) === "whole" ? 1 : 0;
    expect(whole).toBeGreaterThan(100);
  });

  it("is given up on where it never holds still", async () => {
    const vdso = await own();
    const pid = relayRace("restless", 1, []);
    await new Promise((resolve) => setTimeout(resolve, 100));
    for (let i = 0; i < 50; i++) await look(pid, vdso);
  });
});

describe("how often a process is read anew", () => {
  /** This process, with a vector that is another one as often as is asked. */
  async function restless(changes: number) {
    const { process: real } = (await resolveTarget("self")) as ProcessTarget;
    let reads = 0;
    const view: ProcessView = {
      pid: real.pid,
      littleEndian: real.littleEndian,
      mapsBytes: () => real.mapsBytes(),
      auxvBytes: () => {
        reads += 1;
        const bytes = real.auxvBytes();
        // The value of the first entry is of no matter here.
        if (reads <= changes) bytes[8] = reads;
        return bytes;
      },
      read: (address, size) => real.read(address, size),
      close: () => real.close(),
    };
    return { target: new ProcessTarget("it", view), reads: () => reads };
  }

  it("is once where nothing changed, with two more looks at the vector", async () => {
    const { target, reads } = await restless(0);
    expect(target.image.soname).toBeDefined();
    expect(target.auxv.length).toBeGreaterThan(10);
    expect(reads()).toBe(3);
  });

  it("is until it holds still", async () => {
    const { target, reads } = await restless(7);
    expect(target.missing).toEqual([]);
    expect(reads()).toBeGreaterThan(7);
  });

  it("takes a vector without an entry for that of a program that starts, but not forever", async () => {
    const { process: real } = (await resolveTarget("self")) as ProcessTarget;
    const empty = (until: number): ProcessView => ({
      pid: real.pid,
      littleEndian: real.littleEndian,
      mapsBytes: () => real.mapsBytes(),
      auxvBytes: () => (until-- > 0 ? new Uint8Array(16) : real.auxvBytes()),
      read: (address, size) => real.read(address, size),
      close: () => real.close(),
    });
    expect(new ProcessTarget("it", empty(20)).location?.foundBy).toBe("AT_SYSINFO_EHDR");
    expect(() => new ProcessTarget("it", empty(Number.POSITIVE_INFINITY)).auxv).toThrow(
      "it has an auxiliary vector without AT_PHENT",
    );
  });

  it("is bounded, and then every part says why there is none", async () => {
    const { target, reads } = await restless(Number.POSITIVE_INFINITY);
    for (const part of ["mapsBytes", "auxv", "location", "image"] as const) {
      expect(() => target[part]).toThrow("it keeps executing other programs: no two looks show the same one (EAGAIN)");
    }
    expect(reads()).toBe(150);
    expect(target.missing.map(({ what }) => what)).toEqual(["maps", "auxv"]);
  });
});
