import * as C from "../../elf/constants.js";
import type { ElfFile } from "../../elf/file.js";

/** Names for each word size, little-endian and big-endian; absent where there is no such target. */
interface Names {
  readonly 32?: readonly [little: string | undefined, big: string | undefined];
  readonly 64?: readonly [little: string | undefined, big: string | undefined];
}

const TARGETS: ReadonlyMap<number, Names> = new Map<number, Names>([
  [C.EM_386, { 32: ["elf32-i386", undefined] }],
  [C.EM_X86_64, { 32: ["elf32-x86-64", undefined], 64: ["elf64-x86-64", undefined] }],
  [C.EM_AARCH64, { 32: ["elf32-littleaarch64", "elf32-bigaarch64"], 64: ["elf64-littleaarch64", "elf64-bigaarch64"] }],
  [C.EM_ARM, { 32: ["elf32-littlearm", "elf32-bigarm"] }],
  [C.EM_RISCV, { 32: ["elf32-littleriscv", "elf32-bigriscv"], 64: ["elf64-littleriscv", "elf64-bigriscv"] }],
  [C.EM_LOONGARCH, { 32: ["elf32-loongarch", undefined], 64: ["elf64-loongarch", undefined] }],
  [C.EM_PPC, { 32: ["elf32-powerpcle", "elf32-powerpc"] }],
  [C.EM_PPC64, { 64: ["elf64-powerpcle", "elf64-powerpc"] }],
  [C.EM_S390, { 32: [undefined, "elf32-s390"], 64: [undefined, "elf64-s390"] }],
  [C.EM_SPARC, { 32: [undefined, "elf32-sparc"] }],
  [C.EM_SPARCV9, { 64: [undefined, "elf64-sparc"] }],
  [C.EM_MIPS, { 32: ["elf32-tradlittlemips", "elf32-tradbigmips"], 64: ["elf64-tradlittlemips", "elf64-tradbigmips"] }],
  [C.EM_IA_64, { 64: ["elf64-ia64-little", "elf64-ia64-big"] }],
  [C.EM_SH, { 32: ["elf32-sh-linux", "elf32-shbig-linux"] }],
  [C.EM_PARISC, { 32: [undefined, "elf32-hppa-linux"], 64: [undefined, "elf64-hppa-linux"] }],
]);

/** `e_flags` of MIPS: the n32 ABI. */
const EF_MIPS_ABI2 = 0x20;

/** The name that binutils (its BFD library) gives the format of a file: "elf64-x86-64". */
export function bfdTarget(elf: ElfFile): string {
  const { class: bits, littleEndian, e_machine, e_flags } = elf.header;
  if (e_machine === C.EM_MIPS && bits === 32 && (e_flags & EF_MIPS_ABI2) !== 0) {
    return littleEndian ? "elf32-ntradlittlemips" : "elf32-ntradbigmips";
  }
  const name = TARGETS.get(e_machine)?.[bits]?.[littleEndian ? 0 : 1];
  return name ?? `elf${bits}-${littleEndian ? "little" : "big"}`;
}
