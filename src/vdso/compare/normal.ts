import { hex, hexBytes } from "../../bytes/hex.js";
import type { Instruction, MemoryOperand, Operand } from "../../isa/instruction.js";
import type { Site } from "../boot/alternatives.js";
import type { Block, ImageCode, Unit } from "./blocks.js";
import { byAddress, countUpTo } from "./search.js";

/** Most bytes of read-only data that stand for their address. */
const MAX_CONSTANT = 256;

/** A unit in a form that is the same wherever the image was put and however its parts were shifted. */
export interface NormalUnit {
  readonly key: string;
  /** Addresses in code that it names, in order; where they lie is compared apart. */
  readonly codeAddresses: readonly bigint[];
}

/** Puts the instructions of an image into a form in which a mere shift makes no difference. */
export class Normalizer {
  readonly #code: ImageCode;
  readonly #tokenOf: (block: Block) => string;
  readonly #got: GlobalOffsetTable;
  /** Addresses that instructions name, sorted: where one piece of data ends and the next begins. */
  readonly #named: readonly bigint[];

  /** `tokenOf` names a block: the same for two images where the blocks correspond. */
  constructor(code: ImageCode, tokenOf: (block: Block) => string) {
    this.#code = code;
    this.#tokenOf = tokenOf;
    this.#got = globalOffsetTable(code);
    this.#named = namedAddresses(code, this.#got);
  }

  /** A unit, in the block that it belongs to. */
  unit({ instructions, site }: Unit, within: Block): NormalUnit {
    const codeAddresses: bigint[] = [];
    if (!site) {
      return { key: instructions.map((one) => this.#key(one, within, codeAddresses)).join(";"), codeAddresses };
    }
    return { key: `site ${this.choices(site)}`, codeAddresses };
  }

  /** What boot may put at a place, in the order of application; `!` where it does so without the feature. */
  choices({ alternatives }: Site): string {
    return alternatives
      .map((one) => (one.inverted ? "!" : "") + this.replacement(one.replacementAddress, one.replacement))
      .join(" | ");
  }

  /** What lies at a place that is patched, without what only fills it. */
  contents({ instructions }: Unit, within: Block): string {
    return instructions
      .filter((one) => !this.#code.isNop(one))
      .map((one) => this.#key(one, within, []))
      .join("; ");
  }

  /** The instructions of a replacement; its bytes where they are not decoded. */
  replacement(address: bigint, bytes: Uint8Array): string {
    const instructions = this.#code.replacement(address, bytes);
    if (instructions.length === 0) return hexBytes(bytes);
    return instructions
      .filter((one) => !this.#code.isNop(one))
      .map((one) => this.#key(one, undefined, []))
      .join("; ");
  }

  #key(instruction: Instruction, within: Block | undefined, codeAddresses: bigint[]): string {
    const { prefixes, mnemonic, operands } = instruction;
    const operandKey = (operand: Operand): string => {
      switch (operand.kind) {
        case "register":
          return `%${operand.name}${operand.decoration ?? ""}`;
        case "immediate": {
          if (!this.#got.adders.has(instruction.address)) return `$${hex(operand.value)}`;
          const address = BigInt.asUintN(32, instruction.address + operand.value);
          return `$<${this.#address(address, 0, within, codeAddresses)}>`;
        }
        case "target":
          return `<${this.#address(operand.address, 0, within, codeAddresses)}>`;
        case "modifier":
          return operand.text;
        case "memory":
          return this.#memory(instruction, operand, within, codeAddresses);
      }
    };
    return `${[...prefixes, mnemonic].join(" ")} ${operands.map(operandKey).join(",")}`.trimEnd();
  }

  #memory(
    instruction: Instruction,
    operand: MemoryOperand,
    within: Block | undefined,
    codeAddresses: bigint[],
  ): string {
    const { segment = "", base = "", index = "", scale, displacement, decoration = "", size } = operand;
    const address = addressOf(this.#code, this.#got, instruction, operand);
    const place =
      address === undefined ? hex(displacement) : `<${this.#address(address, size, within, codeAddresses)}>`;
    return `${segment}:${place}(${base},${index},${scale})${decoration}`;
  }

  #address(address: bigint, size: number, within: Block | undefined, codeAddresses: bigint[]): string {
    const block = this.#code.blockAt(address);
    if (block) {
      codeAddresses.push(address);
      return block === within ? "here" : this.#tokenOf(block);
    }
    // The table holds its own image's addresses, and code uses it as a place to count from.
    if (address === this.#got.address) return "table";
    const { linkBase, elf } = this.#code.image;
    const distance = BigInt.asIntN(elf.header.class, address - linkBase);
    return distance < 0n ? `image${hex(distance)}` : (this.#data(address, size) ?? hex(distance));
  }

  /** Data by what it holds: as much as is read, or up to the next address that code names, without zeros at the end. */
  #data(address: bigint, size: number): string | undefined {
    const section = this.#code.sectionAt(address);
    const read = size > 0 && size <= MAX_CONSTANT ? this.#code.bytesAt(address, size) : undefined;
    if (read) return `bytes ${hexBytes(read)}`;
    if (!section) return undefined;
    const next = this.#named[countUpTo(this.#named, address, (one) => one)];
    const sectionEnd = section.sh_addr + BigInt(section.sh_size);
    const end = next !== undefined && next < sectionEnd ? next : sectionEnd;
    const object = this.#code.bytesAt(address, Math.min(Number(end - address), MAX_CONSTANT));
    return object && `data ${hexBytes(object).replace(/(00)+$/, "")}`;
  }
}

/** All addresses of data that instructions name, each once, sorted. */
function namedAddresses(code: ImageCode, got: GlobalOffsetTable): bigint[] {
  const found = new Set<bigint>();
  for (const { units } of code.blocks) {
    for (const instruction of units.flatMap(({ instructions }) => instructions)) {
      for (const operand of instruction.operands) {
        const address = operand.kind === "memory" ? addressOf(code, got, instruction, operand) : undefined;
        if (address !== undefined) found.add(address);
      }
    }
  }
  return byAddress([...found], (one) => one);
}

/** Where a memory operand lies, told from the program counter, from the code before it, or written outright. */
export function addressOf(
  { image, memoryAddresses }: ImageCode,
  got: GlobalOffsetTable,
  instruction: Instruction,
  operand: MemoryOperand,
): bigint | undefined {
  const { segment, base, index, address, displacement } = operand;
  if (segment !== undefined && !/^[cd]s$/.test(segment)) return undefined;
  if (base === "rip" || base === "eip") return address;
  const known = memoryAddresses.get(instruction.address);
  if (base !== undefined || index !== undefined) return known;
  if (image.linkBase !== 0n) return address;
  // Linked to no address, code has no addresses of its own: this is a distance from the table, to be added to it.
  if (instruction.mnemonic !== "lea" || got.address === undefined) return undefined;
  return BigInt.asUintN(32, got.address + displacement);
}

/** How i386 code finds the image's data: by the distance to the global offset table. */
export interface GlobalOffsetTable {
  /** Addresses of the instructions that add to their own address, just told by a call, the distance to the table. */
  readonly adders: ReadonlySet<bigint>;
  /** Where the table is, if all of them agree. */
  readonly address?: bigint;
}

/** Finds the table by the code that uses it. */
export function globalOffsetTable(code: ImageCode): GlobalOffsetTable {
  const adders = new Set<bigint>();
  const addresses = new Set<bigint>();
  if (code.image.abi !== "i386") return { adders };
  for (const { units } of code.blocks) {
    for (const [i, { instructions }] of units.entries()) {
      const call = instructions.at(-1);
      const next = units[i + 1]?.instructions[0];
      if (call?.flow !== "call" || next?.mnemonic !== "add") continue;
      const [source, destination] = next.operands;
      if (source?.kind !== "immediate" || destination?.kind !== "register") continue;
      if (call.target === undefined || !returnsItsAddress(code, call.target, destination.name)) continue;
      adders.add(next.address);
      addresses.add(BigInt.asUintN(32, next.address + source.value));
    }
  }
  const [address] = addresses;
  return { adders, ...(address !== undefined && addresses.size === 1 && { address }) };
}

/** Whether a function is `mov (%esp),%REGISTER; ret`. */
function returnsItsAddress(code: ImageCode, address: bigint, register: string): boolean {
  const place = code.placeOf(address);
  const [loads, returns] = place?.block.units.slice(place.unit, place.unit + 2) ?? [];
  const [from, to] = loads?.instructions[0]?.operands ?? [];
  return (
    from?.kind === "memory" &&
    from.base === "esp" &&
    from.displacement === 0n &&
    to?.kind === "register" &&
    to.name === register &&
    returns?.instructions[0]?.flow === "return"
  );
}
