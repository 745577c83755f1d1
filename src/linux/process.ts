/**
 * A process as Linux shows it: running ({@link LiveProcess}), or, in a core file, stopped for good. Methods throw
 * `ProcessError` where something cannot be had.
 */
export interface ProcessView {
  readonly pid: number;
  readonly littleEndian: boolean;
  /** The text of /proc/PID/maps. */
  mapsBytes(): Uint8Array;
  /** The auxiliary vector, in entries of the process's own word size. */
  auxvBytes(): Uint8Array;
  /** All `size` bytes of memory at `address`, or an error. */
  read(address: bigint, size: number): Uint8Array;
  /**
   * Makes {@link read} read the memory of the program that runs now, and of no later one. Absent where a process stands
   * still.
   */
  hold?(): void;
  close(): void;
}

/** Something of a process that could not be read, and why: `EACCES`, `ESRCH`, `ENOENT`… */
export class ProcessError extends Error {
  override readonly name = "ProcessError";
  /** The system's name of the error. */
  readonly code: string;

  constructor(message: string, code: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
