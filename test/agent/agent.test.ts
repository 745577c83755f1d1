import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { build } from "esbuild";
import iced from "iced-x86";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentImages } from "../../src/agent/images.js";
import { AgentError, agentFolders, startAgent } from "../../src/agent/live.js";
import { agentCode, agentElf } from "../../src/agent/program.js";
import { EM_AARCH64 } from "../../src/elf/constants.js";
import { ElfFile } from "../../src/elf/file.js";
import { Assembler } from "../../src/isa/x86/assembler.js";
import { runsHere } from "../support/native.js";
import { needs, output } from "../support/referee.js";
import { agentChecks, alive, numbers } from "./live-checks.js";

const abis = ["x86_64", "i386"] as const;
const scratch = mkdtempSync(path.join(os.tmpdir(), "agent-test-"));
const bundle = path.join(scratch, "live.mjs");

beforeAll(async () => {
  await build({
    entryPoints: [new URL("../../src/agent/live.ts", import.meta.url).pathname],
    outfile: bundle,
    bundle: true,
    platform: "node",
    format: "esm",
  });
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const native = { x86_64: runsHere("x86_64"), i386: runsHere("i386") };

/** A folder of its own for the temporary files of a process. */
function folder(name: string): string {
  const made = path.join(scratch, name);
  mkdirSync(made, { recursive: true });
  return made;
}

function script(text: string): string[] {
  return ["--input-type=module", "-e", `import { startAgent } from ${JSON.stringify(bundle)};\n${text}`];
}

async function ended(pids: readonly number[]): Promise<boolean> {
  for (let i = 0; i < 200; i++) {
    if (!pids.some(alive)) return true;
    await sleep(10);
  }
  return false;
}

/** Processes whose program lies, or lay, in a folder. */
function programsFrom(place: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/exe`).startsWith(place);
      } catch {
        return false;
      }
    });
}

describe.each(abis)("the %s agent's image", (abi) => {
  const file = path.join(scratch, `${abi}.image`);
  const image = Buffer.from(agentImages[abi], "base64");
  writeFileSync(file, image);

  it("is what its source assembles to", () => {
    expect(Buffer.from(agentElf(abi, agentCode(iced, abi))).equals(image)).toBe(true);
  });

  it.skipIf(!needs("readelf", "binutils"))("has one segment, read-only, and no executable stack for readelf", () => {
    const text = output("readelf", "-lW", file);
    const headers = text.split("\n").filter((line) => /^ {2}[A-Z_]+ +0x/.test(line));
    expect(headers).toHaveLength(2);
    expect(headers[0]).toMatch(/^ +LOAD .* R E /);
    expect(headers[1]).toMatch(/^ +GNU_STACK .* RW /);
    expect(text).not.toMatch(/RWE|Warning|Error/i);
    expect(output("readelf", "-SW", file)).toMatch(/no sections/);
    expect(image.length).toBeLessThan(400);
  });

  it.skipIf(!needs("file", "file"))("is a static executable for file", () => {
    const size = abi === "i386" ? "32" : "64";
    expect(output("file", "-b", file)).toMatch(new RegExp(`^ELF ${size}-bit LSB executable.*statically linked`));
  });

  it.skipIf(!needs("objdump", "binutils"))("disassembles from the entry to the last byte for objdump", () => {
    const { header } = new ElfFile(image);
    const start = Number(header.e_entry & 0xfffn);
    const machine = abi === "i386" ? "i386" : "i386:x86-64";
    const text = output("objdump", "-D", "-b", "binary", "-m", machine, `--start-address=${start}`, file);
    const lines = text.split("\n").filter((line) => /^ +[0-9a-f]+:/.test(line));
    expect(text).not.toContain("(bad)");
    expect(lines[0]).toMatch(/sub +\$0x[0-9a-f]+,%[er]sp$/);
    expect(lines.at(-1)).toMatch(abi === "i386" ? /int +\$0x80$/ : /syscall *$/);
  });
});

describe.skipIf(!native.x86_64)("a live x86_64 agent", () => {
  for (const check of agentChecks("x86_64")) it(check.name, () => check.run());
});

if (!native.i386) {
  describe("the i386 agent", () => {
    it("is said not to run where the kernel has no 32-bit emulation", async () => {
      await expect(startAgent("i386")).rejects.toMatchObject({ name: "AgentError", reason: "abi-unsupported" });
    });
  });
}

describe("startAgent()", () => {
  const abi = "x86_64";
  const number = numbers.x86_64;
  const live = it.skipIf(!native.x86_64);

  live("says of bytes that are no program of this machine that it does not run them", async () => {
    const elf = agentElf(abi, agentCode(iced, abi));
    const foreign = elf.slice();
    foreign[18] = EM_AARCH64;
    for (const image of [foreign, new TextEncoder().encode("no program"), elf.slice(0, 60)]) {
      const error = await startAgent(abi, { image }).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(AgentError);
      expect(error).toMatchObject({ reason: "abi-unsupported", tried: [] });
    }
  });

  live("says of a program that a signal ends before it is ready that it cannot run", async () => {
    const code = new Assembler(iced, 64).op("Ud2").assemble(0n).bytes;
    const error = await startAgent(abi, { image: agentElf(abi, code) })
      .then((agent) => agent.call(number.getpid))
      .then(
        () => undefined,
        (reason: unknown) => reason,
      );
    expect(error).toMatchObject({ reason: "abi-unsupported" });
  });

  live("lists the folders it tried, and why they would not do", async () => {
    const missing = path.join(scratch, "missing");
    const file = path.join(scratch, "file");
    writeFileSync(file, "");
    const error = await startAgent(abi, { folders: [missing, file, "/proc"] }).then(
      () => undefined,
      (reason: unknown) => reason as AgentError,
    );
    expect(error?.reason).toBe("no-exec-folder");
    expect(error?.tried.map((attempt) => attempt.folder)).toEqual([missing, file, "/proc"]);
    expect(error?.tried[0]?.why).toContain("ENOENT");
    expect(error?.tried[1]?.why).toContain("ENOTDIR");
    expect(error?.message).toContain(`${missing}: `);
  });

  it("looks in the temporary folder first, and in none twice", () => {
    const folders = agentFolders();
    expect(folders[0]).toBe(os.tmpdir());
    expect(folders).toEqual(expect.arrayContaining(["/dev/shm", "/var/tmp", process.cwd()]));
    expect(new Set(folders).size).toBe(folders.length);
  });

  live("leaves a working folder that was removed out", () => {
    const gone = folder("gone");
    const file = path.join(scratch, "gone.mjs");
    writeFileSync(
      file,
      `import { agentFolders, startAgent } from ${JSON.stringify(bundle)};
      const agent = await startAgent("x86_64");
      await agent.close();
      console.log(JSON.stringify(agentFolders()));`,
    );
    const folders = output("sh", "-c", 'cd "$1" && rmdir "$1" && exec "$2" "$3"', "sh", gone, process.execPath, file);
    expect(JSON.parse(folders)).toEqual(agentFolders().filter((one) => one !== process.cwd()));
  });

  live("leaves neither descriptors nor processes, whether it succeeds or fails", async () => {
    const count = () => ({
      fds: readdirSync("/proc/self/fd").length,
      children: readdirSync("/proc/self/task").flatMap((task) =>
        readFileSync(`/proc/self/task/${task}/children`, "latin1").split(" ").filter(Boolean),
      ).length,
    });
    const once = async () => {
      const agent = await startAgent(abi);
      await agent.call(number.getpid);
      await agent.close();
      await startAgent(abi, { folders: [path.join(scratch, "missing")] }).catch(() => {});
    };
    await once();
    const before = count();
    for (let i = 0; i < 200; i++) await once();
    for (let i = 0; i < 20; i++) await startAgent(abi, { image: Uint8Array.of(1) }).catch(() => {});
    await sleep(20);
    expect(count()).toEqual(before);
  });

  live("runs several agents at once", async () => {
    const agents = await Promise.all(Array.from({ length: 20 }, () => startAgent(abi)));
    const pids = await Promise.all(agents.map((agent) => agent.call(number.getpid)));
    expect(pids).toEqual(agents.map((agent) => BigInt(agent.pid)));
    await Promise.all(agents.map((agent) => agent.close()));
  });
});

describe.skipIf(!native.x86_64)("what becomes of an agent", () => {
  const { getpid, pause } = numbers.x86_64;

  it("it does not keep its parent from ending, and ends with it", async () => {
    const tmp = folder("idle");
    const run = spawnSync(
      process.execPath,
      script(`
        const agent = await startAgent("x86_64");
        await agent.call(${getpid});
        console.log(agent.pid);
        console.log((await startAgent("x86_64")).pid);
      `),
      { env: { ...process.env, TMPDIR: tmp }, encoding: "utf8", timeout: 20_000 },
    );
    expect(run.stderr).toBe("");
    expect(run.status).toBe(0);
    const pids = run.stdout.trim().split("\n").map(Number);
    expect(pids).toHaveLength(2);
    expect(await ended(pids)).toBe(true);
    expect(readdirSync(tmp)).toEqual([]);
  });

  it("it keeps its parent running while a call is under way", () => {
    const run = spawnSync(
      process.execPath,
      script(`
        const agent = await startAgent("x86_64");
        // poll(NULL, 0, 300): sleeps for 300 ms.
        agent.call(7, 0, 0, 300).then((result) => console.log("slept", result));
      `),
      { encoding: "utf8", timeout: 20_000 },
    );
    expect(run.stdout).toBe("slept 0n\n");
    expect(run.status).toBe(0);
  });

  it("it ends when its parent exits in the middle of a call", async () => {
    const run = spawnSync(
      process.execPath,
      script(`
        const agent = await startAgent("x86_64");
        await agent.call(${getpid});
        agent.call(${pause}).catch(() => {});
        setTimeout(() => { console.log(agent.pid); process.exit(3); }, 50);
      `),
      { encoding: "utf8", timeout: 20_000 },
    );
    expect(run.status).toBe(3);
    expect(await ended([Number(run.stdout)])).toBe(true);
  });

  it("it ends, blocked or not, when its parent is killed; no file is left", async () => {
    const tmp = folder("killed");
    const parent = spawn(
      process.execPath,
      script(`
        const [idle, blocked, fresh] = [await startAgent("x86_64"), await startAgent("x86_64"), await startAgent("x86_64")];
        await idle.call(${getpid});
        await blocked.call(${getpid});
        blocked.call(${pause}).catch(() => {});
        setTimeout(() => console.log([idle, blocked, fresh].map((agent) => agent.pid).join()), 50);
        setInterval(() => {}, 1000);
      `),
      { env: { ...process.env, TMPDIR: tmp }, stdio: ["ignore", "pipe", "inherit"] },
    );
    const line = await new Promise<string>((resolve) => parent.stdout.once("data", (data) => resolve(String(data))));
    const pids = line.trim().split(",").map(Number);
    expect(pids.map(alive)).toEqual([true, true, true]);
    expect(programsFrom(tmp).sort()).toEqual([...pids].sort());
    // Blocked in pause(), with the number of that call as the kernel shows it.
    expect(readFileSync(`/proc/${pids[1]}/syscall`, "latin1")).toMatch(new RegExp(`^${pause} `));
    parent.kill("SIGKILL");
    expect(await ended(pids)).toBe(true);
    expect(readdirSync(tmp)).toEqual([]);
  });

  it("nothing is left whenever its parent is killed", async () => {
    const tmp = folder("any-moment");
    let seen = 0;
    for (let round = 0; round < 12; round++) {
      const parent = spawn(
        process.execPath,
        script(`
          console.log("ready");
          for (;;) {
            const agent = await startAgent("x86_64");
            agent.call(${pause}).catch(() => {});
          }
        `),
        { env: { ...process.env, TMPDIR: tmp }, stdio: ["ignore", "pipe", "inherit"] },
      );
      await new Promise((resolve) => parent.stdout.once("data", resolve));
      await sleep(5 + round * 3.7);
      seen += programsFrom(tmp).length;
      const gone = new Promise((resolve) => parent.once("exit", resolve));
      parent.kill("SIGKILL");
      await gone;
      expect(await ended(programsFrom(tmp))).toBe(true);
      expect(programsFrom(tmp)).toEqual([]);
      expect(readdirSync(tmp)).toEqual([]);
    }
    expect(seen).toBeGreaterThan(0);
  });
});

describe.skipIf(!native.x86_64)("where the agent's program is put", () => {
  const where = `
    import { readlinkSync } from "node:fs";
    try {
      const agent = await startAgent("x86_64", OPTIONS);
      console.log(readlinkSync("/proc/" + agent.pid + "/exe"));
    } catch (error) {
      console.log(error.reason, JSON.stringify(error.tried));
    }
  `;

  it("the file takes no descriptor that the agent's pipes will take", () => {
    const free = 'import { closeSync } from "node:fs"; closeSync(3); closeSync(4);';
    // One folder only: another would be tried, and might do, where the first seems not to.
    const options = JSON.stringify({ folders: [scratch] });
    const run = spawnSync(process.execPath, script(free + where.replace("OPTIONS", options)), {
      stdio: ["ignore", "pipe", "inherit", "pipe", "pipe"],
      encoding: "utf8",
    });
    expect(run.stdout).toMatch(/ \(deleted\)\n$/);
  });

  const isRoot = process.getuid?.() === 0;
  const unshare = isRoot ? ["-m"] : ["-rm"];
  const mayMount = needs("unshare", "util-linux") && spawnSync("unshare", [...unshare, "true"]).status === 0;

  it.skipIf(!mayMount)("a folder that is mounted noexec is passed over for the next", () => {
    const tmp = folder("noexec");
    const other = folder("exec");
    const run = (options: string) =>
      output(
        "unshare",
        ...unshare,
        "sh",
        "-c",
        'mount -t tmpfs -o noexec none "$1" && TMPDIR="$1" XDG_RUNTIME_DIR="$2" exec "$3" --input-type=module -e "$4"',
        "sh",
        tmp,
        other,
        process.execPath,
        script(where.replace("OPTIONS", options)).at(-1) as string,
      );
    expect(run("{}")).toMatch(new RegExp(`^${other}/`));
    const refused = run(JSON.stringify({ folders: [tmp, path.join(tmp, "missing")] }));
    expect(refused).toMatch(/^no-exec-folder /);
    const tried = JSON.parse(refused.slice(refused.indexOf("["))) as { folder: string; why: string }[];
    expect(tried.map((attempt) => attempt.folder)).toEqual([tmp, path.join(tmp, "missing")]);
    expect(tried[0]?.why).toMatch(/noexec.*EACCES/);
    expect(tried[1]?.why).toMatch(/ENOENT/);
  });

  const mayTrace = needs("strace", "strace") && spawnSync("strace", ["-qq", "-e", "trace=none", "true"]).status === 0;
  it.skipIf(!mayTrace)("a file system that makes no unnamed files gets one that loses its name at once", () => {
    const tmp = folder("named");
    const log = path.join(scratch, "strace.log");
    const refuse = ["-P", tmp, "-e", "trace=openat", "-e", "inject=openat:error=EOPNOTSUPP"];
    const options = JSON.stringify({ folders: [tmp] });
    const run = output(
      "strace",
      "-qq",
      "-o",
      log,
      ...refuse,
      process.execPath,
      ...script(where.replace("OPTIONS", options)),
    );
    expect(run).toMatch(new RegExp(`^${tmp}/\\.linux-gate-agent-\\d+-\\w+ \\(deleted\\)`));
    expect(readFileSync(log, "latin1")).toMatch(/O_TMPFILE.*EOPNOTSUPP.*INJECTED/);
    expect(readdirSync(tmp)).toEqual([]);
    expect(existsSync(tmp)).toBe(true);
  });
});
