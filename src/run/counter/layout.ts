/**
 * What the counting loop and its commander share: a block of the tracing agent's memory. All fields are little-endian;
 * addresses and counts have 8 bytes, all others 4.
 *
 * The loop is called with the block's address. It waits for any traced process. One that stops for a signal goes on with
 * it at once, as does one at a system call that it has been told of as a site, and which it counts. It returns, with the
 * process held: its id, where it stopped for anything else, or for a call of a site that is new; what wait4 gave, where
 * there is none left; 0 where it was told to stop.
 */
export const BLOCK = {
  /** As wait4 wrote it. */
  status: 0,
  /** The status, without its lowest byte, of a process that stopped for a system call. */
  wanted: 8,
  /** The ptrace request by which a process goes on. */
  resume: 12,
  /** Not 0: the loop is to return. */
  stop: 16,
  siteCount: 20,
  sites: 24,
  /** `struct iovec` of where stacks are read to, and two of where they lie: up to the end of a page, and behind it. */
  local: 40,
  remote: 56,
  /** Bytes that were read of the stack. */
  got: 88,
  /** `struct ptrace_syscall_info`. */
  info: 96,
  /** A bit for each number of a call that counts, in either ABI. */
  wide: 192,
  narrow: 256,
  stack: 512,
} as const;

/** Numbers that have a bit. */
export const MAX_NUMBER = 512;

/** How much of a stack is read. */
export const STACK_SIZE = 1024;

export const BLOCK_SIZE = BLOCK.stack + STACK_SIZE;

/** Fields of `struct ptrace_syscall_info` (include/uapi/linux/ptrace.h), and its size where it tells of a call. */
export const INFO = { size: 88, op: 0, arch: 4, instruction: 8, stack: 16, number: 24, firstArgument: 32 } as const;

/** Values of `op`: the way into a system call, the way out. */
export const OP = { entry: 1, exit: 2 } as const;

/**
 * A site: what a stop must be like to be counted for it, and how many were. Of sites that are alike the first counts.
 * The first argument, and the word of the stack at an offset, are compared where their masks have bits.
 */
export const SITE = {
  pid: 0,
  arch: 4,
  number: 8,
  slot: 12,
  instruction: 16,
  firstArgument: 24,
  argumentMask: 32,
  value: 40,
  valueMask: 48,
  count: 56,
} as const;
export const SITE_SIZE = 64;
