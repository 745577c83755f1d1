import { constants, fstatSync, read } from "node:fs";
import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { type KernelFile, type SearchOptions, searchKernel } from "../kernel/find.js";
import { HEAD_SIZE, identify } from "../kernel/format.js";
import { decompress } from "../kernel/load.js";
import { isKernelName } from "../kernel/names.js";
import { ProcessError } from "../linux/process.js";
import { TargetError } from "./error.js";
import { closeRead, fileError, type Head, impatience, openToRead, PATIENCE_MS, PAUSE_MS } from "./read-head.js";

export type { KernelFile } from "../kernel/find.js";

/** Bytes read of a file at once. */
const CHUNK = 256 * 1024;

/** How {@link readKernelFile} searches. */
export interface ReadOptions extends Omit<SearchOptions, "decompress"> {
  /** Is told now and then how many bytes of the file were read, and how many it has where that is known. */
  readonly progress?: (read: number, size: number | undefined) => void;
  /** The file itself, where its head has been read already; it stays open. */
  readonly head?: Pick<Head, "bytes" | "descriptor">;
}

/**
 * Finds the vDSO images in a kernel file, a package of one, or `-` (standard input), reading no more than is needed.
 *
 * Throws `ProcessError` with the system's reason where the file cannot be read. A file without images is no error:
 * {@link nothingFound} says what was searched.
 */
export async function readKernelFile(path: string, options: ReadOptions = {}): Promise<KernelFile> {
  const { progress, head, ...search } = options;
  return searchKernel(bytesOf(path, progress, head), { ...search, decompress });
}

/** What messages call a path. */
function nameOf(path: string): string {
  return path === "-" ? "standard input" : path;
}

/** The bytes of a file, read as they are asked for. */
async function* bytesOf(
  path: string,
  progress: ReadOptions["progress"],
  head: ReadOptions["head"],
): AsyncGenerator<Uint8Array, void, undefined> {
  const name = nameOf(path);
  const descriptor = head?.descriptor ?? openToRead(path, name);
  try {
    const status = fstatSync(descriptor);
    const size = status.isFile() ? status.size : undefined;
    if (head) yield head.bytes;
    const buffer = Buffer.allocUnsafeSlow(CHUNK);
    for (let total = head?.bytes.length ?? 0; ; ) {
      const length = await readSome(name, descriptor, buffer);
      if (length === 0) return;
      total += length;
      progress?.(total, size);
      yield buffer.subarray(0, length);
    }
  } catch (error) {
    if (error instanceof ProcessError) throw error;
    throw fileError(name, error);
  } finally {
    if (!head) closeRead(descriptor);
  }
}

/** Reads what there is, 0 bytes at the end; waits where nothing has come yet. */
async function readSome(name: string, descriptor: number, into: Buffer): Promise<number> {
  const end = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await readDescriptor(descriptor, into);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
    }
    if (performance.now() >= end) throw impatience(name, PATIENCE_MS);
    await setTimeout(PAUSE_MS);
  }
}

function readDescriptor(descriptor: number, into: Buffer): Promise<number> {
  return new Promise((resolve, reject) => {
    read(descriptor, into, 0, into.length, null, (error, length) => (error ? reject(error) : resolve(length)));
  });
}

/** Says, for a file without images, what was searched: what it is, how many bytes, and what went wrong. */
export function nothingFound(path: string, file: KernelFile): TargetError {
  const name = nameOf(path);
  const [problem] = file.problems;
  if (file.read === 0 && !problem) return new TargetError(`${name} is empty`);
  const what = file.met.length > 0 ? ` (${file.met.join(", in it ")})` : "";
  const searched = file.kernels.reduce((sum, kernel) => sum + kernel.searched, 0);
  const how = `${searched} bytes of it searched`;
  if (problem) return new TargetError(`${name}${what}: ${problem.message}; no vDSO image before that (${how})`);
  return new TargetError(`${name}${what} has no vDSO image in it (${how})`);
}

/** Folders below a folder that are looked into: /lib/modules, a version, its `vdso`. */
const MAX_DEPTH = 2;

/** Entries of folders that are looked at. */
const MAX_ENTRIES = 100_000;

/**
 * The kernel files in a folder and a little below: those that have the name of one, or start as one. Of several names of
 * one file, the first.
 *
 * Throws `ProcessError` where the folder itself cannot be read; what cannot be read below is left out.
 */
export async function kernelFilesIn(folder: string): Promise<string[]> {
  const paths: string[] = [];
  const known = new Set<string>();
  let entries = 0;
  const visit = async (here: string, depth: number): Promise<void> => {
    const children = await readdir(here, { withFileTypes: true });
    for (const child of children.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (++entries > MAX_ENTRIES) return;
      const path = join(here, child.name);
      if (child.isDirectory()) {
        if (depth < MAX_DEPTH) await visit(path, depth + 1).catch(ignoreSystemErrors);
        continue;
      }
      // A link may lead nowhere, and a file may go while we look.
      const status = await stat(path).catch(ignoreSystemErrors);
      if (!status?.isFile()) continue;
      const identity = `${status.dev}:${status.ino}`;
      if (known.has(identity) || !(isKernelName(path) || (depth < MAX_DEPTH && (await startsAsKernel(path))))) continue;
      known.add(identity);
      paths.push(path);
    }
  };
  try {
    await visit(folder, 0);
  } catch (error) {
    throw fileError(folder, error);
  }
  return paths;
}

function ignoreSystemErrors(error: unknown): undefined {
  if (typeof (error as NodeJS.ErrnoException).code !== "string") throw error;
  return undefined;
}

/** Whether a file without the name of a kernel starts as one; what is only compressed or packed may be anything. */
async function startsAsKernel(path: string): Promise<boolean> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(ignoreSystemErrors);
  if (!file) return false;
  try {
    const { buffer, bytesRead } = await file.read(new Uint8Array(HEAD_SIZE), 0, HEAD_SIZE, 0);
    const format = identify(buffer.subarray(0, bytesRead));
    return format?.kind === "payload" || format?.kind === "loader" || format?.kind === "raw";
  } catch (error) {
    return ignoreSystemErrors(error) ?? false;
  } finally {
    await file.close();
  }
}

/** Whether a path names a folder. Throws `ProcessError` where there is nothing. */
export async function isFolder(path: string): Promise<boolean> {
  if (path === "-") return false;
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    throw fileError(path, error);
  }
}
