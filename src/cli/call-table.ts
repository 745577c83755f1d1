import { closeSync, constants, ftruncateSync, readSync } from "node:fs";
import { agentFolders, openUnnamed } from "../agent/live.js";
import { CANNOT_SET_UP, RunError } from "../run/error.js";
import type { SharedTable } from "../run/place.js";
import { syscallName } from "../vdso/syscalls.js";

/** Numbers of system calls that are counted one by one; those beyond are counted together. */
const LENGTH = 1024;

const COUNTER_SIZE = 8;

/** How often a system call was made through a gate that counts. */
export interface CallCount {
  /** Absent: all numbers beyond those that are told apart. */
  readonly number?: number;
  readonly name?: string;
  readonly calls: number;
}

/** Memory in which a program's gate counts its calls: a file without a name, which the program maps. */
export class CallTable {
  readonly length = LENGTH;
  readonly table: SharedTable;
  readonly #fd: number;

  constructor() {
    // Whole pages.
    const size = Math.ceil(((LENGTH + 1) * COUNTER_SIZE) / 4096) * 4096;
    this.#fd = openAnywhere(size);
    this.table = { path: `/proc/${process.pid}/fd/${this.#fd}`, size };
  }

  /** What has been counted so far, the most frequent first. */
  counts(): CallCount[] {
    const bytes = Buffer.alloc((LENGTH + 1) * COUNTER_SIZE);
    readSync(this.#fd, bytes, 0, bytes.length, 0);
    const counts: CallCount[] = [];
    for (let number = 0; number <= LENGTH; number++) {
      const calls = Number(bytes.readBigUInt64LE(number * COUNTER_SIZE));
      if (calls === 0) continue;
      const name = syscallName("i386", number);
      counts.push({ ...(number < LENGTH && { number }), ...(name !== undefined && { name }), calls });
    }
    return counts.sort((a, b) => b.calls - a.calls);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Opens a file of a size in the first folder that takes it. */
function openAnywhere(size: number): number {
  const tried: string[] = [];
  for (const folder of ["/dev/shm", ...agentFolders()]) {
    let fd: number | undefined;
    try {
      fd = openUnnamed(folder, constants.S_IRUSR | constants.S_IWUSR);
      ftruncateSync(fd, size);
      return fd;
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      tried.push(`${folder} (${(error as NodeJS.ErrnoException).code})`);
    }
  }
  throw new RunError(`no folder takes a file to count calls in: ${tried.join(", ")}`, CANNOT_SET_UP);
}
