import { closeSync, openSync, readFileSync, readlinkSync, readSync } from "node:fs";
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

/** Byte order of this machine, and so of all its processes. */
const hostLittleEndian = endianness() === "LE";

/** A flag in field 9 of /proc/PID/stat (include/linux/sched.h). */
const PF_KTHREAD = 0x0020_0000;

/** The largest /proc file that is read whole: a process may have 65,530 mappings with names of 4 KiB. */
const MAX_PROC_TEXT = 1 << 28;

const REASONS: Readonly<Record<string, string>> = {
  EACCES: "permission denied: run as the owner of the process or as root (CAP_SYS_PTRACE)",
  EPERM: "permission denied: run as the owner of the process or as root (CAP_SYS_PTRACE)",
  ENOENT: "no such process",
  ESRCH: "the process has ended",
  EIO: "nothing is mapped there",
  EFAULT: "nothing is mapped there",
};

function codeOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (typeof code !== "string") throw error;
  return code;
}

function processError(what: string, error: unknown): ProcessError {
  const code = codeOf(error);
  return new ProcessError(`${what}: ${REASONS[code] ?? "cannot be read"} (${code})`, code, { cause: error });
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

  /** Who this is. Readable by everyone unless /proc hides it. */
  state(): ProcessState {
    // 4321 (name (x) y) S 1 4321 … : the name may hold parentheses and spaces; the last `)` ends it.
    const stat = this.#text("stat");
    const open = stat.indexOf("(");
    const close = stat.lastIndexOf(")");
    const fields = stat.slice(close + 2).split(" ");
    const tgid = /^Tgid:\s+(\d+)$/m.exec(this.#text("status"))?.[1];
    return {
      pid: this.pid,
      comm: stat.slice(open + 1, close),
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

  /** Where /proc/PID/exe points; `undefined` where it points nowhere or may not be read. */
  exe(): string | undefined {
    try {
      return readlinkSync(`${this.#folder}/exe`);
    } catch (error) {
      codeOf(error);
      return undefined;
    }
  }

  /**
   * Reads memory of the process. The first call opens /proc/PID/mem, which stays with that address space: a pid used
   * again, or an execve, cannot mix two programs. All `size` bytes or a {@link ProcessError}.
   */
  read(address: bigint, size: number): Uint8Array {
    const path = `${this.#folder}/mem`;
    try {
      this.#memory ??= openSync(path, "r");
      const bytes = new Uint8Array(size);
      let done = 0;
      while (done < size) {
        const got = readSync(this.#memory, bytes, done, size - done, address + BigInt(done));
        // The address space is gone: the process has ended or executed another program.
        if (got === 0) throw new ProcessError(`${path}: the process has ended (ESRCH)`, "ESRCH");
        done += got;
      }
      return bytes;
    } catch (error) {
      if (error instanceof ProcessError) throw error;
      throw processError(`${path} at 0x${address.toString(16)}`, error);
    }
  }

  /** Closes what {@link read} opened. */
  close(): void {
    if (this.#memory !== undefined) closeSync(this.#memory);
    this.#memory = undefined;
  }
}
