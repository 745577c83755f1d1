import { spawnSync } from "node:child_process";
import { gzipSync } from "node:zlib";
import { Writer } from "../../src/bytes/writer.js";
import { buildElf } from "../../src/elf/builder.js";
import * as C from "../../src/elf/constants.js";
import { type KernelFile, type SearchOptions, searchKernel } from "../../src/kernel/find.js";
import { decompress } from "../../src/kernel/load.js";
import { needs } from "./referee.js";

/** How the kernel's build calls each compressor, and the Debian package that has it; gzip is Node's own. */
const COMPRESSORS = {
  bzip2: { command: "bzip2", args: ["-9"], debian: "bzip2" },
  lzma: { command: "xz", args: ["--format=lzma", "-1", "-c"], debian: "xz-utils" },
  xz: { command: "xz", args: ["--check=crc32", "--x86", "--lzma2=preset=1,dict=1MiB", "-c"], debian: "xz-utils" },
  lzo: { command: "lzop", args: ["-9"], debian: "lzop" },
  lz4: { command: "lz4", args: ["-l", "-9", "-c"], debian: "lz4" },
  zstd: { command: "zstd", args: ["-q", "-9", "-c"], debian: "zstd" },
} as const;

/** A compression that has a compressor here. */
export type Compressor = keyof typeof COMPRESSORS | "gzip";

/** All of them. */
export const compressors: readonly Compressor[] = ["gzip", ...(Object.keys(COMPRESSORS) as Compressor[])];

/** Whether its compressor is installed. */
export function available(compressor: Compressor): boolean {
  if (compressor === "gzip") return true;
  const { command, debian } = COMPRESSORS[compressor];
  return needs(command, debian);
}

const known = new WeakMap<Uint8Array, Map<Compressor, Uint8Array>>();

/** Compresses as the kernel's build does; the same bytes only once. The result is a copy. */
export function compressed(bytes: Uint8Array, compressor: Compressor): Uint8Array {
  let results = known.get(bytes);
  if (!results) {
    results = new Map();
    known.set(bytes, results);
  }
  let result = results.get(compressor);
  if (!result) {
    result = run(bytes, compressor);
    results.set(compressor, result);
  }
  return result.slice();
}

function run(bytes: Uint8Array, compressor: Compressor): Uint8Array {
  if (compressor === "gzip") return new Uint8Array(gzipSync(bytes, { level: 9 }));
  const { command, args } = COMPRESSORS[compressor];
  const { stdout, status, error } = spawnSync(command, args, { input: bytes, maxBuffer: 1 << 28 });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command}: status ${status}`);
  return new Uint8Array(stdout);
}

/** Bytes that look like a kernel's: neither all the same nor without any order. */
export function filler(size: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(size);
  let state = seed;
  for (let i = 0; i < size; i++) {
    if (i % 7 === 0) state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[i] = (state >>> 16) & 0x3f;
  }
  return bytes;
}

/** A part of a kernel: images at offsets, and something else between them. */
export interface Layout {
  readonly size: number;
  readonly images: readonly (readonly [offset: number, bytes: Uint8Array])[];
  readonly release?: string;
}

/** A kernel as it lies in memory. */
export function rawKernel({ size, images, release }: Layout): Uint8Array {
  const bytes = filler(size);
  if (release !== undefined) {
    bytes.set(new TextEncoder().encode(`Linux version ${release} (someone@somewhere) (gcc) #1 SMP\n\0`), 0x2000);
  }
  for (const [offset, image] of images) bytes.set(image, offset);
  return bytes;
}

/** A vmlinux whose only section is such a kernel; offsets in it are 0x1000 higher. */
export function vmlinux(layout: Layout): Uint8Array {
  return buildElf({
    class: 64,
    type: C.ET_EXEC,
    machine: C.EM_X86_64,
    base: 0xffffffff81000000n,
    sections: [{ name: ".text", type: C.SHT_PROGBITS, flags: C.SHF_ALLOC, content: rawKernel(layout), align: 0x1000 }],
    segments: [{ type: C.PT_LOAD, flags: C.PF_R | C.PF_X, covers: ["headers", ".text"] }],
    sectionHeaders: true,
  });
}

/** Appends the size of the whole, as the kernel's build does for its decompressors. */
export function withSize(payload: Uint8Array, size: number): Uint8Array {
  return new Writer().raw(payload).u32(size).finish();
}

/** A bzImage of boot protocol 2.15 around a payload. */
export function bzImage(payload: Uint8Array, release: string): Uint8Array {
  const setupSectors = 4;
  const payloadAt = 0x300;
  const out = new Writer();
  out.padTo(0x1f1).u8(setupSectors).padTo(0x1fe).u16(0xaa55).u16(0x66eb);
  out.raw(new TextEncoder().encode("HdrS")).u16(0x020f).padTo(0x20e).u16(0x100);
  out.padTo(0x248).u32(payloadAt).u32(payload.length);
  out.padTo(0x300).raw(new TextEncoder().encode(`${release} (someone@somewhere) #1 SMP\0`));
  return out
    .padTo((setupSectors + 1) * 512 + payloadAt)
    .raw(payload)
    .raw(filler(3000, 5))
    .finish();
}

/** An EFI zboot image around a payload. */
export function zboot(payload: Uint8Array, compression: string, machine = 0xaa64): Uint8Array {
  const payloadAt = 0x1234;
  const out = new Writer();
  out.raw(new TextEncoder().encode("MZ\0\0zimg")).u32(payloadAt).u32(payload.length).padTo(24);
  out.raw(new TextEncoder().encode(compression)).padTo(0x3c).u32(0x40);
  out.raw(new TextEncoder().encode("PE\0\0")).u16(machine);
  return out.padTo(payloadAt).raw(payload).finish();
}

/** The header of an arm64 Image, put over the start of a kernel. */
export function arm64Image(layout: Layout): Uint8Array {
  const bytes = rawKernel(layout);
  bytes.set(new TextEncoder().encode("MZ"), 0);
  bytes.set(new TextEncoder().encode("ARM\x64"), 0x38);
  return bytes;
}

/** An arm zImage: a decompressor, in which magic numbers of others lie, and a payload behind it. */
export function zImage(payload: Uint8Array): Uint8Array {
  const stub = filler(0x3000, 9);
  const view = new DataView(stub.buffer);
  view.setUint32(0x24, 0x016f2818, true);
  // What looks like the start of a payload and is none: a gzip header, an xz header, a frame of zstd.
  stub.set([0x1f, 0x8b, 0x08, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0x800);
  stub.set([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 1, 0x69, 0x22, 0xde, 0x36, 0xff, 0xff], 0x900);
  stub.set([0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x88, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7], 0xa00);
  return new Writer().raw(stub).raw(payload).raw(filler(0x800, 3)).finish();
}

/** A member of a tar archive to be written. */
export interface TarEntry {
  readonly name: string;
  readonly bytes?: Uint8Array;
  /** `0` a file, `5` a folder, `2` a symbolic link; a file unless said. */
  readonly type?: string;
  /** Written as the size instead of that of the bytes, as it stands. */
  readonly size?: Uint8Array;
}

/** Writes a tar archive (ustar). */
export function tar(entries: readonly TarEntry[]): Uint8Array {
  const out = new Writer();
  for (const { name, bytes = new Uint8Array(0), type = "0", size } of entries) {
    const header = new Uint8Array(512);
    const put = (text: string, at: number) => header.set(new TextEncoder().encode(text), at);
    put(name.slice(0, 100), 0);
    put("0000644\0", 100);
    put(`${bytes.length.toString(8).padStart(11, "0")}\0`, 124);
    if (size) header.set(size, 124);
    put("        ", 148);
    put(type, 156);
    put("ustar\x0000", 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    put(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    out.raw(header).raw(bytes);
    out.padTo(Math.ceil(out.length / 512) * 512);
  }
  return out.padTo(out.length + 1024).finish();
}

/** Writes a Debian package with this archive of data, under the name that its compression gives it. */
export function deb(data: Uint8Array, suffix = ""): Uint8Array {
  const out = new Writer().raw(new TextEncoder().encode("!<arch>\n"));
  const member = (name: string, bytes: Uint8Array) => {
    const header = `${name.padEnd(16)}${"0".padEnd(12)}${"0".padEnd(6)}${"0".padEnd(6)}${"100644".padEnd(8)}`;
    out.raw(new TextEncoder().encode(`${header}${String(bytes.length).padEnd(10)}\`\n`)).raw(bytes);
    if (bytes.length % 2 === 1) out.u8(0x0a);
  };
  member("debian-binary", new TextEncoder().encode("2.0\n"));
  member("control.tar", tar([{ name: "./control", bytes: new TextEncoder().encode("Package: x\n") }]));
  member(`data.tar${suffix}`, data);
  return out.finish();
}

/** The bytes as a stream of chunks of a size. */
export async function* chunks(bytes: Uint8Array, size = 65536): AsyncGenerator<Uint8Array, void, undefined> {
  // One buffer for all, as a file is read: who keeps bytes has to copy them.
  const buffer = Buffer.alloc(size);
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    buffer.set(part);
    yield buffer.subarray(0, part.length);
    buffer.fill(0xee);
  }
}

/** Searches bytes. */
export function search(
  bytes: Uint8Array,
  options: Partial<SearchOptions> & { chunk?: number } = {},
): Promise<KernelFile> {
  const { chunk, ...rest } = options;
  return searchKernel(chunks(bytes, chunk), { decompress, ...rest });
}
