import type { AgentAbi } from "../../agent/protocol.js";
import type { Abi } from "../../vdso/abi.js";
import type { Mechanism } from "../../vdso/gate.js";
import type { Maker } from "../../vdso/maker.js";
import type { Via } from "../calls.js";
import type { Need } from "./calls.js";

/** Something that could not be read, and the system's reason in a sentence. */
export interface Unread {
  readonly what: string;
  readonly why: string;
}

/** What is known of the machine's clocks. */
export interface MachineFacts {
  /** `6.1.0-50-cloud-amd64`, as uname -r says. */
  readonly release: string;
  /** `x86_64`, as uname -m says. */
  readonly architecture: string;
  /** Absent where /sys does not show it. */
  readonly clocksource?: { readonly current: string; readonly available: readonly string[] };
  /** Flags of the first processor that tell of its counter; absent where /proc/cpuinfo has no flags. */
  readonly cpuFlags?: readonly string[];
  /** Parameters of the kernel's command line that touch clocks and the vDSO, as written. */
  readonly parameters: readonly string[];
  /** Lines of the kernel's log that tell of clocksources and the TSC; absent where it may not be read. */
  readonly log?: readonly string[];
  /** The sysctl abi.vsyscall32; absent on kernels without 32-bit programs. */
  readonly vsyscall32?: number;
  readonly unread: readonly Unread[];
}

/** How a call was answered, by proof. */
export type Answer =
  /** Without entering the kernel. */
  | "vdso"
  /** By a system call. */
  | "kernel"
  /** With an error of its own: nothing is proved. */
  | "error"
  /** The image does not export the function: a C library makes the system call. */
  | "absent";

/** What was proved of one call. */
export interface ProofRow {
  readonly call: string;
  readonly function: string;
  readonly need: Need;
  readonly answer: Answer;
  /** The system call that was made. */
  readonly systemCall?: string;
  /** The error that it gave of its own. */
  readonly errno?: number;
}

/** One figure of the measurement: nanoseconds a call. */
export interface Figure {
  readonly call: string;
  readonly via: Via;
  readonly nsMedian: number;
  readonly nsLow: number;
  readonly nsHigh: number;
}

/** The image of a fresh process. */
export interface ImageFacts {
  readonly soname?: string;
  readonly buildId?: string;
  readonly kernelVersion?: string;
  readonly maker?: Maker;
  /** Exported functions. */
  readonly functions: readonly string[];
  /** How `__kernel_vsyscall` enters the kernel (i386). */
  readonly gate?: Mechanism;
}

/** What a fresh process of an ABI shows. */
export interface AbiFacts {
  readonly abi: AgentAbi;
  /** Why no process of it can be started; absent where one was. */
  readonly notRun?: string;
  /** Absent where a fresh process has no vDSO. */
  readonly image?: ImageFacts;
  /** Empty where nothing could be proved. */
  readonly proof: readonly ProofRow[];
  /** Why nothing could be proved. */
  readonly unproved?: string;
  /** Empty where nothing was measured. */
  readonly figures: readonly Figure[];
}

/** The clock functions that a file of a process's imports or looks up. */
export interface ObjectFacts {
  readonly path: string;
  /** Clock functions that it imports, by name. */
  readonly imports: readonly string[];
  /** Names of vDSO functions in it: it looks for them by itself. */
  readonly looksFor: readonly string[];
  /** Clock functions that it defines for itself, by its own table of symbols: a static program's. */
  readonly defines: readonly string[];
  /** System calls of clocks that it makes with a number in its code; only of programs that stand alone. */
  readonly systemCalls: readonly string[];
}

/** A time namespace that is not ours, or has offsets. */
export interface TimeNamespaceFacts {
  /** Whether it is another one than this program's. */
  readonly other: boolean;
  /** Offsets of its clocks in seconds, `boottime 1000.000000000`; those that are zero are left out. */
  readonly offsets: readonly string[];
  /** Why the proof could not be made in it; absent where it was, or where it is ours. */
  readonly unproved?: string;
}

/** What is known of one process. */
export interface ProcessFacts {
  readonly pid: number;
  readonly name: string;
  readonly abi?: Abi;
  /** Whether its auxiliary vector has AT_SYSINFO_EHDR; absent where that cannot be read. */
  readonly announced?: boolean;
  /** Whether a mapping [vdso] is there; absent where maps cannot be read. */
  readonly mapped?: boolean;
  /** Who made its image. */
  readonly maker?: Maker;
  /** Whether its image is, byte for byte, that of a fresh process; absent where one of the two cannot be read. */
  readonly sameImage?: boolean;
  /** Absent where it is in ours and that has no offsets. */
  readonly timeNamespace?: TimeNamespaceFacts;
  /** Seccomp of /proc/PID/status: 0 none, 1 strict, 2 filters. */
  readonly seccomp?: number;
  /** Seccomp_filters of it; absent before Linux 5.9. */
  readonly seccompFilters?: number;
  /** Who traces it. */
  readonly tracer?: { readonly pid: number; readonly name?: string };
  /** What runs it, told by its program, its mappings and its image: `rr`, `valgrind`, `criu`, `qemu-user`, `gVisor`. */
  readonly runner?: string;
  /** Whether its program has no interpreter: it was linked statically. */
  readonly static?: boolean;
  /** `glibc 2.36`, `musl`, `Go 1.19.8`: what makes its clock calls; absent where nothing tells. */
  readonly runtime?: string;
  /** Files with something of clocks in them, in the order in which they are mapped. */
  readonly objects: readonly ObjectFacts[];
  /** How many files were read. */
  readonly filesRead: number;
  readonly unread: readonly Unread[];
}

/** All that is judged. */
export interface DoctorFacts {
  readonly machine: MachineFacts;
  /** The ABIs that were asked: of a process, its own. */
  readonly abis: readonly AbiFacts[];
  readonly process?: ProcessFacts;
}
