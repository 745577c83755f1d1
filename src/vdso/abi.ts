import * as C from "../elf/constants.js";
import type { ElfHeader } from "../elf/header.js";

/** The ABIs that have a vDSO, as Linux users write them. */
const ABIS = [
  "i386",
  "x86_64",
  "x32",
  "aarch64",
  "aarch64_be",
  "arm",
  "armeb",
  "riscv32",
  "riscv64",
  "ppc",
  "ppc64",
  "ppc64le",
  "s390",
  "s390x",
  "mips",
  "mipsel",
  "mips64",
  "mips64el",
  "mipsn32",
  "mipsn32el",
  "loongarch64",
  "sparc",
  "sparc64",
  "parisc",
  "sh",
  "ia64",
] as const;

/** The name of an ABI as Linux users write it. */
export type Abi = (typeof ABIS)[number];

/** Bit of `e_flags` on MIPS: the n32 ABI. */
const EF_MIPS_ABI2 = 0x20;

/** The ABI of an ELF file, from class, byte order, machine and flags; `undefined` for one that has no vDSO. */
export function abiOf(header: ElfHeader): Abi | undefined {
  const wide = header.class === 64;
  const little = header.littleEndian;
  switch (header.e_machine) {
    case C.EM_386:
      return "i386";
    case C.EM_X86_64:
      return wide ? "x86_64" : "x32";
    case C.EM_AARCH64:
      return little ? "aarch64" : "aarch64_be";
    case C.EM_ARM:
      return little ? "arm" : "armeb";
    case C.EM_RISCV:
      return wide ? "riscv64" : "riscv32";
    case C.EM_PPC:
      return "ppc";
    case C.EM_PPC64:
      return little ? "ppc64le" : "ppc64";
    case C.EM_S390:
      return wide ? "s390x" : "s390";
    case C.EM_MIPS:
      if (wide) return little ? "mips64el" : "mips64";
      if (header.e_flags & EF_MIPS_ABI2) return little ? "mipsn32el" : "mipsn32";
      return little ? "mipsel" : "mips";
    case C.EM_LOONGARCH:
      return "loongarch64";
    case C.EM_SPARC:
      return "sparc";
    case C.EM_SPARCV9:
      return "sparc64";
    case C.EM_PARISC:
      return "parisc";
    case C.EM_SH:
      return "sh";
    case C.EM_IA_64:
      return "ia64";
    default:
      return undefined;
  }
}

/** Names that users give an ABI, as `uname -m`, Debian and the kernel write them. */
const ALIASES: ReadonlyMap<string, Abi> = new Map<string, Abi>([
  ["ia32", "i386"],
  ["i486", "i386"],
  ["i586", "i386"],
  ["i686", "i386"],
  ["x86", "i386"],
  ["amd64", "x86_64"],
  ["x86-64", "x86_64"],
  ["x64", "x86_64"],
  ["arm64", "aarch64"],
  ["armhf", "arm"],
  ["armel", "arm"],
  ["ppc64el", "ppc64le"],
]);

const NAMES: ReadonlySet<string> = new Set(ABIS);

/** The ABI that a name stands for (`amd64` is `x86_64`); `undefined` where it names none. */
export function parseAbi(name: string): Abi | undefined {
  const lower = name.toLowerCase();
  return NAMES.has(lower) ? (lower as Abi) : ALIASES.get(lower);
}

/**
 * The SONAME that kernels give the vDSO of an ABI, for programs of one that no process here shows.
 *
 * Source: the `*.lds.S` of arch/ARCH/kernel/vdso (or entry/vdso); man 7 vdso.
 */
export function usualSoname(abi: Abi): string {
  switch (abi) {
    case "i386":
    case "sh":
    case "ia64":
      return "linux-gate.so.1";
    case "ppc":
    case "s390":
      return "linux-vdso32.so.1";
    case "ppc64":
    case "ppc64le":
    case "s390x":
      return "linux-vdso64.so.1";
    default:
      return "linux-vdso.so.1";
  }
}
