import { sameBytes } from "../../bytes/equal.js";
import { hex } from "../../bytes/hex.js";
import { joined } from "../../bytes/joined.js";
import type { Instruction } from "../../isa/instruction.js";
import { ALIGNING_STEPS, align, type Match } from "./align.js";
import type { Block, ImageCode, Unit } from "./blocks.js";
import { addressOf, type GlobalOffsetTable, globalOffsetTable, Normalizer, type NormalUnit } from "./normal.js";
import { type BlockPair, pairBlocks } from "./pair.js";

/** How a piece of code of one image relates to its counterpart. */
export type CodeChange =
  /** The same bytes, which mean the same. */
  | "same"
  /** The same instructions; their bytes differ only because what they name lies elsewhere. */
  | "moved"
  /** The same code, patched differently at boot. */
  | "boot"
  | "changed"
  | "added"
  | "removed";

/** Changes that leave a piece of code as it was when it was linked. */
const UNCHANGED: ReadonlySet<CodeChange> = new Set<CodeChange>(["same", "moved", "boot"]);

/** Most names of code that one piece leads to. */
const MAX_REACHED = 100;

/** Steps from piece to piece that are taken to find what leads to what: real images take some hundred. */
const REACHING_STEPS = 1_000_000;

/** One instruction, as it is shown. */
export interface CodeLine {
  /** As linked. */
  readonly address: bigint;
  readonly bytes: Uint8Array;
  /** As GNU tools write it, but addresses as names in angle brackets: `<+0x1b>` is inside the same function. */
  readonly text: string;
}

/** Lines that stand side by side. */
export interface CodeRow {
  readonly change: "same" | "boot" | "changed" | "added" | "removed";
  readonly a?: CodeLine;
  readonly b?: CodeLine;
}

/** Where a piece of code lies in one image. */
export interface CodeExtent {
  /** As linked. */
  readonly address: bigint;
  /** In bytes. */
  readonly size: number;
}

/** A function, or local code without a name, in two images. */
export interface FunctionComparison {
  /** `local_1` and so on for code without a name: the same number in both images. */
  readonly name: string;
  readonly aliases: readonly string[];
  readonly local: boolean;
  readonly change: CodeChange;
  readonly a?: CodeExtent;
  readonly b?: CodeExtent;
  /** Names of the pieces whose code calls it or jumps to it. */
  readonly calledBy: readonly string[];
  /** Names of the pieces that it leads to, through others too, whose code changed. */
  readonly reaches: readonly string[];
  /** Side by side, where the change is `boot` or `changed`; empty where nothing is decoded. */
  readonly rows: readonly CodeRow[];
  /** Whether equal instructions were found; pieces that differ beyond what is worth aligning stand there whole. */
  readonly aligned: boolean;
}

/** A place that is patched at boot and holds different things in two images. */
export interface SiteContents {
  /** Name of the function, as in {@link FunctionComparison}. */
  readonly function: string;
  readonly a: SiteState;
  readonly b: SiteState;
  /** `choice`: another alternative is in force; `padding`: only what fills the place differs. */
  readonly kind: "choice" | "padding";
}

/** What lies at a place that is patched at boot. */
export interface SiteState {
  readonly address: bigint;
  readonly bytes: Uint8Array;
  /** Place of the alternative in force in the table; absent where the original is there, or another thing. */
  readonly alternative?: number;
  readonly text: string;
}

/** Where a place that is patched at boot lies: its function, and its unit. */
export interface SitePlace {
  readonly function: string;
  readonly pair: number;
  readonly block: Block;
  readonly unit: Unit;
}

/** The code of two images. */
export interface CodeComparison {
  /** Whether instructions are compared; without a decoder, or of images with too much code, bytes. */
  readonly decoded: boolean;
  readonly functions: readonly FunctionComparison[];
  readonly contents: readonly SiteContents[];
}

/** What {@link compareCode} found on the way, for the comparison of alternatives. */
export interface CodeResult {
  readonly comparison: CodeComparison;
  readonly places: readonly [a: readonly SitePlace[], b: readonly SitePlace[]];
  readonly normal: readonly [a: Normalizer, b: Normalizer];
  /** Names for addresses in code, the same for both images where they correspond. */
  readonly tokens: readonly [a: (address: bigint) => string, b: (address: bigint) => string];
}

/**
 * Compares the code of two images of one ABI, function by function.
 *
 * An instruction is the same where it does the same with what corresponds: branches lead to places that correspond,
 * read-only data that is read has the same bytes, and the kernel's data lies at the same distance before the image.
 * What boot puts in place of other instructions is told apart from what differed before.
 */
export function compareCode(a: ImageCode, b: ImageCode): CodeResult {
  const pairs = pairBlocks(a, b);
  const index = new Map<Block, number>();
  for (const [i, pair] of pairs.entries()) for (const block of [pair.a, pair.b]) if (block) index.set(block, i);
  const tokenOf = (block: Block) => `#${index.get(block)}`;
  const normal = [new Normalizer(a, tokenOf), new Normalizer(b, tokenOf)] as const;
  const names = namesOf(pairs);
  const decoded = a.decoder !== undefined && b.decoder !== undefined;
  const allowance = { steps: ALIGNING_STEPS };
  const aligned = pairs.map((pair) => new AlignedPair(pair, normal, allowance));
  const corresponds = correspondence(a, b, index, aligned);

  const contents: SiteContents[] = [];
  const texts = [new Texts(a, index, names), new Texts(b, index, names)] as const;
  const changes = aligned.map((one) => {
    if (!one.a || !one.b) return { change: one.a ? ("removed" as const) : ("added" as const), rows: [] };
    if (!decoded) return { change: plainChange(one as BothAligned, a, b), rows: [] };
    return compareUnits(one as BothAligned, { normal, texts, corresponds, contents, names, index });
  });
  const leads = leadsOf(aligned, [a, b], index);
  const callers = new Map<number, number[]>();
  for (const [from, to] of leads)
    for (const other of to) (callers.get(other) ?? callers.set(other, []).get(other))?.push(from);
  const budget = { steps: REACHING_STEPS };
  const functions = pairs.map((pair, i): FunctionComparison => {
    const { change, rows } = changes[i] as { change: CodeChange; rows: CodeRow[] };
    const main = pair.a ?? pair.b;
    return {
      name: names[i] as string,
      aliases: main?.names.slice(1) ?? [],
      local: main?.names.length === 0,
      change,
      ...(pair.a && { a: { address: pair.a.start, size: pair.a.bytes.length } }),
      ...(pair.b && { b: { address: pair.b.start, size: pair.b.bytes.length } }),
      calledBy: (callers.get(i) ?? []).map((caller) => names[caller] as string),
      reaches: reachedFrom(i, leads, budget)
        .filter((other) => !UNCHANGED.has(changes[other]?.change ?? "same"))
        .slice(0, MAX_REACHED)
        .map((other) => names[other] as string),
      rows,
      aligned: (aligned[i] as AlignedPair).found,
    };
  });
  return {
    comparison: { decoded, functions: inOrder(functions), contents },
    places: [placesOf(a, index, names), placesOf(b, index, names)],
    normal,
    tokens: [addressToken(a, tokenOf), addressToken(b, tokenOf)],
  };
}

function addressToken(code: ImageCode, tokenOf: (block: Block) => string): (address: bigint) => string {
  return (address) => {
    const block = code.blockAt(address);
    return block ? `${tokenOf(block)}+${address - block.start}` : hex(address - code.image.linkBase);
  };
}

/** By address in the first image, then what only the second has; functions before local code. */
function inOrder(functions: readonly FunctionComparison[]): FunctionComparison[] {
  const rank = (one: FunctionComparison) => (one.local ? 2 : 0) + (one.a ? 0 : 1);
  const address = ({ a, b }: FunctionComparison) => a?.address ?? b?.address ?? 0n;
  return [...functions].sort((x, y) => rank(x) - rank(y) || (address(x) < address(y) ? -1 : 1));
}

/** Names of functions; local code is numbered by where it lies. */
function namesOf(pairs: readonly BlockPair[]): string[] {
  const start = (pair: BlockPair) => pair.a?.start ?? pair.b?.start ?? 0n;
  const isLocal = (pair: BlockPair) => (pair.a ?? pair.b)?.names.length === 0;
  const locals = pairs
    .filter(isLocal)
    .sort((x, y) => Number(x.a === undefined) - Number(y.a === undefined) || (start(x) < start(y) ? -1 : 1));
  const numbers = new Map(locals.map((pair, i) => [pair, i + 1]));
  return pairs.map((pair) => (pair.a ?? pair.b)?.names[0] ?? `local_${numbers.get(pair)}`);
}

/** Two blocks whose equal units were found. */
class AlignedPair {
  readonly a: Block | undefined;
  readonly b: Block | undefined;
  readonly normalA: readonly NormalUnit[];
  readonly normalB: readonly NormalUnit[];
  readonly matches: readonly Match[];
  readonly found: boolean;
  /** For each unit, the number of its match, or a negative number for the stretch between two matches. */
  readonly slotsA: readonly number[];
  readonly slotsB: readonly number[];

  constructor({ a, b }: BlockPair, normal: readonly [a: Normalizer, b: Normalizer], allowance: { steps: number }) {
    this.a = a;
    this.b = b;
    this.normalA = a?.units.map((unit) => normal[0].unit(unit, a)) ?? [];
    this.normalB = b?.units.map((unit) => normal[1].unit(unit, b)) ?? [];
    const keys = (units: readonly NormalUnit[]) => units.map(({ key }) => key);
    const matches = a && b ? align(keys(this.normalA), keys(this.normalB), allowance) : [];
    this.found = matches !== undefined;
    this.matches = matches ?? [];
    this.slotsA = slots(this.normalA.length, this.matches, 0);
    this.slotsB = slots(this.normalB.length, this.matches, 1);
  }
}

type BothAligned = AlignedPair & { readonly a: Block; readonly b: Block };

function slots(length: number, matches: readonly Match[], side: 0 | 1): number[] {
  const numbers: number[] = [];
  let before = 0;
  for (let unit = 0; unit < length; unit++) {
    if (matches[before]?.[side] === unit) {
      numbers.push(before);
      before += 1;
    } else numbers.push(-1 - before);
  }
  return numbers;
}

/** Whether two addresses in code are the same place of corresponding blocks. */
function correspondence(
  a: ImageCode,
  b: ImageCode,
  index: ReadonlyMap<Block, number>,
  aligned: readonly AlignedPair[],
): (inA: bigint, inB: bigint) => boolean {
  return (inA, inB) => {
    const [blockA, blockB] = [a.blockAt(inA), b.blockAt(inB)];
    if (!blockA || !blockB || index.get(blockA) !== index.get(blockB)) return false;
    if (inA === blockA.start && inB === blockB.start) return true;
    const [placeA, placeB] = [a.placeOf(inA), b.placeOf(inB)];
    if (!placeA || !placeB) return inA - blockA.start === inB - blockB.start;
    const pair = aligned[index.get(blockA) as number] as AlignedPair;
    return pair.slotsA[placeA.unit] === pair.slotsB[placeB.unit];
  };
}

/** Compares code that is not decoded: its bytes, those of places that are patched at boot apart. */
function plainChange(pair: BothAligned, a: ImageCode, b: ImageCode): CodeChange {
  if (sameBytes(pair.a.bytes, pair.b.bytes)) return "same";
  return sameBytes(a.bytesWithoutSites(pair.a), b.bytesWithoutSites(pair.b)) ? "boot" : "changed";
}

interface Means {
  readonly normal: readonly [a: Normalizer, b: Normalizer];
  readonly texts: readonly [a: Texts, b: Texts];
  readonly corresponds: (inA: bigint, inB: bigint) => boolean;
  readonly contents: SiteContents[];
  readonly names: readonly string[];
  readonly index: ReadonlyMap<Block, number>;
}

function compareUnits(pair: BothAligned, means: Means): { change: CodeChange; rows: CodeRow[] } {
  const { a, b } = pair;
  const rows: CodeRow[] = [];
  const seen = new Set<CodeRow["change"]>();
  const line = (side: 0 | 1, unit: Unit | undefined, i: number, told: boolean): CodeLine | undefined => {
    const instruction = unit?.instructions[i];
    if (!instruction) return undefined;
    const shown = means.texts[side].line(instruction, side === 0 ? a : b);
    // Where boot has other instructions to choose from, what lies there now may look the same.
    if (!told || i > 0 || !unit?.site) return shown;
    return { ...shown, text: `${shown.text}  [boot: ${means.normal[side].choices(unit.site)}]` };
  };
  const put = (change: CodeRow["change"], unitA: Unit | undefined, unitB: Unit | undefined) => {
    seen.add(change);
    const told = change !== "same" && change !== "boot";
    const count = Math.max(unitA?.instructions.length ?? 0, unitB?.instructions.length ?? 0);
    for (let i = 0; i < count; i++) {
      const [one, other] = [line(0, unitA, i, told), line(1, unitB, i, told)];
      rows.push({ change, ...(one && { a: one }), ...(other && { b: other }) });
    }
  };
  let atA = 0;
  let atB = 0;
  const between = (endA: number, endB: number) => {
    while (atA < endA && atB < endB) put("changed", a.units[atA++], b.units[atB++]);
    while (atA < endA) put("removed", a.units[atA++], undefined);
    while (atB < endB) put("added", undefined, b.units[atB++]);
  };
  for (const [i, j] of pair.matches) {
    between(i, j);
    put(matchedChange(pair, i, j, means), a.units[i], b.units[j]);
    atA = i + 1;
    atB = j + 1;
  }
  between(a.units.length, b.units.length);

  if (seen.has("changed") || seen.has("added") || seen.has("removed")) return { change: "changed", rows };
  if (seen.has("boot")) return { change: "boot", rows };
  return { change: sameBytes(a.bytes, b.bytes) ? "same" : "moved", rows: [] };
}

/** What of two units with the same key may still differ: where they lead, and what boot put there. */
function matchedChange(pair: BothAligned, i: number, j: number, means: Means): CodeRow["change"] {
  const unitA = pair.a.units[i] as Unit;
  const unitB = pair.b.units[j] as Unit;
  const { codeAddresses } = pair.normalA[i] as NormalUnit;
  const others = (pair.normalB[j] as NormalUnit).codeAddresses;
  if (!codeAddresses.every((address, n) => means.corresponds(address, others[n] as bigint))) return "changed";
  if (!unitA.site || !unitB.site) return "same";

  const stateA = siteState(unitA, pair.a, means.normal[0], means.texts[0]);
  const stateB = siteState(unitB, pair.b, means.normal[1], means.texts[1]);
  const same = means.normal[0].contents(unitA, pair.a) === means.normal[1].contents(unitB, pair.b);
  const layout = ({ instructions }: Unit) =>
    instructions.map(({ mnemonic, bytes }) => `${mnemonic} ${bytes.length}`).join();
  if (same && layout(unitA) === layout(unitB)) return "same";
  if (!same && stateA.alternative === undefined && stateB.alternative === undefined) return "changed";
  means.contents.push({
    function: means.names[means.index.get(pair.a) as number] as string,
    a: stateA,
    b: stateB,
    kind: same ? "padding" : "choice",
  });
  return "boot";
}

function siteState(unit: Unit, block: Block, normal: Normalizer, texts: Texts): SiteState {
  const contents = normal.contents(unit, block);
  const inForce = unit.site?.alternatives.findLast(
    ({ replacementAddress, replacement }) => normal.replacement(replacementAddress, replacement) === contents,
  );
  return {
    address: unit.instructions[0]?.address ?? 0n,
    bytes: joined(unit.instructions.map(({ bytes }) => bytes)),
    ...(inForce && { alternative: inForce.index }),
    text: unit.instructions.map((one) => texts.line(one, block).text.replace(/ +/g, " ")).join("; "),
  };
}

/** For each pair of blocks, the others that its code names, in either image. */
function leadsOf(
  aligned: readonly AlignedPair[],
  codes: readonly [a: ImageCode, b: ImageCode],
  index: ReadonlyMap<Block, number>,
): ReadonlyMap<number, ReadonlySet<number>> {
  return new Map(
    aligned.map(({ normalA, normalB }, i) => {
      const to = new Set<number>();
      for (const [side, units] of [normalA, normalB].entries()) {
        for (const { codeAddresses } of units) {
          for (const address of codeAddresses) {
            const block = codes[side as 0 | 1].blockAt(address);
            const other = block && index.get(block);
            if (other !== undefined && other !== i) to.add(other);
          }
        }
      }
      return [i, to] as const;
    }),
  );
}

/** The blocks that one leads to, through others too; itself left out. */
function reachedFrom(
  start: number,
  leads: ReadonlyMap<number, ReadonlySet<number>>,
  budget: { steps: number },
): number[] {
  const reached = new Set<number>();
  const pending = [start];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    for (const next of leads.get(at) ?? []) {
      budget.steps -= 1;
      if (budget.steps < 0 || reached.has(next)) continue;
      reached.add(next);
      pending.push(next);
    }
  }
  reached.delete(start);
  return [...reached];
}

function placesOf(code: ImageCode, index: ReadonlyMap<Block, number>, names: readonly string[]): SitePlace[] {
  return code.blocks.flatMap((block) => {
    const pair = index.get(block) as number;
    return block.units
      .filter(({ site }) => site !== undefined)
      .map((unit) => ({ function: names[pair] as string, pair, block, unit }));
  });
}

/** Writes instructions with names for addresses, so that both sides of a comparison read the same. */
class Texts {
  readonly #code: ImageCode;
  readonly #index: ReadonlyMap<Block, number>;
  readonly #names: readonly string[];
  readonly #got: GlobalOffsetTable;

  constructor(code: ImageCode, index: ReadonlyMap<Block, number>, names: readonly string[]) {
    this.#code = code;
    this.#index = index;
    this.#names = names;
    this.#got = globalOffsetTable(code);
  }

  line(instruction: Instruction, within: Block): CodeLine {
    const { address, bytes } = instruction;
    return { address, bytes, text: this.#text(instruction, within) };
  }

  #text(instruction: Instruction, within: Block): string {
    const name = (address: bigint) => this.#name(address, within);
    let text = this.#code.decoder?.text(instruction, name) ?? "";
    const relative = / +# [0-9a-f]+ <(.*)>$/.exec(text);
    if (relative) {
      text = text.slice(0, relative.index).replace(/-?0x[0-9a-f]+(?=\(%[er]ip\))/, `<${relative[1]}>`);
    }
    text = text.replace(/\b[0-9a-f]+ (?=<)/, "");
    for (const operand of instruction.operands) {
      if (operand.kind === "memory" && operand.base !== "rip" && operand.base !== "eip") {
        const address = addressOf(this.#code, this.#got, instruction, operand);
        if (address !== undefined && operand.displacementSize > 0) {
          const distance = instruction.mnemonic === "lea" && operand.base === undefined ? "-.got" : "";
          text = text.replace(hex(operand.displacement), `<${name(address)}>${distance}`);
        }
      } else if (operand.kind === "immediate" && this.#got.adders.has(instruction.address)) {
        const address = BigInt.asUintN(32, instruction.address + operand.value);
        text = text.replace(hex(operand.value), `<${name(address)}>-.`);
      }
    }
    return text;
  }

  #name(address: bigint, within: Block): string {
    const offset = (base: bigint) => (address === base ? "" : `+${hex(address - base)}`);
    const block = this.#code.blockAt(address);
    if (block === within) return `+${hex(address - within.start)}`;
    if (block) return `${this.#names[this.#index.get(block) as number]}${offset(block.start)}`;
    const { linkBase, elf } = this.#code.image;
    const distance = BigInt.asIntN(elf.header.class, address - linkBase);
    const section = distance < 0n ? undefined : this.#code.sectionAt(address);
    if (section) return `${section.name}${offset(section.sh_addr)}`;
    return `image${distance < 0n ? "" : "+"}${hex(distance)}`;
  }
}
