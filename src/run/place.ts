import { hex } from "../bytes/hex.js";
import { PT_LOAD } from "../elf/constants.js";
import type { Decoder } from "../isa/instruction.js";
import { AT_SYSINFO, AT_SYSINFO_EHDR } from "../linux/auxv.js";
import type { Mapping } from "../linux/maps.js";
import { Code } from "../vdso/code.js";
import { Budget } from "../vdso/dataflow.js";
import { functionFacts } from "../vdso/facts.js";
import { parseImage, type VdsoFunction, type VdsoImage } from "../vdso/image.js";
import { locateVdso, type VdsoLocation } from "../vdso/locate.js";
import { refuseEntry } from "./entry.js";
import { RunError } from "./error.js";
import type { HeldProgram } from "./held-program.js";

const PAGE = 4096;

/** The largest image that is mapped; the kernel's own have two pages. */
const MAX_IMAGE = 1 << 24;

const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MAP_FIXED_NOREPLACE = 0x10_0000;
/** MREMAP_MAYMOVE and MREMAP_FIXED. */
const MREMAP_TO = 3;

/** An image that a program is to have for a vDSO. */
export interface ReplacementImage {
  readonly image: VdsoImage;
  /** Where in memory the image reads data before itself, in bytes from its start: negative, each once, sorted. */
  readonly dataOffsets: readonly bigint[];
}

/**
 * Reads what an image needs of the memory before it.
 *
 * Throws {@link RunError} where it could not be a program's vDSO: not one piece to be mapped, too large, or code that
 * cannot be followed to its end, so that it might read anything.
 */
export function replacementImage(image: VdsoImage, decoder: Decoder): ReplacementImage {
  const loads = image.elf.segments.filter(({ p_type }) => p_type === PT_LOAD);
  if (loads.length !== 1 || loads[0]?.p_offset !== 0) {
    throw new RunError(`the image has ${loads.length} segments to load, where a vDSO has one, from its first byte`);
  }
  if (image.bytes.length > MAX_IMAGE || image.loadSize > BigInt(image.bytes.length)) {
    throw new RunError(`the image has ${image.bytes.length} bytes and wants ${image.loadSize} mapped`);
  }
  return { image, dataOffsets: dataOffsetsOf(image, decoder) };
}

function dataOffsetsOf(image: VdsoImage, decoder: Decoder): bigint[] {
  const code = new Code(image.elf, decoder);
  const budget = new Budget();
  const facts = image.functions.map((one) => functionFacts(image, one, code, budget));
  if (facts.some(({ complete }) => !complete)) {
    throw new RunError("the image's code cannot be followed to its end, so that it may read any data");
  }
  const offsets = new Set(facts.flatMap(({ dataAccesses }) => dataAccesses.map(({ offset }) => offset)));
  return [...offsets].sort((a, b) => (a < b ? -1 : 1));
}

/**
 * Gives a held program another image for its vDSO, at `base` where that is said.
 *
 * One that reads no data is mapped beside the kernel's. One that does finds its data only where the kernel put it: it is
 * written over the kernel's own image, page for page, if it is of the same version and size and reads nothing but what
 * that reads, and refused otherwise.
 */
export async function placeImage(
  program: HeldProgram,
  replacement: ReplacementImage,
  { base, decoder }: { readonly base: bigint | undefined; readonly decoder: Decoder },
): Promise<void> {
  const { image, dataOffsets } = replacement;
  if (image.abi !== program.abi) throw new RunError(`the image is of ${image.abi}, the program of ${program.abi}`);
  requireAnnounced(program);
  if (program.has(AT_SYSINFO) && !image.entry) {
    throw new RunError("the image has no __kernel_vsyscall, which programs of i386 enter the kernel by");
  }
  refuseEntry(image, runningImage(program, locate(program)));
  let at: bigint;
  if (dataOffsets.length === 0) at = await mapImage(program, image, base);
  else {
    at = await overwrite(program, replacement, decoder);
    if (base !== undefined) at = await moveVdso(program, base);
  }
  await announce(program, image, at);
}

/** Memory that the gate of a program writes and another process reads: a file, of which a program can map all. */
export interface SharedTable {
  /** As the program can open it for reading and writing. */
  readonly path: string;
  readonly size: number;
}

/** An image that is made when a program is there to have it. */
export interface MadeImage {
  /** Whether it takes the place of the kernel's own, whose functions are then gone; else it is mapped beside. */
  readonly over: boolean;
  /** Where it is to lie when it is mapped beside. */
  readonly base?: bigint;
  /** Memory that is to be mapped for it. */
  readonly table?: SharedTable;
  /** Makes it; it may lie anywhere, and reads no data before itself. Whatever it throws ends the program. */
  make(place: MadePlace): Promise<Uint8Array>;
}

/** What an image is made for. */
export interface MadePlace {
  /** The kernel's own image, as the program has it, and where it stays. */
  readonly own: VdsoImage;
  readonly ownBase: bigint;
  /** Bytes that an image has which takes the place of the kernel's own. */
  readonly ownSize: number;
  /** Where the table was mapped. */
  readonly table?: bigint;
  /** What a clock shows now, by its id, in nanoseconds; `undefined` for one that this kernel has not. */
  clock(id: number): Promise<bigint | undefined>;
}

/** Has an image made for a held program, and gives it to it. */
export async function placeMade(program: HeldProgram, made: MadeImage): Promise<void> {
  requireAnnounced(program);
  const location = locate(program);
  const own = runningImage(program, location);
  const table = made.table && (await mapTable(program, made.table));
  const bytes = await made.make({
    own,
    ownBase: location.base,
    ownSize: location.size,
    ...(table !== undefined && { table }),
    clock: (id) => program.clock(id),
  });
  const image = parseImage(bytes);
  if (image.abi !== program.abi) throw new RunError(`the image is of ${image.abi}, the program of ${program.abi}`);
  refuseEntry(image, own);
  if (!made.over) return announce(program, image, await mapImage(program, image, made.base));
  if (bytes.length !== location.size) {
    throw new RunError(
      `the image has ${bytes.length} bytes, and the kernel's own, which it replaces, ${location.size}`,
    );
  }
  await program.write(location.base, bytes);
  await announce(program, image, location.base);
}

const O_RDWR = 2;
const MAP_SHARED = 1;

/** Maps a table into a held program; gives the address. */
async function mapTable(program: HeldProgram, { path, size }: SharedTable): Promise<bigint> {
  const name = new TextEncoder().encode(`${path}\0`);
  const words = new Uint8Array(Math.ceil(name.length / 8) * 8);
  words.set(name);
  const fd = await program.withScratch(words.length, async (address) => {
    await program.write(address, words);
    return program.call("open", [address, O_RDWR], `the program cannot open ${path}`);
  });
  const at = await program.call(
    "mmap",
    [0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0],
    `the program cannot map ${path}`,
  );
  await program.call("close", [fd], `the program cannot close ${path}`);
  return at;
}

/** Moves the kernel's own vDSO, with the data that it reads, so that its image starts at `base`. */
export async function relocateVdso(program: HeldProgram, base: bigint): Promise<void> {
  requireAnnounced(program);
  const image = runningImage(program, locate(program));
  await announce(program, image, await moveVdso(program, base));
}

function requireAnnounced(program: HeldProgram): void {
  if (!program.has(AT_SYSINFO_EHDR)) {
    throw new RunError("the kernel gives this program no vDSO: its vector has no entry by which to announce another");
  }
}

function locate(program: HeldProgram): VdsoLocation {
  const location = locateVdso(program.auxv, program.mappings());
  if (location?.mappings.length !== 1) throw new RunError("the program's own vDSO is not found");
  return location;
}

function runningImage(program: HeldProgram, { base, size }: VdsoLocation): VdsoImage {
  return parseImage(program.read(base, size), { mapped: true });
}

/** Makes the program's vector tell of the image at an address. */
async function announce(program: HeldProgram, image: VdsoImage, at: bigint): Promise<void> {
  await program.replaceEntries(AT_SYSINFO_EHDR, { tag: AT_SYSINFO_EHDR, value: at });
  if (!image.entry) return;
  const value = at + image.entry.address - image.linkBase;
  await program.replaceEntries(AT_SYSINFO, { tag: AT_SYSINFO, value });
}

/** The bytes of an image as they are to be in memory: whole pages. */
function pagesOf(bytes: Uint8Array): Uint8Array {
  const pages = new Uint8Array(Math.ceil(bytes.length / PAGE) * PAGE);
  pages.set(bytes);
  return pages;
}

/** Maps memory of its own for an image; gives the address. */
async function mapImage(program: HeldProgram, image: VdsoImage, base: bigint | undefined): Promise<bigint> {
  const pages = pagesOf(image.bytes);
  if (base !== undefined) requireFree(program.mappings(), base, base + BigInt(pages.length));
  const flags = MAP_PRIVATE_ANONYMOUS | (base === undefined ? 0 : MAP_FIXED_NOREPLACE);
  const what = base === undefined ? "the image cannot be mapped" : `the image cannot be mapped at ${hex(base)}`;
  const at = await program.call("mmap", [base ?? 0, pages.length, PROT_READ | PROT_WRITE, flags, -1, 0], what);
  // Kernels before 4.17 take the address for a wish.
  if (base !== undefined && at !== base) throw new RunError(`${what}: the kernel chose ${hex(at)}`);
  await program.write(at, pages);
  await program.call("mprotect", [at, pages.length, PROT_READ | PROT_EXEC], "the image cannot be made executable");
  return at;
}

function requireFree(mappings: readonly Mapping[], start: bigint, end: bigint): void {
  const taken = mappings.find((mapping) => mapping.start < end && start < mapping.end);
  if (!taken) return;
  const name = taken.name === "" ? "memory" : taken.name;
  throw new RunError(`${hex(start)} to ${hex(end)} is not free: ${name} is at ${hex(taken.start)}`);
}

/** Writes an image over the kernel's own; gives the address. */
async function overwrite(
  program: HeldProgram,
  { image, dataOffsets }: ReplacementImage,
  decoder: Decoder,
): Promise<bigint> {
  const location = locate(program);
  const own = runningImage(program, location);
  const pages = pagesOf(image.bytes);
  const needs =
    "the image reads the kernel's data, which lies before the program's own vDSO, so that it has to take its place";
  if (pages.length !== location.size) {
    throw new RunError(`${needs}: it has ${pages.length} bytes and that ${location.size}`);
  }
  // The data of another version may be laid out otherwise in the same places: its readers might wait forever for the
  // kernel to end a change.
  if (own.kernelVersion === undefined || image.kernelVersion?.code !== own.kernelVersion.code) {
    const version = image.kernelVersion ? `Linux ${image.kernelVersion.text}` : "no version that it tells";
    throw new RunError(`${needs}: it is of ${version}, and that of Linux ${own.kernelVersion?.text ?? "(unknown)"}`);
  }
  const known = new Set(dataOffsetsOf(own, decoder));
  const strange = dataOffsets.find((offset) => !known.has(offset));
  if (strange !== undefined) {
    throw new RunError(`${needs}: it reads ${hex(strange)}, where that has no such data`);
  }
  if (image.abi === "i386") requireSameReturns(own, image);
  await program.write(location.base, pages);
  return location.base;
}

/**
 * The kernel comes back to its own image at addresses that it knows: behind the entry's `int $0x80`, and at the
 * functions that end a signal handler.
 */
function requireSameReturns(own: VdsoImage, image: VdsoImage): void {
  for (const { name, role, address, size } of own.functions) {
    if (role !== "entry" && role !== "signal return") continue;
    const bytesIn = (one: VdsoImage): Uint8Array => {
      const start = Number(address - own.linkBase);
      return one.bytes.subarray(start, start + size);
    };
    const bytes = bytesIn(own);
    const landing = role === "entry" ? indexOfPair(bytes, 0xcd, 0x80) + 2 : 0;
    if (Buffer.compare(bytes.subarray(landing), bytesIn(image).subarray(landing)) !== 0) {
      throw new RunError(`the image has something else where the kernel comes back to, in ${name} at ${hex(address)}`);
    }
  }
}

/** Where a kernel comes back to in its own image of i386, in bytes from its start. */
export interface KernelReturns {
  /** Behind the `int $0x80`, where the fast ways end: `pop %ebp; pop %edx; pop %ecx; ret`. */
  readonly landing: number;
  readonly sigreturn: number;
  readonly rtSigreturn: number;
}

const LANDING_PAD = [0xcd, 0x80, 0x5d, 0x5a, 0x59, 0xc3];

/** Finds where the kernel comes back to. Throws {@link RunError} where an image has not what every kernel's has. */
export function kernelReturns(own: VdsoImage): KernelReturns {
  const find = (name: string): VdsoFunction => {
    const found = own.functions.find((one) => one.name === name);
    if (found) return found;
    throw new RunError(`the kernel's own image has no ${name}`);
  };
  const offset = ({ address }: VdsoFunction): number => Number(address - own.linkBase);
  const entry = find("__kernel_vsyscall");
  const start = offset(entry);
  const pad = Buffer.from(own.bytes.subarray(start, start + entry.size)).indexOf(Buffer.from(LANDING_PAD));
  if (pad < 0) throw new RunError("the kernel's own image has no landing pad, which its fast ways come back to");
  return {
    landing: start + pad + 2,
    sigreturn: offset(find("__kernel_sigreturn")),
    rtSigreturn: offset(find("__kernel_rt_sigreturn")),
  };
}

/** Where two bytes stand one behind the other; -2 where they do not, so that behind them is the start. */
function indexOfPair(bytes: Uint8Array, first: number, second: number): number {
  for (let at = bytes.indexOf(first); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (bytes[at + 1] === second) return at;
  }
  return -2;
}

/** Moves the program's vDSO and the data before it; gives the address. */
async function moveVdso(program: HeldProgram, base: bigint): Promise<bigint> {
  const location = locate(program);
  const all = [...location.dataMappings, ...location.mappings];
  // Mappings are in the order of their addresses.
  const lowest = all[0]?.start ?? location.base;
  if (base < location.base - lowest) throw new RunError(`there is no room for the vDSO's data before ${hex(base)}`);
  requireFree(program.mappings(), base - (location.base - lowest), base + BigInt(location.size));
  for (const { start, end, name } of all) {
    const size = end - start;
    const to = base + (start - location.base);
    await program.call("mremap", [start, size, size, MREMAP_TO, to], `${name} cannot be moved to ${hex(to)}`);
  }
  return base;
}
