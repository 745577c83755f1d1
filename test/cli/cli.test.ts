import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { VERBS } from "../../src/cli/verbs.js";
import { linuxGate, linuxGateBytes } from "../support/cli.js";
import { imageBytes, imagePath } from "../support/images.js";
import { needs } from "../support/referee.js";

const scratch = mkdtempSync(join(tmpdir(), "linux-gate-cli-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const image = imagePath("host618__native__i386");
const inScratch = (name: string) => join(scratch, name);

describe("help", () => {
  it("lists every verb", () => {
    const { stdout, status } = linuxGate(["--help"]);
    expect(status).toBe(0);
    for (const { name } of VERBS) expect(stdout).toMatch(new RegExp(`^  ${name} `, "m"));
    expect(linuxGate([]).stdout).toBe(stdout);
  });

  it.each(VERBS.map(({ name }) => name))("of %s has a usage, options and examples that are its own", (name) => {
    const { stdout, status } = linuxGate([name, "--help"]);
    expect(status).toBe(0);
    expect(stdout).toMatch(new RegExp(`^linux-gate ${name} `));
    expect(stdout).toContain("--json");
    const examples = stdout.split("Examples:\n")[1] ?? "";
    expect(examples.trim().split("\n").length).toBeGreaterThanOrEqual(2);
    for (const line of examples.trimEnd().split("\n")) expect(line).toContain(`linux-gate ${name}`);
    expect(linuxGate(["help", name]).stdout).toBe(stdout);
  });

  it("tells the version of the package", () => {
    const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
    expect(linuxGate(["--version"]).stdout).toBe(`linux-gate ${version}\n`);
  });
});

describe("wrong usage is one line and status 2", () => {
  it.each([
    [["symbol"], /no verb "symbol"; did you mean symbols\?/],
    [["nonsense"], /no verb "nonsense"/],
    [["maps", "--nonsense"], /--nonsense/],
    [["dump", "self", "-o"], /-o/],
    [["maps", "self", "self"], /usage: linux-gate maps/],
    [["ldd"], /name programs/],
    [["ldd", "/bin/sh", "--pid", "1"], /name programs/],
    [["disasm", image, "--gnu", "--start-address", "zz"], /"zz", no address/],
    [["ldd", "--pid", "--json"], /^linux-gate: --pid wants a value; .* as --pid=VALUE \(linux-gate ldd --help\)$/m],
    [["maps", "--no\nsuch"], /Unknown option '--no\\x0asuch'/],
    [["symbols", image, "--gnu", "--json"], /--gnu and --json exclude each other/],
    [["disasm", image, "--gnu", "--json"], /--gnu and --json exclude each other/],
    [["maps", "--raw", "--json"], /--raw and --json exclude each other/],
    [["disasm", image, "--start-address", "0x5e0"], /--start-address goes with --gnu only/],
    [["disasm", image, "--stop-address", "0x5e0"], /--stop-address goes with --gnu only/],
    [["ldd", "--pid", "1", "--tree"], /--pid and --tree exclude each other/],
    [["ldd", "--pid", "1", "--root", "/"], /--pid and --root exclude each other/],
    [["ldd", "--pid", "1", "--rules"], /--pid and --rules exclude each other/],
    [["ldd", "/bin/sh", "--tree", "--rules"], /--tree and --rules exclude each other/],
    [["report", image, "--html", "-", "--json"], /--json and --html - exclude each other/],
    [["disasm", image, "no_such_function"], /has no function no_such_function; it has __kernel_vsyscall/],
  ])("%j", (args, message) => {
    const { stdout, stderr, status } = linuxGate(args);
    expect(status).toBe(2);
    if (args.includes("--json")) expect(Object.keys(JSON.parse(stdout))).toEqual(["schema", "error"]);
    else expect(stdout).toBe("");
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});

describe("targets that cannot serve", () => {
  const file = (name: string, bytes: Uint8Array | string) => {
    writeFileSync(inScratch(name), bytes);
    return inScratch(name);
  };
  const fifo = (name: string) => {
    spawnSync("mkfifo", [inScratch(name)]);
    return inScratch(name);
  };
  const whole = imageBytes("host618__native__i386");

  it.each([
    ["no file", () => inScratch("none"), /no such file \(ENOENT\)/],
    ["a folder", () => scratch, /is a folder/],
    ["an empty file", () => file("empty", ""), /is empty/],
    ["a script", () => file("script", "#!/bin/sh\n"), /is a script/],
    ["a text", () => file("text", "hello"), /neither an ELF file/],
    ["an image cut in its header", () => file("cut", whole.subarray(0, 40)), /cut: Cannot read ELF header: .*offset/],
    ["an image cut in its tables", () => file("cut2", whole.subarray(0, 300)), /Cannot read ELF/],
    ["a FIFO", () => fifo("fifo"), /is empty/],
    [
      "a program of another machine",
      () => file("arm", arm(whole)),
      /no process of aarch64 can be started here|no vDSO/,
    ],
    ["a process id that is free", () => "4194303", /no such process/],
    ["a number beyond all process ids", () => "99999999999", /no such process/],
  ])("%s", (_, target, message) => {
    const { stderr, stdout, status } = linuxGate(["symbols", target()]);
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
    expect(stdout).toBe("");
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });

  /** The image with another machine and as a program: EM_AARCH64, ET_EXEC. */
  function arm(bytes: Uint8Array): Uint8Array {
    const copy = bytes.slice();
    copy[16] = 2;
    copy[18] = 183;
    return copy;
  }

  it("an image has no process to ask for maps", () => {
    const { stderr, status } = linuxGate(["maps", image]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/is an image: it has no process/);
  });

  it("code of another architecture than x86 is said not to be decoded", () => {
    const { stderr, status } = linuxGate(["disasm", imagePath("arm64__max__arm64")]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/instructions of aarch64 are not decoded/);
  });

  it("with --json, the error is JSON too", () => {
    const { stdout, status } = linuxGate(["symbols", inScratch("none"), "--json"]);
    expect(status).toBe(2);
    expect(JSON.parse(stdout)).toEqual({ schema: 1, error: expect.stringContaining("ENOENT") });
  });
});

describe("JSON", () => {
  it.each([
    [["report", image]],
    [["ldd", "/bin/sh"]],
    [["maps"]],
    [["auxv"]],
    [["dump", image]],
    [["file", image]],
    [["symbols", image]],
    [["disasm", image]],
    [["explain", image]],
  ])("of %j is one object with the schema's version and no bare 64-bit number", (args) => {
    const { stdout, status } = linuxGate([...args, "--json"]);
    expect(status).toBe(0);
    const value = JSON.parse(stdout);
    expect(value.schema).toBe(1);
    expect(Object.keys(value).length).toBeGreaterThan(1);
    JSON.stringify(value, (_key, item) => {
      if (typeof item === "number") expect(Number.isSafeInteger(item)).toBe(true);
      return item;
    });
  });

  it("writes addresses as hex strings", () => {
    const value = JSON.parse(linuxGate(["symbols", image, "--json"]).stdout);
    expect(value.symbols.find((one: { name: string }) => one.name === "__kernel_vsyscall").value).toBe("0x5e0");
  });
});

describe("colour", () => {
  const escapeCode = "\u001b[";

  it("is not written to a pipe unless asked for", () => {
    expect(linuxGate(["symbols", image]).stdout).not.toContain(escapeCode);
    expect(linuxGate(["symbols", image, "--color"]).stdout).toContain(escapeCode);
    expect(linuxGate(["symbols", image, "--color", "--no-color"]).stdout).not.toContain(escapeCode);
  });

  const script = needs("script", "bsdutils");
  const onTerminal = (args: string, env: Record<string, string> = {}) =>
    spawnSync(
      "script",
      ["-qec", `${process.execPath} ${join(import.meta.dirname, "../../bin/linux-gate")} ${args}`, "/dev/null"],
      {
        env: { ...process.env, TERM: "xterm", ...env },
        encoding: "utf8",
      },
    );

  it.skipIf(!script)("is written to a terminal, but not with NO_COLOR or a dumb one", () => {
    expect(onTerminal(`symbols ${image}`).stdout).toContain(escapeCode);
    expect(onTerminal(`symbols ${image}`, { NO_COLOR: "1" }).stdout).not.toContain(escapeCode);
    expect(onTerminal(`symbols ${image}`, { TERM: "dumb" }).stdout).not.toContain(escapeCode);
  });

  it.skipIf(!script)("a terminal is refused the bytes of an image", () => {
    const { stdout, status } = onTerminal(`dump ${image}`);
    expect(stdout).toMatch(/the image is binary: name a file with -o FILE/);
    expect(status).toBe(2);
  });
});

describe("dump", () => {
  it("writes the bytes of the image to a pipe", () => {
    const { stdout, stderr, status } = linuxGateBytes(["dump", image]);
    expect(status).toBe(0);
    expect(stderr.toString()).toBe("");
    expect(stdout.equals(imageBytes("host618__native__i386"))).toBe(true);
  });

  it("reads an image from standard input", () => {
    const bytes = imageBytes("amd64__EPYC__i386");
    expect(linuxGateBytes(["dump", "-"], { input: bytes }).stdout.equals(bytes)).toBe(true);
  });

  it("writes a file whole, in place of what was there", () => {
    writeFileSync(inScratch("out"), "before");
    const { stderr, status } = linuxGate(["dump", image, "-o", inScratch("out")]);
    expect(status).toBe(0);
    expect(stderr).toMatch(/8192 bytes/);
    expect(readFileSync(inScratch("out")).equals(imageBytes("host618__native__i386"))).toBe(true);
    expect(readdirSync(scratch).filter((name) => name.startsWith("."))).toEqual([]);
  });

  it("leaves nothing where it cannot write", () => {
    const { stderr, status } = linuxGate(["dump", image, "-o", inScratch("no/such/folder/out")]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/out: cannot be written: no such file or directory \(ENOENT\)/);
  });

  it("writes into a device as it is", () => {
    expect(linuxGate(["dump", image, "-o", "/dev/null"]).status).toBe(0);
    expect(statSync("/dev/null").isCharacterDevice()).toBe(true);
  });
});

it("a reader that goes away early ends the program quietly", () => {
  const program = join(import.meta.dirname, "../../bin/linux-gate");
  const { stdout, stderr } = spawnSync(
    "sh",
    ["-c", `for i in 1 2 3 4 5 6 7 8; do ${process.execPath} ${program} disasm ${image} --gnu; done | head -1`],
    { encoding: "utf8" },
  );
  expect(stdout).toBe("\n");
  expect(stderr).toBe("");
});
