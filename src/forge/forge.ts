import { Writer } from "../bytes/writer.js";
import { buildElf, type ElfLayout, type SectionPlan, type SegmentPlan } from "../elf/builder.js";
import * as C from "../elf/constants.js";
import { RECORD_SIZE } from "../elf/header.js";
import type { IcedModule } from "../isa/x86/assembler.js";
import { usualSoname } from "../vdso/abi.js";
import type { Mechanism } from "../vdso/gate.js";
import type { ClockPlan } from "./clock.js";
import { changedFunctions32 } from "./clocks-i386.js";
import { changedFunctions64 } from "./clocks-x86-64.js";
import { assembleText, type ForgedFunction, type FunctionPlan, measure } from "./code.js";
import { ForgeError } from "./error.js";
import {
  type CounterPlan,
  callFunctions,
  gateFunctions,
  HISTORICAL_ALIGNMENT,
  LANDING,
  SIGNAL_RETURNS,
} from "./i386.js";
import {
  gnuHashTable,
  inGnuOrder,
  localCount,
  note,
  Strings,
  type SymbolPlan,
  symbolTable,
  sysvHashTable,
  versionDefinitions,
  versionIndexes,
} from "./tables.js";
import { buildEhFrame, buildEhFrameHdr, type EhFrame, ehFrameHdrSize } from "./unwind.js";
import { x86_64Functions } from "./x86-64.js";

/** An image to be made. */
export type ForgePlan = {
  /** Address of its first byte, a multiple of the page: 0 unless said, and 0xffffe000 for the historical one. */
  readonly base?: bigint;
  /** LINUX_VERSION_CODE for the `Linux` note, which C libraries may read. */
  readonly kernelVersion: number;
  /** Clocks that are changed; without, each function of time makes the real system call. */
  readonly clocks?: ClockPlan;
} & (
  | { readonly abi: "x86_64" }
  | ({ readonly abi: "i386"; readonly entry: Mechanism } & GateOptions)
  /**
   * The image of "What is linux-gate.so.1?", whose entry is by `sysenter` and restarts by a jump. With counters, with
   * clocks or in the kernel's place it has that entry, and is laid out as any other.
   */
  | ({ readonly abi: "i386"; readonly historical: true } & GateOptions)
);

/** What else an i386 image may have. */
interface GateOptions {
  /** Calls that come through the entry are counted here. */
  readonly counters?: CounterPlan;
  /** It is to be written over the kernel's own image. */
  readonly places?: KernelPlaces;
}

/** Where the kernel, which keeps to the offsets of its own image, expects what: in bytes from the image's start. */
export interface KernelPlaces {
  /** What it returns to, two bytes behind what it restarts calls with. */
  readonly landing: number;
  readonly sigreturn: number;
  readonly rtSigreturn: number;
  /** Bytes of the mapping, all of which the image is to fill. */
  readonly size: number;
}

/** What is needed to make an image, and handed in so that this room stays pure. */
export interface ForgeTools {
  readonly iced: IcedModule;
  /** SHA-1, for the build-id. */
  sha1(bytes: Uint8Array): Uint8Array;
}

/** Where the historical image lies: on the last page but one of 32-bit memory. */
const HISTORICAL_BASE = 0xffffe000n;

/** Bytes of a page, of which a base is a multiple. */
const PAGE = 0x1000n;

/** The first address behind what a program of an ABI can have mapped. */
const END_OF_MEMORY = { i386: 0xffff_f000n, x86_64: 0x7fff_ffff_f000n } as const;

/** Everything that the sections of an image are made of. */
interface Parts {
  readonly bits: 32 | 64;
  readonly soname: string;
  readonly historical: boolean;
  readonly text: Uint8Array;
  readonly functions: readonly ForgedFunction[];
  readonly symbols: readonly SymbolPlan[];
  readonly versions: readonly string[];
  readonly kernelVersion: number;
  /** The size of an image at a fixed place, and the sections of it that lie before the code. */
  readonly placed?: { readonly size: number; readonly first: ReadonlySet<string> };
}

/** Bytes to which the code of a usual image is aligned, and each function in it. */
const TEXT_ALIGNMENT = 16;

const BUILD_ID_SIZE = 20;
const NOTE_LINUX_VERSION = 0;

/**
 * Makes a vDSO image from nothing: our own code, in an ELF file as the kernel has it.
 *
 * The same plan makes the same bytes. The build-id is the hash of the file that has zeros in its place. Throws
 * `ForgeError` on a base that is no page or leaves no room for the image, and on what else cannot be made.
 */
export function forgeImage(plan: ForgePlan, tools: ForgeTools): Uint8Array {
  const parts = makeParts(plan, tools.iced);
  const base = plan.base ?? (parts.historical ? HISTORICAL_BASE : 0n);
  if (base < 0n || base % PAGE !== 0n) throw new ForgeError(`base 0x${base.toString(16)} is no multiple of 0x1000`);
  const unnamed = build(parts, base, new Uint8Array(BUILD_ID_SIZE));
  if (base + BigInt(unnamed.length) > END_OF_MEMORY[plan.abi]) {
    throw new ForgeError(`an image at 0x${base.toString(16)} reaches beyond the memory of a program`);
  }
  const buildId = tools.sha1(unnamed);
  if (buildId.length !== BUILD_ID_SIZE) throw new RangeError(`a build-id of ${buildId.length} bytes, not 20`);
  return build(parts, base, buildId);
}

function makeParts(plan: ForgePlan, iced: IcedModule): Parts {
  const bits = plan.abi === "x86_64" ? 64 : 32;
  const functions = functionPlans(plan);
  if (plan.abi === "i386" && plan.places) return placedParts(plan, plan.places, functions, iced);
  const historical = isArticle(plan);
  const align = historical ? HISTORICAL_ALIGNMENT : TEXT_ALIGNMENT;
  return partsOf(plan, historical, assembleText(iced, bits, { functions, align }));
}

/** Whether an image is to be that of the article as a whole: there is no room in it for more. */
function isArticle(plan: ForgePlan): boolean {
  return "historical" in plan && !plan.places && !plan.counters && !plan.clocks;
}

function partsOf(
  { abi, kernelVersion }: ForgePlan,
  historical: boolean,
  { text, functions }: ReturnType<typeof assembleText>,
): Parts {
  const versions = [...new Set(functions.map(({ plan: { version } }) => version))].sort();
  return {
    bits: abi === "x86_64" ? 64 : 32,
    soname: usualSoname(abi),
    historical,
    text,
    functions,
    symbols: historical ? historicalSymbols(functions, versions) : inGnuOrder(globalSymbols(functions, versions)),
    versions,
    kernelVersion,
  };
}

/** What has fixed places first, behind as many of the tables as there is room for. */
function placedParts(
  plan: ForgePlan,
  places: KernelPlaces,
  functions: readonly FunctionPlan[],
  iced: IcedModule,
): Parts {
  const [entry] = functions as [FunctionPlan];
  const inImage = new Map([
    [entry.name, places.landing - measure(iced, 32, entry, LANDING).at],
    [SIGNAL_RETURNS.sigreturn, places.sigreturn],
    [SIGNAL_RETURNS.rt_sigreturn, places.rtSigreturn],
  ]);
  const text = (at: ReadonlyMap<string, number>) =>
    partsOf(plan, false, assembleText(iced, 32, { functions, align: TEXT_ALIGNMENT, places: at }));
  // Tables do not change in size with the places of the functions.
  const { first, end } = tablesBefore(text(inImage), Math.min(...inImage.values()));
  const inText = new Map([...inImage].map(([name, offset]) => [name, offset - end]));
  return { ...text(inText), placed: { size: places.size, first } };
}

/** The tables that find room before an offset, and where the code behind them begins. */
function tablesBefore(parts: Parts, limit: number): { first: ReadonlySet<string>; end: number } {
  const first = new Set<string>();
  const record = RECORD_SIZE[parts.bits];
  let end = record.header + segmentsOf(parts, ".text").length * record.segment;
  for (const section of usualSections(parts, new Uint8Array(BUILD_ID_SIZE))) {
    const after = roundedUp(end, section.align ?? 1) + sizeOf(section);
    if (section.name === ".text" || roundedUp(after, TEXT_ALIGNMENT) > limit) continue;
    first.add(section.name);
    end = after;
  }
  end = roundedUp(end, TEXT_ALIGNMENT);
  if (end > limit) throw new ForgeError(`there is no room for the headers before 0x${limit.toString(16)}`);
  return { first, end };
}

function roundedUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

function functionPlans(plan: ForgePlan): FunctionPlan[] {
  const { clocks } = plan;
  if (plan.abi === "x86_64") return clocks ? changedFunctions64(clocks) : x86_64Functions();
  const { counters, places } = plan;
  const way = "historical" in plan ? "historical" : plan.entry;
  const gate = gateFunctions({ way, pad: places !== undefined, ...(counters && { counters }) });
  if (isArticle(plan)) return gate;
  return [...gate, ...(clocks ? changedFunctions32(clocks) : callFunctions())];
}

function globalSymbols(functions: readonly ForgedFunction[], versions: readonly string[]): SymbolPlan[] {
  const named = functions.flatMap(({ plan, start, end }) =>
    [plan.name, ...plan.aliases].map((name, i) => ({
      name,
      section: ".text",
      offset: start,
      size: end - start,
      bind: i === 0 ? C.STB_GLOBAL : C.STB_WEAK,
      type: C.STT_FUNC,
      version: plan.version,
    })),
  );
  return [...named, ...versions.map(versionSymbol)];
}

/** Linkers name each version by a symbol too. */
function versionSymbol(version: string): SymbolPlan {
  return { name: version, offset: 0, size: 0, bind: C.STB_GLOBAL, type: C.STT_OBJECT, version };
}

/** The sections that have symbols in the historical image. */
const HISTORICAL_SECTION_SYMBOLS = [".text", ".eh_frame_hdr", ".eh_frame", ".useless"];

/** In the order that a linker of then put them in. */
const HISTORICAL_ORDER = ["__kernel_vsyscall", "LINUX_2.5", "__kernel_rt_sigreturn", "__kernel_sigreturn"];

function historicalSymbols(functions: readonly ForgedFunction[], versions: readonly string[]): SymbolPlan[] {
  const place = ({ name }: SymbolPlan): number => HISTORICAL_ORDER.indexOf(name);
  return [
    ...HISTORICAL_SECTION_SYMBOLS.map((section) => ({
      name: "",
      section,
      offset: 0,
      size: 0,
      bind: C.STB_LOCAL,
      type: C.STT_SECTION,
    })),
    ...globalSymbols(functions, versions).sort((a, b) => place(a) - place(b)),
  ];
}

function build(parts: Parts, base: bigint, buildId: Uint8Array): Uint8Array {
  const wide = parts.bits === 64;
  const sections = parts.historical ? historicalSections(parts, buildId) : usualSections(parts, buildId);
  const { placed } = parts;
  if (placed) {
    const rank = ({ name }: SectionPlan): number => (placed.first.has(name) ? 0 : name === ".text" ? 1 : 2);
    sections.sort((a, b) => rank(a) - rank(b));
  }
  const last = sections.at(-1) as SectionPlan;
  const whole = (sectionHeaders: boolean): Uint8Array =>
    buildElf({
      class: parts.bits,
      type: C.ET_DYN,
      machine: wide ? C.EM_X86_64 : C.EM_386,
      base,
      entry: ".text",
      entryOffset: parts.functions[0]?.start ?? 0,
      sections,
      segments: segmentsOf(parts, last.name),
      sectionHeaders,
    });
  const image = whole(true);
  return placed ? filled(image, placed.size, () => whole(false)) : image;
}

function segmentsOf({ bits, historical }: Parts, last: string): SegmentPlan[] {
  const segments: SegmentPlan[] = [
    { type: C.PT_LOAD, flags: C.PF_R | C.PF_X, covers: ["headers", last], align: Number(PAGE) },
    { type: C.PT_DYNAMIC, flags: C.PF_R, covers: [".dynamic", ".dynamic"], align: bits / 8 },
    { type: C.PT_NOTE, flags: C.PF_R, covers: [".note", ".note"], align: 4 },
    { type: C.PT_GNU_EH_FRAME, flags: C.PF_R, covers: [".eh_frame_hdr", ".eh_frame_hdr"], align: 4 },
  ];
  // A C library that loads the file by name takes a missing header for a wish to have an executable stack.
  if (!historical) segments.push({ type: C.PT_GNU_STACK, flags: C.PF_R | C.PF_W, align: 16 });
  return segments;
}

/** An image of a size, without its section headers if it is too large with them. Throws `ForgeError` if it still is. */
function filled(image: Uint8Array, size: number, bare: () => Uint8Array): Uint8Array {
  const one = image.length > size ? bare() : image;
  if (one.length > size) throw new ForgeError(`the image has ${one.length} bytes, and its place ${size}`);
  return new Writer().raw(one).padTo(size).finish();
}

function usualSections(parts: Parts, buildId: Uint8Array): SectionPlan[] {
  const word = parts.bits / 8;
  const gnuHash = gnuHashTable(parts.symbols, parts.bits);
  const { hash, symbolSections } = symbolParts(parts);
  return [
    hash,
    // Words of the filter make the entries of 64-bit tables differ in size.
    plain(".gnu.hash", C.SHT_GNU_HASH, gnuHash, { align: word, link: ".dynsym", entsize: word === 8 ? 0 : 4 }),
    ...symbolSections,
    dynamicSection(parts, [[C.DT_GNU_HASH, ".gnu.hash"]]),
    noteSection(parts, buildId),
    ...unwindSections(parts),
    textSection(parts, TEXT_ALIGNMENT),
  ];
}

/** Where the article lists the last section, in the file. */
const USELESS_AT = 0x608;

/** As the linker script of then had them, which put the code at a fixed place for programs that knew it. */
function historicalSections(parts: Parts, buildId: Uint8Array): SectionPlan[] {
  const { hash, symbolSections } = symbolParts(parts);
  const before = [hash, ...symbolSections, noteSection(parts, buildId), textSection(parts, 0x400)];
  const unwind = unwindSections(parts);
  const unwindSize = unwind.reduce((sum, section) => sum + sizeOf(section), 0);
  const dynamicAt = 0x400 + parts.text.length + unwindSize;
  return [
    ...before,
    ...unwind,
    // Entries of DT_NULL fill it up, of which linkers leave a few to spare too.
    dynamicSection(parts, [], USELESS_AT - dynamicAt),
    {
      ...plain(".useless", C.SHT_PROGBITS, {
        size: 12,
        // A global offset table that nothing uses: the address of the dynamic section, and two empty words.
        write: ({ addressOf }) => new Writer({ wordSize: 4 }).word(addressOf(".dynamic")).word(0).word(0).finish(),
      }),
      flags: C.SHF_ALLOC | C.SHF_WRITE,
      align: 4,
    },
  ];
}

function sizeOf({ content }: SectionPlan): number {
  return content instanceof Uint8Array ? content.length : content.size;
}

function plain(
  name: string,
  type: number,
  content: SectionPlan["content"],
  rest: Partial<SectionPlan> = {},
): SectionPlan {
  return { name, type, flags: C.SHF_ALLOC, content, ...rest };
}

/** The tables of symbols; their strings are complete when this returns. */
function symbolParts(parts: Parts): { hash: SectionPlan; symbolSections: SectionPlan[] } {
  const { bits, symbols, versions, soname } = parts;
  const word = bits / 8;
  const strings = dynamicStrings(parts);
  const entsize = bits === 64 ? 24 : 16;
  const table = {
    size: (symbols.length + 1) * entsize,
    write: (layout: ElfLayout) => symbolTable(symbols, strings, bits, layout),
  };
  const hash = plain(".hash", C.SHT_HASH, sysvHashTable(symbols), { align: word, link: ".dynsym", entsize: 4 });
  const definitions = versionDefinitions(soname, versions, strings);
  return {
    hash,
    symbolSections: [
      plain(".dynsym", C.SHT_DYNSYM, table, { align: word, link: ".dynstr", info: localCount(symbols) + 1, entsize }),
      plain(".dynstr", C.SHT_STRTAB, strings.bytes),
      plain(".gnu.version", C.SHT_GNU_VERSYM, versionIndexes(symbols, versions), {
        align: 2,
        link: ".dynsym",
        entsize: 2,
      }),
      plain(".gnu.version_d", C.SHT_GNU_VERDEF, definitions, {
        align: word,
        link: ".dynstr",
        info: versions.length + 1,
      }),
    ],
  };
}

function dynamicStrings({ symbols, soname, versions }: Parts): Strings {
  const strings = new Strings();
  for (const text of [...symbols.map(({ name }) => name), soname, ...versions]) strings.at(text);
  return strings;
}

/** `.dynamic`, with entries of its own for `more`, and filled up to `size` bytes where that is given. */
function dynamicSection(
  parts: Parts,
  more: readonly (readonly [tag: number, section: string])[],
  size?: number,
): SectionPlan {
  const word = parts.bits === 64 ? 8 : 4;
  const strings = dynamicStrings(parts);
  const entries: (readonly [tag: number, value: number | string])[] = [
    [C.DT_SONAME, strings.at(parts.soname)],
    [C.DT_HASH, ".hash"],
    ...more,
    [C.DT_STRTAB, ".dynstr"],
    [C.DT_SYMTAB, ".dynsym"],
    [C.DT_STRSZ, strings.bytes.length],
    [C.DT_SYMENT, parts.bits === 64 ? 24 : 16],
    [C.DT_VERDEF, ".gnu.version_d"],
    [C.DT_VERDEFNUM, parts.versions.length + 1],
    [C.DT_VERSYM, ".gnu.version"],
    [C.DT_NULL, 0],
  ];
  const whole = size ?? entries.length * word * 2;
  return {
    name: ".dynamic",
    type: C.SHT_DYNAMIC,
    flags: C.SHF_ALLOC | C.SHF_WRITE,
    align: word,
    link: ".dynstr",
    entsize: word * 2,
    content: {
      size: whole,
      write: ({ addressOf }) => {
        const out = new Writer({ wordSize: word });
        for (const [tag, value] of entries) out.word(tag).word(typeof value === "string" ? addressOf(value) : value);
        return out.padTo(whole).finish();
      },
    },
  };
}

function noteSection({ kernelVersion }: Parts, buildId: Uint8Array): SectionPlan {
  const version = new Writer().u32(kernelVersion).finish();
  const out = new Writer();
  out.raw(note("Linux", NOTE_LINUX_VERSION, version)).raw(note("GNU", C.NT_GNU_BUILD_ID, buildId));
  return plain(".note", C.SHT_NOTE, out.finish(), { align: 4 });
}

function textSection({ text }: Parts, align: number): SectionPlan {
  return {
    ...plain(".text", C.SHT_PROGBITS, text, { align }),
    flags: C.SHF_ALLOC | C.SHF_EXECINSTR,
  };
}

function unwindSections({ functions, bits }: Parts): SectionPlan[] {
  const ehFrame = (layout?: ElfLayout): EhFrame =>
    buildEhFrame(functions, {
      class: bits,
      ehFrame: layout?.addressOf(".eh_frame") ?? 0n,
      text: layout?.addressOf(".text") ?? 0n,
    });
  return [
    plain(
      ".eh_frame_hdr",
      C.SHT_PROGBITS,
      {
        size: ehFrameHdrSize(functions.length),
        write: (layout) =>
          buildEhFrameHdr(ehFrame(layout), layout.addressOf(".eh_frame_hdr"), layout.addressOf(".eh_frame")),
      },
      { align: 4 },
    ),
    plain(
      ".eh_frame",
      C.SHT_PROGBITS,
      { size: ehFrame().bytes.length, write: (layout) => ehFrame(layout).bytes },
      { align: bits / 8 },
    ),
  ];
}
