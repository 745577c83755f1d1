import { closeSync, fstatSync, openSync } from "node:fs";

/** Opens no more than the place: neither a device nor a pipe is disturbed (include/uapi/asm-generic/fcntl.h). */
const O_PATH = 0x20_0000;

/** An error that the system did not give, in its form: `code` says why. */
export function refusal(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code });
}

/**
 * Opens a plain file to read it, whatever its owner may make of its name meanwhile: to open a device may be to use it, and
 * to open a pipe may be to wait for ever. Throws the system's error, or one whose `code` says that it is no plain file.
 */
export function openPlain(path: string): number {
  const place = openSync(path, O_PATH);
  try {
    if (!fstatSync(place).isFile()) throw refusal("no plain file");
    return openSync(`/proc/self/fd/${place}`, "r");
  } finally {
    closeSync(place);
  }
}
