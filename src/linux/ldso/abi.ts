import * as C from "../../elf/constants.js";
import type { ElfHeader } from "../../elf/header.js";

/** What a dynamic linker of an ABI has where nothing nearer is known of it. */
export interface LoaderAbi {
  /** The dynamic linker of glibc, by the path that the ABI prescribes. */
  readonly loader: string;
  /** Folders searched last, best first: Debian's, then those of other distributions. */
  readonly folders: readonly string[];
  /** $LIB. */
  readonly lib: string;
  /** $PLATFORM, as far as it is the same on every processor. */
  readonly platform?: string;
  /** The ABI's number in the `flags` of ld.so.cache. */
  readonly cacheFlags: number;
}

const EF_MIPS_ABI2 = 0x20;
const EF_ARM_ABI_FLOAT_HARD = 0x400;
const EF_FLOAT_ABI_MASK = 0x6;
const EF_FLOAT_ABI_DOUBLE = 0x4;
const EF_LOONGARCH_ABI_MODIFIER_MASK = 0x7;
const EF_LOONGARCH_ABI_DOUBLE_FLOAT = 0x3;
const EF_PPC64_ABI = 0x3;

function abi(loader: string, cacheFlags: number, folders: string, platform?: string): LoaderAbi {
  const names = folders.split(" ");
  return {
    loader,
    cacheFlags,
    folders: names.flatMap((name) => [`/${name}`, `/usr/${name}`]),
    lib: names[0] as string,
    ...(platform !== undefined && { platform }),
  };
}

/**
 * What the dynamic linker of a file's ABI has unless its own bytes say otherwise; `undefined` for an unknown ABI.
 *
 * Sources: glibc, shlib-versions, `ldconfig.h` and `dl-cache.h` of the architectures; Debian's multiarch tuples.
 */
export function loaderAbi(header: ElfHeader): LoaderAbi | undefined {
  const wide = header.class === 64;
  const little = header.littleEndian;
  const flags = header.e_flags;
  switch (header.e_machine) {
    case C.EM_386:
      return abi("/lib/ld-linux.so.2", 0x0003, "lib/i386-linux-gnu lib32 lib", "i686");
    case C.EM_X86_64:
      return wide
        ? abi("/lib64/ld-linux-x86-64.so.2", 0x0303, "lib/x86_64-linux-gnu lib64 lib", "x86_64")
        : abi("/libx32/ld-linux-x32.so.2", 0x0803, "lib/x86_64-linux-gnux32 libx32 lib", "x86_64");
    case C.EM_AARCH64:
      return little
        ? abi("/lib/ld-linux-aarch64.so.1", 0x0a03, "lib/aarch64-linux-gnu lib64 lib", "aarch64")
        : abi("/lib/ld-linux-aarch64_be.so.1", 0x0a03, "lib/aarch64_be-linux-gnu lib64 lib", "aarch64_be");
    case C.EM_ARM:
      return flags & EF_ARM_ABI_FLOAT_HARD
        ? abi("/lib/ld-linux-armhf.so.3", 0x0903, "lib/arm-linux-gnueabihf lib")
        : abi("/lib/ld-linux.so.3", 0x0b03, "lib/arm-linux-gnueabi lib");
    case C.EM_RISCV: {
      const double = (flags & EF_FLOAT_ABI_MASK) === EF_FLOAT_ABI_DOUBLE;
      const bits = wide ? 64 : 32;
      const name = `${wide ? "lp64" : "ilp32"}${double ? "d" : ""}`;
      return abi(
        `/lib/ld-linux-riscv${bits}-${name}.so.1`,
        double ? 0x1003 : 0x0f03,
        `lib/riscv${bits}-linux-gnu lib${bits}/${name} lib`,
      );
    }
    case C.EM_PPC:
      return abi("/lib/ld.so.1", 0x0003, "lib/powerpc-linux-gnu lib");
    case C.EM_PPC64:
      return (flags & EF_PPC64_ABI) === 2 || little
        ? abi("/lib64/ld64.so.2", 0x0503, "lib/powerpc64le-linux-gnu lib64 lib")
        : abi("/lib64/ld64.so.1", 0x0503, "lib/powerpc64-linux-gnu lib64 lib");
    case C.EM_S390:
      return wide
        ? abi("/lib/ld64.so.1", 0x0403, "lib/s390x-linux-gnu lib64 lib")
        : abi("/lib/ld.so.1", 0x0003, "lib/s390-linux-gnu lib");
    case C.EM_MIPS: {
      const tail = little ? "el" : "";
      if (wide) return abi("/lib64/ld.so.1", 0x0703, `lib/mips64${tail}-linux-gnuabi64 lib64 lib`);
      return flags & EF_MIPS_ABI2
        ? abi("/lib32/ld.so.1", 0x0603, `lib/mips64${tail}-linux-gnuabin32 lib32 lib`)
        : abi("/lib/ld.so.1", 0x0003, `lib/mips${tail}-linux-gnu lib`);
    }
    case C.EM_LOONGARCH: {
      const double = (flags & EF_LOONGARCH_ABI_MODIFIER_MASK) === EF_LOONGARCH_ABI_DOUBLE_FLOAT;
      return double
        ? abi("/lib64/ld-linux-loongarch-lp64d.so.1", 0x1203, "lib/loongarch64-linux-gnu lib64 lib")
        : abi("/lib64/ld-linux-loongarch-lp64s.so.1", 0x1103, "lib/loongarch64-linux-gnusf lib64 lib");
    }
    case C.EM_SPARC:
      return abi("/lib/ld-linux.so.2", 0x0003, "lib/sparc-linux-gnu lib");
    case C.EM_SPARCV9:
      return abi("/lib64/ld-linux.so.2", 0x0103, "lib/sparc64-linux-gnu lib64 lib");
    case C.EM_PARISC:
      return abi("/lib/ld.so.1", 0x0003, "lib/hppa-linux-gnu lib");
    case C.EM_SH:
      return abi("/lib/ld-linux.so.2", 0x0003, "lib/sh4-linux-gnu lib");
    case C.EM_IA_64:
      return abi("/lib/ld-linux-ia64.so.2", 0x0203, "lib/ia64-linux-gnu lib");
    default:
      return undefined;
  }
}

/** Whether two files could be loaded into one process, as far as their headers say. */
export function sameAbi(a: ElfHeader, b: ElfHeader): boolean {
  return a.class === b.class && a.littleEndian === b.littleEndian && a.e_machine === b.e_machine;
}
