import { FormatError } from "../bytes/error.js";
import { hex } from "../bytes/hex.js";
import { Reader } from "../bytes/reader.js";
import { PT_DYNAMIC, PT_LOAD } from "../elf/constants.js";
import { type DynamicEntry, readDynamic } from "../elf/dynamic.js";
import { isElf, RECORD_SIZE, readHeader } from "../elf/header.js";
import { readSegments, type Segment } from "../elf/segment.js";
import { AT_PHDR, AT_PHENT, AT_PHNUM } from "./auxv.js";
import { pathText } from "./ldso/path.js";

/** A process whose memory can be read: one that runs, or a core file of one. */
export interface LinkMapProcess {
  /** The auxiliary vector, by tag. */
  readonly auxv: ReadonlyMap<number, bigint>;
  readonly wordSize: 4 | 8;
  readonly littleEndian: boolean;
  /** `size` bytes at `address`; throws where they are not all there. */
  read(address: bigint, size: number): Uint8Array;
  /** Where the vDSO is mapped. */
  readonly vdso?: { readonly start: bigint; readonly end: bigint; readonly soname?: string };
  /** The process's mappings, by which an object's start is told where its ELF header is not at its load bias. */
  readonly mappings?: readonly { readonly start: bigint; readonly end: bigint; readonly name: string }[];
}

/** One object that is loaded. */
export interface LinkMapObject {
  /** `l_name`, the path by which it was loaded; empty for the program, and for the vDSO in some C libraries. */
  readonly name: string;
  /** `virtual`: the vDSO, which is no file. */
  readonly kind: "program" | "library" | "virtual";
  /** What was added to the addresses in the file: `l_addr`. */
  readonly bias: bigint;
  /** The first address of its mappings; `undefined` where it could not be told. */
  readonly start?: bigint;
  /** Address of its dynamic section: `l_ld`. */
  readonly dynamic: bigint;
  /** The namespace: 0, or the number of the `dlmopen` one. */
  readonly namespace: number;
  /** Address of its `struct link_map`. */
  readonly address: bigint;
}

/** The dynamic linker's list of what is loaded. */
export interface LinkMapResult {
  /**
   * `not-started`: there is a dynamic linker, but it has made no list yet. A `static` program may have a list all the
   * same: a position-independent one of glibc keeps it for what it opens later.
   */
  readonly kind: "dynamic" | "static" | "not-started";
  /** `r_version` of `struct r_debug`: from 2 on, it leads to those of other namespaces. */
  readonly version?: number;
  /** `r_state`: anything but `consistent` means that the list was being changed. */
  readonly state?: "consistent" | "adding" | "deleting";
  readonly objects: readonly LinkMapObject[];
  /** Where the list was cut short, and what could not be told. */
  readonly problems: readonly string[];
}

const AT_BASE = 7;
const AT_ENTRY = 9;
const PT_PHDR = 6;
const PT_INTERP = 3;
const DT_DEBUG = 21;
/** MIPS keeps its dynamic section read-only: this is the address of a word with the address of `r_debug`. */
const DT_MIPS_RLD_MAP = 0x70000016;
/** The same, relative to the dynamic entry itself. */
const DT_MIPS_RLD_MAP_REL = 0x70000035;

const MAX_OBJECTS = 10_000;
const MAX_NAMESPACES = 64;
/** PATH_MAX of Linux. */
const MAX_NAME = 4096;
const MAX_SEGMENTS = 4096;
const MAX_DYNAMIC = 1 << 16;
const PAGE = 4096n;

class ProcessReader {
  readonly #process: LinkMapProcess;

  constructor(process: LinkMapProcess) {
    this.#process = process;
  }

  get wordSize(): 4 | 8 {
    return this.#process.wordSize;
  }

  at(address: bigint, size: number, what: string): Reader {
    const { littleEndian, wordSize } = this.#process;
    return new Reader(this.#process.read(address, size), { littleEndian, wordSize, what });
  }

  /** As {@link at}, but `undefined` where the memory is not there. */
  tryAt(address: bigint, size: number, what: string): Reader | undefined {
    try {
      return this.at(address, size, what);
    } catch {
      return undefined;
    }
  }

  /** A string that may end right before an unmapped page; `undefined` where it is not there or has no end. */
  text(address: bigint): string | undefined {
    let text = "";
    for (let at = address; text.length <= MAX_NAME; ) {
      // Never over the end of a page, which may be the last one there is.
      const size = Math.min(256, Number(PAGE - (at % PAGE)));
      const bytes = this.tryAt(at, size, "link map name")?.bytes;
      if (!bytes) return undefined;
      const end = bytes.indexOf(0);
      text += String.fromCharCode(...bytes.subarray(0, end < 0 ? size : end));
      if (end >= 0) return pathText(text);
      at += BigInt(size);
    }
    return undefined;
  }
}

/** The program headers that the kernel told the process of. */
function programSegments(process: LinkMapProcess, memory: ProcessReader): readonly Segment[] {
  const address = process.auxv.get(AT_PHDR);
  const count = Number(process.auxv.get(AT_PHNUM) ?? 0n);
  if (address === undefined || address === 0n || count === 0) return [];
  const bits = process.wordSize === 8 ? 64 : 32;
  const size = RECORD_SIZE[bits].segment;
  const entry = process.auxv.get(AT_PHENT);
  if (entry !== undefined && entry !== BigInt(size)) {
    throw new FormatError(`Cannot read program headers: AT_PHENT is ${entry}, not ${size}`, 0, entry);
  }
  if (count > MAX_SEGMENTS) throw new FormatError(`Cannot read program headers: AT_PHNUM is ${count}`, 0, count);
  return segmentsAt(memory, address, count, bits);
}

function segmentsAt(memory: ProcessReader, address: bigint, count: number, bits: 32 | 64): Segment[] {
  const table = memory.at(address, count * RECORD_SIZE[bits].segment, "program headers");
  return readSegments({ class: bits, e_phoff: 0 } as Parameters<typeof readSegments>[0], table, count);
}

/** What was added to the program's addresses: told by PT_PHDR, else by where the program is entered. */
function programBias(process: LinkMapProcess, memory: ProcessReader, segments: readonly Segment[]): bigint {
  const mask = process.wordSize === 8 ? 64 : 32;
  const difference = (a: bigint, b: bigint) => BigInt.asUintN(mask, a - b);
  const headers = process.auxv.get(AT_PHDR) ?? 0n;
  const own = segments.find(({ p_type }) => p_type === PT_PHDR);
  if (own) return difference(headers, own.p_vaddr);
  const entry = process.auxv.get(AT_ENTRY);
  const start = headers - (headers % PAGE);
  const header = memory.tryAt(start, 64, "ELF header")?.bytes;
  if (entry === undefined || !header || !isElf(header)) return 0n;
  try {
    return difference(entry, readHeader(header).header.e_entry);
  } catch (error) {
    if (error instanceof FormatError) return 0n;
    throw error;
  }
}

/** The dynamic section, read as far as it can be. */
function dynamicAt(memory: ProcessReader, address: bigint, size: number): DynamicEntry[] {
  return readDynamic(memory.at(address, Math.min(size, MAX_DYNAMIC), "dynamic section"));
}

/** The address of `struct r_debug`; 0 where the dynamic linker has not written it yet. */
function debugAddress(memory: ProcessReader, entries: readonly DynamicEntry[], dynamic: bigint): bigint | undefined {
  const find = (tag: number) => entries.findIndex(({ d_tag }) => d_tag === tag);
  const word = (address: bigint) => memory.at(address, memory.wordSize, "DT_MIPS_RLD_MAP").wordAt(0);
  const relative = find(DT_MIPS_RLD_MAP_REL);
  if (relative >= 0) {
    const here = dynamic + BigInt(relative * 2 * memory.wordSize);
    return word(BigInt.asUintN(memory.wordSize * 8, here + (entries[relative]?.d_val ?? 0n)));
  }
  const mapped = entries[find(DT_MIPS_RLD_MAP)];
  if (mapped) return word(mapped.d_val);
  return entries[find(DT_DEBUG)]?.d_val;
}

const STATES = ["consistent", "adding", "deleting"] as const;

/** `struct r_debug` of <link.h>: version, list, breakpoint, state, base of the dynamic linker, next namespace. */
function readDebug(memory: ProcessReader, address: bigint) {
  const word = memory.wordSize;
  const reader = memory.at(address, 5 * word, "r_debug");
  const version = reader.u32At(0);
  const state = STATES[reader.u32At(3 * word)];
  const next = version >= 2 ? memory.tryAt(address + BigInt(5 * word), word, "r_debug")?.wordAt(0) : undefined;
  return { version, state, list: reader.wordAt(word), next: next ?? 0n };
}

/**
 * The first address of an object: where its ELF header lies, which is its load bias unless it was linked for an address
 * of its own; else the first of the mappings of the file that holds its dynamic section.
 */
function startOf(process: LinkMapProcess, memory: ProcessReader, bias: bigint, dynamic: bigint): bigint | undefined {
  const header = bias === 0n ? undefined : memory.tryAt(bias, 4, "ELF header")?.bytes;
  if (header && isElf(header)) return bias;
  const { mappings = [] } = process;
  let index = mappings.findIndex(({ start, end }) => dynamic >= start && dynamic < end);
  const name = mappings[index]?.name;
  if (name === undefined) return undefined;
  while (index > 0 && mappings[index - 1]?.name === name) index -= 1;
  return mappings[index]?.start;
}

/**
 * What a process has loaded, in the order of its dynamic linker's own list, which glibc, musl, bionic and uClibc keep
 * alike for debuggers: from the program's DT_DEBUG to `r_debug`, and along `l_next`. Every namespace is read.
 *
 * A list that is broken or has no end gives what came before and a problem. Throws `FormatError`, and what `read`
 * throws, where not even the program's headers can be read. Source: glibc, elf/link.h; gdb, solib-svr4.c.
 */
export function readLinkMap(process: LinkMapProcess): LinkMapResult {
  const memory = new ProcessReader(process);
  const segments = programSegments(process, memory);
  const dynamic = segments.findLast(({ p_type }) => p_type === PT_DYNAMIC);
  const interpreted = segments.some(({ p_type }) => p_type === PT_INTERP) || (process.auxv.get(AT_BASE) ?? 0n) !== 0n;
  const nothing = (kind: LinkMapResult["kind"], ...problems: string[]): LinkMapResult => ({
    kind,
    objects: [],
    problems,
  });
  if (!dynamic) return nothing(interpreted ? "not-started" : "static");

  const bias = programBias(process, memory, segments);
  const mask = process.wordSize * 8;
  const dynamicAddress = BigInt.asUintN(mask, bias + dynamic.p_vaddr);
  const entries = dynamicAt(memory, dynamicAddress, Number(BigInt.asUintN(32, dynamic.p_memsz)));
  const first = debugAddress(memory, entries, dynamicAddress);
  if (first === undefined || first === 0n) {
    if (!interpreted) return nothing("static");
    return first === 0n ? nothing("not-started") : nothing("not-started", "the program has no DT_DEBUG");
  }

  const objects: LinkMapObject[] = [];
  const problems: string[] = [];
  const seen = new Set<bigint>();
  let version: number | undefined;
  let state: (typeof STATES)[number] | undefined;
  let debug = first;
  for (let namespace = 0; debug !== 0n; namespace++) {
    if (namespace >= MAX_NAMESPACES || seen.has(debug)) {
      problems.push(`the list of namespaces does not end: r_debug at ${hex(debug)}`);
      break;
    }
    seen.add(debug);
    try {
      const head = readDebug(memory, debug);
      version ??= head.version;
      if (namespace === 0) state = head.state;
      if (head.state !== undefined && head.state !== "consistent") {
        problems.push(`namespace ${namespace} was being changed when it was read (r_state is ${head.state})`);
      }
      readList(process, memory, head.list, namespace, { objects, problems, seen });
      debug = head.next;
    } catch (error) {
      problems.push(`r_debug at ${hex(debug)} cannot be read: ${message(error)}`);
      break;
    }
  }
  const main = objects[0];
  if (main) {
    // A program linked for an address of its own has a bias of 0; its segments ascend.
    const vaddr = segments.find(({ p_type }) => p_type === PT_LOAD)?.p_vaddr ?? 0n;
    const start = BigInt.asUintN(mask, bias + vaddr);
    objects[0] = { ...main, kind: "program", start: start - (start % PAGE) };
  }
  return {
    kind: !interpreted ? "static" : objects.length === 0 ? "not-started" : "dynamic",
    ...(version !== undefined && { version }),
    ...(state !== undefined && { state }),
    objects,
    problems,
  };
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Walks one list of `struct link_map`: l_addr, l_name, l_ld, l_next, l_prev. */
function readList(
  process: LinkMapProcess,
  memory: ProcessReader,
  head: bigint,
  namespace: number,
  out: { objects: LinkMapObject[]; problems: string[]; seen: Set<bigint> },
): void {
  const { vdso } = process;
  const word = process.wordSize;
  for (let address = head; address !== 0n; ) {
    if (out.seen.has(address)) {
      out.problems.push(`the list comes back to the link map at ${hex(address)}`);
      return;
    }
    if (out.objects.length >= MAX_OBJECTS) {
      out.problems.push(`the list has more than ${MAX_OBJECTS} entries: cut short at ${hex(address)}`);
      return;
    }
    out.seen.add(address);
    const map = memory.tryAt(address, 5 * word, "link map");
    if (!map) {
      out.problems.push(`the link map at ${hex(address)} cannot be read`);
      return;
    }
    const [bias, nameAt, dynamic, next] = [0, 1, 2, 3].map((index) => map.wordAt(index * word)) as [
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    const name = nameAt === 0n ? "" : memory.text(nameAt);
    if (name === undefined) out.problems.push(`the name of the link map at ${hex(address)} cannot be read`);
    const virtual = vdso !== undefined && dynamic >= vdso.start && dynamic < vdso.end;
    const start = virtual ? vdso.start : startOf(process, memory, bias, dynamic);
    out.objects.push({
      name: (virtual && vdso.soname) || (name ?? ""),
      kind: virtual ? "virtual" : "library",
      bias,
      ...(start !== undefined && { start }),
      dynamic,
      namespace,
      address,
    });
    address = next;
  }
}
