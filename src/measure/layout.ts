/**
 * What the measuring code and its commander agree on: a program, which is a table of jobs, and what the code writes of
 * it. Every field is 8 bytes in either ABI; i386 reads the lower half of those that are addresses and counts.
 *
 * The code does every job once a round, so that whatever disturbs the machine disturbs all alike. A job is one batch: a
 * few calls that are not timed, then `count` calls between two readings of the clock. The result is the difference, 8
 * bytes, in the order in which the batches were done.
 */

/** Offsets in bytes of the fields of a program. */
export const PROGRAM = {
  /** Address of the jobs. */
  jobs: 0,
  jobCount: 8,
  rounds: 16,
  /** Address of the results. */
  results: 24,
  /** Address of the routine that reads the clock. */
  clock: 32,
  /** Address of the routine that reads the clock of the kernel in nanoseconds, in the two pairs below. */
  kernelClock: 40,
  /** Written: the clock, and right after it the kernel's, before the first round. */
  start: 48,
  startKernel: 56,
  /** Written: the same after the last. */
  end: 64,
  endKernel: 72,
  /** Where the kernel writes its clock, 16 bytes. */
  timespec: 80,
  /** What i386 has too few registers for. */
  roundsLeft: 96,
  jobsLeft: 104,
  resultsAt: 112,
} as const;

/** Size in bytes of a program without its jobs. */
export const PROGRAM_SIZE = 128;

/** Offsets in bytes of the fields of a job. */
export const JOB = {
  /** Address that is called: a function, or one of the {@link RoutineName}s that enter the kernel. */
  entry: 0,
  /** The system call's number. */
  number: 8,
  /** Arguments: six of a system call of x86-64, three of one of i386, five of a function. */
  args: 16,
  /** How many calls a batch has, and how many are made before it; 1 at the least. */
  count: 64,
  warm: 72,
  /** Written: what the last call returned. */
  result: 80,
} as const;

/** Size in bytes of a job. */
export const JOB_SIZE = 88;

/** Most arguments of a job. */
export const JOB_ARGS = 6;

/** The routines in the measuring code. */
export type RoutineName =
  /** Does a program: its address is the one argument. */
  | "run"
  /** Enter the kernel, and return by a jump: see `code.ts`. */
  | "int80"
  | "syscall"
  | "sysenter"
  /** Nothing: what the loop costs by itself, with a function's return and with a jump's. */
  | "emptyReturn"
  | "emptyJump"
  /** One instruction each. */
  | "cpuid"
  | "rdtsc"
  /** Read a clock: that of the processor, or the kernel's by a system call with times of the usual width, or of 64 bits. */
  | "readTsc"
  | "readKernelClock"
  | "readKernelClock64";

/** The measuring code of an ABI. */
export interface MeasuringCode {
  /** To be put at any address. */
  readonly bytes: Uint8Array;
  /** Where in the bytes a routine begins; absent in an ABI that has it not. */
  readonly routines: Readonly<Partial<Record<RoutineName, number>>>;
}

/** CLOCK_MONOTONIC_RAW: the one clock whose speed nobody corrects. */
export const CLOCK_MONOTONIC_RAW = 4;
