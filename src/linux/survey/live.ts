import { closeSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { hostLittleEndian } from "../live.js";
import { MapsScan } from "./maps-scan.js";
import { FLAG, KIND, type Sight, Sights } from "./sight.js";

/** Why a process shows no memory. */
export type Hidden =
  /** It has none. */
  | "kernel thread"
  /** It has ended, and its parent has not yet heard of it. */
  | "zombie"
  /** It ended while it was looked at. */
  | "vanished"
  /** The system does not let us look (EACCES, EPERM). */
  | "refused"
  /** It is being started: its vector is not yet written. Or somebody emptied that. */
  | "starting"
  /** Something of it cannot be read as expected: another look, without haste, has to tell. */
  | "unclear";

/** What one pass calls for each process, once. */
export interface SurveyVisitor {
  seen(pid: number, sight: Sight): void;
  hidden(pid: number, why: Hidden): void;
}

/** Most bytes of an image that are compared: more is no vDSO, and a slower look has to tell what it is. */
const MAX_IMAGE = 1 << 16;

/** Most bytes of /proc/PID/maps that are scanned in haste. */
const MAX_MAPS = 1 << 24;

const AT_PAGESZ = 6;
const AT_PHENT = 4;
const AT_RANDOM = 25;
const AT_SYSINFO = 32;
const AT_SYSINFO_EHDR = 33;

/** The kernel aligns the stack that a program starts with to this many bytes. */
const STACK_ALIGN = 16;

/** The stack of a process whose files were kept open is read in one of four passes: a mask of their number. */
const STACK_TURNS = 3;

/** Files of a process that are read, in the order in which they are kept open. */
const FILES = ["auxv", "maps", "mem", "pagemap"] as const;
const [AUXV, MAPS, MEM, PAGEMAP] = [0, 1, 2, 3] as const;

/** Descriptors left to the rest of the program. */
const SPARE = 256;

/** Flags of a page in /proc/PID/pagemap, in the upper of its two 32-bit words (bits 61, 62 and 63). */
const PAGE_SHARED = 0x2000_0000;
const PAGE_SWAPPED = 0x4000_0000;
const PAGE_PRESENT = 0x8000_0000;

/**
 * Looks at every process of the machine again and again, as fast as the system's files allow.
 *
 * Opening a file of /proc/PID costs three times as much as reading it, so files are kept open from one pass to the
 * next. That is safe because the kernel ties each of them to the address space of the program that ran when it was
 * opened: when that has gone (the process ended, or executed another program) nothing more can be read from it, and
 * the process is opened anew; a process id used again cannot be taken for the old one. One case is left: a child that
 * shares its parent's memory until it executes a program (vfork). Such have the same auxiliary vector, so that of
 * processes with the same vector nothing is kept open.
 *
 * Reads only; no process is stopped or attached to. Not to be used by two callers at a time.
 */
export class Survey {
  readonly #sights = new Sights();
  readonly #maps = new MapsScan();
  readonly #open = new Map<number, Held>();
  readonly #capacity: number;
  #pass = 0;
  /** How many processes of the last pass had each vector's key. */
  #vectors = new Map<number, number>();
  #lastVectors = new Map<number, number>();
  #text = Buffer.allocUnsafe(1 << 16);
  readonly #image = Buffer.allocUnsafe(MAX_IMAGE);
  readonly #small = Buffer.allocUnsafe(4096);
  readonly #stack = Buffer.allocUnsafe(4096);
  readonly #view = new DataView(this.#small.buffer, this.#small.byteOffset, this.#small.byteLength);
  #shape = new Float64Array(64);
  // What was read of the vector that was looked at last; 0 for what it does not have.
  #wordSize: 4 | 8 = 8;
  #ehdr = 0;
  #sysinfo: number | undefined;
  #pageSize = 4096;
  #random = 0;

  /** `keepOpen: false` for a single pass: files that will not be read again need not be kept. */
  constructor(options: { readonly keepOpen?: boolean } = {}) {
    this.#capacity =
      options.keepOpen === false ? 0 : Math.max(0, Math.floor((openFilesLimit() - SPARE) / FILES.length));
  }

  /** The sights of the last pass, with how many processes showed each. */
  get sights(): Iterable<Sight> {
    return this.#sights.all();
  }

  /** Looks at processes, all of them unless ids are given, and tells what it saw of each. */
  pass(visitor: SurveyVisitor, pids: Iterable<number> = allPids()): void {
    this.#pass += 1;
    this.#sights.newPass();
    [this.#lastVectors, this.#vectors] = [this.#vectors, new Map()];
    for (const pid of pids) {
      const found = this.#look(pid);
      if (typeof found === "string") visitor.hidden(pid, found);
      else visitor.seen(pid, found);
    }
    for (const [pid, held] of this.#open) {
      if (held.pass !== this.#pass) this.#drop(pid, held);
    }
  }

  /** Closes all files. */
  close(): void {
    for (const [pid, held] of this.#open) this.#drop(pid, held);
  }

  #drop(pid: number, held: Held): void {
    this.#open.delete(pid);
    held.close();
  }

  /** `leader` is the process that a thread is looked at for, because its first thread has ended. */
  #look(pid: number, leader?: number): Sight | Hidden {
    const known = this.#open.get(pid);
    if (known) {
      known.pass = this.#pass;
      const found = this.#readKept(known);
      // A vector that another process has too may be of memory that is shared until one of them executes a program.
      if (found !== undefined && !this.#isShared()) return found;
      this.#drop(pid, known);
    }
    const held = new Held(pid);
    try {
      const found = this.#read(held);
      if (found === undefined) return this.#withoutMemory(pid, leader);
      if (typeof found === "object" && this.#open.size < this.#capacity && !this.#isShared()) {
        held.pass = this.#pass;
        this.#open.set(pid, held);
      }
      return found;
    } catch (error) {
      const why = hiddenBy(error);
      // Newer kernels do not open the memory of what has none.
      return why === "vanished" ? this.#withoutMemory(pid, leader) : why;
    } finally {
      if (this.#open.get(pid) !== held) held.close();
    }
  }

  /** As {@link #read}, of files that are open: where that fails, they are opened anew. */
  #readKept(held: Held): Sight | undefined {
    try {
      const found = this.#read(held);
      return typeof found === "object" ? found : undefined;
    } catch (error) {
      hiddenBy(error);
      return undefined;
    }
  }

  /** Counts the vector that was read last, and says whether another process has the same. */
  #isShared(): boolean {
    const key = (this.#ehdr / 4096) * 65536 + (this.#random & 0xffff);
    const count = (this.#vectors.get(key) ?? 0) + 1;
    this.#vectors.set(key, count);
    return count > 1 || (this.#lastVectors.get(key) ?? 0) > 1;
  }

  /** What a process shows; `undefined` where it has no memory any more. Throws what the system says. */
  #read(held: Held): Sight | Hidden | undefined {
    const size = held.read(AUXV, this.#small, 0, this.#small.length, 0);
    if (size === 0) return undefined;
    if (!this.#readVector(size)) return "starting";
    const length = this.#readMaps(held);
    if (length === 0) return undefined;
    if (length > MAX_MAPS) return "unclear";
    this.#maps.scan(this.#text, length, this.#ehdr);
    // Programs read it as they start, so that it need not be read in each pass of those that are known.
    if (!held.vectorOnStack || ((held.pid + this.#pass) & STACK_TURNS) === 0) {
      held.vectorOnStack = this.#isVectorOnStack(held, size);
    }
    const flags = (held.vectorOnStack ? 0 : FLAG.otherStack) | (this.#maps.overflowed ? FLAG.unsearched : 0);
    return this.#readImage(held, flags);
  }

  /** Reads what matters of the vector; `false` where it is of no known shape. */
  #readVector(size: number): boolean {
    for (const wordSize of [8, 4] as const) {
      if (this.#readEntries(size, wordSize)) return true;
    }
    return false;
  }

  #readEntries(size: number, wordSize: 4 | 8): boolean {
    const view = this.#view;
    let fits = false;
    this.#wordSize = wordSize;
    this.#ehdr = 0;
    this.#sysinfo = undefined;
    this.#pageSize = 4096;
    for (let at = 0; at + 2 * wordSize <= size; at += 2 * wordSize) {
      const tag = this.#wordAt(view, at, wordSize);
      if (tag === 0) return fits;
      const value = this.#wordAt(view, at + wordSize, wordSize);
      // Of several entries of a tag the first counts, as everywhere.
      if (tag === AT_PHENT) fits = value === (wordSize === 8 ? 56 : 32);
      else if (tag === AT_SYSINFO_EHDR && this.#ehdr === 0) this.#ehdr = value;
      else if (tag === AT_SYSINFO && this.#sysinfo === undefined) this.#sysinfo = value;
      else if (tag === AT_PAGESZ) this.#pageSize = value;
      else if (tag === AT_RANDOM) this.#random = value;
    }
    return false;
  }

  #wordAt(view: DataView, at: number, wordSize: 4 | 8): number {
    const first = view.getUint32(at, hostLittleEndian);
    if (wordSize === 4) return first;
    const second = view.getUint32(at + 4, hostLittleEndian);
    return hostLittleEndian ? first + second * 2 ** 32 : first * 2 ** 32 + second;
  }

  /**
   * Whether the program was given the vector that was read, which is the kernel's own record: what a C library reads is
   * a copy on the stack, right below the bytes that AT_RANDOM points to.
   *
   * Source: create_elf_tables() in fs/binfmt_elf.c.
   */
  #isVectorOnStack(held: Held, size: number): boolean {
    const span = size + STACK_ALIGN;
    if (this.#random < span || span > this.#stack.length) return false;
    const start = this.#random - span;
    try {
      if (held.read(MEM, this.#stack, 0, span, start) !== span) return false;
    } catch {
      return false;
    }
    const word = this.#wordSize;
    // How many words stand below the vector says where in the last 16 bytes it ends.
    for (let at = STACK_ALIGN - (this.#random % word); at > 0; at -= word) {
      if (this.#small.compare(this.#stack, at, at + size, 0, size) === 0) return true;
    }
    return false;
  }

  #readMaps(held: Held): number {
    let length = 0;
    for (;;) {
      if (length === this.#text.length) {
        if (length > MAX_MAPS) return length;
        const larger = Buffer.allocUnsafe(2 * length);
        larger.set(this.#text);
        this.#text = larger;
      }
      const got = held.read(MAPS, this.#text, length, this.#text.length - length, length);
      if (got === 0) return length;
      length += got;
    }
  }

  #readImage(held: Held, seen: number): Sight | Hidden {
    const { kept, candidates } = this.#maps;
    const run = this.#findRun();
    const base = run && this.#ehdr >= run.start && this.#ehdr < run.end ? this.#ehdr : (run?.start ?? this.#ehdr);
    const size = run ? run.end - base : 0;
    if (size > MAX_IMAGE || this.#ehdr > Number.MAX_SAFE_INTEGER) return "unclear";
    let flags = seen | (this.#ehdr === 0 ? 0 : FLAG.ehdr) | (this.#sysinfo === undefined ? 0 : FLAG.sysinfo);
    let image = this.#image.subarray(0, 0);
    let mask = 0;
    if (size > 0) {
      const got = held.read(MEM, this.#image, 0, size, base);
      if (got === 0) return "unclear";
      if (got < size) flags |= FLAG.imageUnread;
      image = this.#image.subarray(0, got);
      mask = this.#privatePages(held, base, size);
      if (mask < 0) flags |= FLAG.pagesUntold;
    }
    const copies = candidates.length === 0 ? [] : this.#copies(held, base);
    const count = 4 + kept.length + copies.length;
    if (count > this.#shape.length) this.#shape = new Float64Array(2 * count);
    const shape = this.#shape.subarray(0, count);
    shape[0] = this.#wordSize;
    shape[1] = flags;
    shape[2] = this.#sysinfo === undefined ? 0 : this.#sysinfo - base;
    shape[3] = Math.max(0, mask);
    let at = 4;
    for (const list of [kept, copies]) {
      for (let i = 0; i < list.length; i += 4) {
        shape[at++] = list[i] as number;
        shape[at++] = (list[i + 1] as number) - base;
        shape[at++] = (list[i + 2] as number) - base;
        shape[at++] = list[i + 3] as number;
      }
    }
    return this.#sights.of(shape, image);
  }

  /** The run of adjacent mappings that is the image: that at AT_SYSINFO_EHDR, or else the first [vdso]. */
  #findRun(): { start: number; end: number } | undefined {
    const { kept } = this.#maps;
    let run: { start: number; end: number } | undefined;
    let pointedTo = false;
    for (let i = 0; i < kept.length; i += 4) {
      const [kind, start, end] = [kept[i], kept[i + 1] as number, kept[i + 2] as number];
      if (kind !== KIND.vdso && kind !== KIND.other) continue;
      if (run && kind === KIND.vdso && start === run.end && !(pointedTo && run.start > this.#ehdr)) {
        run.end = end;
        pointedTo ||= this.#ehdr >= start && this.#ehdr < end;
        continue;
      }
      const here = this.#ehdr >= start && this.#ehdr < end;
      if (!run || (here && !pointedTo)) run = { start, end };
      pointedTo ||= here;
    }
    return run;
  }

  /** Bit mask of the pages that the process has a copy of; -1 where the system does not tell. */
  #privatePages(held: Held, base: number, size: number): number {
    const pages = Math.ceil(size / this.#pageSize);
    if (pages > 30) return -1;
    let got: number;
    try {
      got = held.read(PAGEMAP, this.#small, 0, pages * 8, (base / this.#pageSize) * 8);
    } catch {
      return -1;
    }
    if (got !== pages * 8) return -1;
    let mask = 0;
    for (let i = 0; i < pages; i++) {
      const flags = this.#view.getUint32(i * 8 + (hostLittleEndian ? 4 : 0), hostLittleEndian);
      if (isPrivate(flags)) mask |= 1 << i;
    }
    return mask;
  }

  /** Candidates for copies that start as an ELF file does, four numbers each as {@link MapsScan.kept}. */
  #copies(held: Held, base: number): number[] {
    const { candidates } = this.#maps;
    const found: number[] = [];
    for (let i = 0; i < candidates.length; i += 2) {
      const [start, end] = [candidates[i] as number, candidates[i + 1] as number];
      if (start === base || !held.startsAsElf(start, this.#small)) continue;
      found.push(KIND.copy, start, end, 0);
    }
    return found;
  }

  #withoutMemory(pid: number, leader?: number): Sight | Hidden {
    let stat: string;
    try {
      stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    } catch (error) {
      return hiddenBy(error);
    }
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if ((Number(fields[6]) & PF_KTHREAD) !== 0) return "kernel thread";
    if (fields[0] !== "Z" && fields[0] !== "X") return "vanished";
    // A first thread that ended leaves the others, and their memory, behind it.
    const thread = leader === undefined ? otherThread(pid) : undefined;
    return thread === undefined ? "zombie" : this.#look(thread, pid);
  }
}

/** A flag in field 9 of /proc/PID/stat (include/linux/sched.h). */
const PF_KTHREAD = 0x0020_0000;

/** A thread of a process that has memory, other than its first; `undefined` where there is none. */
export function otherThread(pid: number): number | undefined {
  try {
    return readdirSync(`/proc/${pid}/task`)
      .map(Number)
      .find((thread) => thread !== pid && hasMemory(thread));
  } catch {
    return undefined;
  }
}

function hasMemory(thread: number): boolean {
  try {
    return readFileSync(`/proc/${thread}/auxv`).length > 0;
  } catch {
    return false;
  }
}

/** Files of one process, opened as they are first read. */
class Held {
  pass = 0;
  /** What was last seen of the vector on its stack. */
  vectorOnStack = false;
  readonly pid: number;
  readonly #descriptors: number[] = [-1, -1, -1, -1];

  constructor(pid: number) {
    this.pid = pid;
  }

  read(file: number, buffer: Buffer, offset: number, length: number, position: number): number {
    let descriptor = this.#descriptors[file] as number;
    if (descriptor < 0) {
      descriptor = openSync(`/proc/${this.pid}/${FILES[file]}`, "r");
      this.#descriptors[file] = descriptor;
    }
    return readSync(descriptor, buffer, offset, length, position);
  }

  startsAsElf(address: number, buffer: Buffer): boolean {
    try {
      return this.read(MEM, buffer, 0, 4, address) === 4 && buffer.readUInt32BE(0) === 0x7f454c46;
    } catch {
      return false;
    }
  }

  close(): void {
    for (const descriptor of this.#descriptors) if (descriptor >= 0) closeSync(descriptor);
    this.#descriptors.fill(-1);
  }
}

function isPrivate(flags: number): boolean {
  return (flags & PAGE_SWAPPED) !== 0 || ((flags & PAGE_PRESENT) !== 0 && (flags & PAGE_SHARED) === 0);
}

function hiddenBy(error: unknown): Hidden {
  switch ((error as NodeJS.ErrnoException).code) {
    case "ENOENT":
    case "ESRCH":
      return "vanished";
    case "EACCES":
    case "EPERM":
      return "refused";
    case "EIO":
    case "EFAULT":
      return "unclear";
    default:
      throw error;
  }
}

/** The ids of all processes that /proc shows. */
export function allPids(): number[] {
  const pids: number[] = [];
  for (const name of readdirSync("/proc")) {
    const first = name.charCodeAt(0);
    if (first >= 0x30 && first <= 0x39) pids.push(Number(name));
  }
  return pids;
}

function openFilesLimit(): number {
  try {
    // Max open files            20000                20000                files
    const line = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"));
    return line ? Number(line[1]) : 0;
  } catch {
    return 0;
  }
}

/**
 * The pages of [address, address + size) that a process has a copy of its own of; `undefined` where the system does not
 * tell. They are those that somebody wrote to: the kernel's own pages are shared by all.
 */
export function privatePages(pid: number, address: bigint, size: number, pageSize = 4096): bigint[] | undefined {
  const pages = Math.ceil(size / pageSize);
  const bytes = Buffer.alloc(pages * 8);
  try {
    const descriptor = openSync(`/proc/${pid}/pagemap`, "r");
    try {
      const got = readSync(descriptor, bytes, 0, bytes.length, (address / BigInt(pageSize)) * 8n);
      if (got !== bytes.length) return undefined;
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return undefined;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: bigint[] = [];
  for (let i = 0; i < pages; i++) {
    const flags = view.getUint32(i * 8 + (hostLittleEndian ? 4 : 0), hostLittleEndian);
    if (isPrivate(flags)) found.push(address + BigInt(i * pageSize));
  }
  return found;
}

/** Who traces a process (TracerPid), with its name where it can be read; `undefined` where nobody does. */
export function tracerOf(pid: number): { readonly pid: number; readonly comm?: string } | undefined {
  const tracer = Number(/^TracerPid:\s+(\d+)$/m.exec(textOf(`/proc/${pid}/status`) ?? "")?.[1] ?? 0);
  if (tracer === 0) return undefined;
  const comm = textOf(`/proc/${tracer}/comm`)?.replace(/\n$/, "");
  return { pid: tracer, ...(comm !== undefined && { comm }) };
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
