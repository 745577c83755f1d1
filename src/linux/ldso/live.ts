import { closeSync, constants, fstatSync, openSync, readlinkSync, readSync, realpathSync, statSync } from "node:fs";
import { type Cpu, parseCpu } from "./cpu.js";
import { type FileFailure, FileReadError, type FileStatus, type LoaderFiles, type OpenFile } from "./files.js";

/** As many symbolic links as Linux follows in one path. */
const MAX_LINKS = 40;

function codeOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  // A path with a NUL: no file has such a name.
  if (code === "ERR_INVALID_ARG_VALUE") return "ENOENT";
  if (typeof code !== "string") throw error;
  return code;
}

class LiveFile implements OpenFile {
  readonly size: number;
  readonly #descriptor: number;

  constructor(path: string) {
    // Should a FIFO have taken the file's place meanwhile, opening it must not wait for a writer.
    this.#descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    this.size = fstatSync(this.#descriptor).size;
  }

  readAt(offset: number, size: number): Uint8Array {
    const length = Math.max(0, Math.min(size, this.size - offset));
    const bytes = new Uint8Array(length);
    let done = 0;
    try {
      while (done < length) {
        const got = readSync(this.#descriptor, bytes, done, length - done, offset + done);
        // Somebody cut the file short meanwhile.
        if (got === 0) break;
        done += got;
      }
    } catch (error) {
      throw new FileReadError(codeOf(error), { cause: error });
    }
    return bytes.subarray(0, done);
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

function attempt<T>(use: () => T): T | FileFailure {
  try {
    return use();
  } catch (error) {
    return { code: codeOf(error) };
  }
}

function statusOf(path: string): FileStatus | FileFailure {
  return attempt(() => {
    // Most paths that a dynamic linker tries are not there, and an exception for each is slow.
    const status = statSync(path, { bigint: true, throwIfNoEntry: false });
    if (!status) return { code: "ENOENT" };
    const kind = status.isFile() ? "file" : status.isDirectory() ? "directory" : "other";
    return { kind, identity: `${status.dev}:${status.ino}` };
  });
}

/**
 * The path, as this machine sees it, of a path in another root: symbolic links are followed inside that root, and `..`
 * does not lead out of it. A missing component ends the walk: what follows cannot be a link.
 */
function inRoot(root: string, path: string): string {
  const rest = path.split("/").reverse();
  let done: string[] = [];
  for (let links = 0; rest.length > 0; ) {
    const part = rest.pop();
    if (part === undefined || part === "" || part === ".") continue;
    if (part === "..") {
      done.pop();
      continue;
    }
    const here = `${root}/${[...done, part].join("/")}`;
    let target: string | undefined;
    try {
      target = readlinkSync(here);
    } catch (error) {
      codeOf(error);
    }
    if (target === undefined) {
      done.push(part);
      continue;
    }
    links += 1;
    if (links > MAX_LINKS) throw Object.assign(new Error("too many symbolic links"), { code: "ELOOP" });
    if (target.startsWith("/")) done = [];
    rest.push(...target.split("/").reverse());
  }
  return `/${done.join("/")}`;
}

/**
 * The files of this machine, or of the system whose root folder is given (a container's file system, a mounted disk):
 * all paths are then paths in that system.
 */
export function liveFiles(root = "/"): LoaderFiles {
  const base = root.replace(/\/+$/, "");
  const outer = (path: string) => (base === "" ? path : `${base}${inRoot(base, path)}`);
  return {
    status(path) {
      const real = attempt(() => outer(path));
      return typeof real === "string" ? statusOf(real) : real;
    },
    open(path) {
      return attempt(() => new LiveFile(outer(path)));
    },
    realPath(path) {
      const real = attempt(() => (base === "" ? realpathSync(path) : inRoot(base, path)));
      return typeof real === "string" ? real : undefined;
    },
  };
}

/** The processor of this machine. */
export function liveCpu(): Cpu {
  const text = attempt(() => {
    const bytes = new Uint8Array(1 << 16);
    const descriptor = openSync("/proc/cpuinfo", "r");
    try {
      return new TextDecoder().decode(bytes.subarray(0, readSync(descriptor, bytes, 0, bytes.length, null)));
    } finally {
      closeSync(descriptor);
    }
  });
  return parseCpu(typeof text === "string" ? text : "");
}
