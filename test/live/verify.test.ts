import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Agent, startAgent } from "../../src/agent/live.js";
import { AT_SYSINFO_EHDR, auxvValue, parseAuxv } from "../../src/linux/auxv.js";
import { LiveProcess } from "../../src/linux/live.js";
import { type Mapping, parseMaps } from "../../src/linux/maps.js";
import type { Abi } from "../../src/vdso/abi.js";
import { alternativesOf } from "../../src/vdso/boot/alternatives.js";
import { parseImage, type VdsoImage } from "../../src/vdso/image.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { Verifier, type VerifyPass } from "../../src/verbs/verify/live.js";
import { isFinding, type ProcessVerdict } from "../../src/verbs/verify/result.js";
import { imageBytes } from "../support/images.js";
import { needs } from "../support/referee.js";

/** Processes that do nothing, beside those that are tampered with. */
const CROWD = 1000;

const [WRITE, MMAP, MPROTECT, MUNMAP, MREMAP, MEMFD_CREATE] = [1, 9, 10, 11, 25, 319] as const;
const [PROT_READ, PROT_WRITE, PROT_EXEC] = [1, 2, 4] as const;
const [MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS] = [2, 0x10, 0x20] as const;
const [MREMAP_MAYMOVE, MREMAP_FIXED] = [1, 2] as const;

let crowd: ChildProcess;
let crowdPids: number[] = [];

beforeAll(async () => {
  const script = `i=0; while [ $i -lt ${CROWD} ]; do sleep 1000 & i=$((i + 1)); done; wait`;
  crowd = spawn("sh", ["-c", script], { stdio: "ignore", detached: true, env: { PATH: process.env.PATH ?? "" } });
  const children = () => readFileSync(`/proc/${crowd.pid}/task/${crowd.pid}/children`, "utf8").trim().split(" ");
  while (children().length < CROWD) await new Promise((resolve) => setTimeout(resolve, 50));
  crowdPids = children().map(Number);
  // The last of them may still be copies of the shell.
  await new Promise((resolve) => setTimeout(resolve, 300));
}, 60_000);

afterAll(() => {
  process.kill(-(crowd.pid as number), "SIGKILL");
});

/** A process whose vDSO is this test's to change. */
class Victim {
  readonly agent: Agent;
  readonly base: bigint;
  readonly size: number;
  readonly image: VdsoImage;

  constructor(agent: Agent) {
    this.agent = agent;
    const { start, end } = this.mapping("[vdso]");
    this.base = start;
    this.size = Number(end - start);
    this.image = parseImage(this.read(start, this.size), { mapped: true });
  }

  get pid(): number {
    return this.agent.pid;
  }

  mappings(): Mapping[] {
    return parseMaps(readFileSync(`/proc/${this.pid}/maps`, "utf8"));
  }

  mapping(name: string): Mapping {
    return this.mappings().find((one) => one.name === name) as Mapping;
  }

  read(address: bigint, size: number): Uint8Array {
    const live = new LiveProcess(this.pid);
    try {
      return live.read(address, size);
    } finally {
      live.close();
    }
  }

  /** Writes as a debugger would, whatever the protection. */
  write(address: bigint, bytes: Uint8Array): void {
    const descriptor = openSync(`/proc/${this.pid}/mem`, "r+");
    try {
      // The system call takes an offset of any size, Node's function a number.
      writeSync(descriptor, bytes, 0, bytes.length, Number(address));
    } finally {
      closeSync(descriptor);
    }
  }

  /** Turns a byte of the image into another. */
  flip(offset: number): void {
    const [byte] = this.read(this.base + BigInt(offset), 1);
    this.write(this.base + BigInt(offset), Uint8Array.of((byte as number) ^ 0x55));
  }

  async call(number: number, ...args: (number | bigint)[]): Promise<bigint> {
    const result = await this.agent.call(number, ...args);
    if (result < 0n) throw new Error(`system call ${number} gives ${result}`);
    return result;
  }

  functionOffset(name: string): number {
    const target = this.image.functions.find((one) => one.name === name);
    return Number((target as { address: bigint }).address - this.image.linkBase);
  }

  /** Where the vector on the stack has AT_SYSINFO_EHDR: the address of its tag. */
  stackEntry(): bigint {
    const entries = parseAuxv(readFileSync(`/proc/${this.pid}/auxv`), { wordSize: 8, littleEndian: true });
    const random = auxvValue(entries, 25) as bigint;
    const below = Buffer.from(this.read(random - 1024n, 1024));
    const wanted = Buffer.alloc(16);
    wanted.writeBigUInt64LE(BigInt(AT_SYSINFO_EHDR), 0);
    wanted.writeBigUInt64LE(this.base, 8);
    const at = below.indexOf(wanted);
    if (at < 0) throw new Error("the stack has no such entry");
    return random - 1024n + BigInt(at);
  }

  /** Maps a copy of the image from a file without a name. */
  async mapFileCopy(): Promise<bigint> {
    const name = this.base + BigInt(Buffer.from(this.image.bytes).indexOf("linux-vdso.so.1"));
    const file = await this.call(MEMFD_CREATE, name, 0);
    await this.call(WRITE, file, this.base, this.size);
    return this.call(MMAP, 0, this.size, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
  }

  async anonymous(size: number, prot: number): Promise<bigint> {
    return this.call(MMAP, 0, size, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }

  /** Moves a mapping, as mremap does. */
  async move({ start, end }: Mapping, to: bigint): Promise<void> {
    await this.call(MREMAP, start, end - start, end - start, MREMAP_MAYMOVE | MREMAP_FIXED, to);
  }
}

const victims: Agent[] = [];

async function victim(): Promise<Victim> {
  const agent = await startAgent("x86_64");
  victims.push(agent);
  // The first answer says that it runs.
  await agent.call(39);
  return new Victim(agent);
}

afterEach(async () => {
  for (const agent of victims.splice(0)) await agent.close();
});

async function fresh(abi: Abi) {
  if (abi !== "x86_64") return undefined;
  const agent = await startAgent(abi);
  return { pid: agent.pid, close: () => agent.kill() };
}

/** Looks at every process of the machine. */
async function verifyAll(): Promise<VerifyPass> {
  const verifier = new Verifier({ fresh, decoder: decoderFor });
  try {
    return await verifier.pass();
  } finally {
    verifier.close();
  }
}

const summary = ({ verdict, findings }: ProcessVerdict) => ({ verdict, ids: findings.map(({ id }) => id) });

/** What is found of one process, after making sure that of all others nothing is. */
async function foundOf(one: Victim): Promise<ProcessVerdict> {
  const { verdicts } = await verifyAll();
  const accused = verdicts.filter(({ verdict }) => isFinding(verdict));
  expect(accused.filter(({ pid }) => pid !== one.pid).map(summary)).toEqual([]);
  return verdicts.find(({ pid }) => pid === one.pid) as ProcessVerdict;
}

describe("verify, with a thousand processes alive", () => {
  it("accuses none of them", async () => {
    const { verdicts, summary: whole } = await verifyAll();
    expect(verdicts.filter(({ verdict }) => isFinding(verdict)).map(summary)).toEqual([]);
    const ok = new Set(verdicts.filter(({ verdict }) => verdict === "ok").map(({ pid }) => pid));
    expect(crowdPids.filter((pid) => !ok.has(pid))).toEqual([]);
    expect(whole.findings).toBe(0);
    expect(whole.images.map(({ abi, references }) => [abi, references])).toEqual([
      ["x86_64", ["a fresh x86_64 process"]],
    ]);
    const counted = Object.values(whole.counts).reduce((sum, count) => sum + count, 0);
    expect(counted).toBe(whole.processes);
  });

  it("finds a byte changed inside a site", async () => {
    const one = await victim();
    const site = alternativesOf(one.image)?.sites[0];
    one.flip(site?.offset as number);
    const { verdict, findings } = await foundOf(one);
    expect(verdict).toBe("tampered");
    expect(findings).toMatchObject([{ id: "site-changed", offset: site?.offset, technique: "T1055.014" }]);
  });

  it("finds a byte changed outside of all sites, with what was there", async () => {
    const one = await victim();
    const offset = one.functionOffset("__vdso_getcpu") + 1;
    const [before] = one.read(one.base + BigInt(offset), 1);
    one.flip(offset);
    const { findings } = await foundOf(one);
    expect(findings).toMatchObject([
      {
        id: "bytes-changed",
        address: one.base + BigInt(offset),
        function: "__vdso_getcpu",
        expected: Uint8Array.of(before as number),
        found: Uint8Array.of((before as number) ^ 0x55),
      },
    ]);
  });

  it("finds a byte changed in the ELF header and behind the image", async () => {
    const one = await victim();
    one.flip(9);
    one.flip(one.size - 1);
    const { verdict, findings } = await foundOf(one);
    expect(verdict).toBe("tampered");
    expect(findings).toMatchObject([
      { id: "bytes-changed", offset: 9, part: "ELF header" },
      { id: "bytes-changed", offset: one.size - 1 },
    ]);
  });

  it("finds a jump over __vdso_clock_gettime, and where it leads", async () => {
    const one = await victim();
    const cave = await one.anonymous(4096, PROT_READ | PROT_EXEC);
    const jump = new Uint8Array(12);
    jump.set([0x48, 0xb8]);
    new DataView(jump.buffer).setBigUint64(2, cave, true);
    jump.set([0xff, 0xe0], 10);
    one.write(one.base + BigInt(one.functionOffset("__vdso_clock_gettime")), jump);
    const { findings } = await foundOf(one);
    expect(findings[0]).toMatchObject({ id: "function-hooked", function: "__vdso_clock_gettime", leadsTo: cave });
  });

  it("finds a breakpoint that nobody's debugger set", async () => {
    const one = await victim();
    one.write(one.base + BigInt(one.functionOffset("__vdso_time")), Uint8Array.of(0xcc));
    const { verdict, findings } = await foundOf(one);
    expect(verdict).toBe("suspicious");
    expect(findings).toMatchObject([
      { id: "breakpoint-without-tracer", function: "__vdso_time", found: Uint8Array.of(0xcc) },
    ]);
  });

  it("finds a page that was written to though its bytes are right", async () => {
    const one = await victim();
    one.flip(100);
    one.flip(100);
    expect(summary(await foundOf(one))).toEqual({ verdict: "suspicious", ids: ["private-page"] });
  });

  it("finds a second mapping, a copy in memory without a file", async () => {
    const one = await victim();
    const copy = await one.anonymous(one.size, PROT_READ | PROT_EXEC);
    one.write(copy, one.image.bytes);
    const { findings } = await foundOf(one);
    expect(findings).toMatchObject([{ id: "vdso-copy", address: copy }]);
  });

  it("finds a copy in memory of a file", async () => {
    const one = await victim();
    const copy = await one.mapFileCopy();
    const { findings } = await foundOf(one);
    expect(findings).toMatchObject([{ id: "vdso-copy", address: copy, detail: expect.stringContaining("memfd") }]);
  });

  it("finds a vector on the stack that leads the program to another image, or to none", async () => {
    const one = await victim();
    const entry = one.stackEntry();
    const word = (value: bigint) => new Uint8Array(BigUint64Array.of(value).buffer);
    one.write(entry + 8n, word(0x1000n));
    const { verdict, findings } = await foundOf(one);
    expect(verdict).toBe("tampered");
    expect(findings).toMatchObject([{ id: "stack-vector-differs", severity: "high", address: 0x1000n }]);
    one.write(entry, word(1n));
    expect(await foundOf(one)).toMatchObject({
      verdict: "suspicious",
      findings: [{ id: "stack-vector-differs", severity: "medium", address: one.base }],
    });
    one.write(entry, word(33n));
    one.write(entry + 8n, word(one.base));
    expect(summary(await foundOf(one))).toEqual({ verdict: "ok", ids: [] });
  });

  it("finds a vDSO that was moved away", async () => {
    const one = await victim();
    await one.move(one.mapping("[vdso]"), await one.anonymous(one.size, PROT_READ));
    const { verdict, findings } = await foundOf(one);
    expect(verdict).toBe("tampered");
    expect(findings.map(({ id }) => id)).toContain("sysinfo-ehdr-elsewhere");
  });

  it("finds another image put in the place of one that was moved away", async () => {
    const one = await victim();
    await one.move(one.mapping("[vdso]"), await one.anonymous(one.size, PROT_READ));
    const flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS;
    await one.call(MMAP, one.base, one.size, PROT_READ | PROT_EXEC, flags, -1, 0);
    one.write(one.base, one.image.bytes);
    const { findings } = await foundOf(one);
    expect(findings.map(({ id }) => id)).toEqual(expect.arrayContaining(["sysinfo-ehdr-elsewhere", "second-vdso"]));
  });

  it("finds a vDSO that was unmapped", async () => {
    const one = await victim();
    await one.call(MUNMAP, one.base, one.size);
    expect(summary(await foundOf(one))).toEqual({ verdict: "suspicious", ids: ["vdso-unmapped"] });
  });

  it("finds a vDSO that the process may write to", async () => {
    const one = await victim();
    await one.call(MPROTECT, one.base, one.size, PROT_READ | PROT_WRITE | PROT_EXEC);
    expect(summary(await foundOf(one))).toEqual({ verdict: "tampered", ids: ["writable"] });
  });

  it("finds clock data that was replaced by the process's own", async () => {
    const one = await victim();
    const { start, end } = one.mapping("[vvar]");
    await one.call(MUNMAP, start, end - start);
    await one.call(MMAP, start, end - start, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
    const { findings } = await foundOf(one);
    expect(findings).toMatchObject([{ id: "data-missing", address: start }]);
  });
});

describe("verify without a fresh process", () => {
  it("holds processes against each other, and lets no majority of changed ones tell what is right", async () => {
    const changed = [await victim(), await victim(), await victim()];
    for (const one of changed) one.flip(one.functionOffset("__vdso_time"));
    const verifier = new Verifier();
    try {
      const pids = [...changed.map(({ pid }) => pid), crowdPids[0] as number];
      const { verdicts, summary: whole } = await verifier.pass(pids);
      expect(verdicts.map(({ verdict }) => verdict)).toEqual(["tampered", "tampered", "tampered", "ok"]);
      expect(whole.notes).toMatchObject([expect.stringContaining("no fresh x86_64 process")]);
      expect(whole.images[0]?.references).toEqual(["the image of most processes"]);
    } finally {
      verifier.close();
    }
  });

  it("holds them against images that are named, of their own ABI", async () => {
    const one = await victim();
    const other = parseImage(imageBytes("amd64__EPYC__amd64"), { mapped: true });
    const narrow = parseImage(imageBytes("amd64__EPYC__i386"), { mapped: true });
    const found = async (image: VdsoImage) => {
      const verifier = new Verifier({ fresh, given: [{ name: "named", image, kind: "patched" }] });
      const pass = await verifier.pass([one.pid]);
      verifier.close();
      return [pass.verdicts[0]?.findings.map(({ id }) => id), pass.summary.notes.length];
    };
    expect(await found(one.image)).toEqual([[], 0]);
    expect(await found(other)).toEqual([["other-image"], 0]);
    expect(await found(narrow)).toEqual([[], 1]);
  });
});

describe("what is legitimate", () => {
  /** As CRIU leaves a process that was saved under another kernel: its old image leads to the kernel's own. */
  async function restored(one: Victim): Promise<bigint> {
    const special = one.mappings().filter(({ name }) => /^\[(vvar|vvar_vclock|vdso)\]$/.test(name));
    const first = special[0]?.start as bigint;
    const park = await one.anonymous(Number(one.base + BigInt(one.size) - first), PROT_READ);
    for (const mapping of special) await one.move(mapping, park + mapping.start - first);
    const runtime = park + one.base - first;
    await one.call(MMAP, one.base, one.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
    const old = one.image.bytes.slice();
    const view = new DataView(old.buffer);
    for (const name of ["__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_getcpu"]) {
      const offset = one.functionOffset(name);
      view.setUint16(offset, 0xb848, true);
      view.setBigUint64(offset + 2, runtime + BigInt(offset), true);
      view.setUint16(offset + 10, 0xe0ff, true);
      view.setUint32(offset + 12, 0xcccccccc, true);
    }
    one.write(one.base, old);
    await one.call(MPROTECT, one.base, one.size, PROT_READ | PROT_EXEC);
    const mark = new Uint8Array(40);
    mark.set(new TextEncoder().encode("CRIUvDSO"));
    new DataView(mark.buffer).setBigUint64(8, one.base, true);
    new DataView(mark.buffer).setBigUint64(16, 3n, true);
    one.write(runtime, mark);
    return runtime;
  }

  it("an image that CRIU made lead to the kernel's own", async () => {
    const one = await victim();
    const runtime = await restored(one);
    const { verdict, findings, marks } = await foundOf(one);
    expect(findings).toEqual([]);
    expect(verdict).toBe("criu");
    expect(marks[0]?.detail).toContain(`0x${runtime.toString(16)}`);
  });

  it("but not one of whose functions leads elsewhere, nor one with more changed than CRIU changes", async () => {
    const elsewhere = await victim();
    const runtime = await restored(elsewhere);
    elsewhere.write(elsewhere.base + BigInt(elsewhere.functionOffset("__vdso_time") + 2), Uint8Array.of(0x99));
    expect((await foundOf(elsewhere)).verdict).toBe("tampered");
    elsewhere.agent.kill();
    await elsewhere.agent.exited;

    // CRIU leaves none of these functions as it was.
    const partly = await victim();
    await restored(partly);
    partly.write(partly.base + BigInt(partly.functionOffset("__vdso_time")), partly.image.bytes.slice(0, 16));
    expect((await foundOf(partly)).verdict).toBe("tampered");
    partly.agent.kill();
    await partly.agent.exited;

    const changed = await victim();
    const kernels = await restored(changed);
    expect(runtime).not.toBe(0n);
    const offset = changed.functionOffset("__vdso_gettimeofday");
    changed.write(kernels + BigInt(offset), Uint8Array.of(0xe9, 0, 0, 0x10, 0));
    const { findings } = await foundOf(changed);
    expect(findings).toMatchObject([{ function: "__vdso_gettimeofday", address: kernels + BigInt(offset) }]);
  });

  it.skipIf(!needs("gdb", "gdb"))("a breakpoint of gdb's", async () => {
    const sleeper = spawn("sleep", ["1000"], { stdio: "ignore" });
    const commands = ["break *__vdso_clock_gettime", "shell echo ready", "continue"];
    const args = ["-nx", "-q", "-p", String(sleeper.pid), ...commands.flatMap((command) => ["-ex", command])];
    await new Promise((resolve) => setTimeout(resolve, 200));
    const gdb = spawn("gdb", args, { stdio: ["pipe", "pipe", "ignore"] });
    try {
      await new Promise<void>((resolve) => {
        let text = "";
        gdb.stdout.on("data", (chunk) => {
          text += chunk;
          if (/Continuing/.test(text)) resolve();
        });
      });
      // gdb puts its breakpoints in place when the program goes on.
      let found: ProcessVerdict | undefined;
      for (let tries = 0; tries < 50 && !found?.marks.length; tries++) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        const { verdicts } = await verifyAll();
        expect(verdicts.filter(({ verdict }) => isFinding(verdict)).map(summary)).toEqual([]);
        found = verdicts.find(({ pid }) => pid === sleeper.pid);
      }
      expect(found).toMatchObject({ verdict: "breakpoint", name: "sleep", findings: [] });
      expect(found?.marks[0]).toMatchObject({ kind: "breakpoint", function: "__vdso_clock_gettime" });
      expect(found?.marks[0]?.detail).toContain("(gdb)");
    } finally {
      gdb.kill("SIGKILL");
      sleeper.kill("SIGKILL");
    }
  });

  it("a program that was run by the dynamic linker as a program, which moves its vector", async () => {
    const linker = parseMaps(readFileSync("/proc/self/maps", "utf8")).find(({ name }) => /\/ld-[^/]*\.so/.test(name));
    const args = ["--argv0", "other", "/bin/sleep", "1000"];
    const child = spawn((linker as Mapping).name, args, { stdio: "ignore" });
    const verifier = new Verifier({ fresh });
    try {
      await new Promise((resolve) => setTimeout(resolve, 200));
      const { verdicts } = await verifier.pass([child.pid as number]);
      expect(verdicts.map(summary)).toEqual([{ verdict: "ok", ids: [] }]);
    } finally {
      verifier.close();
      child.kill("SIGKILL");
    }
  });

  it.skipIf(!needs("valgrind", "valgrind"))("a program that valgrind runs, which unmaps the vDSO", async () => {
    const child = spawn("sh", ["-c", "exec valgrind -q --tool=none sleep 1000"], { stdio: "ignore" });
    try {
      await new Promise((resolve) => setTimeout(resolve, 1500));
      const verifier = new Verifier({ fresh });
      const { verdicts } = await verifier.pass([child.pid as number]);
      verifier.close();
      expect(verdicts.map(summary)).toEqual([{ verdict: "valgrind", ids: [] }]);
    } finally {
      child.kill("SIGKILL");
    }
  });
});

describe("passes one after the other", () => {
  it("see what changes between them, and what ends, through files that were kept open", async () => {
    const verifier = new Verifier({ fresh, decoder: decoderFor, again: true });
    try {
      const one = await victim();
      const look = async () => {
        const { verdicts } = await verifier.pass();
        return verdicts.filter(({ verdict }) => isFinding(verdict)).map(({ pid, verdict }) => [pid, verdict]);
      };
      expect(await look()).toEqual([]);
      expect(await look()).toEqual([]);
      const offset = one.functionOffset("__vdso_time");
      one.flip(offset);
      expect(await look()).toEqual([[one.pid, "tampered"]]);
      one.flip(offset);
      expect(await look()).toEqual([[one.pid, "suspicious"]]);
      await one.call(MPROTECT, one.base, one.size, PROT_READ | PROT_WRITE | PROT_EXEC);
      expect(await look()).toEqual([[one.pid, "tampered"]]);
      one.agent.kill();
      await one.agent.exited;
      expect(await look()).toEqual([]);
    } finally {
      verifier.close();
    }
  });

  it("see the program that a process executes, whose files of before are held", async () => {
    const verifier = new Verifier({ fresh, again: true });
    const child = spawn("sh", ["-c", "read x; exec sleep 1000"], { stdio: ["pipe", "ignore", "ignore"] });
    const pid = child.pid as number;
    try {
      await new Promise((resolve) => setTimeout(resolve, 100));
      const verdict = async () => (await verifier.pass([pid])).verdicts[0]?.verdict;
      expect([await verdict(), await verdict()]).toEqual(["ok", "ok"]);
      child.stdin.write("\n");
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(readFileSync(`/proc/${pid}/comm`, "utf8")).toBe("sleep\n");
      expect(await verdict()).toBe("ok");
      const { start } = parseMaps(readFileSync(`/proc/${pid}/maps`, "utf8")).find(
        ({ name }) => name === "[vdso]",
      ) as Mapping;
      const descriptor = openSync(`/proc/${pid}/mem`, "r+");
      // The last byte is padding.
      writeSync(descriptor, Uint8Array.of(1), 0, 1, Number(start) + 0x1fff);
      closeSync(descriptor);
      expect(await verdict()).toBe("tampered");
    } finally {
      verifier.close();
      child.kill("SIGKILL");
    }
  });

  it("accuse none of the processes that appear and vanish, and count each", async () => {
    const loops = Array.from({ length: 3 }, () =>
      spawn("sh", ["-c", "while :; do /bin/true; done"], { stdio: "ignore" }),
    );
    const verifier = new Verifier({ fresh, again: true });
    try {
      for (let i = 0; i < 12; i++) {
        const { verdicts, summary: whole } = await verifier.pass();
        expect(verdicts.filter(({ verdict }) => isFinding(verdict))).toEqual([]);
        expect(Object.values(whole.counts).reduce((sum, count) => sum + count, 0)).toBe(whole.processes);
        expect(whole.processes).toBe(verdicts.length);
      }
    } finally {
      verifier.close();
      for (const loop of loops) loop.kill("SIGKILL");
    }
  });

  it("leave no file open", async () => {
    const open = () => readdirSync("/proc/self/fd").length;
    const before = open();
    for (let i = 0; i < 2; i++) {
      const verifier = new Verifier({ again: true });
      await verifier.pass();
      await verifier.pass();
      expect(open()).toBeGreaterThan(before + CROWD);
      verifier.close();
    }
    expect(open()).toBe(before);
  });
});

// Here, for a process that another file changes meanwhile would be found by the tests above.
describe("verify --watch", () => {
  const program = fileURLToPath(new URL("../../bin/linux-gate", import.meta.url));

  /** A watch of one process, with the lines that it has written. */
  function watching(pid: number) {
    const args = [program, "verify", String(pid), "--watch", "0.1", "--json"];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
    });
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    const lines = () =>
      text
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line));
    const until = async (count: number) => {
      while (lines().length < count && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 20));
      // What comes too often comes now; and by now it listens for signals.
      await new Promise((resolve) => setTimeout(resolve, 400));
    };
    return { child, ended, lines, until };
  }

  it("tells of a change once, then of the end of the process, and ends by SIGINT with status 1", async () => {
    const one = await victim();
    const { child, ended, lines, until } = watching(one.pid);
    await until(2);
    one.flip(one.size - 1);
    await until(3);
    expect(lines().map(({ kind, verdict }) => verdict ?? kind)).toEqual(["ok", "summary", "tampered"]);
    one.agent.kill();
    await until(4);
    expect(lines().slice(3)).toMatchObject([
      { pid: one.pid, verdict: expect.stringMatching(/^(vanished|zombie)$/), findings: [] },
    ]);
    child.kill("SIGINT");
    expect(await ended).toBe(1);
  }, 15_000);

  it("ends by SIGTERM with status 0 where nothing was found", async () => {
    const { child, ended, lines, until } = watching(crowdPids[0] as number);
    await until(2);
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
    expect(lines()).toHaveLength(2);
  }, 15_000);
});
