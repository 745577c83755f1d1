import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import { linuxGate } from "../support/cli.js";
import { imageBytes, imagePath } from "../support/images.js";
import { bzImage, vmlinux, withSize } from "../support/kernels.js";

const scratch = mkdtempSync(join(tmpdir(), "linux-gate-choice-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function file(name: string, bytes: string | Uint8Array): string {
  const path = join(scratch, name);
  writeFileSync(path, bytes);
  return path;
}

const embedded = imagePath("amd64__i386__embedded");
const live = imagePath("amd64__EPYC__i386");

/** A bzImage as Debian's 64-bit kernel is: an image of each ABI, side by side, in a compressed vmlinux. */
const plain = vmlinux({
  size: 0x40000,
  release: "6.1.0-test",
  images: [
    [0x20000, imageBytes("amd64__amd64__embedded")],
    [0x22000, imageBytes("amd64__i386__embedded")],
  ],
});
const kernel = file("vmlinuz", bzImage(withSize(gzipSync(plain), plain.length), "6.1.0-test"));

describe("a kernel file as a target", () => {
  it.each(["symbols", "file", "explain", "disasm"])("%s shows each image under its name", (verb) => {
    const { stdout, status } = linuxGate([verb, kernel]);
    expect(status).toBe(0);
    const titles = stdout.split("\n").filter((line) => line.startsWith(kernel));
    expect(titles).toEqual([`${kernel} (x86_64):`, `${kernel} (i386):`]);
    const one = linuxGate([verb, kernel, "--abi", "i386"]).stdout;
    expect(one).not.toBe("");
    expect(stdout.endsWith(`${kernel} (i386):\n${one}`)).toBe(true);
  });

  it("gives JSON of each, or of the one that was picked", () => {
    const all = JSON.parse(linuxGate(["symbols", kernel, "--json"]).stdout);
    expect(all.images.map(({ identity }: { identity: { abi: string } }) => identity.abi)).toEqual(["x86_64", "i386"]);
    const one = JSON.parse(linuxGate(["symbols", kernel, "--json", "--abi", "x86_64"]).stdout);
    expect(one).toEqual({ schema: 1, ...all.images[0] });
  });

  it("is read from standard input as from the file", () => {
    const piped = linuxGate(["symbols", "-", "--gnu", "--abi", "i386"], { input: readFileSync(kernel) }).stdout;
    const named = linuxGate(["symbols", kernel, "--gnu", "--abi", "i386"]).stdout;
    expect(piped.split("\n").slice(3)).toEqual(named.split("\n").slice(3));
  });

  it("dumps the image that was picked, and asks where there are several", () => {
    const out = join(scratch, "picked.so");
    expect(linuxGate(["dump", kernel, "-o", out]).stderr).toMatch(
      /several images \(x86_64, i386\): pick one with --abi/,
    );
    expect(linuxGate(["dump", kernel, "--abi", "i386", "-o", out]).status).toBe(0);
    expect(readFileSync(out)).toEqual(Buffer.from(imageBytes("amd64__i386__embedded")));
  });

  it("says which images there are where the one asked for is not", () => {
    const { stderr, status } = linuxGate(["symbols", kernel, "--abi", "arm"]);
    expect([status, stderr]).toEqual([2, `linux-gate: ${kernel} has no image of arm: x86_64, i386 is what it has\n`]);
    expect(linuxGate(["symbols", kernel, "--abi", "pdp11"]).stderr).toMatch(/--abi is "pdp11", no ABI/);
  });

  it("has a part of the report for each image", () => {
    const { parts } = JSON.parse(linuxGate(["report", kernel, "--json"]).stdout);
    expect(parts.map(({ target }: { target: string }) => target)).toEqual([`${kernel} (x86_64)`, `${kernel} (i386)`]);
  });

  it("has no process", () => {
    expect(linuxGate(["maps", kernel]).stderr).toMatch(/is an image: it has no process to ask/);
  });
});

describe("predict", () => {
  const cpuinfo = file(
    "cpuinfo",
    "vendor_id : AuthenticAMD\ncpu family : 23\nmodel : 1\nflags : sse2 rdtscp sep syscall lm\n",
  );

  it("writes what a booted kernel mapped", () => {
    const out = join(scratch, "predicted.so");
    expect(linuxGate(["predict", embedded, "--cpu", "epyc", "-o", out]).status).toBe(0);
    expect(readFileSync(out)).toEqual(readFileSync(live));
    expect(linuxGate(["predict", kernel, "--abi", "i386", "--cpuinfo", cpuinfo, "-o", out]).status).toBe(0);
    expect(readFileSync(out)).toEqual(readFileSync(live));
  });

  it("tells each image of a kernel file, with the kernel's width from the file", () => {
    const { images } = JSON.parse(linuxGate(["predict", kernel, "--cpu", "core2", "--json"]).stdout);
    expect(images.map(({ width }: { width: number }) => width)).toEqual([64, 64]);
    expect(images[1].entry.mechanism).toBe("sysenter");
  });

  it("obeys the command line", () => {
    const clear = ["predict", embedded, "--cpu", "epyc", "--cmdline"];
    expect(linuxGate([...clear, "quiet clearcpuid=110"]).stdout).toMatch(/^entry: int \$0x80/m);
    const off = linuxGate([...clear, "vdso32=0", "-o", join(scratch, "none.so")]);
    expect([off.status, off.stderr]).toEqual([2, expect.stringMatching(/vdso32=0/)]);
  });

  it("reads a mapped image for what its kernel saw, and wants a processor for one that was never booted", () => {
    expect(linuxGate(["predict", live]).stdout).toMatch(/^SYSCALL32 \(0x6e\) +present$/m);
    const { stderr, status } = linuxGate(["predict", embedded]);
    expect([status, stderr]).toEqual([
      2,
      expect.stringMatching(/name a processor with --cpu NAME, --cpuinfo FILE or --here/),
    ]);
  });

  it("shows the table of processors, and of kernels", () => {
    const matrix = linuxGate(["predict", kernel, "--abi", "i386", "--matrix"]).stdout;
    expect(matrix).toMatch(/^AMD EPYC \(Naples\) +syscall +rdtscp$/m);
    expect(matrix).toMatch(/^Intel Core 2 +sysenter +lfence; rdtsc$/m);
    const timeline = linuxGate(["predict", "--timeline", imagePath("686__i386__embedded"), kernel]).stdout;
    expect(timeline).toMatch(/^processor +6\.1\.176 32-bit +6\.1\.176 64-bit$/m);
    expect(timeline).toMatch(/^AMD EPYC \(Naples\) +sysenter +syscall$/m);
  });

  it.each([
    [["--cpu", "pdp11"], /--cpu is "pdp11", which has no entry here; there are .*pentium-pro/],
    [["--cpu", "epyc", "--here"], /--cpu and --here exclude each other/],
    [["--cpu", "epyc", "--width", "16"], /--width is "16"; it is 32 or 64/],
    [["--cpu", "epyc", "--width", "32"], /--width is 32, but .* is of a 64-bit kernel/],
    [["--cpuinfo", "/nonexistent"], /\/nonexistent cannot be read \(ENOENT\)/],
  ])("says in one line what is wrong with %j", (words, message) => {
    const { stderr, status } = linuxGate(["predict", embedded, ...words]);
    expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});

describe("diff", () => {
  it("is 0 for what boot chose, 1 for another kernel, 2 for what cannot be read", () => {
    expect(linuxGate(["diff", embedded, live]).status).toBe(0);
    expect(linuxGate(["diff", embedded, imagePath("686__i386__embedded")]).status).toBe(1);
    expect(linuxGate(["diff", embedded, "/nonexistent"]).status).toBe(2);
  });

  it("compares the images of a kernel file with what a process has", () => {
    const { stdout, status } = linuxGate(["diff", kernel, live]);
    expect([status, stdout]).toEqual([0, expect.stringMatching(/only what boot put in 10 places differs/)]);
  });
});

describe("verify", () => {
  it("finds this process as it should be, and says so a line an object", () => {
    const { stdout, status } = linuxGate(["verify", "--json"]);
    const [one, summary, ...rest] = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect([status, one.kind, one.verdict, summary.kind, summary.findings, rest]).toEqual([
      0,
      "process",
      "ok",
      "summary",
      0,
      [],
    ]);
  });

  it("says that a process that is not there cannot be looked at", () => {
    expect(linuxGate(["verify", "4194304"]).status).toBe(2);
  });

  it("does not accuse the processes of this machine of being those of another kernel", () => {
    const { stderr, status } = linuxGate(["verify", "--all", "--against", kernel]);
    expect([status, stderr]).toEqual([2, expect.stringMatching(/is of another kernel than the one that runs/)]);
  });
});
