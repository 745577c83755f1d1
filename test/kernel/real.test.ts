import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { FoundImage, Layer } from "../../src/kernel/find.js";
import { readKernelFile } from "../../src/targets/kernel-file.js";
import { symbolRows } from "../../src/verbs/symbols.js";
import { type Architecture, downloadedDependency } from "../support/debian.js";
import { needs, output } from "../support/referee.js";
import { unfetched } from "../support/unfetched.js";

const readelf = needs("readelf", "binutils");
const scratch = mkdtempSync(join(tmpdir(), "linux-gate-kernels-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Class, byte order and machine as readelf names them. */
const ABIS: Readonly<Record<string, readonly [bits: 32 | 64, order: string, machine: RegExp]>> = {
  i386: [32, "little", /Intel 80386/],
  x86_64: [64, "little", /X86-64/],
  x32: [32, "little", /X86-64/],
  aarch64: [64, "little", /AArch64/],
  arm: [32, "little", /ARM/],
  ppc64le: [64, "little", /PowerPC64/],
  s390x: [64, "big", /S\/390/],
  s390: [32, "big", /S\/390/],
  mips64el: [64, "little", /MIPS/],
  mipsel: [32, "little", /MIPS/],
  mipsn32el: [32, "little", /MIPS/],
};

interface Kernel {
  readonly metapackage: string;
  readonly architecture: Architecture;
  readonly format: string;
  readonly abis: readonly string[];
}

const KERNELS: readonly Kernel[] = [
  { metapackage: "linux-image-686", architecture: "i386", format: "bzImage", abis: ["i386"] },
  { metapackage: "linux-image-cloud-amd64", architecture: "amd64", format: "bzImage", abis: ["x86_64", "i386"] },
  { metapackage: "linux-image-amd64", architecture: "amd64", format: "bzImage", abis: ["x86_64", "x32", "i386"] },
  { metapackage: "linux-image-cloud-arm64", architecture: "arm64", format: "arm64 Image", abis: ["aarch64", "arm"] },
  { metapackage: "linux-image-armmp", architecture: "armhf", format: "zImage", abis: ["arm"] },
  { metapackage: "linux-image-powerpc64le", architecture: "ppc64el", format: "vmlinux", abis: ["ppc64le"] },
  { metapackage: "linux-image-s390x", architecture: "s390x", format: "s390 image", abis: ["s390x", "s390"] },
  {
    metapackage: "linux-image-5kc-malta",
    architecture: "mips64el",
    format: "ELF loader",
    abis: ["mips64el", "mipsel", "mipsn32el"],
  },
  { metapackage: "linux-image-4kc-malta", architecture: "mipsel", format: "ELF loader", abis: ["mipsel"] },
];

for (const kernel of KERNELS) {
  const deb = await downloadedDependency(kernel.metapackage, { architecture: kernel.architecture });
  if (deb === undefined) unfetched(`${kernel.metapackage}:${kernel.architecture}`);
  else describe(`the kernel of Debian's ${kernel.metapackage}, out of its package`, () => checkKernel(kernel, deb));
}

function checkKernel(kernel: Kernel, deb: string): void {
  it.skipIf(!readelf)("has the images that readelf reads as we do, and no other further on", async () => {
    const some = await readKernelFile(deb);
    expect(some.problems).toEqual([]);
    expect(some.images.map(({ image }) => image.abi)).toEqual(kernel.abis);
    const [found] = some.kernels;
    expect(found).toMatchObject({ format: kernel.format, abi: kernel.abis[0], whole: false });
    expect(found?.release).toMatch(new RegExp(`^\\d.*-${kernel.metapackage.slice("linux-image-".length)}$`));
    for (const one of some.images) compareWithReadelf(one);

    // The rest of the kernel, though not of its modules.
    const member = join(scratch, "kernel");
    writeFileSync(member, memberOf(deb, found?.name ?? ""));
    const all = await readKernelFile(member, { whole: true });
    expect(all.problems).toEqual([]);
    expect(all.whole).toBe(true);
    expect(all.images.map(({ offset, image }) => [offset, image.bytes])).toEqual(
      some.images.map(({ offset, image }) => [offset, image.bytes]),
    );

    // The same bytes lie there in what the system's own decompressor makes of it.
    const [first] = all.images;
    const innermost = unpacked(readFileSync(member), first?.path ?? []);
    for (const { offset, image } of all.images) {
      expect(innermost.subarray(offset, offset + image.bytes.length).equals(image.bytes)).toBe(true);
    }
  });
}

function memberOf(deb: string, name: string): Uint8Array {
  const { stdout, status } = spawnSync(
    "sh",
    ["-c", 'dpkg-deb --fsys-tarfile "$0" 2>/dev/null | tar -xO --occurrence=1 "$1"', deb, name],
    { maxBuffer: 1 << 28 },
  );
  expect(status).toBe(0);
  return stdout;
}

const DECOMPRESSORS: Readonly<Record<string, readonly [command: string, debian: string, ...args: string[]]>> = {
  xz: ["xz", "xz-utils", "-dc", "--single-stream"],
  gzip: ["gzip", "gzip", "-dc"],
  lz4: ["lz4", "lz4", "-dc"],
  zstd: ["zstd", "zstd", "-dc"],
};

/** What is innermost in a kernel, by system programs; they complain of what follows a payload, and give all of it. */
function unpacked(kernel: Buffer, path: readonly Layer[]): Buffer {
  let bytes = kernel;
  for (const { format, offset } of path) {
    const [command, debian, ...args] = DECOMPRESSORS[format] ?? [];
    if (command === undefined || debian === undefined || !needs(command, debian)) continue;
    bytes = spawnSync(command, args, { input: bytes.subarray(offset), maxBuffer: 1 << 28 }).stdout;
  }
  return bytes;
}

function compareWithReadelf({ image }: FoundImage): void {
  const path = join(scratch, "image.so");
  writeFileSync(path, image.bytes);
  const text = output("readelf", "-W", "-h", "-d", "-n", "--dyn-syms", path);
  const [bits, order, machine] = ABIS[image.abi] ?? [];
  expect(text).toContain(`Class:                             ELF${bits}`);
  expect(text).toContain(`${order} endian`);
  expect(/Machine: +(.*)/.exec(text)?.[1]).toMatch(machine as RegExp);
  expect(/Library soname: \[(.*)\]/.exec(text)?.[1]).toBe(image.soname);
  expect(/Build ID: ([0-9a-f]+)/.exec(text)?.[1]).toBe(image.buildId);
  const theirs = [...text.matchAll(/^ *\d+: ([0-9a-f]+) +(\S+) (\w+) +(\w+) +\w+(?: +\[.*\])? +\S+ ?(.*)$/gm)]
    .slice(1)
    .map(([, value = "", size = "", type, bind, name = ""]) =>
      [BigInt(`0x${value}`), BigInt(size), type, bind, name.replace(/@.*/, "").trim()].join(" "),
    );
  const ours = symbolRows(image, undefined).map(({ value, size, type, bind, name }) =>
    [value, size, type, bind, name].join(" "),
  );
  expect(ours).toEqual(theirs);
}
