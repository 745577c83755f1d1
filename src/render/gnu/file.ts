import { hex, hexBytes } from "../../bytes/hex.js";
import { Reader } from "../../bytes/reader.js";
import * as C from "../../elf/constants.js";
import type { ElfFile } from "../../elf/file.js";
import { RECORD_SIZE } from "../../elf/header.js";
import { readSegments, type Segment } from "../../elf/segment.js";
import { machineWords } from "./file-machine.js";

const ET_REL = 1;
const ET_CORE = 4;

const TYPES = ["no file type,", "relocatable,", "executable,", "shared object,", "core file,"];

const OSABI = new Map([
  [0, "(SYSV)"],
  [1, "(HP-UX)"],
  [2, "(NetBSD)"],
  [3, "(GNU/Linux)"],
  [4, "(GNU/Hurd)"],
  [5, "(86Open)"],
  [6, "(Solaris)"],
  [7, "(Monterey)"],
  [8, "(IRIX)"],
  [9, "(FreeBSD)"],
  [10, "(Tru64)"],
  [11, "(Novell Modesto)"],
  [12, "(OpenBSD)"],
  [13, "(OpenVMS)"],
  [14, "(HP NonStop Kernel)"],
  [15, "(AROS Research Operating System)"],
  [16, "(FenixOS)"],
  [17, "(Nuxi CloudABI)"],
  [97, "(ARM)"],
  [202, "(Cafe OS)"],
  [255, "(embedded)"],
]);

const GNU_SYSTEMS = ["Linux", "Hurd", "Solaris", "kFreeBSD", "kNetBSD"];

const DF_1_PIE = 0x08000000n;

const NT_GNU_ABI_TAG = 1;
const NT_GO_BUILD_ID = 4;
const NT_PRPSINFO = 3;
const NT_AUXV = 6;

/** Entries of a core file's auxiliary vector that `file` shows, by AT_*. */
const AUXV_NUMBERS = new Map([
  [11n, "real uid"],
  [12n, "effective uid"],
  [13n, "real gid"],
  [14n, "effective gid"],
]);
const AUXV_STRINGS = new Map([
  [15n, "platform"],
  [31n, "execfn"],
]);

/** Where NT_PRPSINFO has the command line, or the short name, on the systems that `file` knows, in its order. */
const PRPSINFO_OFFSETS = { 32: [100, 84, 44, 28, 48, 32, 8], 64: [136, 120, 56, 40, 16] } as const;

/** `file` reads no more than this of a segment: the C library's BUFSIZ. */
const BUFFER = 8192;
const MOST_SEGMENTS = 2048;
const MOST_SECTIONS = 32_768;
const MOST_NOTES = 256;

/**
 * The line that `file -b FILE` of file 5.44 prints for an ELF file, without its newline.
 *
 * Of the bytes alone: where an executable of type ET_DYN has no dynamic section, `file` goes by the permissions of the
 * file and may say "pie executable" instead of "shared object". Notes of other systems than GNU ones are passed over.
 * Throws `FormatError` where `file` gives up with an error, and where an offset or a size is beyond any file.
 */
export function gnuFile(elf: ElfFile): string {
  const { header } = elf;
  const details = elf.bytes.length > RECORD_SIZE[header.class].header ? new Details(elf) : undefined;
  details?.read();
  const words = [
    "ELF",
    `${header.class}-bit`,
    header.littleEndian ? "LSB" : "MSB",
    details?.pie && header.e_type === C.ET_DYN ? "pie executable," : typeWord(header.e_type),
    ...machineWords(header),
    ["invalid version", "version 1"][header.e_version] ?? "",
    OSABI.get(header.osabi) ?? "",
  ];
  return words.filter((word) => word !== "").join(" ") + (details?.text ?? "");
}

function typeWord(type: number): string {
  return TYPES[type] ?? ((type & 0xff00) === 0xff00 ? "processor-specific," : "");
}

/** What `file` finds in program headers, section headers and notes, in the order of its finding. */
class Details {
  text = "";
  pie = false;
  readonly #elf: ElfFile;
  readonly #reader: Reader;
  #notesLeft = MOST_NOTES;
  #segmentsMissing = false;
  readonly #said = new Set<"system" | "build-id" | "core style" | "program" | "auxv">();

  constructor(elf: ElfFile) {
    this.#elf = elf;
    this.#reader = this.#readerOf(elf.bytes);
  }

  read(): void {
    const { e_type } = this.#elf.header;
    const tooMany = this.#tooMany();
    if (tooMany) {
      this.#say(tooMany);
      return;
    }
    if (e_type === ET_CORE) this.#core();
    if (e_type === C.ET_EXEC || e_type === C.ET_DYN) this.#program();
    if (e_type === C.ET_EXEC || e_type === C.ET_DYN || e_type === ET_REL) this.#sections();
    if (this.#notesLeft === 0) this.#say(`too many notes (${MOST_NOTES})`);
  }

  #say(fact: string): void {
    this.text += `, ${fact}`;
  }

  #tooMany(): string | undefined {
    const { e_type, e_phnum, e_shnum } = this.#elf.header;
    const loadable = e_type === C.ET_EXEC || e_type === C.ET_DYN;
    if (e_type === ET_CORE && e_phnum > MOST_SEGMENTS) return `too many program headers (${e_phnum})`;
    if (loadable && e_phnum > MOST_SEGMENTS) return `too many program (${e_phnum})`;
    if (loadable && e_shnum > MOST_SECTIONS) return `too many section (${e_shnum})`;
    if (e_type === ET_REL && e_shnum > MOST_SECTIONS) return `too many section headers (${e_shnum})`;
    return undefined;
  }

  #readerOf(bytes: Uint8Array): Reader {
    const { littleEndian, class: bits } = this.#elf.header;
    return new Reader(bytes, { littleEndian, wordSize: bits === 64 ? 8 : 4, what: "ELF file" });
  }

  /** As much as there is of `size` bytes at `offset`. */
  #available(offset: number, size: number): Uint8Array {
    return this.#elf.bytes.subarray(offset, offset + size);
  }

  /** The program headers; says so where there are none, or the file ends before the last. */
  *#segments(): Generator<Segment> {
    const { header, bytes } = this.#elf;
    const size = RECORD_SIZE[header.class].segment;
    this.#segmentsMissing = header.e_phnum === 0;
    if (this.#segmentsMissing) this.#say("no program header");
    for (let i = 0; i < header.e_phnum; i++) {
      const at = header.e_phoff + i * size;
      if (at + size > bytes.length) {
        this.#segmentsMissing = true;
        this.#say(`can't read elf program headers at ${at}`);
        return;
      }
      const [segment] = readSegments({ ...header, e_phoff: at }, this.#reader, 1);
      if (segment) yield segment;
    }
  }

  #program(): void {
    const { header } = this.#elf;
    let dynamic = false;
    let flags = false;
    let needs = 0;
    let interpreter = "";
    for (const { p_type, p_offset, p_filesz, p_align } of this.#segments()) {
      const content = this.#available(p_offset, Math.min(p_filesz, BUFFER));
      if (p_type === C.PT_DYNAMIC) {
        dynamic = true;
        const found = this.#dynamic(content);
        flags ||= found.flags;
        needs += found.needs;
        this.pie = found.pie ?? false;
      } else if (p_type === C.PT_INTERP) {
        needs += 1;
        interpreter = `, interpreter ${content[0] ? printable(content.subarray(0, -1)) : "*empty*"}`;
      } else if (p_type === C.PT_NOTE && header.e_shnum === 0) {
        this.#notes(content, this.#noteAlignment(p_align));
      }
    }
    if (this.#segmentsMissing) return;
    const style = dynamic ? (flags && needs === 0 ? "static-pie" : "dynamically") : "statically";
    this.#say(`${style} linked${interpreter}`);
  }

  #noteAlignment(written: bigint): number {
    const align = written === 0n ? 4n : written;
    if (align >= 4n && (align & 0x80000000n) === 0n) return Number(align);
    this.#say(`invalid note alignment ${hex(align)}`);
    return 4;
  }

  #dynamic(content: Uint8Array): { flags: boolean; needs: number; pie: boolean | undefined } {
    const reader = this.#readerOf(content);
    const found = { flags: false, needs: 0, pie: undefined as boolean | undefined };
    const size = reader.wordSize * 2;
    for (let at = 0; at + size <= content.length; at += size) {
      const tag = reader.wordAt(at);
      if (tag === BigInt(C.DT_NEEDED)) found.needs += 1;
      if (tag === BigInt(C.DT_FLAGS_1)) {
        found.flags = true;
        found.pie = (reader.wordAt(at + reader.wordSize) & DF_1_PIE) !== 0n;
      }
    }
    return found;
  }

  #core(): void {
    const { length } = this.#elf.bytes;
    for (const { p_type, p_offset, p_filesz } of this.#segments()) {
      if (p_offset > length || p_type !== C.PT_NOTE) continue;
      this.#notes(this.#available(p_offset, Math.min(p_filesz, BUFFER)), 4);
    }
  }

  #sections(): void {
    const { header, bytes } = this.#elf;
    if (header.e_shnum === 0) {
      this.#say("no section header");
      return;
    }
    const size = RECORD_SIZE[header.class].section;
    if (header.e_shentsize !== size) {
      this.#say("corrupted section header size");
      return;
    }
    const word = this.#reader.wordSize;
    const record = (at: number) => ({
      name: this.#reader.u32At(at),
      type: this.#reader.u32At(at + 4),
      offset: this.#reader.sizeAt(at + 8 + 2 * word),
      size: this.#reader.sizeAt(at + 8 + 3 * word),
    });
    const namesAt = header.e_shoff + size * header.e_shstrndx;
    if (namesAt + size > bytes.length) {
      this.#say(`missing section headers at ${namesAt}`);
      return;
    }
    const names = record(namesAt);
    if (names.offset > bytes.length) {
      this.#say(`too large section header offset ${names.offset}`);
      return;
    }

    let symbols = false;
    let debug = false;
    let last = names;
    for (let i = 0; i < header.e_shnum; i++) {
      // A step behind: the name that is looked at is that of the section before.
      debug ||= this.#isDebugInfo(names.offset + last.name);
      last = record(header.e_shoff + i * size);
      if (last.type === C.SHT_SYMTAB) symbols = true;
      if (last.type !== C.SHT_NOTE || last.offset > bytes.length) continue;
      if (last.offset + last.size > bytes.length) {
        const range = `${hex(last.offset)}+${hex(last.size)}`;
        this.#say(`note offset/size ${range} exceeds file size ${hex(bytes.length)}`);
        return;
      }
      this.#notes(this.#available(last.offset, last.size), 4);
    }
    if (debug) this.#say("with debug_info");
    this.#say(symbols || debug ? "not stripped" : "stripped");
  }

  #isDebugInfo(at: number): boolean {
    const wanted = ".debug_info\0";
    const there = this.#available(at, wanted.length);
    if (there.length < wanted.length - 1) return false;
    return there.every((byte, i) => byte === wanted.charCodeAt(i));
  }

  #notes(content: Uint8Array, align: number): void {
    const reader = this.#readerOf(content);
    const padded = (size: number) => Math.ceil(size / align) * align;
    let at = 0;
    while (at < content.length && this.#notesLeft > 0) {
      this.#notesLeft -= 1;
      if (at + 12 > content.length) return;
      const nameSize = reader.u32At(at);
      const size = reader.u32At(at + 4);
      if (nameSize === 0 && size === 0) return;
      if (nameSize >= 0x80000000) {
        this.#say(`bad note name size ${hex(nameSize)}`);
        return;
      }
      if (size >= 0x80000000) {
        this.#say(`bad note description size ${hex(size)}`);
        return;
      }
      const start = padded(at + 12 + nameSize);
      if (start + size > content.length) return;
      const note = {
        name: String.fromCharCode(...content.subarray(at + 12, at + 12 + Math.min(nameSize, 16))),
        type: reader.u32At(at + 8),
        desc: content.subarray(start, start + size),
      };
      this.#note(note.name, note.type, note.desc);
      at = padded(start + size);
    }
  }

  #note(name: string, type: number, desc: Uint8Array): void {
    if (name === "GNU\0" && type === NT_GNU_ABI_TAG && desc.length === 16) this.#system(desc);
    if (name === "GNU\0" && type === C.NT_GNU_BUILD_ID && desc.length >= 4 && desc.length <= 20) this.#buildId(desc);
    if (name === "Go\0\0" && type === NT_GO_BUILD_ID && desc.length < 128 && !this.#said.has("build-id")) {
      this.#say(`Go BuildID=${cstring(desc)}`);
    }
    if (name === "CORE" || name === "CORE\0") this.#once("core style", () => this.#say("SVR4-style"));
    if (this.#elf.header.e_type !== ET_CORE) return;
    if (type === NT_PRPSINFO && !this.#said.has("program")) this.#programName(desc);
    else if (type === NT_AUXV) this.#once("auxv", () => this.#auxv(desc));
  }

  #once(what: "system" | "build-id" | "core style" | "auxv", say: () => void): void {
    if (this.#said.has(what)) return;
    this.#said.add(what);
    say();
  }

  #system(desc: Uint8Array): void {
    const reader = this.#readerOf(desc);
    const version = [4, 8, 12].map((at) => reader.i32At(at)).join(".");
    this.#once("system", () => this.#say(`for GNU/${GNU_SYSTEMS[reader.u32At(0)] ?? "<unknown>"} ${version}`));
  }

  #buildId(desc: Uint8Array): void {
    const kind = { 8: "xxHash", 16: "md5/uuid", 20: "sha1" }[desc.length] ?? "unknown";
    this.#once("build-id", () => this.#say(`BuildID[${kind}]=${hexBytes(desc)}`));
  }

  /**
   * The first place that starts with up to 16 printable characters has the command, or is in the middle of it: then an
   * earlier place from which characters run up to it has its start.
   */
  #programName(desc: Uint8Array): void {
    const places = PRPSINFO_OFFSETS[this.#elf.header.class];
    for (const [index, offset] of places.entries()) {
      const field = desc.subarray(offset, offset + 16);
      const end = field.indexOf(0);
      const text = end < 0 ? field : field.subarray(0, end);
      if (text.length === 0 || (end < 0 && field.length < 16)) continue;
      if (!text.every((byte) => isPrintable(byte) && !"'\"`".includes(String.fromCharCode(byte)))) continue;
      const start = places
        .slice(index + 1)
        .reduce<number>((from, to) => (to < from && desc.subarray(to, from).every(isPrintable) ? to : from), offset);
      const stop = desc.findIndex((byte, at) => at >= start && !isPrintable(byte));
      this.#said.add("program");
      this.#say(`from '${cstring(desc.subarray(start, stop < 0 ? desc.length : stop)).trimEnd()}'`);
      return;
    }
  }

  #auxv(desc: Uint8Array): void {
    const reader = this.#readerOf(desc);
    const size = reader.wordSize;
    for (let at = 0; at + 2 * size <= desc.length; at += 2 * size) {
      const value = reader.wordAt(at + size);
      const number = AUXV_NUMBERS.get(reader.wordAt(at));
      if (number) this.#say(`${number}: ${BigInt.asIntN(32, value)}`);
      const string = AUXV_STRINGS.get(reader.wordAt(at));
      const text = string && this.#stringAt(value);
      if (text) this.#say(`${string}: '${text}'`);
    }
  }

  /** A printable string in the dumped memory. */
  #stringAt(address: bigint): string | undefined {
    const offset = this.#elf.offsetOf(address);
    if (offset === undefined) return undefined;
    const bytes = this.#available(offset, 255);
    const end = bytes.indexOf(0);
    const text = end < 0 ? bytes : bytes.subarray(0, end);
    return text.every(isPrintable) ? cstring(text) : undefined;
  }
}

function isPrintable(byte: number): boolean {
  return byte >= 0x20 && byte < 0x7f;
}

function cstring(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return String.fromCharCode(...(end < 0 ? bytes : bytes.subarray(0, end)));
}

/** A string as `file` writes one that it does not trust: other than printable characters in octal. */
function printable(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    if (byte === 0) break;
    text += isPrintable(byte) ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, "0")}`;
  }
  return text;
}
