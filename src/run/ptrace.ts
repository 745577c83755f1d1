/** The number of ptrace(2) on x86-64, its requests and what goes with them; include/uapi/linux/ptrace.h. */
export const PTRACE = {
  number: 101,
  PEEKDATA: 2,
  POKEDATA: 5,
  CONT: 7,
  SINGLESTEP: 9,
  GETREGS: 12,
  SETREGS: 13,
  DETACH: 17,
  SYSCALL: 24,
  SETOPTIONS: 0x4200,
  SEIZE: 0x4206,
  INTERRUPT: 0x4207,
  LISTEN: 0x4208,
  GET_SYSCALL_INFO: 0x420e,
} as const;

/** What a tracer is told of a process (PTRACE_O_…), and what becomes of that when the tracer ends. */
export const TRACE = {
  /** Stops at system calls look like no other stop. */
  SYSGOOD: 0x1,
  FORK: 0x2,
  VFORK: 0x4,
  CLONE: 0x8,
  EXEC: 0x10,
  SECCOMP: 0x80,
  EXIT_KILL: 0x10_0000,
} as const;

/** Each new process and thread of a process is traced from its start, by the same options. */
export const TRACE_CHILDREN = TRACE.FORK | TRACE.VFORK | TRACE.CLONE;
