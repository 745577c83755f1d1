import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startAgent } from "../../src/agent/live.js";
import { LiveProcess } from "../../src/linux/live.js";
import { resolveTarget } from "../../src/targets/resolve.js";
import { ProcessTarget, type Target } from "../../src/targets/target.js";
import { auxv } from "../../src/verbs/auxv.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { dump } from "../../src/verbs/dump.js";
import { report } from "../../src/verbs/report.js";
import { linuxGate, linuxGateBytes } from "../support/cli.js";
import { needs, output } from "../support/referee.js";

const scratch = mkdtempSync(join(tmpdir(), "linux-gate-live-"));
let sleeper: ChildProcess;
let pid: string;

beforeAll(async () => {
  sleeper = spawn("sleep", ["1000"], { stdio: "ignore" });
  pid = String(sleeper.pid);
  // Until its dynamic linker is done, its mappings change.
  await new Promise((resolve) => setTimeout(resolve, 200));
});
afterAll(() => {
  sleeper.kill();
  rmSync(scratch, { recursive: true, force: true });
});

async function using<T>(word: string | undefined, use: (target: Target) => T | Promise<T>): Promise<T> {
  const target = await resolveTarget(word);
  try {
    return await use(target);
  } finally {
    await target.close();
  }
}

const gdb = needs("gdb", "gdb");
const gdbOn = (...commands: string[]) =>
  output("gdb", "-nx", "-batch", "-p", pid, ...commands.flatMap((command) => ["-ex", command]));

describe("a running process", () => {
  it("has the maps that cat shows, byte for byte", () => {
    const { stdout, status } = linuxGateBytes(["maps", pid, "--raw"]);
    expect(status).toBe(0);
    expect(stdout.equals(readFileSync(`/proc/${pid}/maps`))).toBe(true);
  });

  it("has each mapping in the table", () => {
    const { stdout } = linuxGate(["maps", pid]);
    const lines = readFileSync(`/proc/${pid}/maps`, "utf8").trimEnd().split("\n");
    expect(stdout.trimEnd().split("\n")).toHaveLength(lines.length + 1);
    expect(stdout).toMatch(/\[vdso\] +the vDSO: code of the kernel/);
  });

  it.skipIf(!gdb)("has every tag and value that gdb's info auxv shows, and its strings", async () => {
    const result = await using(pid, (target) => auxv(target as ProcessTarget));
    // 33   AT_SYSINFO_EHDR      System-supplied DSO's ELF header 0x7fac33b60000
    const rows = [...gdbOn("info auxv").matchAll(/^(\d+) +(AT_\S+|\?\?\?) .*? (0x[0-9a-f]+|\d+)(?: "(.*)")?$/gm)];
    const theirs = rows
      .filter(([, tag]) => tag !== "0")
      .map(([, tag, name, value, text]) => ({ tag, name, value, text }));
    expect(theirs.length).toBeGreaterThan(15);
    expect(result.entries.map(({ tag, value }) => [String(tag), value])).toEqual(
      theirs.map(({ tag, value }) => [tag, BigInt(value as string)]),
    );
    for (const [i, { name, text }] of theirs.entries()) {
      if (name !== "???") expect(result.entries[i]?.name).toBe(name);
      if (text !== undefined) expect(result.entries[i]?.text).toBe(text);
    }
  });

  it("has every entry that LD_SHOW_AUXV shows", () => {
    const shown = output("env", "LD_SHOW_AUXV=1", "/bin/true");
    const theirs = [...shown.matchAll(/^AT_(?:(\w+)|\?\?\? \((0x[0-9a-f]+)\)):/gm)].map(
      ([, name, tag]) => name ?? Number(tag),
    );
    const { entries } = JSON.parse(linuxGate(["auxv", pid, "--json"]).stdout) as {
      entries: { name: string; tag: number }[];
    };
    // The C library does not know the names of all tags; those it writes by number.
    expect(theirs.map((one) => entries.some(({ name, tag }) => name === `AT_${one}` || tag === one))).toEqual(
      theirs.map(() => true),
    );
    expect(entries.length).toBe(theirs.length);
  });

  it("has AT_RANDOM's bytes and AT_EXECFN's string in its own memory", async () => {
    const { entries } = await using(pid, (target) => auxv(target as ProcessTarget));
    const random = entries.find(({ name }) => name === "AT_RANDOM");
    expect(random?.bytes).toHaveLength(16);
    expect(entries.find(({ name }) => name === "AT_EXECFN")?.text).toMatch(/sleep$/);
  });

  it.skipIf(!gdb)("gives the bytes that gdb's dump memory gives", async () => {
    const file = join(scratch, "gdb.dump");
    const line = /^([0-9a-f]+)-([0-9a-f]+).*\[vdso\]$/m.exec(readFileSync(`/proc/${pid}/maps`, "utf8"));
    gdbOn(`dump memory ${file} 0x${line?.[1]} 0x${line?.[2]}`);
    const ours = join(scratch, "ours.dump");
    expect(linuxGate(["dump", pid, "-o", ours]).status).toBe(0);
    expect(readFileSync(ours).equals(readFileSync(file))).toBe(true);
  });

  it("is not stopped and not attached to", () => {
    linuxGate(["dump", pid, "-o", join(scratch, "again")]);
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    expect(status).toMatch(/^TracerPid:\s+0$/m);
    expect(status).toMatch(/^State:\s+S/m);
  });
});

describe("this machine's own image beside GNU tools", () => {
  const file = join(scratch, "self.so");
  beforeAll(() => {
    linuxGate(["dump", "x86_64", "-o", file]);
  });
  const inFolder = (...args: string[]) => linuxGate(args, { cwd: scratch }).stdout;
  const referee = (command: string, ...args: string[]) =>
    spawnSync(command, args, { cwd: scratch, encoding: "utf8", env: { ...process.env, LC_ALL: "C" } }).stdout;

  it.skipIf(!needs("objdump", "binutils"))("symbols --gnu is objdump -T", () => {
    expect(inFolder("symbols", "self.so", "--gnu")).toBe(referee("objdump", "-T", "self.so"));
  });

  it.skipIf(!needs("objdump", "binutils"))("disasm --gnu is objdump -d, line for line", () => {
    expect(inFolder("disasm", "self.so", "--gnu")).toBe(referee("objdump", "-d", "self.so"));
  });

  it.skipIf(!needs("file", "file"))("file is file -b", () => {
    expect(inFolder("file", "self.so")).toBe(referee("file", "-b", "self.so"));
  });

  it.skipIf(!needs("nm", "binutils"))("the table of symbols has the letters and values of nm -D", () => {
    const theirs = referee("nm", "-D", "--with-symbol-versions", "self.so").trimEnd().split("\n").sort();
    const { symbols } = JSON.parse(inFolder("symbols", "self.so", "--json"));
    const ours = symbols.map((one: { value: string; letter: string; name: string; version: string }) => {
      const value = BigInt(one.value).toString(16).padStart(16, "0");
      // The symbol that stands for a version is written without it.
      return `${value} ${one.letter} ${one.name}${one.name === one.version ? "" : `@@${one.version}`}`;
    });
    expect(ours.sort()).toEqual(theirs);
  });

  it.skipIf(!needs("readelf", "binutils"))("the table of symbols has the facts of readelf --dyn-syms", () => {
    const theirs = [
      ...referee("readelf", "--dyn-syms", "-W", "self.so").matchAll(
        /^ +(\d+): ([0-9a-f]+) +(\S+) (\w+) +(\w+) +(\w+) +(\w+) ([^@\s]+)(?:@@(\S+))?$/gm,
      ),
    ].map(([, index, value, size, type, bind, visibility, , name, version]) =>
      [index, BigInt(`0x${value}`), BigInt(size as string), type, bind, visibility, name, version ?? name].join(" "),
    );
    const { symbols } = JSON.parse(inFolder("symbols", "self.so", "--json"));
    const ours = symbols.map((one: Record<string, string>) =>
      [
        ...[one.index, BigInt(one.value as string), BigInt(one.size as string), one.type, one.bind],
        ...[one.visibility, one.name, one.version],
      ].join(" "),
    );
    expect(ours).toEqual(theirs);
  });
});

describe("a process whose vDSO was tampered with by system calls of its own", () => {
  const NUMBER = { mmap: 9, mprotect: 10, munmap: 11, mremap: 25 } as const;

  /** A fresh process, and the place of its vDSO before anything is done to it. */
  async function withAgent(
    use: (agent: Awaited<ReturnType<typeof startAgent>>, base: bigint, size: bigint) => Promise<void>,
  ) {
    const agent = await startAgent("x86_64");
    try {
      const before = new ProcessTarget("an agent", new LiveProcess(agent.pid));
      const { location } = before;
      if (!location) throw new Error("no vDSO");
      await use(agent, location.base, BigInt(location.size));
    } finally {
      await agent.close();
    }
  }
  const look = (agentPid: number) => new ProcessTarget("it", new LiveProcess(agentPid));

  it("has none once it is unmapped, and says where AT_SYSINFO_EHDR points", () =>
    withAgent(async (agent, base, size) => {
      expect(await agent.call(NUMBER.munmap, base, size)).toBe(0n);
      expect(() => look(agent.pid).image).toThrow(`AT_SYSINFO_EHDR is 0x${base.toString(16)}, where nothing is mapped`);
      const part = await report(look(agent.pid), ({ abi }) => decoderFor(abi));
      expect(part.content).toBeUndefined();
      expect(part.problem).toMatch(/has no vDSO/);
    }));

  it("is found by its name where it was moved", () =>
    withAgent(async (agent, base, size) => {
      const place = await agent.call(NUMBER.mmap, 0, size, 0, 0x22, -1, 0);
      expect(await agent.call(NUMBER.mremap, base, size, size, 3, place)).toBe(place);
      const { location, image } = look(agent.pid);
      expect(location).toMatchObject({ base: place, size: Number(size), foundBy: "[vdso] in maps", sysinfoEhdr: base });
      expect(image.soname).toBe("linux-vdso.so.1");
    }));

  it("is still read where its protection was changed", () =>
    withAgent(async (agent, base, size) => {
      const PROT_NONE = 0;
      expect(await agent.call(NUMBER.mprotect, base, size, PROT_NONE)).toBe(0n);
      const { location } = look(agent.pid);
      expect(location?.mappings.map(({ perms }) => perms)).toEqual(["---p"]);
      expect(dump(look(agent.pid)).bytes).toHaveLength(Number(size));
    }));
});

describe("what is no ordinary process", () => {
  it("a thread's id shows the process, and says so", async () => {
    const worker = new Worker("setInterval(() => {}, 1000)", { eval: true });
    try {
      await new Promise((resolve) => worker.once("online", resolve));
      const thread = output("ls", `/proc/${process.pid}/task`)
        .trim()
        .split("\n")
        .find((id) => id !== String(process.pid));
      const { stderr, stdout, status } = linuxGate(["symbols", thread as string]);
      expect(status).toBe(0);
      expect(stderr).toContain(`${thread} is a thread of process ${process.pid}`);
      expect(stdout).toContain("__vdso_clock_gettime");
    } finally {
      await worker.terminate();
    }
  });

  /** Every verb that takes a process, each with its ways to print. */
  const verbs = [
    ...["maps", "auxv", "dump", "file", "symbols", "disasm", "explain"].map((verb) => [verb]),
    ...[
      ["maps", "--raw"],
      ["ldd", "--pid"],
    ],
  ];

  /** That every verb ends with status 2 and says why, once. */
  function expectRefusal(id: string, why: string) {
    for (const words of verbs) {
      expect(linuxGate([...words, id]), words.join(" ")).toEqual({
        stdout: "",
        stderr: `linux-gate: ${why}\n`,
        status: 2,
      });
      if (!["maps", "auxv", "symbols"].includes(words.join(" "))) continue;
      const { stdout, status } = linuxGate([...words, id, "--json"]);
      expect({ result: JSON.parse(stdout), status }).toEqual({ result: { schema: 1, error: why }, status: 2 });
    }
    const { stdout, status } = linuxGate(["report", id]);
    expect(stdout.split(why)).toHaveLength(2);
    expect(status).toBe(2);
    // Of another target beside it, all is shown.
    const both = linuxGate(["report", "self", id]).stdout;
    expect(both).toContain("__vdso_clock_gettime");
    expect(both).toContain(why);
  }

  // kthreadd's children, in every kernel's first name space; a worker's name changes with its work.
  const kernelThread = readdirSync("/proc").find((id) => {
    const stat = /^\d+$/.test(id) ? spawnSync("cat", [`/proc/${id}/stat`], { encoding: "utf8" }).stdout : "";
    return /^\d+ \((?!kworker).*\) \S+ 2 /.test(stat);
  });
  it.skipIf(kernelThread === undefined)("a kernel thread has no vDSO, on every verb", () => {
    const name = readFileSync(`/proc/${kernelThread}/stat`, "utf8").replace(/^\d+ (\(.*\)).*\n$/s, "$1");
    const why = `process ${kernelThread} ${name} is a kernel thread: it has no user memory and so no vDSO`;
    expectRefusal(kernelThread as string, why);
  });

  it("a zombie's memory is gone, on every verb", async () => {
    const parent = spawn("sh", ["-c", "sleep 0 & exec sleep 30"], { stdio: "ignore" });
    try {
      await new Promise((resolve) => setTimeout(resolve, 300));
      const child = readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, "utf8").trim();
      expectRefusal(child, `process ${child} (sleep) is a zombie: its memory is gone`);
    } finally {
      parent.kill();
    }
  });

  it("a process that becomes a zombie after it was named has ended, in every part", async () => {
    // The parent never asks for its child's end.
    const parent = spawn("sh", ["-c", "sleep 1000 & exec sleep 1000"], { stdio: "ignore" });
    try {
      await new Promise((resolve) => setTimeout(resolve, 300));
      const child = readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, "utf8").trim();
      const target = (await resolveTarget(child)) as ProcessTarget;
      process.kill(Number(child), "SIGKILL");
      await new Promise((resolve) => setTimeout(resolve, 100));
      for (const part of ["mapsBytes", "mappings", "auxv", "location", "imageBytes"] as const) {
        expect(() => target[part], part).toThrow(/has ended \(ESRCH\)/);
      }
    } finally {
      parent.kill();
    }
  });

  it.each(["0", "00", "4194305", "4294967297", "99999999999999999999"])("no process has the id %s", (id) => {
    for (const words of [["maps"], ["ldd", "--pid"]]) {
      expect(linuxGate([...words, id])).toEqual({
        stdout: "",
        stderr: `linux-gate: process ${id}: no such process: ids are 1 to 4194304 (ESRCH)\n`,
        status: 2,
      });
    }
  });

  it("a process that ends while it is read is an error, not a mixture", async () => {
    const short = spawn("sleep", ["1000"], { stdio: "ignore" });
    const view = new LiveProcess(short.pid as number);
    const target = new ProcessTarget("it", view);
    const base = target.location?.base as bigint;
    view.read(base, 16);
    short.kill("SIGKILL");
    await new Promise((resolve) => short.once("exit", resolve));
    expect(() => view.read(base, 16)).toThrow(/ended|nothing is mapped/);
    expect(() => new LiveProcess(short.pid as number).mapsBytes()).toThrow(/no such process|has ended/);
    view.close();
  });

  it("memory that is held is that of one program, until it is held anew", async () => {
    const shell = spawn("sh", ["-c", "read x; exec sleep 1000"], { stdio: ["pipe", "ignore", "ignore"] });
    const view = new LiveProcess(shell.pid as number);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const base = () => new ProcessTarget("it", new LiveProcess(shell.pid as number)).location?.base as bigint;
    const before = base();
    view.hold();
    shell.stdin.end("\n");
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(() => view.read(before, 16)).toThrow(/has ended or has executed another program \(ESRCH\)/);
    view.hold();
    expect(view.read(base(), 4)).toEqual(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46));
    shell.kill();
    view.close();
  });

  const setpriv = needs("setpriv", "util-linux") && process.getuid?.() === 0;
  it.skipIf(!setpriv)("another user's process: what is refused is said", () => {
    const program = join(import.meta.dirname, "../../bin/linux-gate");
    const run = (verb: string) =>
      spawnSync("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", process.execPath, program, verb, pid], {
        encoding: "utf8",
      });
    for (const verb of ["maps", "auxv", "dump"]) {
      const { stderr, status } = run(verb);
      expect(stderr).toMatch(/permission denied: run as the owner of the process or as root .*\((EACCES|EPERM)\)/);
      expect(status).toBe(2);
    }
    const partial = run("report");
    expect(partial.stdout).toMatch(/maps unreadable.*EACCES/);
    expect(partial.stdout).toContain(`process ${pid} (sleep)`);
    expect(partial.status).toBe(2);
  });

  describe.skipIf(!setpriv)("root without CAP_SYS_PTRACE", () => {
    const program = join(import.meta.dirname, "../../bin/linux-gate");
    const without = (capability: string, ...command: string[]) => {
      const limits = [`--bounding-set=-${capability}`, `--inh-caps=-${capability}`];
      return spawnSync("setpriv", [...limits, ...command], { encoding: "utf8" });
    };

    it.each(["sys_ptrace", "all"])("is not told to become root (without %s)", (capability) => {
      const { stdout, stderr, status } = without(capability, process.execPath, program, "dump", pid);
      expect({ stdout, status }).toEqual({ stdout: "", status: 2 });
      expect(stderr).toMatch(
        /permission denied although this is root: CAP_SYS_PTRACE is missing .*\((EACCES|EPERM)\)\n$/,
      );
      expect(stderr).not.toContain("run as");
    });

    it("is shown the maps where cat is, though the memory is refused", () => {
      const theirs = without("sys_ptrace", "cat", `/proc/${pid}/maps`);
      const ours = without("sys_ptrace", process.execPath, program, "maps", pid, "--raw");
      expect(ours.stdout).toBe(theirs.stdout);
      expect(ours.status).toBe(theirs.status === 0 ? 0 : 2);
    });
  });
});

it("memory does not grow with the number of targets looked at", async () => {
  const once = () => using(pid, (target) => dump(target).bytes.length);
  for (let i = 0; i < 200; i++) await once();
  const handles = () => output("sh", "-c", `ls /proc/${process.pid}/fd | wc -l`).trim();
  const before = handles();
  for (let i = 0; i < 500; i++) await once();
  expect(handles()).toBe(before);
});
