import { FormatError } from "../../bytes/error.js";
import type { ElfHeader } from "../../elf/header.js";
import { type CacheEntry, parseLdCache } from "../ld-cache.js";
import type { LoaderAbi } from "./abi.js";
import { FileReadError, type FileStatus, failed, type LoaderFiles, type OpenFile } from "./files.js";
import { assumedTraits, type LoaderTraits, readLoaderTraits } from "./loader.js";
import { type Dso, type DsoVersions, readDso, readDsoVersions } from "./object.js";

/** What was found at a path: an object, or why there is none that could be used. */
export type StoredObject =
  | { readonly identity: string; readonly dso: Dso; readonly error?: undefined }
  /** There is a file, but it is not a readable object; `error` says why in a few words. */
  | { readonly identity: string; readonly dso?: undefined; readonly error: string }
  /** Nothing can be opened there. */
  | { readonly code: string };

/** A small map that forgets everything when it grows too large: a cache whose memory is bounded. */
class Memo<T> {
  readonly #most: number;
  readonly #known = new Map<string, T>();

  constructor(most: number) {
    this.#most = most;
  }

  get(key: string, make: () => T): T {
    let value = this.#known.get(key);
    if (value === undefined) {
      value = make();
      if (this.#known.size >= this.#most) this.#known.clear();
      this.#known.set(key, value);
    }
    return value;
  }
}

/** The most that is read of ld.so.cache; real ones have less than 1 MiB. */
const MAX_CACHE = 1 << 26;
/** The most that is read of a list of paths. */
const MAX_TEXT = 1 << 20;

const textOf = new TextDecoder("utf-8");

/** Runs `use` on the file at a path and closes it. */
function withFile<T>(files: LoaderFiles, path: string, use: (file: OpenFile) => T): T | { code: string } {
  const status = files.status(path);
  if (failed(status)) return status;
  // Opening a FIFO waits for a writer, and a device may act: only plain files are opened.
  if (status.kind !== "file") return { code: status.kind === "directory" ? "EISDIR" : "ENOTSUP" };
  const file = files.open(path);
  if (failed(file)) return file;
  try {
    return use(file);
  } finally {
    file.close();
  }
}

/**
 * What was read of a file system, so that a library that a thousand programs use is read once.
 *
 * It is made for one call: a file that changes afterwards is not noticed.
 */
export class ObjectStore {
  readonly files: LoaderFiles;
  /** How many paths were tried: the measure of work that a resolution is bounded by. */
  probes = 0;
  readonly #statuses = new Memo<FileStatus | { code: string }>(1 << 16);
  readonly #objects = new Memo<StoredObject>(1 << 14);
  readonly #traits = new Memo<LoaderTraits>(64);
  readonly #versions = new Memo<DsoVersions | { error: string }>(1 << 10);
  readonly #texts = new Memo<{ text?: string; code?: string }>(64);
  readonly #caches = new Memo<{ entries: ReadonlyMap<string, readonly CacheEntry[]>; error?: string }>(16);

  constructor(files: LoaderFiles) {
    this.files = files;
  }

  /** What a path leads to. */
  status(path: string): FileStatus | { code: string } {
    this.probes += 1;
    return this.#statuses.get(path, () => this.files.status(path));
  }

  isDirectory(path: string): boolean {
    const status = this.status(path);
    return !failed(status) && status.kind === "directory";
  }

  /** The object at a path. */
  object(path: string): StoredObject {
    const status = this.status(path);
    if (failed(status)) return status;
    const { kind, identity } = status;
    if (kind === "directory") return { identity, error: "it is a directory" };
    if (kind !== "file") return { identity, error: "it is not a plain file" };
    return this.#objects.get(`${identity} ${path}`, () => {
      try {
        const dso = withFile(this.files, path, readDso);
        return failed(dso) ? dso : { identity, dso };
      } catch (error) {
        return { identity, error: reason(error) };
      }
    });
  }

  /** The version tables of the object at a path. */
  versions(path: string): DsoVersions | { error: string } {
    return this.#versions.get(path, () => {
      try {
        const versions = withFile(this.files, path, readDsoVersions);
        return failed(versions) ? { error: versions.code } : versions;
      } catch (error) {
        return { error: reason(error) };
      }
    });
  }

  /** The first MiB of a text file; `code` says why there is none. */
  text(path: string): { text?: string; code?: string } {
    return this.#texts.get(path, () => {
      try {
        const bytes = withFile(this.files, path, (file) => file.readAt(0, Math.min(file.size, MAX_TEXT)));
        return failed(bytes) ? { code: bytes.code } : { text: textOf.decode(bytes as Uint8Array) };
      } catch (error) {
        return { code: reason(error) };
      }
    });
  }

  /** What the dynamic linker at a path was built with; what its ABI usually has where it cannot be read. */
  traits(path: string, abi: LoaderAbi): LoaderTraits {
    return this.#traits.get(path, () => {
      try {
        const traits = withFile(this.files, path, (file) => readLoaderTraits(file, abi));
        return failed(traits) ? assumedTraits(abi) : traits;
      } catch (error) {
        reason(error);
        return assumedTraits(abi);
      }
    });
  }

  /** The entries of ld.so.cache by name; `error` where there is a file that cannot be read as one. */
  cache(path: string, header: ElfHeader): { entries: ReadonlyMap<string, readonly CacheEntry[]>; error?: string } {
    return this.#caches.get(`${header.littleEndian} ${path}`, () => {
      try {
        const bytes = withFile(this.files, path, (file) => file.readAt(0, Math.min(file.size, MAX_CACHE)));
        if (failed(bytes)) {
          return { entries: new Map(), ...(bytes.code !== "ENOENT" && { error: `${path}: ${bytes.code}` }) };
        }
        const entries = new Map<string, CacheEntry[]>();
        for (const entry of parseLdCache(bytes as Uint8Array, header.littleEndian).entries) {
          const same = entries.get(entry.name);
          if (same) same.push(entry);
          else entries.set(entry.name, [entry]);
        }
        return { entries };
      } catch (error) {
        return { entries: new Map(), error: `${path}: ${reason(error)}` };
      }
    });
  }
}

function reason(error: unknown): string {
  if (error instanceof FormatError || error instanceof FileReadError) return error.message;
  throw error;
}
