import { FormatError } from "../bytes/error.js";
import { Reader, type ReaderOptions } from "../bytes/reader.js";

const AT_NULL = 0;
export const AT_PHDR = 3;
export const AT_PHENT = 4;
export const AT_PHNUM = 5;
export const AT_HWCAP = 16;
export const AT_HWCAP2 = 26;
/** On i386, the address of `__kernel_vsyscall`: how the article finds the way into the kernel. */
export const AT_SYSINFO = 32;
/** The address of the vDSO's ELF header. */
export const AT_SYSINFO_EHDR = 33;

/** How a value is to be read and written. */
export type AuxvKind =
  | "address"
  | "decimal"
  | "flags"
  | "yes-no"
  /** Address of a NUL-terminated string in the process. */
  | "string"
  /** Address of 16 bytes in the process. */
  | "random"
  | "hwcap"
  /** Cache geometry (PowerPC, Alpha): associativity above 16 bits of line size, or a plain size. */
  | "cache";

interface TagInfo {
  readonly name: string;
  readonly kind: AuxvKind;
  readonly meaning: string;
}

/** Every tag of `linux/auxvec.h` and the architectures' `asm/auxvec.h`; the numbers are one name space for all. */
const TAGS: ReadonlyMap<number, TagInfo> = new Map(
  (
    [
      [0, "AT_NULL", "address", "end of the vector"],
      [1, "AT_IGNORE", "address", "entry to be passed over"],
      [2, "AT_EXECFD", "decimal", "file descriptor of the program"],
      [3, "AT_PHDR", "address", "program headers of the program"],
      [4, "AT_PHENT", "decimal", "size of one program header"],
      [5, "AT_PHNUM", "decimal", "number of program headers"],
      [6, "AT_PAGESZ", "decimal", "page size, bytes"],
      [7, "AT_BASE", "address", "base of the dynamic linker"],
      [8, "AT_FLAGS", "flags", "flags"],
      [9, "AT_ENTRY", "address", "entry point of the program"],
      [10, "AT_NOTELF", "yes-no", "the program is not ELF"],
      [11, "AT_UID", "decimal", "real user id"],
      [12, "AT_EUID", "decimal", "effective user id"],
      [13, "AT_GID", "decimal", "real group id"],
      [14, "AT_EGID", "decimal", "effective group id"],
      [15, "AT_PLATFORM", "string", "name of the platform ($PLATFORM)"],
      [16, "AT_HWCAP", "hwcap", "features of the processor"],
      [17, "AT_CLKTCK", "decimal", "ticks a second of times(2)"],
      [18, "AT_FPUCW", "flags", "floating-point control word in force"],
      [19, "AT_DCACHEBSIZE", "decimal", "data cache block size, bytes"],
      [20, "AT_ICACHEBSIZE", "decimal", "instruction cache block size, bytes"],
      [21, "AT_UCACHEBSIZE", "decimal", "unified cache block size, bytes"],
      [22, "AT_IGNOREPPC", "address", "entry to be passed over (PowerPC)"],
      [23, "AT_SECURE", "yes-no", "started with raised privileges (set-user-id, capabilities)"],
      [24, "AT_BASE_PLATFORM", "string", "name of the real platform"],
      [25, "AT_RANDOM", "random", "16 random bytes (stack protector, pointer guard)"],
      [26, "AT_HWCAP2", "hwcap", "more features of the processor"],
      [27, "AT_RSEQ_FEATURE_SIZE", "decimal", "size of the rseq area that the kernel supports, bytes"],
      [28, "AT_RSEQ_ALIGN", "decimal", "alignment of the rseq area, bytes"],
      [29, "AT_HWCAP3", "hwcap", "more features of the processor"],
      [30, "AT_HWCAP4", "hwcap", "more features of the processor"],
      [31, "AT_EXECFN", "string", "path by which the program was executed"],
      [32, "AT_SYSINFO", "address", "entry of the vDSO: __kernel_vsyscall"],
      [33, "AT_SYSINFO_EHDR", "address", "ELF header of the vDSO"],
      [34, "AT_L1I_CACHESHAPE", "cache", "L1 instruction cache"],
      [35, "AT_L1D_CACHESHAPE", "cache", "L1 data cache"],
      [36, "AT_L2_CACHESHAPE", "cache", "L2 cache"],
      [37, "AT_L3_CACHESHAPE", "cache", "L3 cache"],
      [40, "AT_L1I_CACHESIZE", "decimal", "L1 instruction cache size, bytes"],
      [41, "AT_L1I_CACHEGEOMETRY", "cache", "L1 instruction cache geometry"],
      [42, "AT_L1D_CACHESIZE", "decimal", "L1 data cache size, bytes"],
      [43, "AT_L1D_CACHEGEOMETRY", "cache", "L1 data cache geometry"],
      [44, "AT_L2_CACHESIZE", "decimal", "L2 cache size, bytes"],
      [45, "AT_L2_CACHEGEOMETRY", "cache", "L2 cache geometry"],
      [46, "AT_L3_CACHESIZE", "decimal", "L3 cache size, bytes"],
      [47, "AT_L3_CACHEGEOMETRY", "cache", "L3 cache geometry"],
      [48, "AT_ADI_BLKSZ", "decimal", "ADI block size, bytes (SPARC)"],
      [49, "AT_ADI_NBITS", "decimal", "ADI version bits (SPARC)"],
      [50, "AT_ADI_UEONADI", "yes-no", "ADI error handling (SPARC)"],
      [51, "AT_MINSIGSTKSZ", "decimal", "smallest stack for a signal handler, bytes"],
    ] as const
  ).map(([tag, name, kind, meaning]) => [tag, { name, kind, meaning }]),
);

/** One entry of the auxiliary vector, as written. */
export interface AuxvEntry {
  readonly tag: number;
  readonly value: bigint;
}

/** What is known of a tag; for one that no header names, `AT_???` with its number. */
export function auxvTag(tag: number): TagInfo {
  return TAGS.get(tag) ?? { name: `AT_??? (0x${tag.toString(16)})`, kind: "flags", meaning: "unknown" };
}

/**
 * Parses an auxiliary vector up to AT_NULL, which is not among the entries.
 *
 * An empty one (a kernel thread) gives `[]`. Throws {@link FormatError} where the vector stops before AT_NULL.
 */
export function parseAuxv(bytes: Uint8Array, options: Pick<ReaderOptions, "wordSize" | "littleEndian">): AuxvEntry[] {
  const reader = new Reader(bytes, { ...options, what: "auxiliary vector" });
  const entries: AuxvEntry[] = [];
  if (bytes.length === 0) return entries;
  for (let at = 0; ; at += 2 * reader.wordSize) {
    const tag = reader.wordAt(at);
    if (tag === BigInt(AT_NULL)) return entries;
    if (tag > 0xffff_ffffn) throw reader.error(`a tag is 0x${tag.toString(16)}`, at, tag);
    entries.push({ tag: Number(tag), value: reader.wordAt(at + reader.wordSize) });
  }
}

/**
 * The word size of the process that an auxiliary vector was made for, told from the vector itself: AT_PHENT is 56 in a
 * 64-bit process and 32 in a 32-bit one. `undefined` where neither reading holds (an empty vector).
 */
export function auxvWordSize(bytes: Uint8Array, littleEndian: boolean): 4 | 8 | undefined {
  for (const [wordSize, phent] of [
    [8, 56n],
    [4, 32n],
  ] as const) {
    try {
      const entries = parseAuxv(bytes, { wordSize, littleEndian });
      if (auxvValue(entries, AT_PHENT) === phent) return wordSize;
    } catch (error) {
      // The other width may still fit.
      if (!(error instanceof FormatError)) throw error;
    }
  }
  return undefined;
}

/** The value of the first entry with this tag. */
export function auxvValue(entries: readonly AuxvEntry[], tag: number): bigint | undefined {
  return entries.find((entry) => entry.tag === tag)?.value;
}
