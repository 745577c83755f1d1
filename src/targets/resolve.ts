import { FormatError } from "../bytes/error.js";
import { ET_DYN, ET_EXEC } from "../elf/constants.js";
import { ElfFile } from "../elf/file.js";
import { isElf, readHeader } from "../elf/header.js";
import { sniff } from "../kernel/format.js";
import { hostLittleEndian, LiveProcess } from "../linux/live.js";
import { ProcessError } from "../linux/process.js";
import { type Abi, abiOf, parseAbi } from "../vdso/abi.js";
import { isVdso, parseImage } from "../vdso/image.js";
import { type Head, readHead } from "./read-head.js";
import { type ImageTarget, imageOf, imageTarget, ProcessTarget, type Target, TargetError } from "./target.js";

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
  process.arch === "ppc64" ? (hostLittleEndian ? "ppc64le" : "ppc64") : NODE_ARCHITECTURES[process.arch];

/**
 * Finds what a word names: nothing or `self` (this process), a process id, an ABI (a fresh process of it, started by
 * the agent), `-` (standard input) or a path, told by content. A kernel file gives a target for each image in it, or
 * for those of `abi`; of anything else `abi` is what the image has to be of. Close the targets when done.
 *
 * Throws {@link TargetError}, `ProcessError`, `AgentError` or `FormatError`, each a sentence that names the target.
 */
export async function resolveTargets(word: string | undefined, abi?: Abi): Promise<[Target, ...Target[]]> {
  const all = await findTargets(word);
  if (abi === undefined) return all;
  const [first, ...rest] = all.filter(({ image }) => image.abi === abi);
  if (first) return [first, ...rest];
  for (const target of all) await target.close();
  const found = all.map(({ image }) => image.abi).join(", ");
  throw new TargetError(`${word ?? "self"} has no image of ${abi}: ${found} is what it has`);
}

/** As {@link resolveTargets}, for a word that names one image; throws {@link TargetError} where it has several. */
export async function resolveTarget(word: string | undefined, abi?: Abi): Promise<Target> {
  const [target, ...others] = await resolveTargets(word, abi);
  if (others.length === 0) return target;
  for (const one of [target, ...others]) await one.close();
  throw new TargetError(
    `${word} has several images (${[target, ...others].map(({ image }) => image.abi).join(", ")}): say which`,
  );
}

async function findTargets(word: string | undefined): Promise<[Target, ...Target[]]> {
  if (word === undefined || word === "self") return [processTarget(process.pid, "this process")];
  if (/^\d+$/.test(word)) return [processTarget(parsePid(word))];
  const abi = parseAbi(word);
  if (abi) return [await freshProcess(abi)];
  return fileTargets(word);
}

function requireLinux(what: string): void {
  if (process.platform !== "linux") {
    throw new TargetError(`${what} needs Linux; on ${process.platform} only files can be read: name an image`);
  }
}

/** The largest process id that Linux gives, whatever its settings (PID_MAX_LIMIT in include/linux/threads.h). */
const MAX_PID = 1 << 22;

/** Digits as a process id. No number that is none is looked up: a long one would become another when narrowed. */
function parsePid(digits: string): number {
  const pid = Number(digits);
  if (pid >= 1 && pid <= MAX_PID) return pid;
  throw new ProcessError(`process ${digits}: no such process: ids are 1 to ${MAX_PID} (ESRCH)`, "ESRCH");
}

function processTarget(pid: number, title?: string): ProcessTarget {
  requireLinux("reading a process");
  const live = new LiveProcess(pid);
  if (title !== undefined) return new ProcessTarget(title, live);
  const { comm, state, tgid, kernelThread } = live.state();
  const name = `process ${pid} (${comm})`;
  if (kernelThread) {
    return new ProcessTarget(name, live, {
      unreadable: `${name} is a kernel thread: it has no user memory and so no vDSO`,
    });
  }
  if (state === "Z" || state === "X") {
    return new ProcessTarget(name, live, { unreadable: `${name} is a zombie: its memory is gone` });
  }
  const notes = tgid === pid ? [] : [`${pid} is a thread of process ${tgid}, whose memory is shown`];
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
  return new ProcessTarget(`a fresh ${abi} process`, new LiveProcess(agent.pid), { onClose: async () => agent.kill() });
}

/** What a file is, told by its first bytes; for the error of one that no verb can serve. */
function describeContent(bytes: Uint8Array): string {
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, 8));
  if (bytes.length === 0) return "is empty";
  if (text.startsWith("MDMP")) return "is a minidump, which cannot be read yet";
  if (text.startsWith("#!")) return "is a script; name the program that runs it";
  return "is neither an ELF file nor a kernel nor anything else that holds a vDSO";
}

async function fileTargets(path: string): Promise<[Target, ...Target[]]> {
  const name = path === "-" ? "standard input" : path;
  const head = readHead(path, name);
  try {
    if (isElf(head.bytes)) return await elfTargets(path, name, head);
    if (sniff(head.bytes) !== undefined) return await kernelTargets(path, name, head);
    throw new TargetError(`${name} ${describeContent(head.bytes)}`);
  } catch (error) {
    if (error instanceof FormatError) throw new TargetError(`${name}: ${error.message}`, { cause: error });
    throw error;
  } finally {
    head.close();
  }
}

async function elfTargets(path: string, name: string, head: Head): Promise<[Target, ...Target[]]> {
  const { bytes, complete } = head;
  const { header } = readHeader(bytes);
  const abi = abiOf(header);
  const { e_type } = header;
  // Asked before whether it is a kernel: the images of old kernels are linked to where only kernels lie otherwise.
  if (complete && e_type === ET_DYN && isVdso(new ElfFile(bytes, { mapped: true }))) return [imageTarget(name, bytes)];
  if (sniff(bytes) !== undefined) return kernelTargets(path, name, head);
  if (e_type !== ET_DYN && e_type !== ET_EXEC) {
    throw new TargetError(`${name} is an ELF file of type ${e_type}: neither a program nor a vDSO image`);
  }
  if (abi === undefined) {
    throw new TargetError(`${name} is an ELF file of machine ${header.e_machine}, which has no vDSO`);
  }
  return [await programTarget(name, abi)];
}

/** The images of a kernel file, or of a package of one, whose head has been read. */
async function kernelTargets(path: string, name: string, head: Head): Promise<[Target, ...Target[]]> {
  const { nothingFound, readKernelFile } = await import("./kernel-file.js");
  const file = await readKernelFile(path, { head });
  const notes = file.problems.map(({ message }) => `${name}: ${message}`);
  const [first, ...rest] = file.kernels.flatMap((kernel) =>
    kernel.images.map(({ image: { bytes } }): ImageTarget => {
      // Read anew: in the program, the reader of kernel files is a file with classes of its own.
      const image = parseImage(bytes, { mapped: true });
      // Nothing but the ABI tells the images of one kernel apart; but a package may have several kernels.
      const kernelName = file.kernels.length > 1 && kernel.name !== undefined ? `${name}, ${kernel.name}` : name;
      return imageOf(file.images.length > 1 ? `${kernelName} (${image.abi})` : name, image, { kernel, notes });
    }),
  );
  if (!first) throw nothingFound(path, file);
  return [first, ...rest];
}

/** A program: the vDSO that it would get is that of a fresh process of its ABI. */
async function programTarget(name: string, abi: Abi): Promise<ProcessTarget> {
  const fresh = await freshProcess(abi);
  return new ProcessTarget(`a fresh ${abi} process`, fresh.process, {
    notes: [`${name} is a program of ${abi}: shown is the vDSO that it would get`],
    onClose: () => fresh.close(),
  });
}
