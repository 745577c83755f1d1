import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { ProcessError } from "../linux/process.js";
import { TargetError } from "./error.js";
import { pause } from "./pause.js";

/** Bytes read of a file: no vDSO image is larger, and the head of a program is enough to tell what it is. */
const MAX_FILE = 1 << 20;

/** Milliseconds for which a pipe that has a writer may give nothing. */
export const PATIENCE_MS = 60_000;

/** Milliseconds between two looks at such a pipe. */
export const PAUSE_MS = 5;

/** What the user may write to name a target, in the words of the help. */
const TARGET_HELP = "self, a process id, an ABI (i386, x86_64), or the path of a vDSO image, kernel or program";

/** An open file whose first bytes have been read. */
export interface Head {
  /** At most a mebibyte, and one byte more where these are not all: nothing that was read of a pipe is lost. */
  readonly bytes: Uint8Array;
  /** Whether these are all. */
  readonly complete: boolean;
  /** Reads on behind them: a pipe cannot be read twice, and whoever writes to it is gone once it is closed. */
  readonly descriptor: number;
  close(): void;
}

/**
 * Reads the head of a file, of `-` (standard input) or of a pipe; `name` is what messages call it. A pipe that somebody
 * writes to is waited for, at most `patience` milliseconds for the next bytes; one that nobody writes to is empty.
 *
 * Throws {@link TargetError} for a folder and {@link ProcessError} with the system's reason. Close it when done.
 */
export function readHead(path: string, name: string, { patience = PATIENCE_MS } = {}): Head {
  const descriptor = openToRead(path, name);
  const close = () => closeRead(descriptor);
  try {
    const bytes = new Uint8Array(MAX_FILE + 1);
    let length = 0;
    while (length < bytes.length) {
      const got = readSome(descriptor, bytes.subarray(length), patience);
      if (got === undefined) throw impatience(name, patience);
      if (got === 0) break;
      length += got;
    }
    return { bytes: bytes.slice(0, length), complete: length <= MAX_FILE, descriptor, close };
  } catch (error) {
    close();
    if (error instanceof ProcessError) throw error;
    throw fileError(name, error);
  }
}

/** Opens a file, a pipe or `-` (standard input); throws as {@link readHead} does. */
export function openToRead(path: string, name: string): number {
  let descriptor: number | undefined;
  try {
    // Without O_NONBLOCK, opening a FIFO that nobody writes to would hang.
    descriptor = path === "-" ? 0 : openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!fstatSync(descriptor).isDirectory()) return descriptor;
  } catch (error) {
    throw fileError(name, error);
  }
  closeRead(descriptor);
  throw new TargetError(`${name} is a folder`);
}

/** Closes what {@link openToRead} opened: standard input is not ours to close. */
export function closeRead(descriptor: number): void {
  if (descriptor !== 0) closeSync(descriptor);
}

/** A pipe gave nothing for so many milliseconds. */
export function impatience(name: string, patience: number): ProcessError {
  const why = `nothing came for ${patience / 1000} seconds, though a writer has it open`;
  return new ProcessError(`${name}: ${why} (EAGAIN)`, "EAGAIN");
}

/** Reads what there is, 0 bytes at the end; waits where nothing has come yet. `undefined` when patience has run out. */
function readSome(descriptor: number, into: Uint8Array, patience: number): number | undefined {
  const end = performance.now() + patience;
  for (;;) {
    try {
      return readSync(descriptor, into, 0, into.length, null);
    } catch (error) {
      // Standard input may be non-blocking by the wish of whoever else has it open.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
    }
    if (performance.now() >= end) return undefined;
    pause(PAUSE_MS);
  }
}

const FILE_REASONS: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  EACCES: "permission denied",
  ENOTDIR: "no such file",
  ELOOP: "too many symbolic links",
};

/** The system's refusal of a file as {@link ProcessError}, in a sentence; any other error is thrown as it is. */
export function fileError(name: string, error: unknown): Error {
  const code = (error as NodeJS.ErrnoException).code;
  if (typeof code !== "string") throw error;
  const hint = code === "ENOENT" && !name.includes("/") ? `; a target is ${TARGET_HELP}` : "";
  return new ProcessError(`${name}: ${FILE_REASONS[code] ?? "cannot be read"} (${code})${hint}`, code, {
    cause: error,
  });
}
