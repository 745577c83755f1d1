import type { Cpu } from "./cpu.js";

/** Flags that came with one another, as far as a vDSO or the choice of NOPs depends on them. */
const PENTIUM = "fpu tsc msr cx8";
const P6 = `${PENTIUM} pge cmov sep`;
const MMX = "mmx fxsr";
const SSE = "sse";
const SSE2 = "sse sse2";
const LONG = `${P6} ${MMX} ${SSE2} syscall nx lm nopl`;

const INTEL = "GenuineIntel";
const AMD = "AuthenticAMD";

/** name, what it is, vendor, family, model, stepping, flags. */
type Row = readonly [
  names: string,
  title: string,
  vendor: string,
  family: number,
  model: number,
  stepping: number,
  flags: string,
];

/**
 * Processors by the names that `--cpu` takes, in the order of the article's history: vendor, family, model and stepping
 * as they report themselves, and of their flags those that matter here.
 *
 * Sources: arch/x86/include/asm/intel-family.h; the tables of models in arch/x86/kernel/cpu; the processor models of
 * QEMU (target/i386/cpu.c).
 */
const X86: readonly Row[] = [
  ["486 i486", "Intel 486 DX4", INTEL, 4, 8, 0, "fpu"],
  ["pentium", "Intel Pentium", INTEL, 5, 2, 12, PENTIUM],
  ["pentium-mmx", "Intel Pentium MMX", INTEL, 5, 4, 3, `${PENTIUM} mmx`],
  ["pentium-pro ppro", "Intel Pentium Pro", INTEL, 6, 1, 9, P6],
  ["pentium2-klamath", "Intel Pentium II (Klamath, first steppings)", INTEL, 6, 3, 0, `${P6} mmx`],
  ["pentium2", "Intel Pentium II (Deschutes)", INTEL, 6, 5, 2, `${P6} ${MMX}`],
  ["pentium3", "Intel Pentium III", INTEL, 6, 7, 3, `${P6} ${MMX} ${SSE}`],
  ["pentium-m", "Intel Pentium M", INTEL, 6, 13, 8, `${P6} ${MMX} ${SSE2}`],
  ["pentium4", "Intel Pentium 4", INTEL, 15, 2, 9, `${P6} ${MMX} ${SSE2}`],
  ["prescott nocona", "Intel Pentium 4 (Prescott, 64-bit)", INTEL, 15, 4, 3, LONG],
  ["core yonah coreduo", "Intel Core (Yonah)", INTEL, 6, 14, 8, `${P6} ${MMX} ${SSE2} nx`],
  ["core2 conroe core2duo", "Intel Core 2", INTEL, 6, 15, 11, LONG],
  ["atom n270", "Intel Atom (Bonnell)", INTEL, 6, 28, 2, `${P6} ${MMX} ${SSE2} nx`],
  ["nehalem", "Intel Core i7 (Nehalem)", INTEL, 6, 26, 5, `${LONG} rdtscp`],
  ["sandybridge", "Intel Core (Sandy Bridge)", INTEL, 6, 42, 7, `${LONG} rdtscp`],
  ["haswell", "Intel Core (Haswell)", INTEL, 6, 60, 3, `${LONG} rdtscp`],
  ["skylake", "Intel Core (Skylake)", INTEL, 6, 94, 3, `${LONG} rdtscp`],
  ["icelake", "Intel Xeon (Ice Lake)", INTEL, 6, 106, 6, `${LONG} rdtscp rdpid`],
  ["sapphire-rapids", "Intel Xeon (Sapphire Rapids)", INTEL, 6, 143, 8, `${LONG} rdtscp rdpid`],
  ["granite-rapids", "Intel Xeon (Granite Rapids)", INTEL, 6, 173, 1, `${LONG} rdtscp rdpid lkgs`],
  ["panther-lake", "Intel Core Ultra (Panther Lake, FRED)", INTEL, 6, 204, 2, `${LONG} rdtscp rdpid lkgs fred`],
  ["k6", "AMD K6-2", AMD, 5, 8, 12, `${PENTIUM} pge mmx syscall`],
  ["athlon k7", "AMD Athlon", AMD, 6, 4, 2, `${P6} ${MMX} syscall`],
  ["athlon-xp", "AMD Athlon XP", AMD, 6, 8, 1, `${P6} ${MMX} ${SSE} syscall`],
  ["geode", "AMD Geode LX", AMD, 5, 10, 2, `${PENTIUM} pge cmov sep mmx syscall`],
  ["k8 opteron athlon64", "AMD K8 (Opteron, Athlon 64)", AMD, 15, 5, 10, LONG],
  ["phenom k10", "AMD Phenom", AMD, 16, 2, 3, `${LONG} rdtscp`],
  ["bulldozer", "AMD Bulldozer", AMD, 21, 1, 2, `${LONG} rdtscp`],
  ["epyc zen", "AMD EPYC (Naples)", AMD, 23, 1, 2, `${LONG} rdtscp`],
  ["epyc-rome zen2", "AMD EPYC (Rome)", AMD, 23, 49, 0, `${LONG} rdtscp rdpid`],
  ["epyc-milan zen3", "AMD EPYC (Milan)", AMD, 25, 1, 1, `${LONG} rdtscp rdpid`],
  ["epyc-turin zen5", "AMD EPYC (Turin)", AMD, 26, 2, 1, `${LONG} rdtscp rdpid`],
  ["hygon dhyana", "Hygon Dhyana", "HygonGenuine", 24, 0, 1, `${LONG} rdtscp`],
  ["c3", "VIA C3 (Nehemiah)", "CentaurHauls", 6, 9, 8, `${PENTIUM} pge cmov sep ${MMX} ${SSE}`],
  ["c7", "VIA C7", "CentaurHauls", 6, 10, 9, `${P6} ${MMX} ${SSE2}`],
  ["nano centaur", "VIA Nano", "CentaurHauls", 6, 15, 8, LONG],
  ["zhaoxin", "Zhaoxin KaiXian KX-6000", "  Shanghai  ", 7, 59, 0, `${LONG} rdtscp`],
  ["crusoe transmeta", "Transmeta Crusoe", "GenuineTMx86", 5, 4, 3, `${PENTIUM} cmov sep mmx`],
  ["efficeon", "Transmeta Efficeon", "TransmetaCPU", 15, 2, 4, `${PENTIUM} cmov sep ${MMX} ${SSE2}`],
  ["cyrix 6x86mx", "Cyrix 6x86MX", "CyrixInstead", 6, 0, 3, `${PENTIUM} cmov mmx`],
];

/** arm64: names, what it is, the Features that matter. */
const ARM: readonly (readonly [names: string, title: string, features: string])[] = [
  ["cortex-a57", "Arm Cortex-A57", "fp asimd evtstrm cpuid"],
  ["cortex-a72", "Arm Cortex-A72", "fp asimd evtstrm cpuid"],
  ["neoverse-n1 graviton2", "Arm Neoverse N1", "fp asimd evtstrm atomics cpuid ssbs"],
  ["neoverse-v1 graviton3", "Arm Neoverse V1", "fp asimd evtstrm atomics cpuid ssbs sve rng"],
  ["neoverse-v3", "Arm Neoverse V3", "fp asimd evtstrm atomics cpuid ssbs sve rng bti ecv"],
];

/** A processor of the table, with all its names. */
export interface CpuModel {
  readonly names: readonly string[];
  readonly cpu: Cpu;
}

const split = (text: string): string[] => text.split(" ");

/** All processors that have a name, x86 first, by age within a vendor. */
export const CPU_MODELS: readonly CpuModel[] = [
  ...X86.map(
    ([names, name, vendor, family, model, stepping, flags]): CpuModel => ({
      names: split(names),
      cpu: { name, machine: "x86", vendor, family, model, stepping, flags: new Set(split(flags)), booted: false },
    }),
  ),
  ...ARM.map(
    ([names, name, features]): CpuModel => ({
      names: split(names),
      cpu: { name, machine: "arm", flags: new Set(split(features)), booted: false },
    }),
  ),
];

/** The processor of a name, whatever its case; `undefined` where there is none. */
export function findCpu(name: string): Cpu | undefined {
  const wanted = name.toLowerCase().replaceAll("_", "-");
  return CPU_MODELS.find(({ names }) => names.includes(wanted))?.cpu;
}
