import { FormatError } from "../bytes/error.js";

/** One line of /proc/PID/maps. */
export interface Mapping {
  readonly start: bigint;
  /** First address behind the mapping. */
  readonly end: bigint;
  /** `r`, `w`, `x` or `-`, then `p` (private) or `s` (shared), as written. */
  readonly perms: string;
  /** Offset into the file, in bytes. */
  readonly offset: bigint;
  /** `major:minor`, in hex, as written. */
  readonly device: string;
  readonly inode: bigint;
  /**
   * The file, or what the kernel calls the mapping (`[vdso]`, `[anon:name]`); empty where it calls it nothing. A newline
   * in a file's name is written `\012` by the kernel and left so.
   */
  readonly name: string;
}

// 7ffd1b5f2000-7ffd1b5f4000 r-xp 00000000 00:00 0                          [vdso]
// 7f2c4a000000-7f2c4a021000 r--p 00000000 fe:00 338944                     /tmp/a b (deleted)
// The name starts at a fixed column, or one space behind the inode where that is long; it may hold spaces itself.
const LINE =
  /^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-][w-][x-][ps]) ([0-9a-f]{1,16}) ([0-9a-f]+:[0-9a-f]+) (\d{1,20})(?: +(.*))?$/s;

/** Parses one line, without its newline; `lineNumber` (from 1) is what errors name. */
export function parseMapsLine(line: string, lineNumber = 1): Mapping {
  const match = LINE.exec(line);
  if (!match) {
    throw new FormatError(
      `Cannot read maps: line ${lineNumber} is ${JSON.stringify(line.slice(0, 80))}`,
      lineNumber,
      line.slice(0, 80),
    );
  }
  const [, start, end, perms, offset, device, inode, name] = match as unknown as string[];
  const mapping: Mapping = {
    start: BigInt(`0x${start}`),
    end: BigInt(`0x${end}`),
    perms: perms as string,
    offset: BigInt(`0x${offset}`),
    device: device as string,
    inode: BigInt(inode as string),
    name: name ?? "",
  };
  if (mapping.end <= mapping.start) {
    throw new FormatError(`Cannot read maps: line ${lineNumber} ends before it starts`, lineNumber, line.slice(0, 80));
  }
  return mapping;
}

/**
 * Parses the text of /proc/PID/maps; `[]` for an empty one (a kernel thread, a zombie).
 *
 * Source: Documentation/filesystems/proc.rst; fs/proc/task_mmu.c `show_map_vma`.
 */
export function parseMaps(text: string): Mapping[] {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines.map((line, i) => parseMapsLine(line, i + 1));
}

/** The mapping that holds an address. */
export function mappingAt(mappings: readonly Mapping[], address: bigint): Mapping | undefined {
  return mappings.find(({ start, end }) => start <= address && address < end);
}

/** What each mapping without a file is for, told from the name that the kernel gives it. */
const SPECIAL: readonly (readonly [pattern: RegExp, meaning: string])[] = [
  [/^\[vdso\]$/, "the vDSO: code of the kernel that runs in user space; no file has it"],
  [/^\[vvar\]$/, "data that the kernel writes and the vDSO reads: clocks, their scale, random state"],
  [/^\[vvar_vclock\]$/, "clock pages of the hypervisor (pvclock, Hyper-V) that the vDSO reads"],
  [/^\[vsyscall\]$/, "the vDSO's ancestor at a fixed address; kept for old programs, calls trap"],
  [/^\[sigpage\]$/, "return code for signal handlers (ARM)"],
  [/^\[vectors\]$/, "kernel helpers at a fixed address (ARM kuser helpers)"],
  [/^\[heap\]$/, "grown by brk(2): the C library's first heap"],
  [/^\[stack\]$/, "stack of the first thread; arguments, environment and auxv lie at its top"],
  [/^\[stack:\d+\]$/, "stack of a thread"],
  [/^\[uprobes\]$/, "instructions displaced by probes"],
  [/^\[anon:.*\]$/, "anonymous memory that the program named (PR_SET_VMA_ANON_NAME)"],
  [/^\[anon_shmem:.*\]$/, "shared anonymous memory that the program named"],
  [/^\/memfd:.* \(deleted\)$/, "a memory file (memfd_create)"],
  [/^\/SYSV[0-9a-f]{8} \(deleted\)$/, "System V shared memory"],
  [/^\/dev\/zero \(deleted\)$/, "shared anonymous memory"],
  [/^anon_inode:/, "a kernel object without a file"],
  [/ \(deleted\)$/, "the file was deleted or replaced after it was mapped"],
];

/** What a special mapping is for; `undefined` for files and unnamed memory. */
export function explainMapping(name: string): string | undefined {
  return SPECIAL.find(([pattern]) => pattern.test(name))?.[1];
}
