/** Bytes that are read in ranges, so that a large file need not be read whole. */
export interface ByteSource {
  /** Size in bytes. */
  readonly size: number;
  /** The bytes at `offset`: `size` of them, or as many as there are before the end. Throws {@link FileReadError}. */
  readAt(offset: number, size: number): Uint8Array;
}

/** Bytes of a file that could not be read though it was opened. */
export class FileReadError extends Error {
  override readonly name = "FileReadError";
  /** The system's name of the error: `EIO`, `EISDIR`… */
  readonly code: string;

  constructor(code: string, options?: ErrorOptions) {
    super(`cannot be read (${code})`, options);
    this.code = code;
  }
}

/** What a path leads to. */
export interface FileStatus {
  readonly kind: "file" | "directory" | "other";
  /** Equal for two paths to one file: device and inode. */
  readonly identity: string;
}

/** Why a path could not be used: the system's name of the error (`ENOENT`, `EACCES`, `ELOOP`…). */
export interface FileFailure {
  readonly code: string;
}

/** A file that is open. */
export interface OpenFile extends ByteSource {
  close(): void;
}

/** The files among which libraries are looked for: those of this machine, of another root, or of a test. */
export interface LoaderFiles {
  /** What the path leads to, symbolic links followed. */
  status(path: string): FileStatus | FileFailure;
  /** Opens a path whose status is a plain file. */
  open(path: string): OpenFile | FileFailure;
  /** The path with every symbolic link followed; `undefined` where it leads nowhere. */
  realPath(path: string): string | undefined;
}

/** Whether an answer of {@link LoaderFiles} is a failure. */
export function failed(answer: object): answer is FileFailure {
  return "code" in answer;
}
