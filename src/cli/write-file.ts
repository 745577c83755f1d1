import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readlinkSync,
  renameSync,
  rmSync,
  type Stats,
  statfsSync,
  statSync,
} from "node:fs";
import { dirname, isAbsolute } from "node:path";
import { UsageError } from "./command.js";
import { isTerminal, writeAll, writeError } from "./output.js";

/**
 * Writes a file. A new one, and a plain one that was there, is written whole or not at all: under a name beside it
 * first, which then takes its place, with the owner and permissions of what was there. Symbolic links stay and are
 * followed.
 *
 * Written in place, as a shell's `>` does, is what would be damaged by being replaced: a device or a FIFO, a file with
 * several names, one that is reached through /proc (/dev/stdout), and one in a folder that takes no new file.
 */
export function writeWhole(path: string, bytes: Uint8Array): void {
  try {
    const file = plainPath(path);
    if (file !== undefined && !lstatSync(file, { throwIfNoEntry: false })) create(file, bytes);
    else overwrite(path, file, bytes);
  } catch (error) {
    throw writeError(`${path}: cannot be written`, error);
  }
}

/** Whether what stands under a name is a terminal. */
function isTerminalFile(path: string): boolean {
  let descriptor: number;
  try {
    // Only a device is opened: whoever reads a FIFO would take our closing it for the end.
    if (!statSync(path, { throwIfNoEntry: false })?.isCharacterDevice()) return false;
    descriptor = openSync(path, constants.O_WRONLY | constants.O_NOCTTY | constants.O_NONBLOCK);
  } catch {
    return false;
  }
  try {
    return isTerminal(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** As many symbolic links as the kernel follows in a path. */
const MAX_LINKS = 40;

/** f_type of the file system of /proc (include/uapi/linux/magic.h). */
const PROC_SUPER_MAGIC = 0x9fa0;

/**
 * The name under which a file, or nothing, stands at the end of a path's symbolic links. `undefined` where there is no
 * such name: the links of /proc/PID/fd lead to an open file, whatever they read as.
 */
function plainPath(path: string): string | undefined {
  let here = path;
  for (let links = 0; links < MAX_LINKS; links++) {
    if (!lstatSync(here, { throwIfNoEntry: false })?.isSymbolicLink()) return here;
    const folder = dirname(here);
    if (statfsSync(folder).type === PROC_SUPER_MAGIC) return undefined;
    const next = readlinkSync(here);
    // Not normalised: `..` behind a folder that is a link itself leads elsewhere than the text says.
    here = isAbsolute(next) ? next : `${folder}/${next}`;
  }
  return undefined;
}

/** Writes a file that is not there. */
function create(file: string, bytes: Uint8Array): void {
  const temporary = temporaryBeside(file);
  const descriptor = openSync(temporary, "wx");
  try {
    writeAndSync(descriptor, bytes);
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    closeSync(descriptor);
  }
}

/** Writes what is there. `file` is its plain name, if it has one. */
function overwrite(path: string, file: string | undefined, bytes: Uint8Array): void {
  // Opened whatever follows, so that a file that may not be written is not replaced either.
  const descriptor = openSync(path, constants.O_WRONLY | constants.O_NOCTTY);
  try {
    const old = fstatSync(descriptor);
    if (file !== undefined && isReplaceable(file, old) && replace(file, old, bytes)) return;
    if (old.isFile()) ftruncateSync(descriptor);
    writeAll(descriptor, bytes);
  } finally {
    closeSync(descriptor);
  }
}

function isReplaceable(file: string, old: Stats): boolean {
  const named = lstatSync(file);
  return old.isFile() && old.nlink === 1 && named.dev === old.dev && named.ino === old.ino;
}

/** Puts a new file in the place of an old one; `false`, with the old one untouched, where the folder refuses that. */
function replace(file: string, old: Stats, bytes: Uint8Array): boolean {
  const temporary = temporaryBeside(file);
  let descriptor: number;
  try {
    // For nobody else to read until it has the old one's permissions.
    descriptor = openSync(temporary, "wx", 0o600);
  } catch {
    return false;
  }
  let placed = false;
  try {
    writeAndSync(descriptor, bytes);
    placed = takePlace(descriptor, temporary, file, old);
    return placed;
  } finally {
    closeSync(descriptor);
    if (!placed) rmSync(temporary, { force: true });
  }
}

/** The permissions that are kept: set-user-ID and its like were given to other contents. */
const PERMISSIONS = 0o777;

function takePlace(descriptor: number, temporary: string, file: string, old: Stats): boolean {
  try {
    const { uid, gid } = fstatSync(descriptor);
    if (uid !== old.uid || gid !== old.gid) fchownSync(descriptor, old.uid, old.gid);
    fchmodSync(descriptor, old.mode & PERMISSIONS);
    renameSync(temporary, file);
    return true;
  } catch {
    return false;
  }
}

/** A name in the same folder, short because the file's own may be as long as names can be. */
function temporaryBeside(file: string): string {
  return `${dirname(file)}/.linux-gate-${Math.random().toString(36).slice(2, 10)}`;
}

function writeAndSync(descriptor: number, bytes: Uint8Array): void {
  writeAll(descriptor, bytes);
  fsyncSync(descriptor);
}

/** Throws {@link UsageError} where an image would go to a terminal: `-` is standard output. */
export function refuseTerminal(file: string): void {
  if (file === "-" ? isTerminal(1) : isTerminalFile(file)) {
    throw new UsageError("the image is binary: name a file with -o FILE, or redirect standard output");
  }
}
