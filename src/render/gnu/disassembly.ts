import { hexBytes, paddedHex } from "../../bytes/hex.js";
import type { ElfFile } from "../../elf/file.js";
import type { Section } from "../../elf/section.js";
import type { Decoder, Instruction } from "../../isa/instruction.js";
import type { BfdSymbol } from "./bfd-symbol.js";
import { bfdTarget } from "./bfd-target.js";
import { DisassemblySymbols, marksCompiler } from "./disassembly-symbols.js";
import { utf8Name } from "./utf8-name.js";

/** What `objdump -d` is asked for. */
export interface GnuDisassemblyOptions {
  /** The file as the first line names it. */
  readonly fileName: string;
  /** Only these symbols, each as `--disassemble=SYMBOL` shows it. */
  readonly symbols?: readonly string[];
  /** `--start-address`. */
  readonly startAddress?: bigint;
  /** `--stop-address`: the first address that is not shown. */
  readonly stopAddress?: bigint;
}

/** Bytes of an instruction, and of data, that stand in one line. */
const CODE_COLUMNS = 7;
const DATA_COLUMNS = 16;

/** So many zeros are left out. */
const SKIPPED_ZEROS = 8;
/** At the end of a block fewer than this are left out too. */
const SKIPPED_AT_END = 3;
/** Bytes that are decoded at once. */
const CHUNK = 4096;
/** No instruction is longer. */
const LONGEST_INSTRUCTION = 15;

/**
 * What `objdump -d FILE` of binutils 2.40 prints to its standard output.
 *
 * Goes by the section headers alone, as objdump does: where there are none, only the first line is left. Throws
 * `FormatError` where a section with code does not lie in the file or a table of symbols is malformed.
 */
export function gnuDisassembly(elf: ElfFile, decoder: Decoder, options: GnuDisassemblyOptions): string {
  const symbols = new DisassemblySymbols(elf);
  const parts = [`\n${options.fileName}:     file format ${bfdTarget(elf)}\n\n`];
  for (const section of elf.codeSections) parts.push(new SectionListing(elf, section, symbols, decoder).text(options));
  return parts.join("");
}

/** One section; offsets are in bytes from its start. */
class SectionListing {
  readonly #section: Section;
  readonly #bytes: Uint8Array;
  readonly #symbols: DisassemblySymbols;
  readonly #decoder: Decoder;
  readonly #digits: number;
  /** Digits of an address that are left out, because they are zeros in the whole section. */
  readonly #skippedDigits: number;
  readonly #out: string[] = [];

  constructor(elf: ElfFile, section: Section, symbols: DisassemblySymbols, decoder: Decoder) {
    this.#section = section;
    this.#bytes = elf.sectionBytes(section);
    this.#symbols = symbols;
    this.#decoder = decoder;
    this.#digits = elf.header.class / 4;
    const end = this.#address(this.#bytes.length);
    const zeros = (/^0*/.exec(this.#padded(end)) as RegExpExecArray)[0].length;
    const overflows = zeros === this.#digits && section.sh_addr !== 0n;
    this.#skippedDigits = zeros === 0 || overflows ? 0 : (zeros - 1) & -4;
  }

  #address(offset: number): bigint {
    return BigInt.asUintN(this.#digits * 4, this.#section.sh_addr + BigInt(offset));
  }

  #padded(address: bigint): string {
    return paddedHex(address, this.#digits);
  }

  text({ symbols, startAddress, stopAddress }: GnuDisassemblyOptions): string {
    const { sh_addr } = this.#section;
    const length = BigInt(this.#bytes.length);
    const within = (address: bigint) => Number(address < sh_addr ? 0n : minimum(address - sh_addr, length));
    const start = startAddress === undefined ? 0 : within(startAddress);
    const stop = stopAddress === undefined ? this.#bytes.length : within(stopAddress);
    if (start >= stop) return "";

    this.#symbols.select(this.#section);
    this.#out.push(`\nDisassembly of section ${utf8Name(this.#section.name)}:\n`);
    for (const wanted of symbols ?? [undefined]) this.#blocks(start, stop, wanted);
    return this.#out.join("");
  }

  /** Goes from symbol to symbol; with `wanted`, shows only what belongs to the symbol of that name. */
  #blocks(start: number, end: number, wanted: string | undefined): void {
    const { sorted } = this.#symbols;
    let stop = end;
    let place = this.#symbols.placeOf(this.#address(start), true);
    let symbol = place === undefined ? undefined : sorted[place];
    let shows = wanted === undefined;
    let until: "end" | "function" | "symbol" = "end";
    for (let at = start; at < stop; ) {
      const address = this.#address(at);
      if (symbol && wanted !== undefined) {
        const isFunction = symbol.flags.has("function");
        if (shows) {
          if (until === "function" ? isFunction : until === "symbol" && !isLocalLabel(symbol)) shows = false;
        } else if (symbol.name === wanted) {
          shows = true;
          if (!isFunction) until = "symbol";
          else if (symbol.size === 0n) until = "function";
          else {
            stop = Number(minimum(BigInt(at) + symbol.size, BigInt(end)));
            until = "end";
          }
        }
      }
      const ahead = symbol !== undefined && symbol.value > address;
      if (shows) {
        const label = this.#symbols.labelFrom(symbol, address);
        this.#out.push(`\n${this.#padded(address)} <${label}>:\n`);
      }
      let next: BfdSymbol | undefined;
      if (ahead) next = symbol;
      else if (symbol !== undefined) {
        const current = symbol;
        while (place !== undefined && place < sorted.length && !this.#follows(sorted[place], current)) place += 1;
        next = place === undefined ? undefined : sorted[place];
      }
      const limit = next === undefined ? stop : Number(next.value - this.#section.sh_addr);
      const blockEnd = limit > stop || limit <= at ? stop : limit;
      if (shows) this.#contents(at, blockEnd, symbol !== undefined && !ahead && this.#isData(symbol));
      at = blockEnd;
      symbol = next;
    }
  }

  #follows(candidate: BfdSymbol | undefined, symbol: BfdSymbol): boolean {
    return candidate?.section === this.#section && candidate.value > symbol.value;
  }

  /** Symbols of objects in code stand for tables, which are not disassembled. */
  #isData(symbol: BfdSymbol): boolean {
    if (symbol.section !== this.#section || symbol.flags.has("function")) return false;
    return symbol.flags.has("object") || marksCompiler(symbol);
  }

  /** How many bytes at `at` are left out as zeros: none where they are too few. */
  #skip(at: number, end: number): number {
    let zeros = 0;
    while (at + zeros < end && this.#bytes[at + zeros] === 0) zeros += 1;
    const toEnd = at + zeros === end;
    if (zeros >= SKIPPED_ZEROS) return toEnd ? zeros : zeros & ~3;
    return toEnd && zeros < SKIPPED_AT_END ? zeros : 0;
  }

  /** Data or instructions, but for zeros that are left out. */
  #contents(start: number, end: number, isData: boolean): void {
    for (let at = start; at < end; ) {
      const skipped = this.#skip(at, end);
      if (skipped > 0) {
        this.#out.push("\t...\n");
        at += skipped;
      } else {
        at = isData ? this.#data(at, end) : this.#code(at, end);
      }
    }
  }

  /** Instructions, none of which crosses `end`, up to the next zeros that may be left out; gives where it stopped. */
  #code(start: number, end: number): number {
    // Whatever lies behind the next long run of zeros may have to be decoded from another start. Instructions that
    // start before `turn` end before `bound`.
    const turn = this.#zerosAfter(start, Math.min(end, start + CHUNK));
    const bound = Math.min(end, turn + LONGEST_INSTRUCTION);
    let at = start;
    for (const instruction of this.#decoder.decode(this.#bytes.subarray(at, bound), this.#address(at))) {
      this.#instruction(at, instruction);
      at += instruction.bytes.length;
      if (at >= turn || (this.#bytes[at] === 0 && this.#skip(at, end) > 0)) break;
    }
    return at;
  }

  /** End of the first run of zeros behind `at` that is long enough to be left out; `end` where there is none. */
  #zerosAfter(at: number, end: number): number {
    let zeros = 0;
    for (let i = at; i < end; i++) {
      if (this.#bytes[i] === 0) zeros += 1;
      else if (zeros >= SKIPPED_ZEROS) return i;
      else zeros = 0;
    }
    return end;
  }

  #instruction(at: number, instruction: Instruction): void {
    const { bytes } = instruction;
    const text = this.#decoder.text(instruction, (address) => this.#symbols.label(address));
    const first = `${hexBytes(bytes.subarray(0, CODE_COLUMNS), " ")} `;
    this.#out.push(`${this.#margin(at)}${first.padEnd(CODE_COLUMNS * 3)}\t${text}\n`);
    for (let i = CODE_COLUMNS; i < bytes.length; i += CODE_COLUMNS) {
      this.#out.push(`${this.#margin(at + i)}${hexBytes(bytes.subarray(i, i + CODE_COLUMNS), " ")} \n`);
    }
  }

  /** One line of bytes that are no instructions; gives where it ends. */
  #data(start: number, end: number): number {
    const bytes = this.#bytes.subarray(start, Math.min(start + DATA_COLUMNS, end));
    const ascii = Array.from(bytes, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    const columns = `${hexBytes(bytes, " ")} `.padEnd(DATA_COLUMNS * 3);
    this.#out.push(`${this.#margin(start)}${columns}    ${ascii}\n`);
    return start + bytes.length;
  }

  /** The address column: leading zeros are blanks. */
  #margin(offset: number): string {
    const address = this.#padded(this.#address(offset)).slice(this.#skippedDigits);
    const digits = address.replace(/^0+(?=.)/, "");
    return `${digits.padStart(address.length)}:\t`;
  }
}

function minimum(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

/** Labels that assemblers make up and do not mean to be seen. */
function isLocalLabel({ name, flags }: BfdSymbol): boolean {
  if (flags.has("debugging")) return false;
  return name.startsWith(".L") || name.startsWith("..") || name.startsWith("_.L_");
}
