import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import iced from "iced-x86";
import { type Agent, type AgentAbi, startAgent } from "../../src/agent/live.js";
import { ElfFile } from "../../src/elf/file.js";
import { Assembler } from "../../src/isa/x86/assembler.js";
import type { Check } from "../live/check.js";

/** Numbers of the system calls that the checks make. */
export const numbers = {
  x86_64: { read: 0, open: 2, getpid: 39, mmap: 9, pause: 34, uname: 63, exit_group: 231 },
  i386: { read: 3, open: 5, getpid: 20, mmap: 192, pause: 29, uname: 122, exit_group: 252 },
} as const;
const PROT_READ = 1;
const PROT_RWX = 7;
const MAP_PRIVATE = 2;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const AT_SYSINFO = 32n;
const AT_SYSINFO_EHDR = 33n;

/** Whether a process runs: one that has ended and waits for its parent to ask how does not. */
export function alive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

function readMemory(pid: number, address: bigint, size: number): Buffer {
  const fd = openSync(`/proc/${pid}/mem`, "r");
  const bytes = Buffer.alloc(size);
  assert.equal(readSync(fd, bytes, 0, size, address), size);
  closeSync(fd);
  return bytes;
}

function writeMemory(pid: number, address: bigint, bytes: Uint8Array): void {
  const fd = openSync(`/proc/${pid}/mem`, "r+");
  // Node takes no bigint here; addresses of user space are below 2⁵³.
  writeSync(fd, bytes, 0, bytes.length, Number(address));
  closeSync(fd);
}

function auxv(agent: Agent): Map<bigint, bigint> {
  const bytes = readFileSync(`/proc/${agent.pid}/auxv`);
  const word = (at: number) => (agent.abi === "i386" ? BigInt(bytes.readUInt32LE(at)) : bytes.readBigUInt64LE(at));
  const size = agent.abi === "i386" ? 4 : 8;
  const entries = new Map<bigint, bigint>();
  for (let at = 0; at < bytes.length; at += 2 * size) entries.set(word(at), word(at + size));
  return entries;
}

/** The address of a function of the vDSO that an agent has. */
function vdsoFunction(agent: Agent, name: string): bigint {
  const base = auxv(agent).get(AT_SYSINFO_EHDR) as bigint;
  const line = readFileSync(`/proc/${agent.pid}/maps`, "latin1")
    .split("\n")
    .find((text) => text.startsWith(base.toString(16).padStart(8, "0")));
  const end = BigInt(`0x${/-([0-9a-f]+)/.exec(line as string)?.[1]}`);
  const symbol = new ElfFile(readMemory(agent.pid, base, Number(end - base)), { mapped: true }).lookup(name);
  assert.ok(symbol, `the vDSO has no ${name}`);
  return base + symbol.st_value;
}

/** Places a function in an agent. */
async function place(agent: Agent, write: (asm: Assembler) => Assembler): Promise<bigint> {
  const page = await agent.call(numbers[agent.abi].mmap, 0, 4096, PROT_RWX, MAP_PRIVATE_ANONYMOUS, -1, 0);
  assert.ok(page > 0n);
  writeMemory(agent.pid, page, write(new Assembler(iced, agent.abi === "i386" ? 32 : 64)).assemble(page).bytes);
  return page;
}

/** a + 2b + 4c + 8d + 16e, and the stack pointer's lowest four bits on top. */
const weigh = {
  x86_64: (asm: Assembler) =>
    asm
      .op("Lea_r64_m", "rax", { base: "rdi", index: "rsi", scale: 2 })
      .op("Lea_r64_m", "rax", { base: "rax", index: "rdx", scale: 4 })
      .op("Lea_r64_m", "rax", { base: "rax", index: "rcx", scale: 8 })
      .op("Shl_rm64_imm8", "r8", 4)
      .op("Add_r64_rm64", "rax", "r8")
      .op("Mov_r64_rm64", "rcx", "rsp")
      .op("And_rm32_imm8", "ecx", 15)
      .op("Shl_rm64_imm8", "rcx", 28)
      .op("Or_r64_rm64", "rax", "rcx")
      .op("Retnq"),
  i386: (asm: Assembler) =>
    asm
      .op("Mov_r32_rm32", "eax", { base: "esp", displacement: 20 })
      .op("Shl_rm32_imm8", "eax", 1)
      .op("Add_r32_rm32", "eax", { base: "esp", displacement: 16 })
      .op("Shl_rm32_imm8", "eax", 1)
      .op("Add_r32_rm32", "eax", { base: "esp", displacement: 12 })
      .op("Shl_rm32_imm8", "eax", 1)
      .op("Add_r32_rm32", "eax", { base: "esp", displacement: 8 })
      .op("Shl_rm32_imm8", "eax", 1)
      .op("Add_r32_rm32", "eax", { base: "esp", displacement: 4 })
      .op("Mov_r32_rm32", "ecx", "esp")
      .op("Shl_rm32_imm8", "ecx", 28)
      .op("Or_r32_rm32", "eax", "ecx")
      .op("Retnd"),
};
const weighed = (stack: bigint) => 1n + 2n * 3n + 4n * 5n + 8n * 7n + 16n * 9n + (stack << 28n);
/** What the stack pointer's lowest bits are at a function's entry where it was aligned before the call. */
const aligned = { x86_64: 8n, i386: 12n };

/** What holds of a live agent, for a kernel that runs programs of the ABI. */
export function agentChecks(abi: AgentAbi): Check[] {
  const number = numbers[abi];
  return [
    {
      name: "makes system calls, in the order asked",
      async run() {
        await using agent = await startAgent(abi);
        assert.equal(await agent.call(number.getpid), BigInt(agent.pid));
        const replies = await Promise.all(
          Array.from({ length: 500 }, (_, i) =>
            i % 2 ? agent.call(number.getpid) : agent.call(number.read, 99, 0, i),
          ),
        );
        assert.deepEqual(
          replies,
          replies.map((_, i) => (i % 2 ? BigInt(agent.pid) : -9n)),
        );
      },
    },
    {
      name: "writes where it is told, as /proc/PID/mem shows",
      async run() {
        await using agent = await startAgent(abi);
        const page = await agent.call(number.mmap, 0, 4096, PROT_RWX, MAP_PRIVATE_ANONYMOUS, -1, 0);
        assert.equal(await agent.call(number.uname, page), 0n);
        const names = readMemory(agent.pid, page, 390).toString("latin1").split(/\0+/);
        assert.ok(names.includes(os.release()), names.join());
      },
    },
    {
      name: "calls a function with five arguments on an aligned stack",
      async run() {
        await using agent = await startAgent(abi);
        const address = await place(agent, weigh[abi]);
        assert.equal(await agent.callAddress(address, 1, 3, 5, 7, 9), weighed(aligned[abi]));
        assert.equal(await agent.call(number.getpid), BigInt(agent.pid));
      },
    },
    {
      name: "reads the clock through its vDSO",
      async run() {
        await using agent = await startAgent(abi);
        const seconds = await agent.callAddress(vdsoFunction(agent, "__vdso_time"), 0);
        assert.ok(Math.abs(Number(seconds) - Date.now() / 1000) < 2, `${seconds}`);
      },
    },
    { name: "gives all six arguments to the kernel", run: () => checkSixArguments(abi) },
    {
      name: "shows a bare process: one argument, no environment, no executable stack",
      async run() {
        await using agent = await startAgent(abi);
        assert.equal(readFileSync(`/proc/${agent.pid}/cmdline`, "latin1"), "linux-gate-agent\0");
        assert.equal(readFileSync(`/proc/${agent.pid}/environ`, "latin1"), "");
        const maps = readFileSync(`/proc/${agent.pid}/maps`, "latin1");
        assert.match(maps, / rw-p .*\[stack\]/);
        assert.doesNotMatch(maps, / rwx/);
      },
    },
    {
      name: "rejects the calls that its end cuts short, and all later ones, saying how it ended",
      run: () => checkEnds(abi),
    },
    {
      name: "ends when closed, even while blocked",
      async run() {
        const agent = await startAgent(abi);
        const pending = assert.rejects(agent.call(number.pause), { reason: "closed" });
        await agent.close();
        await pending;
        assert.equal(alive(agent.pid), false);
        await agent.close();
        await assert.rejects(agent.call(number.getpid), { reason: "closed" });
      },
    },
    {
      name: "refuses arguments that are no words before it sends anything",
      async run() {
        await using agent = await startAgent(abi);
        const bits = abi === "i386" ? 32n : 64n;
        await assert.rejects(agent.call(number.getpid, 1n << bits), RangeError);
        await assert.rejects(agent.call(number.getpid, -(1n << (bits - 1n)) - 1n), RangeError);
        await assert.rejects(agent.call(number.getpid, 1, 2, 3, 4, 5, 6, 7), RangeError);
        await assert.rejects(agent.callAddress(0n, 1, 2, 3, 4, 5, 6), RangeError);
        await assert.rejects(agent.call(-1), RangeError);
        const extremes = [(1n << bits) - 1n, -(1n << (bits - 1n))];
        assert.equal(await agent.call(number.getpid, ...extremes), BigInt(agent.pid));
      },
    },
    ...(abi === "i386" ? [{ name: "enters the kernel by the vDSO's gate", run: checkGate }] : []),
  ];
}

/**
 * Maps a file's second page: the sixth argument counts pages on i386 and bytes on x86-64. A place is asked for, so that
 * the first counts too.
 */
async function checkSixArguments(abi: AgentAbi): Promise<void> {
  const number = numbers[abi];
  const scratch = mkdtempSync(path.join(os.tmpdir(), "agent-check-"));
  try {
    await using agent = await startAgent(abi);
    const file = path.join(scratch, "two-pages");
    writeFileSync(file, Buffer.concat([Buffer.alloc(4096, 1), Buffer.alloc(4096, 2)]));
    const page = await agent.call(number.mmap, 0x10000000, 4096, PROT_RWX, MAP_PRIVATE_ANONYMOUS, -1, 0);
    assert.equal(page, 0x10000000n);
    writeMemory(agent.pid, page, Buffer.from(`${file}\0`));
    const fd = await agent.call(number.open, page, 0, 0);
    assert.ok(fd >= 0n, `${fd}`);
    const offset = abi === "i386" ? 1 : 4096;
    const mapped = await agent.call(number.mmap, 0x10001000, 4096, PROT_READ, MAP_PRIVATE, fd, offset);
    assert.equal(mapped, 0x10001000n);
    assert.ok(readMemory(agent.pid, mapped, 4096).every((byte) => byte === 2));
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

async function checkEnds(abi: AgentAbi): Promise<void> {
  const number = numbers[abi];
  const killed = await startAgent(abi);
  await killed.call(number.getpid);
  const pending = killed.call(number.pause);
  process.kill(killed.pid, "SIGTERM");
  const bySignal = { code: undefined, signal: "SIGTERM" };
  await assert.rejects(pending, { name: "AgentError", reason: "gone", exit: bySignal });
  await assert.rejects(killed.call(number.getpid), /was ended by SIGTERM/);
  await killed.close();

  const left = await startAgent(abi);
  const byItself = { code: 7, signal: undefined };
  await assert.rejects(left.call(number.exit_group, 7), { reason: "gone", exit: byItself });
  assert.deepEqual(await left.exited, byItself);

  // At address 16 there is nothing to call.
  const fell = await startAgent(abi);
  await assert.rejects(fell.callAddress(16n), { reason: "gone", exit: { code: undefined, signal: "SIGSEGV" } });
}

async function checkGate(): Promise<void> {
  await using agent = await startAgent("i386");
  const gate = auxv(agent).get(AT_SYSINFO) as bigint;
  assert.equal(gate, vdsoFunction(agent, "__kernel_vsyscall"));
  // The gate takes its arguments in the registers of a system call, which a few instructions can put there.
  const address = await place(agent, (asm) =>
    asm
      .op("Mov_r32_rm32", "eax", { base: "esp", displacement: 8 })
      .op("Call_rm32", { base: "esp", displacement: 4 })
      .op("Retnd"),
  );
  assert.equal(await agent.callAddress(address, gate, numbers.i386.getpid), BigInt(agent.pid));
}
