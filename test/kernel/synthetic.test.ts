import { describe, expect, it } from "vitest";
import { decompress } from "../../src/kernel/load.js";
import { Pull } from "../../src/kernel/pull.js";
import { withoutSectionHeaders } from "../support/elf-writer.js";
import { imageBytes } from "../support/images.js";
import {
  arm64Image,
  available,
  bzImage,
  chunks,
  compressed,
  compressors,
  deb,
  filler,
  type Layout,
  rawKernel,
  search,
  tar,
  vmlinux,
  withSize,
  zboot,
  zImage,
} from "../support/kernels.js";

const wide = imageBytes("amd64__amd64__embedded");
const narrow = imageBytes("amd64__i386__embedded");
const arm64 = imageBytes("arm64__arm64__embedded");
const arm = imageBytes("arm64__arm32__embedded");
const release = "6.1.0-test";

const x86: Layout = {
  size: 0xa0000,
  images: [
    [0x40000, wide],
    [0x40000 + wide.length, narrow],
  ],
  release,
};
const armLayout: Layout = {
  size: 0xa0000,
  images: [
    [0x50000, arm64],
    [0x50000 + arm64.length, arm],
  ],
  release,
};

const bytesOf = (found: { images: readonly { image: { bytes: Uint8Array } }[] }) =>
  found.images.map(({ image }) => image.bytes);

describe.each(compressors)("a kernel compressed with %s", (name) => {
  it.skipIf(!available(name))("gives its images out of a bzImage, byte for byte", async () => {
    const kernel = vmlinux(x86);
    const file = bzImage(withSize(compressed(kernel, name), kernel.length), "6.1.0-header");
    for (const whole of [false, true]) {
      const found = await search(file, { whole });
      expect(found.problems).toEqual([]);
      expect(bytesOf(found)).toEqual([wide, narrow]);
      expect(found.images.map(({ offset }) => offset)).toEqual([0x41000, 0x41000 + wide.length]);
      expect(found.images[0]?.path.map(({ format }) => format)).toEqual(["bzImage", name, "vmlinux"]);
      expect(found.kernels).toMatchObject([
        { format: "bzImage", abi: "x86_64", width: 64, release: "6.1.0-header", whole },
      ]);
    }
  });

  it.skipIf(!available(name))("gives its images out of an EFI zboot image", async () => {
    const found = await search(zboot(compressed(arm64Image(armLayout), name), name), { whole: true });
    expect(found.problems).toEqual([]);
    expect(bytesOf(found)).toEqual([arm64, arm]);
    expect(found.kernels).toMatchObject([
      { format: "EFI zboot image", abi: "aarch64", width: 64, release, whole: true },
    ]);
  });

  it.skipIf(!available(name))("gives its images where no header says where the payload is", async () => {
    const kernel = rawKernel({ ...armLayout, images: [[0x30000, arm]] });
    for (const whole of [false, true]) {
      const found = await search(zImage(withSize(compressed(kernel, name), kernel.length)), { whole });
      expect(found.problems).toEqual([]);
      expect(bytesOf(found)).toEqual([arm]);
      expect(found.images[0]?.path).toMatchObject([{ format: "zImage" }, { format: name, offset: 0x3000 }]);
      expect(found.kernels).toMatchObject([{ abi: "arm", width: 32, release, whole }]);
    }
  });

  it.skipIf(!available(name))(
    "gives its images when compressed as a whole, and when two streams follow one another",
    async () => {
      const kernel = arm64Image(armLayout);
      const half = 0x51000;
      const halves = [kernel.subarray(0, half), kernel.subarray(half)].map((part) =>
        Buffer.from(compressed(part, name)),
      );
      for (const file of [compressed(kernel, name), new Uint8Array(Buffer.concat(halves))]) {
        const found = await search(file, { whole: true });
        expect(found.problems).toEqual([]);
        expect(bytesOf(found)).toEqual([arm64, arm]);
        expect(found.kernels).toMatchObject([{ format: "arm64 Image", whole: true, searched: kernel.length }]);
      }
    },
  );

  // dpkg knows no others.
  const suffix = { gzip: ".gz", bzip2: ".bz2", lzma: ".lzma", xz: ".xz", zstd: ".zst", lz4: undefined, lzo: undefined }[
    name
  ];
  if (suffix !== undefined) {
    it.skipIf(!available(name))("gives its images out of a Debian package", async () => {
      const data = tar([
        { name: "./boot/", type: "5" },
        { name: "./boot/config-6.1.0", bytes: filler(70_000) },
        { name: "./boot/vmlinuz-6.1.0", bytes: arm64Image(armLayout) },
        { name: "./lib/modules/6.1.0/kernel/x.ko", bytes: filler(3_000_000) },
      ]);
      const found = await search(deb(compressed(data, name), suffix));
      expect(found.problems).toEqual([]);
      expect(bytesOf(found)).toEqual([arm64, arm]);
      expect(found.whole).toBe(false);
      expect(found.kernels).toMatchObject([{ name: "./boot/vmlinuz-6.1.0", format: "arm64 Image" }]);
    });
  }
});

describe("the search", () => {
  it("stops 256 KiB behind the last image, and with `whole` goes on to one that lies far behind", async () => {
    const far: Layout = {
      size: 0x800000,
      images: [
        [0x10000, wide],
        [0x700000, narrow],
      ],
    };
    const some = await search(vmlinux(far));
    expect(bytesOf(some)).toEqual([wide]);
    expect(some.whole).toBe(false);
    expect(some.kernels[0]?.searched).toBeLessThan(0x11000 + wide.length + 2 * 0x40000);
    const all = await search(vmlinux(far), { whole: true });
    expect(bytesOf(all)).toEqual([wide, narrow]);
    expect(all.whole).toBe(true);
  });

  it("finds images wherever the ends of chunks lie", async () => {
    const kernel = vmlinux({
      size: 0x20000,
      images: [
        [0x3000, wide],
        [0x3000 + wide.length, narrow],
      ],
    });
    for (const chunk of [1, 7, 4095, 4096, 4099, 65537]) {
      expect(bytesOf(await search(chunk === 1 ? kernel.subarray(0, 0x9000) : kernel, { chunk }))).toEqual([
        wide,
        narrow,
      ]);
    }
  });

  it("takes an image at any offset, and one that the file ends with", async () => {
    const odd = new Uint8Array(Buffer.concat([filler(12_345), wide.subarray(0, 0x1228)]));
    const found = await search(odd);
    expect(found.images.map(({ offset, image }) => [offset, image.bytes.length])).toEqual([[12_345, 0x1228]]);
  });

  it("takes a file that is an image for one", async () => {
    const found = await search(narrow);
    expect(found.kernels).toMatchObject([{ format: "vDSO image", abi: "i386", width: 32, whole: true }]);
    expect(bytesOf(found)).toEqual([narrow]);
  });

  it("finds all kernels in the folder of a package, images beside modules among them, and no further", async () => {
    const one = arm64Image(armLayout);
    const data = tar([
      { name: "./boot/vmlinuz", type: "2" },
      { name: "./boot/vmlinuz-1", bytes: one },
      { name: "./boot/vmlinux.lds", bytes: filler(100) },
      { name: "./boot/Image-2", bytes: vmlinux(x86) },
      { name: "./lib/modules/1/vdso/vdso64.so", bytes: wide },
    ]);
    const some = await search(deb(data));
    expect(bytesOf(some)).toEqual([arm64, arm, wide, narrow]);
    const all = await search(deb(data), { whole: true });
    expect(bytesOf(all)).toEqual([arm64, arm, wide, narrow, wide]);
    expect(all.kernels.map(({ name }) => name)).toEqual([
      "./boot/vmlinuz-1",
      "./boot/Image-2",
      "./lib/modules/1/vdso/vdso64.so",
    ]);
  });

  it("reads no more of the file than it needs", async () => {
    let given = 0;
    const source = (async function* () {
      for (let at = 0; ; at += 65536) {
        given = at + 65536;
        yield at < kernel.length ? kernel.subarray(at, at + 65536) : new Uint8Array(65536);
      }
    })();
    const kernel = vmlinux(x86);
    const { searchKernel } = await import("../../src/kernel/find.js");
    const found = await searchKernel(source, { decompress });
    expect(bytesOf(found)).toEqual([wide, narrow]);
    expect(given).toBeLessThan(0x41000 + wide.length + narrow.length + 0x80000);
  });

  it("finds what lies behind a kernel of gzip in a package, whatever was read of the one before", async () => {
    const packed = compressed(vmlinux(x86), "gzip");
    const other = compressed(arm64Image(armLayout), "gzip");
    const data = tar([
      { name: "./boot/vmlinuz-1", bytes: packed },
      { name: "./boot/vmlinuz-2", bytes: other },
      { name: "./boot/vmlinuz-3", bytes: packed },
    ]);
    for (const whole of [false, true]) {
      for (const chunk of [999, 4096, 65536]) {
        const found = await search(deb(data), { whole, chunk });
        expect(found.problems).toEqual([]);
        expect(bytesOf(found)).toEqual([wide, narrow, arm64, arm, wide, narrow]);
      }
    }
  });

  it("finds images side by side that have no section headers", async () => {
    const bare = withoutSectionHeaders(narrow);
    const kernel = rawKernel({
      size: 0x20000,
      images: [
        [0x10000, bare],
        [0x10000 + bare.length, bare],
      ],
    });
    const found = await search(kernel, { whole: true });
    expect(found.images.map(({ offset, image: { abi } }) => [offset, abi])).toEqual([
      [0x10000, "i386"],
      [0x10000 + bare.length, "i386"],
    ]);
  });
});

describe("a stream of several", () => {
  it.each([1, 1000, 4096, 65536, 262144])(
    "leaves what follows a gzip member as it is, read by %i bytes",
    async (chunk) => {
      for (const size of [10, 5000]) {
        const tail = filler(20_000, 7);
        const source = new Pull(chunks(new Uint8Array(Buffer.concat([compressed(filler(size), "gzip"), tail])), chunk));
        let length = 0;
        for await (const part of decompress("gzip", source)) length += part.length;
        expect(length).toBe(size);
        expect(await source.read(tail.length, "tail")).toEqual(tail);
      }
    },
  );

  it.skipIf(!available("zstd"))("passes over frames of zstd that hold nothing", async () => {
    const skippable = Uint8Array.of(0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4);
    const kernel = arm64Image(armLayout);
    const halves = [kernel.subarray(0, 0x51000), kernel.subarray(0x51000)];
    const parts = halves.flatMap((half) => [skippable, compressed(half, "zstd")]);
    expect(bytesOf(await search(new Uint8Array(Buffer.concat(parts)), { whole: true }))).toEqual([arm64, arm]);
  });

  it.skipIf(!available("xz"))("passes over what pads xz streams", async () => {
    const kernel = arm64Image(armLayout);
    const parts = [
      compressed(kernel.subarray(0, 0x51000), "xz"),
      new Uint8Array(8),
      compressed(kernel.subarray(0x51000), "xz"),
    ];
    expect(bytesOf(await search(new Uint8Array(Buffer.concat(parts)), { whole: true }))).toEqual([arm64, arm]);
  });
});
