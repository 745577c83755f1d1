import { Reader } from "../bytes/reader.js";
import * as C from "../elf/constants.js";
import { isElf, RECORD_SIZE, readHeader } from "../elf/header.js";
import { readSegments } from "../elf/segment.js";
import { type Abi, abiOf } from "../vdso/abi.js";
import { AR_MAGIC } from "./ar.js";
import { type Compression, compressionOf } from "./compression.js";
import { isTar } from "./tar.js";

/** Bytes that {@link identify} wants to see: the mark of an s390 image lies behind the first 64 KiB. */
export const HEAD_SIZE = 0x10010;

/** What a stream is, told by its first bytes. */
export type Format =
  | { readonly kind: "deb" | "tar" }
  | { readonly kind: "compressed"; readonly compression: Compression }
  /** A kernel whose payload lies where its header says. */
  | {
      readonly kind: "payload";
      readonly name: "bzImage" | "EFI zboot image";
      readonly abi?: Abi;
      readonly release?: string;
      readonly offset: number;
      readonly size: number;
    }
  /** A kernel that decompresses itself, with a payload somewhere in it. */
  | { readonly kind: "loader"; readonly name: string; readonly abi?: Abi }
  /** A kernel as it lies in memory. */
  | { readonly kind: "raw"; readonly name: string; readonly abi?: Abi }
  /** An ELF file: a vmlinux, a loader with a payload, or a vDSO image. */
  | {
      readonly kind: "elf";
      readonly abi?: Abi;
      readonly width: 32 | 64;
      readonly isKernel: boolean;
      /** Bytes that it must have for its section headers. */
      readonly size: number;
    };

const ascii = (bytes: Uint8Array, offset: number, size: number) =>
  String.fromCharCode(...bytes.subarray(offset, offset + size));

/** Tells what a stream is by its first {@link HEAD_SIZE} bytes, or as many as there are; `undefined` for anything else. */
export function identify(head: Uint8Array): Format | undefined {
  if (ascii(head, 0, AR_MAGIC.length) === AR_MAGIC) return { kind: "deb" };
  const compression = compressionOf(head);
  if (compression) return { kind: "compressed", compression };
  if (isElf(head)) return elfFormat(head);
  return (
    bzImage(head) ?? peImage(head) ?? zImage(head) ?? s390Image(head) ?? (isTar(head) ? { kind: "tar" } : undefined)
  );
}

/** Fewest bytes of a kernel that can be told from others by their marks. */
const MINIMUM = 0x40;

/** The setup header of x86 (Documentation/arch/x86/boot.rst), by offset. */
const SETUP = { sectors: 0x1f1, magic: 0x202, version: 0x206, release: 0x20e, payload: 0x248, payloadSize: 0x24c };

/** First version of the protocol that says where the payload is. */
const VERSION_WITH_PAYLOAD = 0x0208;

/** Longest text of `kernel_version` that is looked at; the release is its first word. */
const MAX_VERSION_TEXT = 256;

function bzImage(head: Uint8Array): Format | undefined {
  if (head.length < SETUP.payloadSize + 4 || ascii(head, SETUP.magic, 4) !== "HdrS") return undefined;
  const reader = new Reader(head, { what: "bzImage" });
  // 0 stands for 4, as it did before the field was there.
  const setupSize = ((reader.u8At(SETUP.sectors) || 4) + 1) * 512;
  const textAt = reader.u16At(SETUP.release);
  const text = textAt === 0 ? "" : ascii(head, 0x200 + textAt, MAX_VERSION_TEXT);
  const release = /^[!-~]+/.exec(text)?.[0];
  if (reader.u16At(SETUP.version) < VERSION_WITH_PAYLOAD) return { kind: "loader", name: "bzImage" };
  return {
    kind: "payload",
    name: "bzImage",
    ...(release !== undefined && { release }),
    offset: setupSize + reader.u32At(SETUP.payload),
    size: reader.u32At(SETUP.payloadSize),
  };
}

/** Machines of PE files (the PE format's specification; include/linux/pe.h), for kernels that are EFI programs. */
const PE_ABIS: Readonly<Record<number, Abi>> = {
  332: "i386",
  34404: "x86_64",
  43620: "aarch64",
  450: "arm",
  452: "arm",
  20530: "riscv32",
  20580: "riscv64",
  25188: "loongarch64",
};

/** `linux_banner`'s place is unknown, but a kernel that is a PE file marks itself (LINUX_PE_MAGIC). */
const LINUX_PE_MAGIC = 0x818223cd;

/**
 * Kernels of arm64, riscv and loongarch, which are EFI programs where that is configured.
 *
 * Sources: Documentation/arch/arm64/booting.rst, Documentation/arch/riscv/boot-image-header.rst,
 * arch/loongarch/kernel/head.S, drivers/firmware/efi/libstub/zboot-header.S.
 */
function peImage(head: Uint8Array): Format | undefined {
  if (head.length < MINIMUM) return undefined;
  const reader = new Reader(head, { what: "kernel image" });
  const abi = peAbi(reader);
  if (ascii(head, 0, 2) === "MZ" && ascii(head, 4, 4) === "zimg") {
    return {
      kind: "payload",
      name: "EFI zboot image",
      ...(abi && { abi }),
      offset: reader.u32At(8),
      size: reader.u32At(12),
    };
  }
  const magic = ascii(head, 0x38, 4);
  if (magic === "ARM\x64") return { kind: "raw", name: "arm64 Image", abi: "aarch64" };
  if (magic === "RSC\x05") return { kind: "raw", name: "riscv Image", ...(abi && { abi }) };
  if (ascii(head, 0, 2) !== "MZ") return undefined;
  if (reader.u32At(0x38) === LINUX_PE_MAGIC && abi) return { kind: "raw", name: `${abi} Image`, abi };
  return undefined;
}

function peAbi(reader: Reader): Abi | undefined {
  const at = reader.u32At(0x3c);
  if (at + 6 > reader.length || ascii(reader.bytes, at, 4) !== "PE\0\0") return undefined;
  return PE_ABIS[reader.u16At(at + 4)];
}

/** arch/arm/boot/compressed/head.S: a mark behind eight instructions, in the byte order of the kernel. */
function zImage(head: Uint8Array): Format | undefined {
  if (head.length < MINIMUM) return undefined;
  for (const littleEndian of [true, false]) {
    const reader = new Reader(head, { littleEndian, what: "zImage" });
    if (reader.u32At(0x24) === 0x016f2818)
      return { kind: "loader", name: "zImage", abi: littleEndian ? "arm" : "armeb" };
  }
  return undefined;
}

/** arch/s390/boot/head.S: a mark in the boot parameters' page. */
function s390Image(head: Uint8Array): Format | undefined {
  return ascii(head, 0x10008, 6) === "S390EP" ? { kind: "loader", name: "s390 image", abi: "s390x" } : undefined;
}

function elfFormat(head: Uint8Array): Format | undefined {
  try {
    const { header, reader } = readHeader(head);
    const abi = abiOf(header);
    const kernelHalf = header.class === 64 ? 1n << 63n : 1n << 31n;
    const load = readSegments(header, reader, Math.min(header.e_phnum, 64)).find(({ p_type }) => p_type === C.PT_LOAD);
    const isKernel = load !== undefined && load.p_vaddr >= kernelHalf;
    const size = header.e_shoff + header.e_shnum * RECORD_SIZE[header.class].section;
    return { kind: "elf", ...(abi && { abi }), width: header.class, isKernel, size };
  } catch {
    return undefined;
  }
}

/**
 * Whether a file with this head is one that {@link searchKernel} is for, and what it is: a kernel, something compressed,
 * or a package. `undefined` for a vDSO image, a program, or anything else.
 */
export function sniff(head: Uint8Array): string | undefined {
  const format = identify(head.subarray(0, HEAD_SIZE));
  switch (format?.kind) {
    case "deb":
      return "Debian package";
    case "tar":
      return "tar archive";
    case "compressed":
      return `${format.compression} stream`;
    case "payload":
    case "loader":
    case "raw":
      return format.name;
    case "elf":
      return format.isKernel ? "vmlinux" : undefined;
    default:
      return undefined;
  }
}
