import { accessSync, closeSync, constants, openSync, readSync, type Stats, statSync } from "node:fs";
import { FormatError } from "../bytes/error.js";
import { isElf, readHeader } from "../elf/header.js";
import { type Abi, abiOf } from "../vdso/abi.js";
import { CANNOT_EXECUTE, NOT_FOUND, RunError } from "./error.js";

/** A file that is to be executed. */
export interface Program {
  readonly path: Buffer;
  /** The ABI of the ELF program that will run, be it a script's interpreter; absent where only the kernel knows. */
  readonly abi?: Abi;
  /** Neither an ELF program nor a script that names its interpreter. */
  readonly unmarked: boolean;
}

/** Where execvp looks for programs when PATH is not set. */
const DEFAULT_PATH = Buffer.from("/bin:/usr/bin");

/** How many interpreters of interpreters the kernel follows. */
const MAX_INTERPRETERS = 5;

/** The kernel looks for a script's first line in this many bytes (include/uapi/linux/binfmts.h). */
const SCRIPT_HEAD = 256;

const SLASH = 0x2f;
const COLON = 0x3a;

/**
 * Finds the program that a name means, as execvp does: a name with a slash is a path, any other is looked for in the
 * folders of PATH; what may not be executed is passed over.
 *
 * Throws {@link RunError} with the status of env(1) where there is none, or where it is one that cannot be traced as the
 * user meant it: raised privileges are withheld from programs that somebody traces.
 */
export function findProgram(name: Uint8Array, path: Uint8Array | undefined): Program {
  const wanted = Buffer.from(name);
  if (wanted.length === 0) throw new RunError("the program's name is empty", NOT_FOUND);
  const candidates = wanted.includes(SLASH)
    ? [wanted]
    : splitPath(path ? Buffer.from(path) : DEFAULT_PATH).map((folder) =>
        folder.length > 0 ? Buffer.concat([folder, Buffer.from("/"), wanted]) : wanted,
      );
  let refused: RunError | undefined;
  for (const candidate of candidates) {
    try {
      return inspect(candidate, candidate.toString(), 0);
    } catch (error) {
      if (!(error instanceof RunError)) throw error;
      if (wanted.includes(SLASH) || !(error instanceof Unusable)) throw error;
      if (error.status === CANNOT_EXECUTE) refused ??= error;
    }
  }
  throw refused ?? new RunError(`${wanted}: no such program in PATH`, NOT_FOUND);
}

/** A candidate that execvp passes over. */
class Unusable extends RunError {}

function splitPath(path: Buffer): Buffer[] {
  const folders: Buffer[] = [];
  let from = 0;
  for (let at = path.indexOf(COLON); at >= 0; at = path.indexOf(COLON, from)) {
    folders.push(path.subarray(from, at));
    from = at + 1;
  }
  return [...folders, path.subarray(from)];
}

function inspect(path: Buffer, name: string, depth: number): Program {
  const stats = statOf(path, name);
  if (!stats.isFile()) throw new Unusable(`${name}: ${stats.isDirectory() ? "a folder" : "no file"}`, CANNOT_EXECUTE);
  if (!may(path, constants.X_OK)) throw new Unusable(`${name}: may not be executed (EACCES)`, CANNOT_EXECUTE);
  if (!may(path, constants.R_OK)) {
    throw new RunError(`${name}: may be executed but not read: the kernel lets nobody trace it`, CANNOT_EXECUTE);
  }
  const head = headOf(path);
  if (head.toString("latin1", 0, 2) === "#!") {
    if (depth === MAX_INTERPRETERS) throw new RunError(`${name}: too many interpreters (ELOOP)`, CANNOT_EXECUTE);
    const interpreter = interpreterOf(head);
    // The kernel says what is wrong with a first line that names none.
    if (!interpreter) return { path, unmarked: true };
    const { abi } = inspect(interpreter, `${name}: its interpreter ${interpreter}`, depth + 1);
    return { path, unmarked: false, ...(abi && { abi }) };
  }
  refuseRaisedPrivileges(stats, name);
  if (!isElf(head)) return { path, unmarked: true };
  const abi = elfAbi(head);
  return { path, unmarked: false, ...(abi && { abi }) };
}

function statOf(path: Buffer, name: string): Stats {
  try {
    return statSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") throw new Unusable(`${name}: no such file (${code})`, NOT_FOUND);
    throw new Unusable(`${name}: cannot be executed (${code})`, CANNOT_EXECUTE);
  }
}

function may(path: Buffer, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

function headOf(path: Buffer): Buffer {
  const fd = openSync(path, "r");
  try {
    const head = Buffer.alloc(SCRIPT_HEAD);
    return head.subarray(0, readSync(fd, head, 0, head.length, 0));
  } finally {
    closeSync(fd);
  }
}

/** `#! /bin/sh -e`: the path ends at a space, a tab, or the line's end. */
function interpreterOf(head: Buffer): Buffer | undefined {
  const match = /^#![ \t]*([^ \t\n\0]+)/.exec(head.toString("latin1"));
  return match ? Buffer.from(match[1] as string, "latin1") : undefined;
}

function elfAbi(head: Buffer): Abi | undefined {
  try {
    return abiOf(readHeader(head).header);
  } catch (error) {
    // A damaged program: the kernel will say so.
    if (!(error instanceof FormatError)) throw error;
    return undefined;
  }
}

/** Set-user-id and set-group-id, unless they change nothing. */
function refuseRaisedPrivileges({ mode, uid, gid }: Stats, name: string): void {
  const S_ISUID = 0o4000;
  const S_ISGID = 0o2000;
  const setUser = (mode & S_ISUID) !== 0 && uid !== process.geteuid?.();
  const setGroup = (mode & S_ISGID) !== 0 && (mode & constants.S_IXGRP) !== 0 && gid !== process.getegid?.();
  if (!setUser && !setGroup) return;
  const what = setUser ? `set-user-id (user ${uid})` : `set-group-id (group ${gid})`;
  throw new RunError(
    `${name}: ${what}: the kernel would withhold those privileges from a program that is traced; run this as that ${setUser ? "user" : "group"}`,
    CANNOT_EXECUTE,
  );
}
