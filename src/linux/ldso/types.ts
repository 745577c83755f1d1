import type { Cpu } from "./cpu.js";
import type { Dso } from "./object.js";
import type { ObjectStore } from "./store.js";

/** Which rule found a library. `preload`: named to be loaded before all others; `direct`: named with a slash. */
export type FoundBy = "rpath" | "runpath" | "LD_LIBRARY_PATH" | "cache" | "default" | "preload" | "direct";

/** An object of a program that would be loaded, or that is missing. */
export interface ResolvedObject {
  /** The name by which it was first asked for. */
  readonly name: string;
  /** Where it was found, as the dynamic linker writes it: not normalized; absent for one that is missing or virtual. */
  readonly path?: string;
  /** `virtual`: the kernel maps it into the process; there is no file, whatever its name. */
  readonly kind: "virtual" | "library" | "interpreter" | "missing";
  /** Names of the objects that ask for it, in the order in which they do; the program by its path. */
  readonly neededBy: readonly string[];
  readonly foundBy?: FoundBy;
  /** Why the file cannot be loaded although it is there; the dynamic linker would stop here. */
  readonly error?: string;
}

/** Something that stands in the way of the program, or that the reader should know. */
export interface LoadProblem {
  readonly message: string;
  /** Whether the dynamic linker would give up, rather than list what it can. */
  readonly fatal: boolean;
}

/** How a dynamic linker would load a program. */
export interface Resolution {
  readonly libc: "glibc" | "musl";
  /** The dynamic linker by its path in the file system. */
  readonly interpreter: string;
  /** Without the program itself, in the order of the dynamic linker's own list. */
  readonly objects: readonly ResolvedObject[];
  readonly problems: readonly LoadProblem[];
}

/** The program that is to be loaded. */
export interface ProgramFile {
  /** As given, with a slash in it. */
  readonly path: string;
  readonly identity: string;
  readonly dso: Dso;
}

/** The virtual object of the processes of one ABI. */
export interface VirtualObject {
  /** The SONAME of the target's own vDSO. */
  readonly soname: string;
  /** Where it is mapped, for a process that runs. */
  readonly address?: bigint;
}

/** What a dynamic linker's decisions depend on beside the program. */
export interface LoaderSystem {
  readonly store: ObjectStore;
  /** The working folder, absolute. */
  readonly cwd: string;
  readonly cpu: Cpu;
  /** LD_LIBRARY_PATH. */
  readonly libraryPath?: string;
  /** LD_PRELOAD. */
  readonly preload?: string;
  /** $PLATFORM, where it is not the usual one of the ABI. */
  readonly platform?: string;
  readonly virtual?: VirtualObject;
  /** Whether to check that the symbol versions that objects ask for are there. */
  readonly versions: boolean;
}

/** The most objects of one program. Real ones have less than 1,000. */
export const MAX_OBJECTS = 8192;
/** The most paths tried for one program. Real ones have less than 10,000. */
export const MAX_PROBES = 100_000;
/** The most problems that are told of one program. */
export const MAX_PROBLEMS = 1000;
