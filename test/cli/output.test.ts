import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { toJson } from "../../src/cli/output.js";
import { linuxGate } from "../support/cli.js";
import { imageBytes, imagePath } from "../support/images.js";
import { needs } from "../support/referee.js";

const image = imagePath("host618__native__i386");
const program = join(import.meta.dirname, "../../bin/linux-gate");

const scratch = mkdtempSync(join(tmpdir(), "linux-gate-output-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const inScratch = (name: string) => join(scratch, name);

const { NO_COLOR: _, ...inherited } = process.env;
const options = {
  encoding: "utf8",
  env: { ...inherited, TERM: "xterm", GATE: `${process.execPath} ${program}`, IMAGE: image },
} as const;
const shell = (script: string) => spawnSync("sh", ["-c", script], { ...options, cwd: scratch });

describe("an output that takes nothing", () => {
  it.each([
    "maps",
    "maps --json",
    "maps --raw",
    "dump",
    "--help",
    "maps --help",
    "--version",
    "symbols $IMAGE --gnu",
    "report $IMAGE --html -",
  ])("is told in one line: %s", (words) => {
    const { stderr, status } = shell(`$GATE ${words} > /dev/full`);
    expect(stderr).toBe("linux-gate: standard output: no space left on device (ENOSPC)\n");
    expect(status).toBe(2);
  });

  it("changes nothing about a failure", () => {
    const { stderr, status } = shell("$GATE symbols none --json > /dev/full");
    expect(stderr).toMatch(/^linux-gate: none: no such file \(ENOENT\).*\n$/);
    expect(status).toBe(2);
  });

  it("leaves the status where it is standard error", () => {
    expect(shell("$GATE symbols none 2> /dev/full").status).toBe(2);
    expect(shell("$GATE symbols none > /dev/full 2> /dev/full").status).toBe(2);
    expect(JSON.parse(shell("$GATE symbols none --json 2> /dev/full").stdout)).toHaveProperty("error");
    const remarked = shell("$GATE dump $IMAGE -o remarked 2> /dev/full");
    expect(remarked.status).toBe(0);
    expect(readFileSync(inScratch("remarked")).equals(imageBytes("host618__native__i386"))).toBe(true);
  });
});

describe("terminals", () => {
  const script = needs("script", "bsdutils");
  const onTerminal = (words: string) =>
    spawnSync("script", ["-qec", `${process.execPath} ${program} ${words}`, "/dev/null"], { ...options, cwd: scratch });

  it.skipIf(!script)("are refused the bytes of an image by whatever name", () => {
    for (const name of ["/dev/tty", "/dev/stdout", "/proc/self/fd/1", "-"]) {
      const { stdout, status } = onTerminal(`dump ${image} -o ${name}`);
      expect(stdout, name).toBe(
        "linux-gate: the image is binary: name a file with -o FILE, or redirect standard output\r\n",
      );
      expect(status, name).toBe(2);
    }
  });

  it("are not taken for what other devices are", () => {
    expect(shell("$GATE dump $IMAGE > /dev/null").status).toBe(0);
    expect(shell("$GATE dump $IMAGE > /dev/full").stderr).not.toContain("binary");
    expect(shell("$GATE dump $IMAGE > /dev/zero").status).toBe(0);
  });

  it.each(["a file", "/dev/null"])("are not asked about, which takes time, where the output is %s", (where) => {
    writeFileSync(
      inScratch("hook.cjs"),
      `process.on("exit", () => require("node:fs").writeFileSync(${JSON.stringify(inScratch("loaded"))}, process.moduleLoadList.join("\\n")));`,
    );
    const { status } = shell(
      `${process.execPath} --require ./hook.cjs ${program} maps > ${where === "a file" ? "out" : where}`,
    );
    expect(status).toBe(0);
    const loaded = readFileSync(inScratch("loaded"), "utf8").split("\n");
    expect(loaded).toContain("NativeModule util");
    expect(loaded).not.toContain("NativeModule tty");
  });
});

/** Bytes that a terminal obeys, and that text never has but for line ends, and tabs that ldd begins its lines with. */
const OBEYED = /[^\P{Cc}\n\t]|\p{Bidi_Control}/u;
/** The codes of our own colours. */
const COLOURS = new RegExp(`${String.fromCharCode(0x1b)}\\[(?:[12]|22|3[1-69])m`, "g");

/** An image whose SONAME, symbols, versions and sections have names that set a terminal's title, erase and reorder. */
function evilImage(): string {
  let text = Buffer.from(imageBytes("host618__native__i386")).toString("latin1");
  for (const [name, evil] of [
    ["linux-gate.so.1", "l\x1b]0;so\x07.so.1"],
    ["__vdso_time", "\x1b]0;\x9b2J\x7fe\r\n"],
    ["__kernel_vsyscall", "__kernel_\x1b]0;\x07s\x9b"],
    ["LINUX_2.6", "LI\x1b]0;\x07\x9b"],
    [".text", ".\x1bcxt"],
  ] as const) {
    expect(text).toContain(`\0${name}\0`);
    text = text.replaceAll(`\0${name}\0`, `\0${evil.padEnd(name.length, "~")}\0`);
  }
  const file = inScratch("evil\u001b]0;\u0007\u202e.so");
  writeFileSync(file, Buffer.from(text, "latin1"));
  return file;
}

describe("names that would command a terminal", () => {
  it.each(["report", "explain", "symbols", "disasm", "file"])("are written out by %s, of an image", (verb) => {
    const file = evilImage();
    const { stdout, stderr, status } = linuxGate([verb, file]);
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(stdout).not.toMatch(OBEYED);
    if (verb !== "file") expect(stdout).toContain("\\x1b");
    expect(linuxGate([verb, file, "--color"]).stdout.replace(COLOURS, "")).not.toMatch(OBEYED);
    const json = linuxGate([verb, file, "--json"]).stdout;
    expect(json).not.toMatch(OBEYED);
    expect(JSON.parse(json).target ?? JSON.parse(json).parts[0].target).toBe(file);
  });

  it("are left to GNU's texts, which objdump writes as they are", () => {
    expect(linuxGate(["symbols", evilImage(), "--gnu"]).stdout).toContain("\u001b]0;");
  });

  it("keep an error one line", () => {
    const { stderr } = linuxGate(["symbols", "none\nlinux-gate: all is well\u001b[2J\u009b\u202e"]);
    expect(stderr).toMatch(/^linux-gate: none\\x0alinux-gate: all is well\\x1b\[2J\\x9b\\u\{202e\}: no such file.*\n$/);
  });

  describe("of a process", () => {
    let child: ChildProcess;
    beforeAll(async () => {
      // A byte that is no UTF-8, a control of two bytes, and one that turns the direction of text.
      const start = String.raw`n=$(printf '%s/s\033]0;\007\233\302\233\342\200\256p' "$1"); cp "$(command -v sleep)" "$n"; exec "$n" 60`;
      child = spawn("sh", ["-c", start, "sh", scratch], { stdio: "ignore" });
      while (!readlinkSync(`/proc/${child.pid}/exe`).startsWith(scratch)) await sleep(10);
      // The dynamic linker's list is complete when the program itself sleeps.
      while (!/^State:\tS/m.test(readFileSync(`/proc/${child.pid}/status`, "utf8"))) await sleep(10);
    });
    afterAll(() => {
      child.kill();
    });

    it.each(["maps", "auxv", "report", "ldd --pid"])("are written out by %s", (words) => {
      const args = [...words.split(" "), `${child.pid}`];
      const { stdout, stderr, status } = linuxGate(args);
      expect(stderr).toBe("");
      expect(status).toBe(0);
      expect(stdout).not.toMatch(OBEYED);
      if (words !== "ldd --pid") expect(stdout).toMatch(/s\\(x1b|u001b)\]0;/);
      expect(linuxGate([...args, "--json"]).stdout).not.toMatch(OBEYED);
    });

    it("are left in maps --raw", () => {
      expect(linuxGate(["maps", `${child.pid}`, "--raw"]).stdout).toContain("\u001b]0;");
    });
  });

  it("are escaped in JSON so that it says the same", () => {
    const names = ["\u001b", "\u007f", "\u009b", "\u202e", "\u2066", "é", "👩‍💻"];
    expect(toJson(names)).not.toMatch(OBEYED);
    expect(JSON.parse(toJson(names))).toEqual(names);
  });
});
