import { type SpawnSyncOptions, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, it } from "vitest";
import { Writer } from "../../src/bytes/writer.js";
import { parseInitialStack } from "../../src/run/initial-stack.js";
import { parseImage } from "../../src/vdso/image.js";
import { ExecVerb } from "../support/exec-verb.js";
import { imagePath } from "../support/images.js";
import { runsHere } from "../support/native.js";
import { Workshop } from "../support/programs.js";

const workshop = new Workshop();
const verb = await ExecVerb.bundle();
afterAll(() => {
  verb.remove();
  workshop.remove();
});
const bundle = verb.path;

/** Says where it is told that the vDSO is. */
const PROGRAM = `
#include <stdio.h>
#include <sys/auxv.h>
int main(void) {
  printf("%lx\\n", getauxval(AT_SYSINFO_EHDR));
  return 0;
}
`;

const exec = (...args: string[]) => verb.run(...args);
const execWith = (options: SpawnSyncOptions, ...args: string[]) => verb.runWith(options, ...args);

const programs = workshop.cPrograms(PROGRAM);

describe("parseInitialStack()", () => {
  it("finds the vector behind the arguments and the environment", () => {
    for (const wordSize of [4, 8] as const) {
      const out = new Writer({ littleEndian: true, wordSize });
      for (const word of [2, 100, 101, 0, 200, 0, 33, 0x1000, 6, 4096, 0, 0]) out.word(word);
      expect(parseInitialStack(out.finish(), { wordSize, littleEndian: true })).toEqual({
        argumentCount: 2,
        environmentCount: 1,
        auxvOffset: 6 * wordSize,
        auxv: [
          { tag: 33, value: 0x1000n },
          { tag: 6, value: 4096n },
        ],
      });
    }
  });

  it("refuses counts that lead out of the stack, and lists that do not end", () => {
    const layout = { wordSize: 8, littleEndian: true } as const;
    for (const words of [[1 << 30], [1, 5, 5, 0], [0, 0, 1, 2]]) {
      const out = new Writer(layout);
      for (const word of words) out.word(word);
      expect(() => parseInitialStack(out.finish(), layout)).toThrow(expect.objectContaining({ name: "FormatError" }));
    }
  });
});

describe.skipIf(!runsHere("x86_64"))("exec", () => {
  it.each(programs)("--no-vdso hides the vDSO from getauxval, and without it there is one: $name", ({ path }) => {
    expect(exec("--no-vdso", "--", path).text).toBe("0\n");
    expect(exec("--", path).text).toMatch(/^7f[0-9a-f]+\n$/);
  });

  it("LD_SHOW_AUXV has no AT_SYSINFO_EHDR under --no-vdso", () => {
    // Node shows its own vector first.
    const own = String(spawnSync(process.execPath, ["-e", "0"], { env: { LD_SHOW_AUXV: "1" } }).stdout);
    const all = execWith({ env: { LD_SHOW_AUXV: "1", PATH: "/bin" } }, "--no-vdso", "--", "/bin/true").text;
    const count = (text: string, name: string) => text.match(new RegExp(`^${name}:`, "gm"))?.length ?? 0;
    expect(count(all, "AT_PAGESZ")).toBe(2 * count(own, "AT_PAGESZ"));
    expect(count(all, "AT_SYSINFO_EHDR")).toBe(count(own, "AT_SYSINFO_EHDR"));
  });

  it("gives the program's status, and ends by its signal", () => {
    for (const status of [0, 255]) expect(exec("--no-vdso", "--", "sh", "-c", `exit ${status}`).status).toBe(status);
    for (const signal of ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGPIPE"]) {
      expect(exec("--no-vdso", "--", "sh", "-c", `kill -${signal.slice(3)} $$`).signal).toBe(signal);
    }
  });

  it("passes signals on to the program", async () => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const) {
      const script = `trap 'echo got; exit 3' ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`;
      const child = spawn(process.execPath, [bundle, "--no-vdso", "--", "sh", "-c", script], { detached: true });
      let text = "";
      child.stdout.on("data", (data) => {
        if (text === "") child.kill(signal);
        text += String(data);
      });
      const status = await new Promise((resolve) => child.once("close", resolve));
      expect([signal, text, status]).toEqual([signal, "ready\ngot\n", 3]);
    }
  });

  it("passes standard input, a thousand variables, odd bytes and the working folder on", () => {
    const input = Buffer.alloc(100_000, "a\0b\xff");
    expect(execWith({ input }, "--no-vdso", "--", "cat").stdout).toEqual(input);
    const env = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`V${i}`, `${i} = ä`]));
    const listed = execWith({ env }, "--no-vdso", "--", "/usr/bin/env").text.trimEnd().split("\n");
    expect(listed.sort()).toEqual(
      Object.entries(env)
        .map(([name, value]) => `${name}=${value}`)
        .sort(),
    );
    const folder = workshop.path("a folder");
    mkdirSync(folder);
    expect(execWith({ cwd: folder }, "--no-vdso", "--", "/bin/pwd").text).toBe(`${folder}\n`);
    const odd = `exec "$0" "$1" --no-vdso -- printf '%s|' "$(printf 'a\\377\\001')" '' -n '*'`;
    const bytes = spawnSync("bash", ["-c", odd, process.execPath, bundle], {
      env: { PATH: process.env.PATH, LC_ALL: "C" },
    });
    expect(bytes.stdout).toEqual(Buffer.from("a\xff\x01||-n|*|", "latin1"));
  });

  it("leaves the program the descriptors that any child of Node gets", () => {
    const script = "exec ls /proc/self/fd";
    // Node passes some of those on that it was itself given.
    const bare = `require("child_process").spawnSync("ls", ["/proc/self/fd"], { stdio: "inherit" })`;
    const expected = String(spawnSync(process.execPath, ["-e", bare]).stdout);
    expect(exec("--no-vdso", "--", "sh", "-c", script).text).toBe(expected);
  });

  it("has the status of env for what cannot be executed, before anything runs", () => {
    const file = (name: string, text: string, mode: number) => {
      const path = workshop.write(name, text);
      chmodSync(path, mode);
      return path;
    };
    const cases: readonly (readonly [program: string, status: number, message: RegExp])[] = [
      ["no-such-program", 127, /no such program/],
      ["./no/such", 127, /no such file/],
      [workshop.folder, 126, /a folder/],
      [file("plain", "x", 0o644), 126, /EACCES/],
      [file("lost", "#!/no/such\n", 0o755), 127, /its interpreter \/no\/such/],
      [file("elf", "\x7fELF broken", 0o755), 126, /ENOEXEC/],
    ];
    for (const [program, status, message] of cases) {
      const run = exec("--no-vdso", "--", program);
      expect([program, run.status]).toEqual([program, status]);
      expect(run.errors).toMatch(message);
    }
    const lost = verb.runWith({ env: { PATH: "/usr/bin" } }, "--no-vdso", "--", "no-such-program");
    expect([lost.status, lost.errors]).toEqual([127, "linux-gate: no-such-program: no such program in PATH\n"]);
    expect(exec("--no-vdso", "--", file("script", "#!/bin/sh\necho $1\n", 0o755), "x").text).toBe("x\n");
    expect(exec("--no-vdso", "--", file("unmarked", "echo $1\n", 0o755), "x").text).toBe("x\n");
  });

  it("--base moves the vDSO with its data, and --aslr off leaves addresses as they are", () => {
    const maps = exec("--base", "0x10000000", "--", "cat", "/proc/self/maps").text;
    expect(maps).toMatch(/^10000000-1000\w{4} r-xp .*\[vdso\]$/m);
    expect(exec("--base", "0x10000000", "--", "date", "+%s").text).toMatch(/^\d{10}\n$/);
    const fixed = () => exec("--aslr", "off", "--", "grep", "vdso", "/proc/self/maps").text;
    expect(fixed()).toBe(fixed());
    expect(exec("--base", "0x1000", "--", "true").status).toBe(125);
  });

  it("--vdso puts an image of this kernel in place, and refuses one of another version or ABI", () => {
    expect(exec("--vdso", "self", "--", "date", "+%s").text).toMatch(/^\d{10}\n$/);
    for (const image of ["amd64__EPYC__amd64", "host618__native__i386"]) {
      const run = exec("--vdso", imagePath(image), "--", "echo", "ran");
      expect([run.text, run.status]).toEqual(["", 125]);
      expect(run.errors).toMatch(/version|of Linux|of i386|bytes/);
    }
  });

  it("--vdso maps an image that reads no data beside the kernel's own, where it is told to", () => {
    // Every function makes a system call and returns; what is called most is the one that it is for.
    const numbers = new Map([
      ["__vdso_clock_gettime", 228],
      ["__vdso_gettimeofday", 96],
      ["__vdso_time", 201],
    ]);
    const image = parseImage(new Uint8Array(readFileSync(imagePath("host618__native__amd64"))), { mapped: true });
    const bytes = image.bytes.slice();
    for (const { name, address } of image.functions) {
      const code = [0xb8, numbers.get(name) ?? 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
      bytes.set(code, image.elf.offsetOf(address) as number);
    }
    const file = workshop.write("no-data.so", bytes);
    const run = (...args: string[]) => exec("--vdso", file, "--base", "0x20000000", "--", ...args).text;
    expect(run("cat", "/proc/self/maps")).toMatch(/^20000000-20002000 r-xp 00000000 00:00 0 +$/m);
    expect(run("date", "+%s")).toMatch(/^\d{10}\n$/);
    for (const { path } of programs.slice(0, 1)) expect(run(path)).toBe("20000000\n");
  });

  it("leaves the program running when this process is killed, and ends with it nothing else", async () => {
    const child = spawn(process.execPath, [bundle, "--no-vdso", "--", "sh", "-c", "echo $$; exec sleep 30"]);
    const pid = Number(await new Promise((resolve) => child.stdout.once("data", (data) => resolve(String(data)))));
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
    await sleep(50);
    expect(readFileSync(`/proc/${pid}/status`, "utf8")).toMatch(/^State:\t[RS]/m);
    process.kill(pid, "SIGKILL");
  });

  it("leaves no process of its own", async () => {
    for (let i = 0; i < 3; i++) expect(exec("--no-vdso", "--", "true").status).toBe(0);
    await sleep(50);
    expect(verb.processes()).toEqual([]);
  });
});
