import { closeSync, lstatSync, openSync, readFileSync, readSync } from "node:fs";
import { endianness } from "node:os";
import { ProcessError, type ProcessView } from "./process.js";

/** What /proc/PID/stat and status tell of a process before anything is read of its memory. */
export interface ProcessState {
  readonly pid: number;
  /** Name of the program, at most 15 bytes. */
  readonly comm: string;
  /** One letter: `R`, `S`, `D`, `Z` (zombie), `T`, `t`, `X`, `I`. */
  readonly state: string;
  /** Thread group: equal to `pid` unless this is a thread. */
  readonly tgid: number;
  readonly kernelThread: boolean;
}

/** Where the kernel has a process's code, data, heap, arguments and environment; fields of /proc/PID/stat (proc(5)). */
export interface MemoryLayout {
  readonly startCode: bigint;
  readonly endCode: bigint;
  readonly startStack: bigint;
  readonly startData: bigint;
  readonly endData: bigint;
  readonly startBrk: bigint;
  readonly argStart: bigint;
  readonly argEnd: bigint;
  readonly envStart: bigint;
  readonly envEnd: bigint;
}

/** Byte order of this machine, and so of all its processes. */
export const hostLittleEndian = endianness() === "LE";

/** A flag in field 9 of /proc/PID/stat (include/linux/sched.h). */
const PF_KTHREAD = 0x0020_0000;

/** The largest /proc file that is read whole: a process may have 65,530 mappings with names of 4 KiB. */
const MAX_PROC_TEXT = 1 << 28;

/** What the capability is called that lets one process look into another of any user. */
const CAPABILITY = "CAP_SYS_PTRACE";

/** Root is not told to become root: what it lacks is the capability, or somebody else refuses. */
function refused(): string {
  return process.geteuid?.() === 0
    ? `permission denied although this is root: ${CAPABILITY} is missing (a container or a user namespace takes it away), or a security module refuses`
    : `permission denied: run as the owner of the process or as root (${CAPABILITY})`;
}

/** Without /proc nothing is known of any process, not even that there is none. */
function absent(): string {
  return lstatSync("/proc/self", { throwIfNoEntry: false }) ? "no such process" : "/proc is not mounted";
}

const REASONS: Readonly<Record<string, () => string>> = {
  EACCES: refused,
  EPERM: refused,
  ENOENT: absent,
  ESRCH: () => "the process has ended",
  EIO: () => "nothing is mapped there",
  EFAULT: () => "nothing is mapped there",
};

function codeOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (typeof code !== "string") throw error;
  return code;
}

function processError(what: string, error: unknown): ProcessError {
  const code = codeOf(error);
  return new ProcessError(`${what}: ${REASONS[code]?.() ?? "cannot be read"} (${code})`, code, { cause: error });
}

/**
 * A process of this machine as /proc shows it. Every method reads anew and throws {@link ProcessError} where the system
 * refuses; none stops the process or attaches to it.
 */
export class LiveProcess implements ProcessView {
  readonly pid: number;
  readonly littleEndian = hostLittleEndian;
  readonly #folder: string;
  #memory: number | undefined;

  /** `pid` may be a thread's id: /proc serves those too. */
  constructor(pid: number) {
    this.pid = pid;
    this.#folder = `/proc/${pid}`;
  }

  #read(file: string): Uint8Array {
    const path = `${this.#folder}/${file}`;
    try {
      const bytes = new Uint8Array(readFileSync(path));
      if (bytes.length > MAX_PROC_TEXT)
        throw new ProcessError(`${path} is longer than ${MAX_PROC_TEXT} bytes`, "EFBIG");
      return bytes;
    } catch (error) {
      if (error instanceof ProcessError) throw error;
      throw processError(path, error);
    }
  }

  #text(file: string): string {
    return new TextDecoder("utf-8").decode(this.#read(file));
  }

  /** The name in /proc/PID/stat, and what comes behind it: the state, which proc(5) has as field 3, is the first. */
  #stat(): { readonly comm: string; readonly fields: readonly string[] } {
    // 4321 (name (x) y) S 1 4321 … : the name may hold parentheses and spaces; the last `)` ends it.
    const stat = this.#text("stat");
    const close = stat.lastIndexOf(")");
    return { comm: stat.slice(stat.indexOf("(") + 1, close), fields: stat.slice(close + 2).split(" ") };
  }

  /** Where its parts lie; zeros where this process may not know. */
  memoryLayout(): MemoryLayout {
    const { fields } = this.#stat();
    const field = (number: number): bigint => BigInt(fields[number - 3] ?? 0);
    return {
      startCode: field(26),
      endCode: field(27),
      startStack: field(28),
      startData: field(45),
      endData: field(46),
      startBrk: field(47),
      argStart: field(48),
      argEnd: field(49),
      envStart: field(50),
      envEnd: field(51),
    };
  }

  /** Who this is. Readable by everyone unless /proc hides it. */
  state(): ProcessState {
    const { comm, fields } = this.#stat();
    const tgid = /^Tgid:\s+(\d+)$/m.exec(this.#text("status"))?.[1];
    return {
      pid: this.pid,
      comm,
      state: fields[0] ?? "?",
      tgid: tgid === undefined ? this.pid : Number(tgid),
      kernelThread: (Number(fields[6]) & PF_KTHREAD) !== 0,
    };
  }

  /** The bytes of /proc/PID/maps, as the kernel wrote them. */
  mapsBytes(): Uint8Array {
    return this.#read("maps");
  }

  /** The bytes of /proc/PID/auxv: entries of the process's own word size. */
  auxvBytes(): Uint8Array {
    return this.#read("auxv");
  }

  get #memoryPath(): string {
    return `${this.#folder}/mem`;
  }

  /**
   * Opens /proc/PID/mem, which stays with the address space of the program that runs now: a pid used again, or an
   * execve, cannot mix two programs. What was held before is let go.
   */
  hold(): void {
    this.close();
    try {
      this.#memory = openSync(this.#memoryPath, "r");
    } catch (error) {
      throw processError(this.#memoryPath, error);
    }
  }

  /**
   * Reads memory of the process: of the program that ran when {@link hold} was called, or else at the first call. All
   * `size` bytes or a {@link ProcessError}.
   */
  read(address: bigint, size: number): Uint8Array {
    if (this.#memory === undefined) this.hold();
    const bytes = new Uint8Array(size);
    try {
      let done = 0;
      while (done < size) {
        const got = readSync(this.#memory as number, bytes, done, size - done, address + BigInt(done));
        // The address space is gone.
        if (got === 0) {
          const why = "the process has ended or has executed another program";
          throw new ProcessError(`${this.#memoryPath}: ${why} (ESRCH)`, "ESRCH");
        }
        done += got;
      }
      return bytes;
    } catch (error) {
      if (error instanceof ProcessError) throw error;
      throw processError(`${this.#memoryPath} at 0x${address.toString(16)}`, error);
    }
  }

  /** Closes what {@link hold} or {@link read} opened. */
  close(): void {
    if (this.#memory !== undefined) closeSync(this.#memory);
    this.#memory = undefined;
  }
}
