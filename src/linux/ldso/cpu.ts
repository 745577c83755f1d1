import { EM_386, EM_X86_64 } from "../../elf/constants.js";
import type { ElfHeader } from "../../elf/header.js";

/** A processor, as /proc/cpuinfo names its maker and its features. */
export interface Cpu {
  /** `vendor_id`: "GenuineIntel". */
  readonly vendor?: string;
  readonly flags: ReadonlySet<string>;
}

/** Parses /proc/cpuinfo: the first processor of it. On machines other than x86 there is nothing of use here. */
export function parseCpu(text: string): Cpu {
  // vendor_id	: AuthenticAMD
  // flags		: fpu vme de pse tsc …
  const vendor = /^vendor_id\s*:[ \t]*(\S+)/m.exec(text)?.[1];
  const flags = /^flags\s*:(.*)$/m.exec(text)?.[1] ?? "";
  return { ...(vendor !== undefined && { vendor }), flags: new Set(flags.split(/\s+/).filter(Boolean)) };
}

/**
 * What each level has beyond the one before (System V psABI for AMD64, "Micro-Architecture Levels"). LZCNT is left out:
 * every processor with BMI1 has it, and its flag, `abm`, is missing from some lists.
 */
const LEVELS: readonly (readonly [folder: string, flags: string])[] = [
  ["x86-64-v2", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"],
  ["x86-64-v3", "avx avx2 bmi1 bmi2 f16c fma movbe xsave"],
  ["x86-64-v4", "avx512f avx512bw avx512cd avx512dq avx512vl"],
];

const has = (cpu: Cpu, flags: string) => flags.split(" ").every((flag) => cpu.flags.has(flag));

/** Folders under `glibc-hwcaps` that fit the processor, best first. Only x86-64 has any that its flags can tell. */
export function hwcapFolders(header: ElfHeader, cpu: Cpu): string[] {
  if (header.e_machine !== EM_X86_64 || header.class !== 64) return [];
  const folders: string[] = [];
  for (const [folder, flags] of LEVELS) {
    if (!has(cpu, flags)) break;
    folders.unshift(folder);
  }
  return folders;
}

/** What $PLATFORM and the subfolders of before `glibc-hwcaps` depend on. */
export interface LegacyHwcaps {
  /** $PLATFORM, where it differs from the one that the kernel gives. */
  readonly platform?: string;
  /** Names of features that are subfolders, lowest bit first. */
  readonly features: readonly string[];
  /** Bits that an entry of ld.so.cache may ask for. */
  readonly bits: bigint;
}

const HWCAP_X86_SSE2 = 1n << 0n;
const HWCAP_X86_64 = 1n << 1n;
const HWCAP_X86_AVX512_1 = 1n << 2n;
const FIRST_PLATFORM = 48n;
const PLATFORMS = ["i586", "i686", "haswell", "xeon_phi"];
const HWCAP_TLS = 1n << 63n;

/**
 * The feature names of glibc before 2.37, which recognizes two platforms of Intel's by their features.
 *
 * Source: glibc 2.36, sysdeps/x86/dl-hwcap.h and cpu-features.c. Machines other than x86 have names of their own, which
 * come from AT_HWCAP: those are not known here.
 */
export function legacyHwcaps(header: ElfHeader, cpu: Cpu, platform: string | undefined): LegacyHwcaps {
  const bitOf = (name: string | undefined) => {
    const index = name === undefined ? -1 : PLATFORMS.indexOf(name);
    return index < 0 ? 0n : 1n << (FIRST_PLATFORM + BigInt(index));
  };
  if (header.e_machine === EM_386) {
    const sse2 = cpu.flags.has("sse2");
    return {
      features: sse2 ? ["sse2"] : [],
      bits: (sse2 ? HWCAP_X86_SSE2 : 0n) | bitOf(platform) | HWCAP_TLS,
    };
  }
  if (header.e_machine !== EM_X86_64) return { features: [], bits: HWCAP_TLS };
  const intel = cpu.vendor === "GenuineIntel";
  const phi = intel && has(cpu, "avx512cd avx512er avx512pf");
  const avx512 = intel && has(cpu, "avx512cd avx512bw avx512dq avx512vl") && !cpu.flags.has("avx512er");
  const haswell = intel && has(cpu, "avx2 bmi1 bmi2 movbe popcnt fma");
  const own = phi ? "xeon_phi" : haswell ? "haswell" : undefined;
  return {
    ...(own !== undefined && { platform: own }),
    features: avx512 ? ["x86_64", "avx512_1"] : ["x86_64"],
    bits: HWCAP_X86_64 | (avx512 ? HWCAP_X86_AVX512_1 : 0n) | bitOf(own) | HWCAP_TLS,
  };
}

/**
 * Subfolders of each search folder, best first, each with a slash at its end and the folder itself (`""`) last: those of
 * `glibc-hwcaps`, then every combination of the older names, as glibc orders them.
 */
export function searchSubfolders(folders: readonly string[], legacy: readonly string[]): string[] {
  const subfolders = folders.map((folder) => `glibc-hwcaps/${folder}/`);
  for (let mask = (1 << legacy.length) - 1; mask >= 0; mask--) {
    let path = "";
    for (let bit = legacy.length - 1; bit >= 0; bit--) if (mask & (1 << bit)) path += `${legacy[bit]}/`;
    subfolders.push(path);
  }
  return [...new Set(subfolders)];
}
