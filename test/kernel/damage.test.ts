import { describe, expect, it } from "vitest";
import { nothingFound } from "../../src/targets/kernel-file.js";
import { imageBytes } from "../support/images.js";
import {
  available,
  bzImage,
  compressed,
  compressors,
  deb,
  filler,
  search,
  tar,
  vmlinux,
  withSize,
  zImage,
} from "../support/kernels.js";

const wide = imageBytes("amd64__amd64__embedded");
const narrow = imageBytes("amd64__i386__embedded");
const kernel = vmlinux({
  size: 0x60000,
  images: [
    [0x20000, wide],
    [0x20000 + wide.length, narrow],
  ],
});

describe.each(compressors)("a damaged kernel compressed with %s", (name) => {
  it.skipIf(!available(name))("that is cut short gives the images before the cut, and says where it ends", async () => {
    const payload = withSize(compressed(kernel, name), kernel.length);
    const file = bzImage(payload, "6.1.0");
    for (let size = 0x1000; size < 0x500 + payload.length; size += Math.ceil(payload.length / 13)) {
      const found = await search(file.subarray(0, size), { whole: true });
      expect(found.problems.length).toBeGreaterThan(0);
      expect(found.problems[0]?.message).toMatch(/^Cannot read .*: it is cut short \(at offset 0x/);
      expect(found.images.length).toBeLessThanOrEqual(2);
    }
  });

  it.skipIf(!available(name))("with a byte changed says so, or gives what it gave", async () => {
    const payload = compressed(kernel, name);
    for (let at = 20; at < payload.length; at += Math.ceil(payload.length / 11)) {
      const broken = payload.slice();
      broken[at] = (broken[at] as number) ^ 0x55;
      const found = await search(bzImage(withSize(broken, kernel.length), "6.1.0"), { whole: true });
      // lz4 has no checksum: what is damaged may still decompress, to something else.
      if (found.problems.length === 0 && name !== "lz4") expect(found.images.length).toBe(2);
      for (const { message } of found.problems) expect(message).toMatch(/^Cannot .*\(at offset /);
    }
  });

  it.skipIf(!available(name))("that is a bomb ends at the budget", async () => {
    const bomb = compressed(new Uint8Array(24 << 20), name);
    const found = await search(bzImage(bomb, "6.1.0"), { maxSize: 4 << 20 });
    expect(found.problems.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^Cannot search further: more than 4194304 bytes would be decompressed/),
    ]);
    expect(found.images).toEqual([]);
  });
});

describe.each(compressors)("a budget of a few bytes for %s", (name) => {
  it.skipIf(!available(name))("is used up exactly, and said, wherever the payload is", async () => {
    for (const file of [compressed(kernel, name), zImage(compressed(kernel, name))]) {
      const found = await search(file, { maxSize: 1024 });
      expect(found.problems.map(({ message }) => message)).toEqual([
        expect.stringMatching(/^Cannot search further: more than 1024 bytes would be .*\(at offset 0x400\)$/),
      ]);
      expect(nothingFound("it", found).message).not.toMatch(/is empty/);
    }
  });

  it.skipIf(!available(name))("ends at a limit where thousands of streams with little in them follow", async () => {
    const one = Buffer.from(compressed(filler(20), name));
    const found = await search(new Uint8Array(Buffer.concat(Array.from({ length: 2000 }, () => one))));
    expect(found.problems[0]?.message).toMatch(/: 257 of them follow one another, with 5120 bytes in all \(at offset /);
  });
});

it("a budget that is used up in a payload found by its signature is said, not taken for a wrong guess", async () => {
  const file = zImage(compressed(new Uint8Array(4 << 20), "gzip"));
  const found = await search(file, { maxSize: 40_000 });
  expect(found.problems[0]?.message).toMatch(/more than 40000 bytes would be decompressed/);
});

it.each([
  ["of no bytes", 0x24c, 0, /its payload has no bytes \(at offset 0xd00\)/],
  ["behind its end", 0x248, 0x7fffffff, /Cannot read bzImage: it is cut short \(at offset 0x/],
])("a bzImage with a payload %s is named", async (_, at, value, message) => {
  const file = bzImage(compressed(kernel, "gzip"), "6.1.0");
  new DataView(file.buffer, file.byteOffset).setUint32(at, value, true);
  const found = await search(file);
  expect(found.problems[0]?.message).toMatch(message);
  expect(nothingFound("it", found).message).toMatch(message);
});

describe("what is no kernel", () => {
  it("says what was met and how much was searched", async () => {
    const found = await search(bzImage(filler(100_000), "6.1.0"));
    expect(found.images).toEqual([]);
    expect(nothingFound("some/file", found).message).toBe(
      "some/file (a bzImage) has no vDSO image in it (100000 bytes of it searched)",
    );
    const program = await search(filler(50));
    expect(nothingFound("-", program).message).toBe(
      "standard input (an unknown file) has no vDSO image in it (50 bytes of it searched)",
    );
    expect(nothingFound("x", await search(new Uint8Array(0))).message).toBe("x is empty");
  });

  it("is not taken for one by ELF magic, header, or a shared object that is no vDSO", async () => {
    const bytes = filler(0x40000);
    for (let at = 0; at < 0x10000; at += 64) bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1], at);
    for (let at = 0x10000; at < 0x30000; at += 0x800) bytes.set(wide.subarray(0, 64), at);
    const found = await search(bytes, { whole: true });
    expect(found.images).toEqual([]);
  });

  it("ends at a limit where there are thousands of headers of shared objects", async () => {
    const bytes = new Uint8Array(0x200000);
    for (let at = 0; at < bytes.length; at += 64) bytes.set(wide.subarray(0, 64), at);
    const found = await search(bytes);
    expect(found.problems.map(({ message }) => message).at(-1)).toMatch(/more than 4096 ELF files/);
  });

  it("ends at a limit where containers lie in one another", async () => {
    let bytes: Uint8Array = filler(3000);
    for (let i = 0; i < 20; i++) bytes = compressed(bytes, "gzip");
    const found = await search(bytes);
    expect(found.problems.map(({ message }) => message)).toEqual([expect.stringMatching(/8 containers deep/)]);
  });

  it("tells of a payload that looked like one and could not be read", async () => {
    const broken = compressed(kernel, "gzip");
    broken.fill(0x5a, 200, 400);
    const found = await search(zImage(broken));
    expect(found.problems.some(({ message }) => /Cannot read gzip stream: it is corrupt/.test(message))).toBe(true);
  });
});

describe("a Debian package made to trick", () => {
  const octal = (text: string) => new TextEncoder().encode(text);

  it("with compressors that lead elsewhere is only searched", async () => {
    const data = tar([
      { name: "../../etc/vmlinuz", bytes: kernel },
      { name: "/etc/vmlinuz-x", bytes: kernel },
      { name: "./boot/vmlinuz\x1b[31m", bytes: kernel },
      { name: "./boot/vmlinuz-link", type: "2" },
    ]);
    const found = await search(deb(data), { whole: true });
    expect(found.problems).toEqual([]);
    expect(found.kernels.map(({ name }) => name)).toEqual(["../../etc/vmlinuz", "/etc/vmlinuz-x"]);
  });

  it.each([
    ["no octal number", octal("0000000089x\0"), /size is "0000000089x", no octal number/],
    [
      "a negative size",
      Uint8Array.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
      /negative/,
    ],
    [
      "a size beyond any file",
      Uint8Array.from([0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
      /beyond any file/,
    ],
    ["a size beyond the archive", octal("77777777777\0"), /cut short/],
  ])("with %s is named", async (_, size, message) => {
    const found = await search(deb(tar([{ name: "./boot/vmlinuz", bytes: kernel, size }])), { whole: true });
    expect(found.problems.map((problem) => problem.message)).toEqual([expect.stringMatching(message)]);
  });

  it("with too long a name, or no data, is named", async () => {
    const long = tar([{ name: "././@LongLink", bytes: new Uint8Array(100_000).fill(0x61), type: "L" }]);
    expect((await search(deb(long))).problems[0]?.message).toMatch(/an extension header has 100000 bytes/);
    const none = (await search(deb(new Uint8Array(0), "-sig"))).problems[0]?.message;
    expect(none).toMatch(/it has no data\.tar/);
  });

  it("that breaks off behind a kernel gives its images and the damage", async () => {
    const data = tar([
      { name: "./boot/vmlinuz-1", bytes: kernel },
      { name: "./boot/vmlinuz-2", bytes: kernel },
    ]);
    const cut = deb(data).subarray(0, kernel.length + 5000);
    const found = await search(cut);
    expect(found.images.length).toBe(2);
    expect(found.problems.length).toBe(1);
    expect(found.whole).toBe(false);
  });
});

it("an archive whose header is none is told with its offset", async () => {
  const found = await search(new TextEncoder().encode("!<arch>\nnot a header"));
  expect(found.problems[0]?.message).toMatch(/^Cannot read ar archive: it is cut short \(at offset 0x14\)/);
});
