import { FormatError } from "../bytes/error.js";
import type { Decoder, Instruction } from "../isa/instruction.js";
import { type Target, TargetError } from "../targets/target.js";
import { Code } from "../vdso/code.js";
import { type DataPage, pageOf } from "../vdso/data-pages.js";
import { Budget } from "../vdso/dataflow.js";
import { functionFacts } from "../vdso/facts.js";
import type { VdsoFunction, VdsoImage } from "../vdso/image.js";
import { allFacts, dataPagesOf } from "./explain.js";
import { type Identity, identify } from "./identity.js";

/** One line of a disassembly. */
export interface DisasmLine {
  readonly instruction: Instruction;
  /** As GNU tools write it, with symbol names without versions. */
  readonly text: string;
  /** The page of kernel data that the instruction reads. */
  readonly data?: DataPage;
}

/** A run of code under one name. */
export interface DisasmBlock {
  /** Names of the function; empty for code between functions that no symbol names. */
  readonly names: readonly string[];
  readonly section?: string;
  readonly start: bigint;
  readonly end: bigint;
  readonly lines: readonly DisasmLine[];
}

/** The instructions of an image, function by function. */
export interface DisasmResult {
  readonly target: string;
  readonly identity: Identity;
  readonly bias?: bigint;
  readonly blocks: readonly DisasmBlock[];
  readonly notes: readonly string[];
}

/** What {@link disasm} is to show. */
export interface DisasmOptions {
  /** Names of functions, aliases included; all code where empty. */
  readonly symbols?: readonly string[];
}

/**
 * Disassembles a target's image: all of its executable sections, or the functions named.
 *
 * Throws {@link TargetError} for a name that the image does not have.
 */
export function disasm(target: Target, decoder: Decoder, options: DisasmOptions = {}): DisasmResult {
  const { image } = target;
  const code = new Code(image.elf, decoder);
  const readAt = dataReadBy(target, code, options.symbols ?? []);
  const symbolize = symbolizer(image);

  const spans = options.symbols?.length ? namedSpans(image, options.symbols) : allSpans(image);
  checkSpans(image, spans);
  const blocks = spans.map((span): DisasmBlock => {
    const lines = code.range(span.start, span.end).map((instruction): DisasmLine => {
      const data = readAt(instruction.address);
      return { instruction, text: decoder.text(instruction, symbolize), ...(data && { data }) };
    });
    return { ...span, lines };
  });
  return {
    target: target.name,
    identity: identify(image),
    ...(target.bias !== undefined && { bias: target.bias }),
    blocks,
    notes: target.notes,
  };
}

/** The page of kernel data that an instruction reads, by its address; only the functions to be shown are followed. */
function dataReadBy(target: Target, code: Code, names: readonly string[]): (address: bigint) => DataPage | undefined {
  const { image } = target;
  const shown =
    names.length > 0
      ? image.functions.filter((one) => namesOf(one).some((name) => names.includes(name)))
      : image.functions;
  const budget = new Budget();
  const facts = shown.map((one) => functionFacts(image, one, code, budget));
  const offsets = new Map(facts.flatMap(({ dataAccesses }) => dataAccesses.map(({ at, offset }) => [at, offset])));
  if (offsets.size === 0) return () => undefined;
  // In a file, who reads a page tells what it is: for that all functions are needed.
  const all = target.location ? facts : allFacts(image, code);
  const pages = new Map(dataPagesOf(target, all).map((page) => [page.offset, page]));
  return (address) => {
    const offset = offsets.get(address);
    return offset === undefined ? undefined : pages.get(pageOf(offset));
  };
}

/** Functions of a sound image share no code; many that do would be written out over and over. */
function checkSpans(image: VdsoImage, spans: readonly Span[]): void {
  const total = spans.reduce((sum, { start, end }) => sum + Number(BigInt.asUintN(53, end - start)), 0);
  const limit = 2 * image.bytes.length;
  if (total > limit) {
    throw new FormatError(
      `Cannot disassemble: the functions have ${total} bytes in all, of ${image.bytes.length}`,
      0,
      total,
    );
  }
}

type Span = Omit<DisasmBlock, "lines">;

function namesOf({ name, aliases }: VdsoFunction): string[] {
  return [name, ...aliases];
}

function namedSpans(image: VdsoImage, wanted: readonly string[]): Span[] {
  const byName = new Map(image.functions.flatMap((one) => namesOf(one).map((name) => [name, one] as const)));
  return wanted.map((name) => {
    const found = byName.get(name);
    if (!found) {
      const known = image.functions.map((one) => one.name).join(", ");
      throw new TargetError(`the image has no function ${name}; it has ${known || "none"}`);
    }
    return { names: namesOf(found), start: found.address, end: found.address + BigInt(found.size) };
  });
}

/** Executable sections cut at the functions; without section headers, the functions alone. */
function allSpans(image: VdsoImage): Span[] {
  const { codeSections } = image.elf;
  if (codeSections.length === 0) {
    return namedSpans(
      image,
      image.functions.map(({ name }) => name),
    );
  }
  return codeSections.flatMap((section) => {
    const end = section.sh_addr + BigInt(section.sh_size);
    const inside = image.functions.filter(({ address }) => address >= section.sh_addr && address < end);
    const byAddress = new Map(inside.map((one) => [one.address, one]));
    const starts = [...new Set([section.sh_addr, ...byAddress.keys()])].sort((a, b) => (a < b ? -1 : 1));
    return starts.map((start, i) => {
      const named = byAddress.get(start);
      return { names: named ? namesOf(named) : [], section: section.name, start, end: starts[i + 1] ?? end };
    });
  });
}

/** `name` or `name+0x1b` for an address inside a function. */
function symbolizer(image: VdsoImage): (address: bigint) => string | undefined {
  return (address) => {
    const found = lastBefore(image.functions, address);
    if (!found || address >= found.address + BigInt(Math.max(found.size, 1))) return undefined;
    const distance = address - found.address;
    return distance === 0n ? found.name : `${found.name}+0x${distance.toString(16)}`;
  };
}

/** Of functions sorted by address, the last that starts at an address or before it. */
function lastBefore(functions: readonly VdsoFunction[], address: bigint): VdsoFunction | undefined {
  let low = 0;
  let high = functions.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((functions[middle] as VdsoFunction).address <= address) low = middle + 1;
    else high = middle;
  }
  return functions[low - 1];
}
