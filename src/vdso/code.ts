import type { ElfFile } from "../elf/file.js";
import type { Decoder, Instruction } from "../isa/instruction.js";

/** Most bytes decoded ahead of an address that is asked for: one piece of straight code is seldom longer. */
const RUN = 1024;

/** Most bytes of one instruction, on any architecture. */
const LONGEST = 16;

/**
 * The instructions of an image, decoded as they are asked for and remembered.
 *
 * Addresses are as linked. An instruction is decoded from the address asked for, whatever lies before it.
 */
export class Code {
  readonly #elf: ElfFile;
  readonly #decoder: Decoder;
  readonly #known = new Map<bigint, Instruction>();

  constructor(elf: ElfFile, decoder: Decoder) {
    this.#elf = elf;
    this.#decoder = decoder;
  }

  /** The instruction at an address; `undefined` outside the image's loadable segments. */
  at(address: bigint): Instruction | undefined {
    const known = this.#known.get(address);
    if (known) return known;
    const offset = this.#elf.offsetOf(address);
    if (offset === undefined || offset >= this.#elf.bytes.length) return undefined;
    const end = Math.min(offset + RUN, this.#elf.bytes.length);
    // The last instructions may be cut by the end of the run; where the file itself ends, they are what they are.
    const sure = address + BigInt(end === this.#elf.bytes.length ? RUN : RUN - LONGEST);
    this.#decoder.decode(this.#elf.bytes.subarray(offset, end), address, (instruction) => {
      if (instruction.address >= sure || this.#known.has(instruction.address)) return false;
      this.#known.set(instruction.address, instruction);
      return goesOn(instruction);
    });
    return this.#known.get(address);
  }

  /** The instructions that start in [start, end). */
  range(start: bigint, end: bigint): Instruction[] {
    const found: Instruction[] = [];
    for (let address = start; address < end; ) {
      const instruction = this.at(address);
      if (!instruction) break;
      found.push(instruction);
      address += BigInt(instruction.bytes.length);
    }
    return found;
  }
}

/** Whether the instruction behind this one can be reached from it. */
export function goesOn({ flow }: Instruction): boolean {
  return flow !== "jump" && flow !== "indirect-jump" && flow !== "return" && flow !== "stop" && flow !== "invalid";
}

/** The address behind an instruction. */
export function behind(instruction: Pick<Instruction, "address" | "bytes">): bigint {
  return instruction.address + BigInt(instruction.bytes.length);
}
