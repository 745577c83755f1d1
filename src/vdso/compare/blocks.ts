import * as C from "../../elf/constants.js";
import type { Section } from "../../elf/section.js";
import type { Decoder, Instruction } from "../../isa/instruction.js";
import type { AlternativeTable, Site } from "../boot/alternatives.js";
import { behind, Code } from "../code.js";
import { Budget, follow } from "../dataflow.js";
import { isNop } from "../gate.js";
import type { VdsoFunction, VdsoImage } from "../image.js";
import { byAddress, countUpTo } from "./search.js";

/** What is compared as one: an instruction, or all those of a place that is patched at boot. */
export interface Unit {
  readonly instructions: readonly Instruction[];
  readonly site?: Site;
}

/** A run of code: a function, or code between functions that no symbol names. */
export interface Block {
  /** All names of the function; empty for local code. */
  readonly names: readonly string[];
  readonly start: bigint;
  readonly end: bigint;
  readonly bytes: Uint8Array;
  /** Empty where nothing is decoded. */
  readonly units: readonly Unit[];
}

/** A block and the place of a unit in it. */
export interface Place {
  readonly block: Block;
  readonly unit: number;
}

/** Most bytes of code in an image that are decoded to be compared: real images have some thousand. */
const MAX_CODE = 1 << 16;

/** Whether an image has more code than is worth decoding. */
export function hasTooMuchCode({ elf, functions }: VdsoImage): boolean {
  const { codeSections } = elf;
  const parts =
    codeSections.length > 0 ? codeSections.map(({ sh_size }) => sh_size) : functions.map(({ size }) => size);
  return parts.reduce((sum, size) => sum + size, 0) > MAX_CODE;
}

/** The code of an image, cut into blocks. */
export class ImageCode {
  readonly image: VdsoImage;
  readonly decoder: Decoder | undefined;
  readonly table: AlternativeTable | undefined;
  /** By address. */
  readonly blocks: readonly Block[];
  /** Addresses of memory operands that follow from the code before them (i386), by that of the instruction. */
  readonly memoryAddresses: ReadonlyMap<bigint, bigint>;
  /** Those that are loaded, by address. */
  readonly #sections: readonly Section[];
  #unpatched: Uint8Array | undefined;
  readonly #places = new Map<bigint, Place>();

  constructor(image: VdsoImage, decoder: Decoder | undefined, table: AlternativeTable | undefined) {
    this.image = image;
    this.decoder = decoder;
    this.table = table;
    this.#sections = byAddress(
      image.elf.sections.filter(({ sh_flags }) => (sh_flags & BigInt(C.SHF_ALLOC)) !== 0n),
      ({ sh_addr }) => sh_addr,
    );
    const pieces = piecesOf(image);
    this.blocks = decoder ? this.#decodedBlocks(pieces, new Code(image.elf, decoder)) : this.#plainBlocks(pieces);
    for (const block of this.blocks) {
      for (const [unit, { instructions }] of block.units.entries()) {
        for (const { address } of instructions) this.#places.set(address, { block, unit });
      }
    }
    this.memoryAddresses = decoder && image.abi === "i386" ? this.#followed(decoder) : new Map();
  }

  /** The unit that an instruction at this address belongs to; `undefined` where none starts there. */
  placeOf(address: bigint): Place | undefined {
    return this.#places.get(address);
  }

  /** The block that holds an address. */
  blockAt(address: bigint): Block | undefined {
    const block = this.blocks[countUpTo(this.blocks, address, ({ start }) => start) - 1];
    return block && address < block.end ? block : undefined;
  }

  /** Whether an instruction of this image does nothing. */
  isNop(instruction: Instruction): boolean {
    return isNop(instruction, this.image.abi !== "i386");
  }

  /** The instructions that a replacement consists of, as stored. */
  replacement(address: bigint, bytes: Uint8Array): Instruction[] {
    return this.decoder?.decode(bytes, address) ?? [];
  }

  /** The section that holds an address in memory. */
  sectionAt(address: bigint): Section | undefined {
    const section = this.#sections[countUpTo(this.#sections, address, ({ sh_addr }) => sh_addr) - 1];
    return section && address - section.sh_addr < BigInt(section.sh_size) ? section : undefined;
  }

  /** Up to `size` bytes of the file at an address; `undefined` where they are not all there. */
  bytesAt(address: bigint, size: number): Uint8Array | undefined {
    const { elf } = this.image;
    const offset = elf.offsetOf(address);
    return offset === undefined || offset + size > elf.bytes.length
      ? undefined
      : elf.bytes.subarray(offset, offset + size);
  }

  #bytesOf(start: bigint, end: bigint): Uint8Array {
    const { elf } = this.image;
    const offset = elf.offsetOf(start);
    return offset === undefined ? new Uint8Array(0) : elf.bytes.subarray(offset, offset + Number(end - start));
  }

  /** The bytes of a block, those of places that are patched as zeros. */
  bytesWithoutSites(block: Block): Uint8Array {
    if (!this.#unpatched) {
      this.#unpatched = this.image.bytes.slice();
      for (const { offset, length } of this.table?.sites ?? []) this.#unpatched.fill(0, offset, offset + length);
    }
    const offset = this.image.elf.offsetOf(block.start);
    return offset === undefined ? block.bytes : this.#unpatched.subarray(offset, offset + block.bytes.length);
  }

  #plainBlocks(pieces: readonly Piece[]): Block[] {
    return pieces
      .map((piece) => ({ ...piece, bytes: this.#bytesOf(piece.start, piece.end), units: [] }))
      .filter(({ names, bytes }) => names.length > 0 || !isFilling(bytes));
  }

  #decodedBlocks(pieces: readonly Piece[], code: Code): Block[] {
    const decoded = pieces.map((piece) => ({ piece, instructions: code.range(piece.start, piece.end) }));
    const called = new Set<bigint>();
    for (const { instructions } of decoded) {
      for (const { flow, target } of instructions) if (flow === "call" && target !== undefined) called.add(target);
    }
    const sites = new Sites(this.table);
    return decoded.flatMap(({ piece, instructions }): Block[] => {
      if (piece.names.length > 0) return [this.#block(piece.names, instructions, sites)];
      return cutAt(instructions, called)
        .map((part) => withoutPadding(part, (one) => this.isNop(one) && sites.at(one.address) === undefined))
        .filter((part) => part.length > 0)
        .map((part) => this.#block([], part, sites));
    });
  }

  #block(names: readonly string[], instructions: readonly Instruction[], sites: Sites): Block {
    const first = instructions[0];
    const last = instructions.at(-1);
    const start = first?.address ?? 0n;
    const end = last ? behind(last) : start;
    return { names, start, end, bytes: this.#bytesOf(start, end), units: unitsOf(instructions, sites) };
  }

  /**
   * Follows the code from the start of every block. What lies at places that are patched is passed over, so that the
   * same is known of an image whatever was put there.
   */
  #followed(decoder: Decoder): Map<bigint, bigint> {
    const code = new Code(this.image.elf, withoutSites(decoder, new Sites(this.table)));
    const budget = new Budget();
    const options = { wide: false, budget, neverReturns: () => false };
    const found = new Map<bigint, bigint>();
    for (const { start } of this.blocks) {
      for (const { instruction, memoryAddress } of follow(start, code, options)) {
        if (memoryAddress !== undefined) found.set(instruction.address, memoryAddress);
      }
    }
    return found;
  }
}

/** What stands for an instruction at a place that is patched: one that leaves unknown what any alternative writes. */
const ANY_ALTERNATIVE = { mnemonic: "rdtscp", prefixes: [], operands: [], flow: "next" } as const;

function withoutSites(decoder: Decoder, sites: Sites): Decoder {
  const passedOver = (instruction: Instruction): Instruction => {
    if (!sites.at(instruction.address)) return instruction;
    const { address, bytes } = instruction;
    return { address, bytes, ...ANY_ALTERNATIVE };
  };
  return {
    decode: (bytes, address, goOn) =>
      decoder.decode(bytes, address, (instruction) => goOn?.(passedOver(instruction)) ?? true).map(passedOver),
    text: (instruction, symbolize) => decoder.text(instruction, symbolize),
  };
}

interface Piece {
  readonly names: readonly string[];
  readonly start: bigint;
  readonly end: bigint;
}

/** Sections with instructions, but for those that are only stored there, cut where functions start and end. */
function piecesOf({ elf, functions }: VdsoImage): Piece[] {
  const sections = elf.codeSections.filter(({ name }) => name !== ".altinstr_replacement");
  if (elf.codeSections.length === 0) {
    return functions.flatMap((one, i) => functionPiece(one, functions[i + 1]?.address, undefined));
  }
  const pieces = sections.flatMap((section) => {
    const sectionEnd = section.sh_addr + BigInt(section.sh_size);
    const count = (address: bigint) => countUpTo(functions, address, (one) => one.address);
    const inside = functions.slice(count(section.sh_addr - 1n), count(sectionEnd - 1n));
    const found: Piece[] = [];
    let at = section.sh_addr;
    for (const [i, one] of inside.entries()) {
      if (one.address > at) found.push({ names: [], start: at, end: one.address });
      const pieces = functionPiece(one, inside[i + 1]?.address, sectionEnd);
      found.push(...pieces);
      at = pieces[0]?.end ?? one.address;
    }
    if (at < sectionEnd) found.push({ names: [], start: at, end: sectionEnd });
    return found;
  });
  return byAddress(pieces, ({ start }) => start);
}

/** A function up to its size, or, where that is not told or too large, to whatever comes next. */
function functionPiece(one: VdsoFunction, next: bigint | undefined, sectionEnd: bigint | undefined): Piece[] {
  const { address, size } = one;
  const told = size > 0 ? address + BigInt(size) : undefined;
  const bounds = [next, sectionEnd, told].filter((bound) => bound !== undefined).sort((a, b) => (a < b ? -1 : 1));
  const end = bounds[0] ?? address;
  return end > address ? [{ names: [one.name, ...one.aliases], start: address, end }] : [];
}

/** The places that are patched, by the address of every byte of them. */
class Sites {
  readonly #sorted: readonly Site[];

  constructor(table: AlternativeTable | undefined) {
    this.#sorted = byAddress(table?.sites ?? [], ({ address }) => address);
  }

  at(address: bigint): Site | undefined {
    const site = this.#sorted[countUpTo(this.#sorted, address, (one) => one.address) - 1];
    return site && address < site.address + BigInt(site.length) ? site : undefined;
  }
}

function unitsOf(instructions: readonly Instruction[], sites: Sites): Unit[] {
  const units: { instructions: Instruction[]; site?: Site }[] = [];
  for (const instruction of instructions) {
    const site = sites.at(instruction.address);
    const last = units.at(-1);
    if (site && last?.site === site) last.instructions.push(instruction);
    else units.push({ instructions: [instruction], ...(site && { site }) });
  }
  return units;
}

function cutAt(instructions: readonly Instruction[], starts: ReadonlySet<bigint>): Instruction[][] {
  const parts: Instruction[][] = [];
  for (const instruction of instructions) {
    const last = parts.at(-1);
    if (!last || starts.has(instruction.address)) parts.push([instruction]);
    else last.push(instruction);
  }
  return parts;
}

/** Without what only fills the room around it, so that what comes next is aligned. */
function withoutPadding(
  instructions: readonly Instruction[],
  isPadding: (instruction: Instruction) => boolean,
): readonly Instruction[] {
  const matters = (instruction: Instruction) => !isPadding(instruction);
  return instructions.slice(instructions.findIndex(matters) >>> 0, instructions.findLastIndex(matters) + 1);
}

/** Whether bytes that are not decoded only fill a gap: one word over and over. */
function isFilling(bytes: Uint8Array): boolean {
  return bytes.every((byte, i) => i < 4 || byte === bytes[i - 4]);
}
