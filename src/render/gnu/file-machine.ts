import * as C from "../../elf/constants.js";
import type { ElfHeader } from "../../elf/header.js";

const EM_MIPS_RS3_LE = 10;
const EM_68K = 4;
const EM_SPARC32PLUS = 18;

/** Machines that Linux runs or ran on, by `e_machine`, as `file` 5.44 names them. */
const MACHINES = new Map([
  [0, "no machine"],
  [C.EM_SPARC, "SPARC"],
  [C.EM_386, "Intel 80386"],
  [EM_68K, "Motorola m68k"],
  [C.EM_MIPS, "MIPS"],
  [EM_MIPS_RS3_LE, "MIPS"],
  [C.EM_PARISC, "PA-RISC"],
  [EM_SPARC32PLUS, "SPARC32PLUS"],
  [C.EM_PPC, "PowerPC or cisco 4500"],
  [C.EM_PPC64, "64-bit PowerPC or cisco 7500"],
  [C.EM_S390, "IBM S/390"],
  [C.EM_ARM, "ARM"],
  [41, "Alpha"],
  [C.EM_SH, "Renesas SH"],
  [C.EM_SPARCV9, "SPARC V9"],
  [46, "Renesas H8/300"],
  [C.EM_IA_64, "IA-64"],
  [C.EM_X86_64, "x86-64"],
  [76, "Axis cris"],
  [88, "Renesas M32R"],
  [92, "OpenRISC"],
  [93, "Synopsys ARCompact ARC700 cores"],
  [94, "Tensilica Xtensa"],
  [106, "Analog Devices Blackfin"],
  [113, "Altera Nios II"],
  [164, "QUALCOMM DSP6"],
  [167, "Andes embedded RISC"],
  [C.EM_AARCH64, "ARM aarch64"],
  [189, "Xilinx MicroBlaze 32-bit RISC"],
  [191, "Tilera TILE-Gx"],
  [195, "Synopsys ARCv2/HS3x/HS4x cores"],
  [C.EM_RISCV, "UCB RISC-V"],
  [247, "eBPF"],
  [252, "C-SKY processor family"],
  [C.EM_LOONGARCH, "LoongArch"],
  [C.EM_ALPHA, "Alpha (unofficial)"],
  [0xa390, "IBM S/390 (obsolete)"],
]);

const MIPS_ISA = [
  "MIPS-I",
  "MIPS-II",
  "MIPS-III",
  "MIPS-IV",
  "MIPS-V",
  "MIPS32",
  "MIPS64",
  "MIPS32 rel2",
  "MIPS64 rel2",
  "MIPS32 rel6",
  "MIPS64 rel6",
];

const SPARC_EXTENSIONS = new Map([
  [0x100, "V8+ Required,"],
  [0x200, "Sun UltraSPARC1 Extensions Required,"],
  [0x400, "HaL R1 Extensions Required,"],
  [0x800, "Sun UltraSPARC3 Extensions Required,"],
]);

const SPARC_ORDERING = ["total store ordering,", "partial store ordering,", "relaxed memory ordering,"];

const RISCV_FLOATS = ["soft-float ABI,", "single-float ABI,", "double-float ABI,", "quad-float ABI,"];

const PARISC_VERSIONS = new Map([
  [0x20b, "1.0"],
  [0x210, "1.1"],
  [0x214, "2.0"],
]);

/** What `file` 5.44 says of the machine and of `e_flags`: words that it puts blanks between. */
export function machineWords(header: ElfHeader): string[] {
  const name = MACHINES.get(header.e_machine);
  if (name === undefined) return [`*unknown arch 0x${header.e_machine.toString(16)}*`];
  return [`${name},`, ...flagWords(header)];
}

function flagWords(header: ElfHeader): string[] {
  const { e_machine, e_flags: flags, class: bits } = header;
  switch (e_machine) {
    case C.EM_MIPS: {
      const isa = MIPS_ISA[flags >>> 28];
      return [...(bits === 32 && flags & 0x20 ? ["N32"] : []), ...(isa ? [isa] : [])];
    }
    case EM_MIPS_RS3_LE:
      return ["MIPS (deprecated),"];
    case EM_SPARC32PLUS:
      return bits === 32 ? sparcWords(flags) : [];
    case C.EM_SPARCV9:
      return bits === 64 ? sparcWords(flags) : [];
    case C.EM_ARM:
      return bits === 32 ? armWords(flags) : [];
    case C.EM_PPC64:
      return powerWords(bits === 64 ? flags : 0);
    case C.EM_RISCV: {
      const words = [flags & 1 ? "RVC," : "", flags & 8 ? "RVE," : "", RISCV_FLOATS[(flags >> 1) & 3] ?? ""];
      return words.filter((word) => word !== "");
    }
    case C.EM_PARISC:
      return pariscWords(header);
    case EM_68K:
      return bits === 32 ? motorolaWords(flags) : [];
    default:
      return [];
  }
}

function sparcWords(flags: number): string[] {
  return [SPARC_EXTENSIONS.get(flags & 0xffff00), SPARC_ORDERING[flags & 3]].filter((word) => word !== undefined);
}

function armWords(flags: number): string[] {
  const version = flags >>> 24;
  const words = version === 4 || version === 5 ? [`EABI${version}`] : [];
  if (flags & 0x800000) words.push("BE8");
  if (flags & 0x400000) words.push("LE8");
  return words;
}

function powerWords(flags: number): string[] {
  switch (flags) {
    case 0:
      return ["Unspecified or Power ELF V1 ABI,"];
    case 1:
      return ["Power ELF V1 ABI,"];
    case 2:
      return ["OpenPOWER ELF V2 ABI,"];
    default:
      return [];
  }
}

/** `file` takes the flags as two halves in the order of the bytes, so that little-endian files have them swapped. */
function pariscWords({ e_flags: flags, littleEndian }: ElfHeader): string[] {
  const low = flags & 0xffff;
  const high = flags >>> 16;
  const version = PARISC_VERSIONS.get(littleEndian ? high : low);
  return [...(version ? [version] : []), ...((littleEndian ? low : high) & 8 ? ["(LP64)"] : [])];
}

function motorolaWords(flags: number): string[] {
  if (flags === 0) return ["68020,"];
  const words: string[] = [];
  if (flags & 0x01000000) words.push("68000,");
  if ((flags & 0x00810000) === 0x00810000) words.push("CPU32,");
  return words;
}
