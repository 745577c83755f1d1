import { closeSync, fsyncSync, openSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { TargetError } from "../targets/target.js";

/**
 * Writes a file whole or not at all: under a name beside it first, which then takes its place. What is no regular file
 * (a device, a FIFO) is written to as it is.
 */
export function writeWhole(path: string, bytes: Uint8Array): void {
  try {
    const special = statSync(path, { throwIfNoEntry: false });
    if (special && !special.isFile()) {
      writeTo(path, bytes, "w");
      return;
    }
    const temporary = `${path}.${process.pid}.part`;
    try {
      writeTo(temporary, bytes, "wx");
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (typeof code !== "string") throw error;
    throw new TargetError(`${path}: cannot be written (${code})`, { cause: error });
  }
}

function writeTo(path: string, bytes: Uint8Array, flags: string): void {
  const descriptor = openSync(path, flags, 0o644);
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
    if (flags === "wx") fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
