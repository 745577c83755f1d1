import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { linuxGate } from "../support/cli.js";
import { imageBytes } from "../support/images.js";
import { bzImage, compressed, deb, filler, tar, vmlinux, withSize } from "../support/kernels.js";

const wide = imageBytes("amd64__amd64__embedded");
const narrow = imageBytes("amd64__i386__embedded");
const kernel = vmlinux({
  size: 0x60000,
  images: [
    [0x20000, wide],
    [0x20000 + wide.length, narrow],
  ],
});
const packed = bzImage(withSize(compressed(kernel, "gzip"), kernel.length), "6.1.0-test");
const folder = mkdtempSync(join(tmpdir(), "linux-gate-images-"));
const file = join(folder, "vmlinuz-6.1.0-test");

beforeAll(() => {
  writeFileSync(file, packed);
  symlinkSync("vmlinuz-6.1.0-test", join(folder, "vmlinuz"));
  writeFileSync(join(folder, "initrd.img-6.1.0-test"), compressed(filler(5000), "gzip"));
  mkdirSync(join(folder, "6.1.0/vdso"), { recursive: true });
  writeFileSync(join(folder, "6.1.0/vdso/vdso32.so"), narrow);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("linux-gate images", () => {
  it("shows the images of a kernel as a table, and as JSON", () => {
    const { stdout, stderr, status } = linuxGate(["images", file]);
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(stdout).toContain(`${file}: bzImage, of x86_64, Linux 6.1.0-test, in it gzip, vmlinux\n`);
    expect(stdout).toMatch(/^ {2}ABI +offset +size +version +SONAME +build-id$/m);
    expect(stdout).toMatch(/^ {2}x86_64 +0x21000 +8192 +6\.1\.176 +linux-vdso\.so\.1 +[0-9a-f]{40}$/m);
    expect(stdout).toMatch(/^ {2}i386 +0x23000 +8192 +6\.1\.176 +linux-gate\.so\.1 +[0-9a-f]{40}$/m);
    const json = JSON.parse(linuxGate(["images", file, "--json"]).stdout);
    expect(json).toMatchObject({
      schema: 1,
      files: [
        {
          file,
          problems: [],
          kernels: [{ release: "6.1.0-test", images: [{ offset: 0x21000 }, { offset: 0x23000 }] }],
        },
      ],
    });
  });

  it("reads standard input", () => {
    const { stdout, status } = linuxGate(["images", "-", "--whole"], { input: packed });
    expect(status).toBe(0);
    expect(stdout).toMatch(/^standard input: bzImage/);
    expect(stdout).toContain("all of it searched");
  });

  it("writes the images under names of our own, whatever a package calls its members", () => {
    const out = join(folder, "out/deep");
    const data = tar([{ name: "../../../vmlinuz", bytes: kernel }]);
    writeFileSync(join(folder, "package.deb"), deb(data));
    const { status, stderr } = linuxGate(["images", join(folder, "package.deb"), "-o", out]);
    expect(stderr).toBe("");
    expect(status).toBe(0);
    const names = readdirSync(out);
    expect(names.length).toBe(2);
    for (const name of names) expect(name).toMatch(/^(x86_64|i386)-[0-9a-f]{40}\.so$/);
    expect(new Uint8Array(readFileSync(join(out, names[1] as string)))).toEqual(wide);
    rmSync(join(folder, "package.deb"));
  });

  it("says where images cannot be written, /proc among these", () => {
    for (const [out, reason] of [
      ["/proc/linux-gate/images", /cannot be made: no such file/],
      [file, /cannot be made: file already exists/],
      [join(file, "below"), /cannot be made: not a directory/],
    ] as const) {
      const { stderr, status } = linuxGate(["images", file, "-o", out]);
      expect(stderr).toMatch(reason);
      expect(status).toBe(2);
    }
  });

  it("shows all kernels of a folder once, and the images beside modules", () => {
    const { stdout, status } = linuxGate(["images", folder, "--json"]);
    expect(status).toBe(0);
    const files = (JSON.parse(stdout) as { files: { file: string; kernels: { images: unknown[] }[] }[] }).files;
    expect(files.map((one) => [one.file, one.kernels[0]?.images.length])).toEqual([
      [join(folder, "6.1.0/vdso/vdso32.so"), 1],
      [join(folder, "vmlinuz"), 2],
    ]);
  });

  it("shows what was found before damage, remarks the damage and ends with status 2", () => {
    const data = tar([
      { name: "./boot/vmlinuz-1", bytes: kernel },
      { name: "./boot/vmlinuz-2", bytes: kernel },
    ]);
    const { stdout, stderr, status } = linuxGate(["images", "-"], {
      input: deb(data).subarray(0, kernel.length + 9000),
    });
    expect(status).toBe(2);
    expect(stdout).toContain("linux-gate.so.1");
    expect(stderr).toMatch(/^linux-gate: standard input: Cannot read .*cut short \(at offset /);
  });

  it("says why there is nothing, and what an option lacks, with status 2", () => {
    const nothing = linuxGate(["images", join(folder, "initrd.img-6.1.0-test")]);
    expect(nothing.status).toBe(2);
    expect(nothing.stderr).toMatch(/has no vDSO image in it \(5000 bytes of it searched\)\n$/);
    expect(linuxGate(["images", join(folder, "none")]).stderr).toMatch(/no such file \(ENOENT\)/);
    expect(linuxGate(["images", join(folder, "out")]).stderr).toMatch(/is a folder without kernel files/);
    expect(linuxGate(["images", file, "--max-size", "much"]).stderr).toMatch(/--max-size is "much", no size/);
    const bomb = linuxGate(["images", "-", "--max-size", "1M"], { input: compressed(new Uint8Array(8 << 20), "gzip") });
    expect(bomb.status).toBe(2);
    expect(bomb.stderr).toMatch(/more than 1048576 bytes would be decompressed/);
  });
});
