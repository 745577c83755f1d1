/** How much a finding matters: `bad` means that a clock is slow that should be fast. */
export type Severity = "ok" | "info" | "warn" | "bad";

/** What is documented of a kind of finding. */
export interface CatalogEntry {
  readonly severity: Severity;
  /** What it says, in a sentence. */
  readonly meaning: string;
  /** What to do about it in general; absent where there is nothing to do. */
  readonly remedy?: string;
}

/** Every finding that there is, by its id. The ids are kept: alerts match on them. */
export const CATALOG = {
  "fast-path": {
    severity: "ok",
    meaning: "every clock that should be is answered by the vDSO, without entering the kernel: proved, call by call",
  },
  "measured-fast": {
    severity: "ok",
    meaning:
      "nothing could be proved, but the vDSO was measured to tell the time in a fraction of what the system call takes",
  },
  "clocksource-fast": {
    severity: "ok",
    meaning: "the clocksource in force is one that the vDSO reads by itself",
  },
  "looks-at-vdso": {
    severity: "ok",
    meaning: "something in the process, as a rule its C library, looks for the vDSO's functions by name",
  },
  cost: {
    severity: "info",
    meaning: "what a million clock calls a second cost here, through the vDSO and as real system calls",
  },
  "kernel-by-design": {
    severity: "info",
    meaning: "CPU-time clocks and alarm clocks always enter the kernel: no vDSO answers for them",
  },
  "clock-not-served": {
    severity: "info",
    meaning:
      "the vDSO of this kernel leaves MONOTONIC_RAW, BOOTTIME or TAI to the kernel, as those of x86 did before Linux 5.3",
    remedy: "a newer kernel serves them; until then, MONOTONIC is the fast one",
  },
  "function-not-exported": {
    severity: "info",
    meaning:
      "the vDSO of this kernel has no function for a call that others have one for: a C library makes the system call",
    remedy: "nothing, unless that call is made often: newer kernels export more",
  },
  "abi-not-run": {
    severity: "info",
    meaning: "no process of this ABI can be started here, so nothing is known of its vDSO",
  },
  "boot-parameters": {
    severity: "info",
    meaning: "the kernel's command line has parameters that touch clocks or the vDSO",
  },
  "clocksource-unknown": {
    severity: "info",
    meaning: "the clocksource in force is not in the table: only the proof tells whether the vDSO reads it",
  },
  "tsc-unused": {
    severity: "info",
    meaning:
      "the time-stamp counter is not the clocksource or is marked unstable, but the one in force is fast as well",
  },
  "time-namespace": {
    severity: "info",
    meaning:
      "the process is in a time namespace: its vDSO adds the namespace's offsets, on a path some nanoseconds longer",
  },
  "seccomp-filters": {
    severity: "info",
    meaning: "the process has seccomp filters: each real system call is judged by them, calls of the vDSO are not",
  },
  "clock-imports": {
    severity: "info",
    meaning: "which files of the process import which clock functions",
  },
  unproved: {
    severity: "warn",
    meaning: "the proof could not be made: the system refuses the seccomp filter, the agent or its memory",
    remedy: "run it where a child may be given a seccomp filter and its memory may be written to",
  },
  "clocksource-unread": {
    severity: "warn",
    meaning: "/sys does not show the clocksource, as in some containers and sandboxes",
    remedy: "mount sysfs, or look on the host",
  },
  "tsc-unstable": {
    severity: "warn",
    meaning:
      "the kernel gave the time-stamp counter up, or does not offer it, and the clocksource in its place is slow",
    remedy:
      "remove tsc=unstable if it is there; update the firmware or hypervisor; where the counter is known to be sound, tsc=reliable",
  },
  "tsc-not-used": {
    severity: "warn",
    meaning:
      "the time-stamp counter would serve (it is on offer, or constant and nonstop), nothing says that it is unstable, and a slow clocksource is in force",
    remedy: "make tsc the clocksource: echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
  },
  "no-tsc": {
    severity: "warn",
    meaning:
      "the processor shows no time-stamp counter (or notsc, or clearcpuid, hides it): no clocksource of x86 is fast without",
    remedy: "remove notsc or clearcpuid=tsc, or have the hypervisor show the counter",
  },
  "gate-int80": {
    severity: "warn",
    meaning: "32-bit programs enter the kernel by int $0x80, the slowest way: what falls back costs more",
    remedy: "remove clearcpuid or nosep if they hide sysenter and syscall, or have the hypervisor show them",
  },
  "random-falls-back": {
    severity: "warn",
    meaning: "the vDSO's getrandom enters the kernel each time, as before the random generator is seeded",
    remedy: "wait until the generator is seeded",
  },
  "vdso-no-gain": {
    severity: "warn",
    meaning:
      "the vDSO answers, but hardly faster than the system call: reading the counter is slow, as where a hypervisor traps rdtsc",
    remedy: "have the hypervisor let the guest read its time-stamp counter",
  },
  emulated: {
    severity: "warn",
    meaning: "the vDSO is not Linux's own but that of an emulator or sandbox (gVisor, qemu-user)",
    remedy: "times here say nothing of the same program on Linux itself",
  },
  "run-by-tool": {
    severity: "warn",
    meaning:
      "the process is run, recorded or restored by a tool that puts itself between it and its vDSO (rr, valgrind, qemu-user, gVisor, CRIU)",
    remedy: "measure it without the tool",
  },
  "image-differs": {
    severity: "warn",
    meaning:
      "the vDSO of the process is not the one that a fresh process gets: what was proved there need not hold in it",
    remedy: "linux-gate verify PID says what differs; linux-gate explain PID what its functions do",
  },
  "process-unread": {
    severity: "warn",
    meaning: "parts of the process may not be read",
    remedy: "run as the owner of the process, or as root",
  },
  "namespace-unproved": {
    severity: "warn",
    meaning: "the time namespace of the process may not be joined: the proof was made outside of it",
    remedy: "run as root: joining a time namespace takes CAP_SYS_ADMIN",
  },
  "fallback-filtered": {
    severity: "warn",
    meaning:
      "clocks of the process enter the kernel, and its seccomp filters judge each of these calls: slower still, or refused",
    remedy:
      "restore the fast path; let the filters pass clock_gettime (and clock_gettime64), gettimeofday, time and getcpu",
  },
  "may-not-look": {
    severity: "warn",
    meaning:
      "nothing in the process has the name of a vDSO function in it: if it makes clock calls, they are real ones",
    remedy: "linux-gate trace PID counts its real clock calls; link with a C library that uses the vDSO",
  },
  "no-vdso": {
    severity: "bad",
    meaning: "processes of this ABI get no vDSO: every clock call enters the kernel",
    remedy: "remove vdso=0 or vdso32=0 from the kernel's command line; set the sysctl abi.vsyscall32 to 1",
  },
  "clock-not-exported": {
    severity: "bad",
    meaning: "the vDSO has no clock_gettime: every clock call enters the kernel",
    remedy: "a kernel built with GENERIC_GETTIMEOFDAY has one",
  },
  "clock-falls-back": {
    severity: "bad",
    meaning: "clocks that the vDSO should answer enter the kernel: proved, call by call",
    remedy: "make a clocksource that the vDSO reads the one in force",
  },
  "measured-slow": {
    severity: "bad",
    meaning: "nothing could be proved, but the vDSO was measured to take as long for the time as the system call",
    remedy: "make a clocksource that the vDSO reads the one in force",
  },
  "function-falls-back": {
    severity: "bad",
    meaning:
      "calls that need no counter (coarse clocks, time, getcpu) enter the kernel: this vDSO is not an ordinary one",
    remedy: "linux-gate explain says what its functions do",
  },
  "clocksource-slow": {
    severity: "bad",
    meaning:
      "the clocksource in force cannot be read by programs: every precise clock enters the kernel, and the read itself is slow",
    remedy: "make a clocksource that the vDSO reads the one in force",
  },
  "process-no-vdso": {
    severity: "bad",
    meaning: "the process was started without a vDSO (or it was hidden from it) where others get one",
    remedy: "start it without what hides the vDSO: linux-gate exec --no-vdso, a debugger, a tracer or a sandbox",
  },
  "never-looks": {
    severity: "bad",
    meaning:
      "the process makes clock calls, and nothing in it has the name of a vDSO function: a static program of an old glibc, or code of its own",
    remedy:
      "link dynamically, or statically with a C library that looks: musl, or a glibc of today (2.36 does, 2.23 does not)",
  },
} as const satisfies Record<string, CatalogEntry>;

/** The id of a kind of finding. */
export type FindingId = keyof typeof CATALOG;

/** All ids, in the order of the catalog: by severity. */
export const FINDING_IDS = Object.keys(CATALOG) as readonly FindingId[];

/** What is documented of an id. */
export function catalogEntry(id: FindingId): CatalogEntry {
  return CATALOG[id];
}
