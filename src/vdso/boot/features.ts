import type { VdsoImage } from "../image.js";
import type { Alternative, Site } from "./alternatives.js";
import type { FeatureList, KernelOptions } from "./cmdline.js";
import { type Cpu, vendorWords } from "./cpu.js";

/** A feature that an alternative depends on. */
export interface Feature {
  /** As this kernel numbers it. */
  readonly number: number;
  /** As the kernel's source names it, without X86_FEATURE_; absent where neither the code nor the number tells. */
  readonly name?: string;
  /** What told the name. */
  readonly toldBy?: "code" | "number";
}

/** Whether a kernel finds a feature at boot, and why. */
export interface Presence {
  readonly feature: Feature;
  /** Absent: what is known does not decide. */
  readonly present?: boolean;
  /** A clause: `a 64-bit kernel sets it for GenuineIntel`. */
  readonly why: string;
}

/** All that decides which features a kernel finds. */
export interface Boot {
  /** Of the kernel. */
  readonly width: 32 | 64;
  readonly cpu: Cpu;
  readonly options: KernelOptions;
  /** `major * 1000 + minor`. */
  readonly release?: number | undefined;
}

/**
 * Words of the kernel's features that processors define, and that therefore have the same numbers in every release:
 * names as in /proc/cpuinfo, `-` where a bit has none.
 *
 * Source: arch/x86/include/asm/cpufeatures.h.
 */
const HARDWARE_WORDS: ReadonlyMap<number, readonly string[]> = new Map(
  (
    [
      [
        0,
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe",
      ],
      [1, "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow"],
      [
        4,
        "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c rdrand hypervisor",
      ],
      // Of this word, FRED and what it goes with, which /proc/cpuinfo does not show.
      [12, "- - - - - - - - - - - - - - - - - fred lkgs - - - - - - - - - - - - -"],
      [
        16,
        "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 - gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid - bus_lock_detect cldemote - movdiri movdir64b enqcmd - -",
      ],
    ] as const
  ).map(([word, names]) => [word, names.split(" ")]),
);

/** Name in /proc/cpuinfo of a feature that processors define. */
function hardwareName(number: number): string | undefined {
  const name = HARDWARE_WORDS.get(number >>> 5)?.[number & 31];
  return name === "-" ? undefined : name;
}

/** The number of a feature that processors define, from its name in /proc/cpuinfo. */
function hardwareNumber(name: string): number | undefined {
  for (const [word, names] of HARDWARE_WORDS) {
    const bit = names.indexOf(name);
    if (bit >= 0) return word * 32 + bit;
  }
  return undefined;
}

/** The kernel's own number of "always", in every release. */
const ALWAYS = 3 * 32 + 21;

/** Words 3 and up hold what the kernel itself defines; SYSCALL32 and SYSENTER32 never moved. */
const SYSCALL32 = 3 * 32 + 14;
const SYSENTER32 = 3 * 32 + 15;

/** Whether the bytes of an instruction occur. Replacements are few and short, so that none lies across two others. */
function has(bytes: Uint8Array, ...instruction: readonly number[]): boolean {
  for (let at = 0; at + instruction.length <= bytes.length; at++) {
    if (instruction.every((byte, i) => bytes[at + i] === byte)) return true;
  }
  return false;
}

/** `mrs Xt, cntvctss_el0`: the counter that is read in order, without a barrier. */
function readsOrderedCounter(bytes: Uint8Array): boolean {
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    const word = bytes.slice(at, at + 4);
    if (word[3] === 0xd5 && word[2] === 0x3b && word[1] === 0xe0 && ((word[0] as number) & 0xe0) === 0xc0) return true;
  }
  return false;
}

/**
 * Which feature a record stands for: the code that it puts there tells, since the kernel's own numbers move between
 * releases; numbers that processors define stay.
 */
export function featureOf(image: VdsoImage, site: Site, record: Alternative): Feature {
  const number = record.feature;
  if (image.abi === "aarch64" || image.abi === "aarch64_be") {
    return readsOrderedCounter(record.replacement) ? { number, name: "ECV", toldBy: "code" } : { number };
  }
  const hardware = hardwareName(number);
  if (hardware !== undefined) return { number, name: hardware.toUpperCase(), toldBy: "number" };
  const name = nameByCode(image, site, record);
  if (name !== undefined) return { number, name, toldBy: "code" };
  return number === ALWAYS ? { number, name: "ALWAYS", toldBy: "number" } : { number };
}

function nameByCode(image: VdsoImage, site: Site, { replacement, feature, inverted }: Alternative): string | undefined {
  if (inverted) return undefined;
  if (image.abi === "i386") {
    // From 7.0 on the same number means that any fast way in is there: its absence leaves `int $0x80; ret`, or a call.
    const inEntry = site.functionName === image.entry?.name;
    if (feature === SYSENTER32 && replacement.length === 0 && inEntry) return "SYSFAST32";
    if (feature === SYSENTER32 && replacement[0] === 0xe8 && replacement.length === 5) return "SYSFAST32";
    if (feature === SYSCALL32 && has(replacement, 0x0f, 0x05)) return "SYSCALL32";
    if (feature === SYSENTER32 && has(replacement, 0x0f, 0x34)) return "SYSENTER32";
  }
  if (has(replacement, 0x0f, 0xae, 0xe8)) return "LFENCE_RDTSC";
  if (has(replacement, 0x0f, 0xae, 0xf0)) return "MFENCE_RDTSC";
  return undefined;
}

/** Features that go where another goes. Source: arch/x86/kernel/cpu/cpuid-deps.c. */
const NEEDS: Readonly<Record<string, string>> = { sse2: "sse", sse: "fxsr", fxsr: "fpu", fred: "lkgs" };

/** Like AMD's processors before family 16, this family has no register that makes LFENCE wait: it always does there. */
const ALWAYS_WAITS = 17;

/** Families, models and steppings of Intel below this report SEP without having it: the Pentium Pro and before. */
const FIRST_SEP = 0x633;

const HYGON_SINCE = 4020;
const ZHAOXIN_SINCE = 5003;
const NOSEP_UNTIL = 5019;
const FRED_SINCE = 6009;
const FRED_BY_DEFAULT_SINCE = 7001;
/** AMD's LFENCE was made to wait for the counter in 4.15; kernels before that one may have it too, corrected later. */
const LFENCE_ON_AMD_SINCE = 4015;

/** Whether an option names a flag, or gives its number. */
function isListed({ numbers, names }: FeatureList, flag: string): boolean {
  const number = hardwareNumber(flag);
  return names.has(flag) || (number !== undefined && numbers.has(number));
}

type Answer = Omit<Presence, "feature">;

const yes = (why: string): Answer => ({ present: true, why });
const no = (why: string): Answer => ({ present: false, why });
const open = (why: string): Answer => ({ why });

/** What a kernel finds of the features that an image's alternatives depend on. */
export class BootFeatures {
  readonly #boot: Boot;
  readonly #fences: boolean;

  /** `fences`: the image has alternatives with `mfence`, as kernels up to 5.3 have. */
  constructor(boot: Boot, { fences = false } = {}) {
    this.#boot = boot;
    this.#fences = fences;
  }

  /** Whether a feature is there once the kernel has gone through the processor and its command line. */
  presence(feature: Feature): Presence {
    const { clearcpuid, setcpuid } = this.#boot.options;
    const flag = feature.name?.toLowerCase();
    // Only features that /proc/cpuinfo shows can be named.
    const named = (names: ReadonlySet<string>) =>
      flag !== undefined && hardwareNumber(flag) === feature.number && names.has(flag);
    if (setcpuid.numbers.has(feature.number) || named(setcpuid.names)) {
      return { feature, ...yes("setcpuid= puts it there") };
    }
    if (clearcpuid.numbers.has(feature.number) || named(clearcpuid.names)) {
      return { feature, ...no("clearcpuid= takes it away") };
    }
    return { feature, ...this.#found(feature) };
  }

  #found(feature: Feature): Answer {
    switch (feature.name) {
      case undefined:
        return open(`feature 0x${feature.number.toString(16)} is not known`);
      case "ALWAYS":
        return yes("every kernel sets it");
      case "ECV":
        return this.#has("ecv");
      case "SEP":
        return this.#sep();
      case "SYSENTER32":
        return this.#compat("sysenter");
      case "SYSCALL32":
        return this.#compat("syscall");
      case "SYSFAST32":
        return this.#sysfast32();
      case "LFENCE_RDTSC":
        return this.#lfence();
      case "MFENCE_RDTSC":
        return this.#mfence();
      default:
        return this.#has(feature.name.toLowerCase());
    }
  }

  /** Whether the kernel has a flag of /proc/cpuinfo, its command line considered. */
  #has(flag: string): Answer {
    const { cpu, options } = this.#boot;
    if (isListed(options.setcpuid, flag)) return yes(`setcpuid= puts ${flag} there`);
    for (let cleared: string | undefined = flag; cleared !== undefined; cleared = NEEDS[cleared]) {
      if (isListed(options.clearcpuid, cleared)) {
        return no(`clearcpuid= takes ${cleared} away${cleared === flag ? "" : `, which ${flag} goes with`}`);
      }
    }
    return cpu.flags.has(flag) ? yes(`${cpu.name} has ${flag}`) : no(`${cpu.name} does not have ${flag}`);
  }

  #sep(): Answer {
    const { cpu, options, width, release } = this.#boot;
    const has = this.#has("sep");
    if (!has.present || width === 64) return has;
    if (options.nosep && release !== undefined && release < NOSEP_UNTIL) return no("nosep takes it away");
    return this.#falseSep(cpu) ?? has;
  }

  #falseSep({ vendor, family, model, stepping, name, booted }: Cpu): Answer | undefined {
    if (vendor !== "GenuineIntel" || booted) return undefined;
    if (family === undefined || model === undefined) return open("the Pentium Pro reports sep without having it");
    const signature = family * 256 + model * 16 + (stepping ?? 0);
    if (family === 6 && model === 3 && stepping === undefined) {
      return open("the first steppings of the Pentium II report sep without having it");
    }
    return signature < FIRST_SEP
      ? no(`${name} reports sep without having it, as Intel's processors before the Pentium II's third stepping do`)
      : undefined;
  }

  /** Where FRED is in use, the kernel has 32-bit programs enter by `int $0x80`. */
  get #fred(): boolean {
    const { cpu, options, width, release } = this.#boot;
    if (width === 32 || !cpu.flags.has("fred") || (release !== undefined && release < FRED_SINCE)) return false;
    if (!this.#has("fred").present) return false;
    if (options.fred === "off") return false;
    return cpu.booted || options.fred === "on" || release === undefined || release >= FRED_BY_DEFAULT_SINCE;
  }

  get #vendor(): "intel" | "amd" | "hygon" | "centaur" | "zhaoxin" | undefined {
    const { cpu, release = Number.POSITIVE_INFINITY } = this.#boot;
    switch (cpu.vendor) {
      case "GenuineIntel":
        return "intel";
      case "AuthenticAMD":
        return "amd";
      case "HygonGenuine":
        return release >= HYGON_SINCE ? "hygon" : undefined;
      case "CentaurHauls":
        return "centaur";
      case "  Shanghai  ":
        return release >= ZHAOXIN_SINCE ? "zhaoxin" : undefined;
      default:
        return undefined;
    }
  }

  #compat(way: "sysenter" | "syscall"): Answer {
    const { cpu, width } = this.#boot;
    if (width === 32) return no("only 64-bit kernels set it");
    if (this.#fred) return no("FRED takes it away");
    if (cpu.vendor === undefined) return open("it depends on the vendor, which is not given");
    const vendor = this.#vendor;
    const amd = vendor === "amd" || vendor === "hygon";
    const set = way === "syscall" ? amd : vendor !== undefined && !amd;
    const words = vendorWords(cpu.vendor);
    return set ? yes(`a 64-bit kernel sets it for ${words}`) : no(`a 64-bit kernel does not set it for ${words}`);
  }

  #sysfast32(): Answer {
    const { cpu, width } = this.#boot;
    if (this.#fred) return no("FRED takes it away");
    if (width === 64) return yes("64-bit kernels have it unless FRED is in use");
    // It is set before the kernel corrects SEP and looks at its command line.
    return cpu.flags.has("sep") ? yes(`${cpu.name} has sep`) : no(`${cpu.name} does not have sep`);
  }

  /** SSE2, which 64-bit kernels take for granted: there clearcpuid= does not reach what is derived from it. */
  get #sse2(): Answer {
    return this.#boot.width === 64 ? yes("64-bit kernels take SSE2 for granted") : this.#has("sse2");
  }

  #lfence(): Answer {
    const { cpu, width, release } = this.#boot;
    if (cpu.vendor === undefined) return open("it depends on the vendor, which is not given");
    const words = vendorWords(cpu.vendor);
    switch (this.#vendor) {
      case "centaur":
      case "zhaoxin":
        return width === 64
          ? yes(`a 64-bit kernel sets it for ${words}`)
          : no(`only 64-bit kernels set it for ${words}`);
      case "intel":
      case "amd":
      case "hygon": {
        const sse2 = this.#sse2;
        if (!sse2.present) return no(`it needs SSE2: ${sse2.why}`);
        if (this.#fences && this.#vendor === "amd") return this.#lfenceOnAmd(cpu, release);
        return yes(`the kernel sets it for ${words} with SSE2`);
      }
      default:
        return no(`the kernel does not set it for ${words}`);
    }
  }

  #lfenceOnAmd({ family }: Cpu, release: number | undefined): Answer {
    if (family === undefined) return open("it depends on the family, which is not given");
    if (family < 16 || family === ALWAYS_WAITS) {
      return no(`AMD's family ${family} has no register that makes LFENCE wait`);
    }
    return release !== undefined && release >= LFENCE_ON_AMD_SINCE
      ? yes("from 4.15 on the kernel makes AMD's LFENCE wait")
      : open("kernels before 4.15 set it for AMD only where they were corrected later");
  }

  #mfence(): Answer {
    if (this.#vendor !== "amd") return no("the kernel sets it for AMD alone");
    const sse2 = this.#sse2;
    if (!sse2.present) return no(`it needs SSE2: ${sse2.why}`);
    const lfence = this.#lfenceOnAmd(this.#boot.cpu, this.#boot.release);
    if (lfence.present === undefined) return lfence;
    return lfence.present ? no("LFENCE is used instead") : yes(lfence.why);
  }
}
