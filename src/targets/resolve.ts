import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { FormatError } from "../bytes/error.js";
import { ET_DYN, ET_EXEC } from "../elf/constants.js";
import { ElfFile } from "../elf/file.js";
import { isElf, readHeader } from "../elf/header.js";
import { LiveProcess } from "../linux/live.js";
import { ProcessError } from "../linux/process.js";
import { type Abi, abiOf, parseAbi } from "../vdso/abi.js";
import { isVdso } from "../vdso/image.js";
import { imageTarget, ProcessTarget, type Target, TargetError } from "./target.js";

/** The ABI of this machine's own programs, as Node names it. */
const NODE_ARCHITECTURES: Partial<Record<NodeJS.Architecture, Abi>> = {
  x64: "x86_64",
  ia32: "i386",
  arm64: "aarch64",
  arm: "arm",
  riscv64: "riscv64",
  s390x: "s390x",
  loong64: "loongarch64",
};

/** The ABI that Node itself runs under; `undefined` where it is none of Linux's. */
export const hostAbi: Abi | undefined =
  process.arch === "ppc64"
    ? new Uint8Array(Uint16Array.of(1).buffer)[0] === 1
      ? "ppc64le"
      : "ppc64"
    : NODE_ARCHITECTURES[process.arch];

/** Bytes read of a file: no vDSO image is larger, and the head of a program is enough to tell what it is. */
const MAX_FILE = 1 << 20;

/** What the user may write to name a target, in the words of the help. */
const TARGET_HELP = "self, a process id, an ABI (i386, x86_64), or the path of a vDSO image or program";

/**
 * Finds what a word names: nothing or `self` (this process), a process id, an ABI (a fresh process of it, started by
 * the agent), `-` (standard input) or a path, told by content. Close the target when done.
 *
 * Throws {@link TargetError}, `ProcessError`, `AgentError` or `FormatError`, each a sentence that names the target.
 */
export async function resolveTarget(word: string | undefined): Promise<Target> {
  if (word === undefined || word === "self") return processTarget(process.pid, "this process");
  if (/^\d+$/.test(word)) return processTarget(Number(word));
  const abi = parseAbi(word);
  if (abi) return freshProcess(abi);
  return fileTarget(word);
}

function requireLinux(what: string): void {
  if (process.platform !== "linux") {
    throw new TargetError(`${what} needs Linux; on ${process.platform} only files can be read: name an image`);
  }
}

function processTarget(pid: number, title?: string): ProcessTarget {
  requireLinux("reading a process");
  const live = new LiveProcess(pid);
  if (title !== undefined) return new ProcessTarget(title, live);
  const state = live.state();
  const name = `process ${pid} (${state.comm})`;
  const notes: string[] = [];
  if (state.kernelThread) notes.push(`${name} is a kernel thread: it has no user memory and so no vDSO`);
  else if (state.state === "Z") notes.push(`${name} is a zombie: its memory is gone`);
  else if (state.tgid !== pid) notes.push(`${pid} is a thread of process ${state.tgid}, whose memory is shown`);
  return new ProcessTarget(name, live, { notes });
}

async function freshProcess(abi: Abi): Promise<ProcessTarget> {
  requireLinux(`starting a process of ${abi}`);
  const { startAgent } = await import("../agent/live.js");
  if (abi !== "i386" && abi !== "x86_64") {
    // The host's own ABI needs no agent: this process is one of it.
    if (abi === hostAbi) return processTarget(process.pid, `this process (${abi})`);
    throw new TargetError(
      `no process of ${abi} can be started here; the vDSO of a process that runs, or a file, can be read`,
    );
  }
  const agent = await startAgent(abi);
  return new ProcessTarget(`a fresh ${abi} process`, new LiveProcess(agent.pid), { onClose: () => agent.close() });
}

/** What a file is, told by its first bytes; for the error of one that no verb can serve. */
function describeContent(bytes: Uint8Array): string {
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, 8));
  if (bytes.length === 0) return "is empty";
  if (text.startsWith("!<arch>")) return "is an archive (a .deb or .a), which cannot be read yet";
  if (text.startsWith("MDMP")) return "is a minidump, which cannot be read yet";
  if (text.startsWith("#!")) return "is a script; name the program that runs it";
  return "is neither an ELF file nor anything else that holds a vDSO";
}

async function fileTarget(path: string): Promise<Target> {
  const name = path === "-" ? "standard input" : path;
  const { bytes, complete } = readHead(path, name);
  if (!isElf(bytes)) throw new TargetError(`${name} ${describeContent(bytes)}`);
  try {
    const { header } = readHeader(bytes);
    const abi = abiOf(header);
    if (header.e_type !== ET_DYN && header.e_type !== ET_EXEC) {
      throw new TargetError(`${name} is an ELF file of type ${header.e_type}: neither a program nor a vDSO image`);
    }
    if (abi === undefined) {
      throw new TargetError(`${name} is an ELF file of machine ${header.e_machine}, which has no vDSO`);
    }
    if (complete && isVdso(new ElfFile(bytes, { mapped: true }))) return imageTarget(name, bytes);
    return await programTarget(name, abi);
  } catch (error) {
    if (error instanceof FormatError) throw new TargetError(`${name}: ${error.message}`, { cause: error });
    throw error;
  }
}

/** A program: the vDSO that it would get is that of a fresh process of its ABI. */
async function programTarget(name: string, abi: Abi): Promise<ProcessTarget> {
  const fresh = await freshProcess(abi);
  return new ProcessTarget(`a fresh ${abi} process`, fresh.process, {
    notes: [`${name} is a program of ${abi}: shown is the vDSO that it would get`],
    onClose: () => fresh.close(),
  });
}

/** The first {@link MAX_FILE} bytes of a file, and whether these are all. */
function readHead(path: string, name: string): { bytes: Uint8Array; complete: boolean } {
  let descriptor: number | undefined;
  try {
    // Without O_NONBLOCK, opening a FIFO that nobody writes to would hang.
    descriptor = path === "-" ? 0 : openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (fstatSync(descriptor).isDirectory()) throw new TargetError(`${name} is a folder`);
    const bytes = new Uint8Array(MAX_FILE + 1);
    let length = 0;
    while (length < bytes.length) {
      const got = readSync(descriptor, bytes, length, bytes.length - length, null);
      if (got === 0) break;
      length += got;
    }
    return { bytes: bytes.slice(0, Math.min(length, MAX_FILE)), complete: length <= MAX_FILE };
  } catch (error) {
    if (error instanceof TargetError) throw error;
    throw fileError(name, error);
  } finally {
    if (descriptor !== undefined && descriptor !== 0) closeSync(descriptor);
  }
}

const FILE_REASONS: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  EACCES: "permission denied",
  ENOTDIR: "no such file",
  ELOOP: "too many symbolic links",
};

function fileError(name: string, error: unknown): Error {
  const code = (error as NodeJS.ErrnoException).code;
  if (typeof code !== "string") throw error;
  const hint = code === "ENOENT" && !name.includes("/") ? `; a target is ${TARGET_HELP}` : "";
  return new ProcessError(`${name}: ${FILE_REASONS[code] ?? "cannot be read"} (${code})${hint}`, code, {
    cause: error,
  });
}
