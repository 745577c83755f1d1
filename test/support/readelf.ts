import { output } from "./referee.js";

/** What `readelf` says of a file, in numbers where it says names; only what its text tells. */
export interface ReadelfFacts {
  readonly header: Record<string, string>;
  readonly segments: readonly ReadelfSegment[];
  readonly sections: readonly ReadelfSection[];
  readonly dynamic: readonly { tag: number; text: string }[];
  /** By the name of their table. */
  readonly symbols: ReadonlyMap<string, readonly ReadelfSymbol[]>;
  readonly definitions: readonly { flags: string; index: number; name: string; parents: string[] }[];
  readonly needs: readonly { file: string; name: string; version: number }[];
  readonly notes: readonly { owner: string; size: number; text: string }[];
}

interface ReadelfSegment {
  readonly type: number;
  readonly offset: number;
  readonly vaddr: bigint;
  readonly paddr: bigint;
  readonly filesz: number;
  readonly memsz: bigint;
  readonly flags: number;
  readonly align: bigint;
}

interface ReadelfSection {
  readonly name: string;
  readonly type: string;
  readonly addr: bigint;
  readonly offset: number;
  readonly size: number;
  readonly entsize: number;
  readonly flags: string;
  readonly link: number;
  readonly info: number;
  readonly align: number;
}

interface ReadelfSymbol {
  readonly value: bigint;
  readonly size: bigint;
  readonly type: string;
  readonly bind: string;
  readonly visibility: string;
  readonly section: string;
  /** With its version, as `name@VERSION` or `name@@VERSION`. */
  readonly name: string;
}

const SEGMENT_TYPES: Record<string, number> = {
  NULL: 0,
  LOAD: 1,
  DYNAMIC: 2,
  INTERP: 3,
  NOTE: 4,
  PHDR: 6,
  TLS: 7,
  GNU_EH_FRAME: 0x6474e550,
  GNU_STACK: 0x6474e551,
  GNU_RELRO: 0x6474e552,
  GNU_PROPERTY: 0x6474e553,
};

/** Sample: `  LOAD           0x000000 0x00000000 0x00000000 0x00fd4 0x00fd4 R E 0x1000`. */
const SEGMENT = /^ {2}(\S+) +0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) ([R ])([W ])([E ]) (\w+)$/;

/** Sample: `  [ 1] .hash             HASH            00000000000000e8 0000e8 00003c 04   A  3   0  8`. */
const SECTION = /^ {2}\[ *(\d+)\] (\S*) +(\S+) +(\w{8,16}) (\w{6,}) (\w{6,}) (\w{2,}) ([ \w]{3}) +(\d+) +(\d+) +(\d+)$/;

/** Sample: ` 0x0000000e (SONAME)             Library soname: [linux-gate.so.1]`. */
const DYNAMIC = /^ 0x(\w+) \(\S+\) +(.*)$/;

/** Sample: `     1: 00000000     0 FUNC    GLOBAL DEFAULT  UND free@GLIBC_2.0 (2)`. */
const SYMBOL = /^ +\d+: (\w+) +(\w+) (\S+) +(\S+) +(\S+) +(?:\[.*\] )? *(\S+)(?: (\S*)(?: \(\d+\))?)?$/;

/** With `-D`, the one table has no name. */
const TABLE = /^Symbol table (?:'(.*)'|for image) contains/;
const DEFINITION = /^ {2}\w+: Rev: \d+ {2}Flags: (.*) {2}Index: (\d+) {2}Cnt: \d+ {2}Name: (.*)$/;
const PARENT = /^ {2}\w+: Parent \d+: (.*)$/;
const NEED_FILE = /^ {2}\w+: Version: \d+ {2}File: (.*) {2}Cnt: \d+$/;
const NEED = /^ {2}\w+: {3}Name: (.*) {2}Flags: .* {2}Version: (\d+)$/;
const NOTE = /^ {2}(\S+) +0x(\w{8})\t(.*)$/;

/** Asks `readelf` about a file; throws where it ends with an error. */
export function readelf(path: string, ...more: readonly string[]): ReadelfFacts {
  const header: Record<string, string> = {};
  const segments: ReadelfSegment[] = [];
  const sections: ReadelfSection[] = [];
  const dynamic: { tag: number; text: string }[] = [];
  const symbols = new Map<string, ReadelfSymbol[]>();
  const definitions: { flags: string; index: number; name: string; parents: string[] }[] = [];
  const needs: { file: string; name: string; version: number }[] = [];
  const notes: { owner: string; size: number; text: string }[] = [];
  let table: ReadelfSymbol[] = [];
  let file = "";

  for (const line of output("readelf", "-W", "-h", "-l", "-S", "-d", "-s", "-V", "-n", ...more, path).split("\n")) {
    const field = /^ {2}([A-Z][^:]*): +(.*)$/.exec(line);
    // "Version" comes twice: of the identification, and then the field of the header.
    if (field && sections.length === 0) header[field[1] as string] = (field[2] as string).trim();
    const m = (pattern: RegExp) => pattern.exec(line)?.slice(1) as string[] | undefined;
    let match = m(SEGMENT);
    if (match) {
      const [type, offset, vaddr, paddr, filesz, memsz, r, w, x, align] = match as [string, ...string[]] & string[];
      segments.push({
        type: SEGMENT_TYPES[type] ?? Number(type),
        offset: parseInt(offset as string, 16),
        vaddr: BigInt(`0x${vaddr}`),
        paddr: BigInt(`0x${paddr}`),
        filesz: parseInt(filesz as string, 16),
        memsz: BigInt(`0x${memsz}`),
        flags: (r === "R" ? 4 : 0) + (w === "W" ? 2 : 0) + (x === "E" ? 1 : 0),
        align: BigInt(align as string),
      });
    }
    match = m(SECTION);
    if (match) {
      const [, name, type, addr, offset, size, entsize, flags, link, info, align] = match as string[];
      sections.push({
        name: name as string,
        type: type as string,
        addr: BigInt(`0x${addr}`),
        offset: parseInt(offset as string, 16),
        size: parseInt(size as string, 16),
        entsize: parseInt(entsize as string, 16),
        flags: (flags as string).trim(),
        link: Number(link),
        info: Number(info),
        align: Number(align),
      });
    }
    match = m(DYNAMIC);
    if (match) dynamic.push({ tag: Number(`0x${match[0]}`), text: match[1] as string });
    match = m(TABLE);
    if (match) {
      table = [];
      symbols.set(match[0] ?? "", table);
    }
    match = m(SYMBOL);
    if (match) {
      const [value, size, type, bind, visibility, section, name] = match;
      table.push({
        value: BigInt(`0x${value}`),
        size: BigInt(size as string),
        type: type as string,
        bind: bind as string,
        visibility: visibility as string,
        section: section as string,
        name: name ?? "",
      });
    }
    match = m(DEFINITION);
    if (match) definitions.push({ flags: match[0] ?? "", index: Number(match[1]), name: match[2] ?? "", parents: [] });
    match = m(PARENT);
    if (match) definitions.at(-1)?.parents.push(match[0] as string);
    match = m(NEED_FILE);
    if (match) file = match[0] as string;
    match = m(NEED);
    if (match) needs.push({ file, name: match[0] as string, version: Number(match[1]) });
    match = m(NOTE);
    if (match) notes.push({ owner: match[0] as string, size: parseInt(match[1] as string, 16), text: match[2] ?? "" });
  }
  return { header, segments, sections, dynamic, symbols, definitions, needs, notes };
}

const SECTION_TYPES: Record<number, string> = {
  0: "NULL",
  1: "PROGBITS",
  2: "SYMTAB",
  3: "STRTAB",
  4: "RELA",
  5: "HASH",
  6: "DYNAMIC",
  7: "NOTE",
  8: "NOBITS",
  9: "REL",
  11: "DYNSYM",
  14: "INIT_ARRAY",
  15: "FINI_ARRAY",
  16: "PREINIT_ARRAY",
  17: "GROUP",
  18: "SYMTAB SECTION INDICES",
  19: "RELR",
  1879048182: "GNU_HASH",
  1879048189: "VERDEF",
  1879048190: "VERNEED",
  1879048191: "VERSYM",
};

/** A section type as readelf names it; other than the general ones as `undefined`. */
export function sectionTypeName(type: number): string | undefined {
  return SECTION_TYPES[type];
}

/** Section flags as readelf's letters. */
export function sectionFlagLetters(flags: bigint): string {
  const letters: [bigint, string][] = [
    [1n, "W"],
    [2n, "A"],
    [4n, "X"],
    [0x10n, "M"],
    [0x20n, "S"],
    [0x40n, "I"],
    [0x80n, "L"],
    [0x100n, "O"],
    [0x200n, "G"],
    [0x400n, "T"],
    [0x800n, "C"],
    [0x200000n, "R"],
    [0x80000000n, "E"],
  ];
  return letters.map(([bit, letter]) => ((flags & bit) === 0n ? "" : letter)).join("");
}

/** Symbol types, bindings, visibilities and special sections as readelf names them. */
export const symbolWords = {
  type: ["NOTYPE", "OBJECT", "FUNC", "SECTION", "FILE", "COMMON", "TLS", "", "", "", "IFUNC"],
  bind: ["LOCAL", "GLOBAL", "WEAK", "", "", "", "", "", "", "", "UNIQUE"],
  visibility: ["DEFAULT", "INTERNAL", "HIDDEN", "PROTECTED"],
  section(index: number): string {
    if (index === 0) return "UND";
    if (index === 0xfff1) return "ABS";
    return index === 0xfff2 ? "COM" : String(index);
  },
} as const;
