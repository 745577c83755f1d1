import { closeSync, fstatSync, openSync, readFileSync, readlinkSync, readSync } from "node:fs";
import { sameBytes } from "../../../bytes/equal.js";
import { FormatError } from "../../../bytes/error.js";
import { PT_DYNAMIC, PT_INTERP, PT_NOTE, SHT_SYMTAB } from "../../../elf/constants.js";
import { ElfFile } from "../../../elf/file.js";
import { isElf, RECORD_SIZE } from "../../../elf/header.js";
import {
  AT_SYSINFO,
  AT_SYSINFO_EHDR,
  type AuxvEntry,
  auxvValue,
  auxvWordSize,
  parseAuxv,
} from "../../../linux/auxv.js";
import { LiveProcess } from "../../../linux/live.js";
import { type Mapping, parseMaps } from "../../../linux/maps.js";
import { ProcessError } from "../../../linux/process.js";
import { tracerOf } from "../../../linux/survey/live.js";
import { stackVector } from "../../../linux/survey/stack-vector.js";
import { type Abi, abiOf } from "../../../vdso/abi.js";
import { parseImage } from "../../../vdso/image.js";
import { locateVdso } from "../../../vdso/locate.js";
import { makerOf } from "../../../vdso/maker.js";
import { judge } from "../../../vdso/tamper/judge.js";
import { Reference } from "../../../vdso/tamper/reference.js";
import { boundedElf, checkSymbols } from "../../file/bounds.js";
import { openPlain, refusal } from "../../file/live.js";
import type { ObjectFacts, ProcessFacts, TimeNamespaceFacts, Unread } from "../facts.js";
import { importedNames } from "./imports.js";
import { namespaceOffsets, statusNumber } from "./parse.js";
import { clockFunction, clockSystemCalls, runtimeOf, vdsoNames } from "./symbols.js";

/** The largest file that is read, how many files of a process are, and how much of all of them. */
const MAX_FILE = 1 << 29;
const MAX_FILES = 4096;
const MAX_BYTES = 1 << 30;

/** Bytes that hold an ELF header. */
const HEAD = 64;

/** What a process shows before anything is proved. */
export interface ProcessLook {
  readonly facts: Omit<ProcessFacts, "sameImage">;
  /** The image that it has mapped; absent where it has none or it cannot be read. */
  readonly imageBytes?: Uint8Array;
  /** Compares it with the image of a fresh process, and says what runs it. */
  against(fresh: Uint8Array | undefined): Pick<ProcessFacts, "sameImage" | "runner">;
}

/**
 * Looks at one process. Throws `ProcessError` where there is none, or it has no memory (a kernel thread, a zombie); what
 * may not be read of it is in `unread`.
 */
export function lookAt(pid: number): ProcessLook {
  const live = new LiveProcess(pid);
  const { comm, state, kernelThread } = live.state();
  const name = `process ${pid} (${comm})`;
  if (kernelThread)
    throw new ProcessError(`${name} is a kernel thread: it has no user memory and so no vDSO`, "EINVAL");
  if (state === "Z" || state === "X") throw new ProcessError(`${name} is a zombie: its memory is gone`, "ESRCH");
  try {
    return lookInside(pid, comm, live);
  } finally {
    live.close();
  }
}

function lookInside(pid: number, name: string, live: LiveProcess): ProcessLook {
  const unread: Unread[] = [];
  const attempt = <T>(what: string, read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (error instanceof FormatError) unread.push({ what, why: error.message });
      else if (typeof code === "string") unread.push({ what, why: code });
      else throw error;
      return undefined;
    }
  };
  const path = (file: string) => `/proc/${pid}/${file}`;
  const vectorBytes = attempt(path("auxv"), () => live.auxvBytes());
  const wordSize = vectorBytes && auxvWordSize(vectorBytes, live.littleEndian);
  const vector =
    vectorBytes &&
    wordSize &&
    attempt(path("auxv"), () => parseAuxv(vectorBytes, { wordSize, littleEndian: live.littleEndian }));
  const mappings = attempt(path("maps"), () => parseMaps(new TextDecoder().decode(live.mapsBytes())));
  const read = (address: bigint, size: number): Uint8Array | undefined => {
    try {
      return live.read(address, size);
    } catch (error) {
      if (error instanceof ProcessError) return undefined;
      throw error;
    }
  };
  const location = mappings && locateVdso(vector || undefined, mappings);
  const imageBytes = location && attempt(path("mem"), () => live.read(location.base, location.size));
  const image = imageBytes && attempt(path("mem"), () => parseImage(imageBytes, { mapped: true }));
  const onStack =
    vector && wordSize ? stackVector(vector, read, { wordSize, littleEndian: live.littleEndian }) : undefined;
  const status = attempt(path("status"), () => readFileSync(path("status"), "utf8")) ?? "";
  const abi = abiOfProgram(pid, wordSize);
  const tracer = tracerOf(pid);
  const files = mappings ? readFiles(pid, mappings, abi) : undefined;
  unread.push(...(files?.unread ?? []));
  const timeNamespace = timeNamespaceOf(pid, unread);
  const seccomp = statusNumber(status, "Seccomp");
  const filters = statusNumber(status, "Seccomp_filters");
  const maker = image && makerOf(image);
  const announced = (onStack ?? vector) && auxvValue((onStack ?? vector) as readonly AuxvEntry[], AT_SYSINFO_EHDR);
  const facts: ProcessLook["facts"] = {
    pid,
    name,
    ...(abi && { abi }),
    ...(vector && { announced: (announced ?? 0n) !== 0n }),
    ...(mappings && { mapped: location !== undefined }),
    ...(maker && { maker }),
    ...(timeNamespace && { timeNamespace }),
    ...(seccomp !== undefined && { seccomp }),
    ...(filters !== undefined && { seccompFilters: filters }),
    ...(tracer && { tracer: { pid: tracer.pid, ...(tracer.comm !== undefined && { name: tracer.comm }) } }),
    ...(files?.isStatic !== undefined && { static: files.isStatic }),
    ...(files?.runtime !== undefined && { runtime: files.runtime }),
    objects: files?.objects ?? [],
    filesRead: files?.count ?? 0,
    unread,
  };
  const marksAgainst = (fresh: Uint8Array | undefined): string | undefined => {
    if (!vector || !mappings || !wordSize) return undefined;
    const [sysinfoEhdr, sysinfo] = [auxvValue(vector, AT_SYSINFO_EHDR), auxvValue(vector, AT_SYSINFO)];
    const peer = fresh && { peer: new Reference(freshReference(fresh)) };
    const held = (address: bigint, size: number) =>
      location && imageBytes && address === location.base && size === location.size ? imageBytes : undefined;
    const { marks } = judge(
      {
        wordSize,
        mappings,
        read: held,
        ...(sysinfoEhdr !== undefined && { sysinfoEhdr }),
        ...(sysinfo !== undefined && { sysinfo }),
        ...(onStack && { stackVector: onStack }),
        ...(tracer && { tracer }),
      },
      { given: [], ...peer },
    );
    const kinds = ["rr", "valgrind", "criu"] as const;
    return kinds.find((kind) => marks.some((mark) => mark.kind === kind)) ?? runnerOf(mappings, maker);
  };
  return {
    facts,
    ...(imageBytes && { imageBytes }),
    against(fresh) {
      const runner = marksAgainst(fresh);
      return {
        ...(imageBytes && fresh && { sameImage: sameBytes(imageBytes, fresh) }),
        ...(runner !== undefined && { runner }),
      };
    },
  };
}

function freshReference(bytes: Uint8Array) {
  return { name: "a fresh process", image: parseImage(bytes, { mapped: true }), kind: "same boot" } as const;
}

/** What stands between the program and the kernel, by the image that it made or by the program that is run in truth. */
function runnerOf(mappings: readonly Mapping[], maker: ProcessFacts["maker"]): string | undefined {
  if (maker === "gVisor" || maker === "qemu-user") return maker;
  const program = mappings.find(({ perms, name }) => perms[2] === "x" && name.startsWith("/"))?.name ?? "";
  return /\/qemu-[a-z0-9_]+(-static)?$/.test(program) && !program.includes("/qemu-system-") ? "qemu-user" : undefined;
}

/** The ABI of the program that a process runs: of its own file, or, where that may not be read, of its word size. */
function abiOfProgram(pid: number, wordSize: 4 | 8 | undefined): Abi | undefined {
  if (process.arch !== "x64" && process.arch !== "ia32") return undefined;
  try {
    const file = openSync(`/proc/${pid}/exe`, "r");
    const head = Buffer.alloc(HEAD);
    try {
      readSync(file, head, 0, HEAD, 0);
    } finally {
      closeSync(file);
    }
    if (isElf(head) && abiOf(new ElfFile(head).header) === "x32") return "x32";
  } catch {
    // Its word size is as good, but for x32.
  }
  return wordSize && (wordSize === 8 ? "x86_64" : "i386");
}

/** The time namespace of a process, where it is not ours or has offsets; `undefined` on kernels without any, too. */
function timeNamespaceOf(pid: number, unread: Unread[]): TimeNamespaceFacts | undefined {
  let ours: string;
  try {
    ours = readlinkSync("/proc/self/ns/time");
  } catch {
    return undefined;
  }
  try {
    const other = readlinkSync(`/proc/${pid}/ns/time`) !== ours;
    const offsets = namespaceOffsets(readFileSync(`/proc/${pid}/timens_offsets`, "utf8"));
    return other || offsets.length > 0 ? { other, offsets } : undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (typeof code !== "string") throw error;
    unread.push({ what: `/proc/${pid}/ns/time`, why: code });
    return undefined;
  }
}

interface Files {
  readonly objects: readonly ObjectFacts[];
  readonly count: number;
  readonly unread: readonly Unread[];
  readonly runtime: string | undefined;
  readonly isStatic: boolean | undefined;
}

/** Reads the files that a process has mapped to run code of, in the order of their addresses. */
function readFiles(pid: number, mappings: readonly Mapping[], abi: Abi | undefined): Files {
  const objects: ObjectFacts[] = [];
  const unread: Unread[] = [];
  const runtimes: string[] = [];
  let isStatic: boolean | undefined;
  let count = 0;
  const code = new Map<string, Mapping>();
  for (const mapping of mappings) {
    if (mapping.perms[2] === "x" && mapping.name.startsWith("/") && !code.has(mapping.name)) {
      code.set(mapping.name, mapping);
    }
  }
  const program = programOf(pid);
  const budget = { left: MAX_BYTES };
  let tried = 0;
  for (const [name, mapping] of code) {
    if (tried++ === MAX_FILES || budget.left <= 0) {
      unread.push({ what: name, why: "it is behind too many others, or too large ones" });
      break;
    }
    let file: MappedFile | undefined;
    try {
      file = new MappedFile(pid, mapping, budget);
      const elf = file.elf();
      if (!elf) continue;
      count++;
      const alone = name === program && elf.interpreter === undefined;
      if (name === program) isStatic = alone;
      const { runtime, object } = objectFacts(
        name,
        elf,
        file,
        alone && (abi === "x86_64" || abi === "i386") ? abi : undefined,
      );
      if (runtime !== undefined) runtimes.push(runtime);
      if ([object.imports, object.looksFor, object.defines, object.systemCalls].some((all) => all.length > 0)) {
        objects.push(object);
      }
    } catch (error) {
      const { code: reason } = error as NodeJS.ErrnoException;
      if (error instanceof FormatError) unread.push({ what: name, why: error.message });
      else if (typeof reason === "string") unread.push({ what: name, why: reason });
      else throw error;
    } finally {
      file?.close();
    }
  }
  return { objects, count, unread, runtime: runtimes[0], isStatic };
}

/** Names of the files that C libraries and their dynamic linkers have. */
const C_LIBRARY = /\/(libc|ld|librt|libpthread|ld-linux|ld-musl|ld64)[-.][^/]*$/;

function programOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return undefined;
  }
}

/**
 * What a file has of clocks. Only C libraries, programs that stand alone and those of Go look for the vDSO by
 * themselves: no other is read whole.
 */
function objectFacts(
  path: string,
  elf: ElfFile,
  file: MappedFile,
  alone: "x86_64" | "i386" | undefined,
): { readonly object: ObjectFacts; readonly runtime: string | undefined } {
  const imports = known(alone ? [] : importedNames(elf, file.fetch));
  // Without the segment they would be looked for among the sections, which have not been fetched.
  const isGo = elf.segments.some(({ p_type }) => p_type === PT_NOTE) && elf.notes.some(({ name }) => name === "Go");
  const nothing = { path, imports, looksFor: [], defines: [], systemCalls: [] };
  if (!alone && !isGo && !C_LIBRARY.test(path)) return { object: nothing, runtime: undefined };
  const bytes = file.whole();
  const looksFor = vdsoNames(bytes);
  const runtime = runtimeOf(path, bytes, (from, to) => bytes.toString("latin1", from, to));
  const stands = alone && looksFor.length === 0;
  if (stands) checkSymbols(boundedElf(bytes), SHT_SYMTAB);
  return {
    object: {
      ...nothing,
      looksFor,
      defines: stands
        ? known(new ElfFile(bytes).symbols.filter(({ st_shndx }) => st_shndx !== 0).map(({ name }) => name))
        : [],
      systemCalls: stands ? clockSystemCalls(bytes, alone) : [],
    },
    runtime: runtime ?? (alone && bytes.indexOf("GLIBC_TUNABLES") >= 0 ? "glibc" : undefined),
  };
}

/** The clock functions among names, each once. */
function known(names: readonly string[]): string[] {
  return [...new Set(names.flatMap((name) => clockFunction(name) ?? []))].sort();
}

/**
 * The file behind a mapping: by /proc/PID/map_files, which leads to it whatever became of its name, where that may be
 * followed; or else by its name as the process sees it, if it is still the same file. Read in parts: a program may have
 * hundreds of megabytes.
 */
class MappedFile {
  readonly #descriptor: number;
  /** As large as the file; what was not fetched is zero, and takes no memory. */
  readonly #bytes: Buffer;
  readonly #budget: { left: number };

  constructor(pid: number, { start, end, name, inode }: Mapping, budget: { left: number }) {
    this.#budget = budget;
    const exact = `/proc/${pid}/map_files/${start.toString(16)}-${end.toString(16)}`;
    let file: number;
    try {
      file = openPlain(exact);
    } catch {
      file = openPlain(`/proc/${pid}/root${name}`);
    }
    this.#descriptor = file;
    const status = fstatSync(file);
    try {
      if (BigInt(status.ino) !== inode) throw refusal("another file has taken its name");
      if (status.size > MAX_FILE) throw refusal("too large to be read");
      this.#bytes = Buffer.alloc(status.size);
    } catch (error) {
      closeSync(file);
      throw error;
    }
  }

  /** Reads a part of the file, as far as there is one. */
  readonly fetch = (offset: number, size: number): void => {
    const end = Math.min(offset + size, this.#bytes.length);
    this.#budget.left -= Math.max(0, end - offset);
    if (this.#budget.left < 0) throw refusal("too much has been read of the process's files");
    for (let at = offset; at < end; ) {
      const got = readSync(this.#descriptor, this.#bytes, at, end - at, at);
      if (got === 0) return;
      at += got;
    }
  };

  /** The file with what its segments tell; `undefined` where it is no ELF file. */
  elf(): ElfFile | undefined {
    this.fetch(0, HEAD);
    if (!isElf(this.#bytes)) return undefined;
    const elf = boundedElf(this.#bytes);
    const { e_phoff, e_phnum } = elf.header;
    this.fetch(Number(e_phoff), e_phnum * RECORD_SIZE[elf.header.class].segment);
    for (const { p_type, p_offset, p_filesz } of elf.segments) {
      if (p_type === PT_DYNAMIC || p_type === PT_NOTE || p_type === PT_INTERP) this.fetch(p_offset, p_filesz);
    }
    return elf;
  }

  whole(): Buffer {
    this.fetch(0, this.#bytes.length);
    return this.#bytes;
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}
