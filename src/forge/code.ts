import { type AsmOperand, Assembler, type Branch, type CodeName, type IcedModule } from "../isa/x86/assembler.js";
import {
  FrameInstructions,
  I386_REGISTERS,
  type I386Register,
  X86_64_REGISTERS,
  type X86_64Register,
} from "./dwarf.js";
import { ForgeError } from "./error.js";

/** A function of an image, to be assembled. */
export interface FunctionPlan {
  readonly name: string;
  /** Weak names of the same code. */
  readonly aliases: readonly string[];
  /** `LINUX_2.5` or `LINUX_2.6`. */
  readonly version: string;
  /** Whether a signal handler returns to it: its frame is that of the interrupted code. */
  readonly signal: boolean;
  /** Writes its instructions. */
  write(code: FunctionCode): void;
}

/** A function that was assembled. */
export interface ForgedFunction {
  readonly plan: FunctionPlan;
  /** Where it lies in `.text`, in bytes. */
  readonly start: number;
  readonly end: number;
  /** What its unwind table says at each offset in `.text` at which something changes. */
  readonly frame: readonly { readonly at: number; readonly instructions: Uint8Array }[];
}

function dwarfNumber(register: I386Register | X86_64Register): number {
  return { ...I386_REGISTERS, ...X86_64_REGISTERS }[register];
}

/** The instructions of one function, and with them what an unwinder has to know behind each. */
export class FunctionCode {
  readonly #assembler: Assembler;
  readonly #name: string;
  readonly #frame: { readonly label: string; readonly instructions: Uint8Array }[] = [];
  readonly #wide: boolean;
  readonly #word: number;
  /** Bytes on the stack below the return address. */
  #depth = 0;

  constructor(assembler: Assembler, name: string) {
    this.#assembler = assembler;
    this.#name = name;
    this.#wide = assembler.bits === 64;
    this.#word = assembler.bits / 8;
  }

  /** Changes of the frame, by the labels at which they hold. */
  get frame(): readonly { readonly label: string; readonly instructions: Uint8Array }[] {
    return this.#frame;
  }

  /** An instruction that leaves the frame as it is. */
  op(code: CodeName, ...operands: readonly AsmOperand[]): this {
    this.#assembler.op(code, ...operands);
    return this;
  }

  /** A label's name that no other function has. */
  local(name: string): string {
    return `${this.#name}, ${name}`;
  }

  /** Names the place of what comes next. */
  label(name: string): this {
    this.#assembler.label(name);
    return this;
  }

  /** A jump or call that leaves the frame as it is. */
  branch(mnemonic: Branch, label: string): this {
    this.#assembler.branch(mnemonic, label);
    return this;
  }

  /** The next instruction is made one that no other processor comes between. */
  lock(): this {
    this.#assembler.data(Uint8Array.of(0xf0));
    return this;
  }

  /** Calls code at an address, by a register that a function may overwrite and that takes no argument. */
  callTo(address: bigint): this {
    if (this.#wide) return this.op("Mov_r64_imm64", "rax", address).op("Call_rm64", "rax");
    return this.op("Mov_r32_imm32", "eax", address).op("Call_rm32", "eax");
  }

  /** Leaves for code at an address, which returns to this function's caller. */
  jumpTo(address: bigint): this {
    if (this.#wide) return this.op("Mov_r64_imm64", "r11", address).op("Jmp_rm64", "r11");
    return this.op("Mov_r32_imm32", "eax", address).op("Jmp_rm32", "eax");
  }

  /** Saves a register on the stack. */
  push(register: I386Register | X86_64Register): this {
    this.#assembler.op(this.#wide ? "Push_r64" : "Push_r32", register);
    this.#depth += this.#word;
    // Above what was pushed lies the return address.
    return this.#moved((frame) => frame.saved(dwarfNumber(register), this.#depth / this.#word + 1));
  }

  /** Takes a register back, in the reverse order of {@link FunctionCode.push}. */
  pop(register: I386Register | X86_64Register): this {
    this.#assembler.op(this.#wide ? "Pop_r64" : "Pop_r32", register);
    this.#depth -= this.#word;
    return this.#moved((frame) => frame.restored(dwarfNumber(register)));
  }

  /** Makes room on the stack, below all that was saved; up to 127 bytes. */
  reserve(bytes: number): this {
    if (this.#wide) this.#assembler.op("Sub_rm64_imm8", "rsp", bytes);
    else this.#assembler.op("Sub_rm32_imm8", "esp", bytes);
    this.#depth += bytes;
    return this.#moved();
  }

  /** Gives back what {@link FunctionCode.reserve} took. */
  release(bytes: number): this {
    if (this.#wide) this.#assembler.op("Add_rm64_imm8", "rsp", bytes);
    else this.#assembler.op("Add_rm32_imm8", "esp", bytes);
    this.#depth -= bytes;
    return this.#moved();
  }

  #moved(saved: (frame: FrameInstructions) => void = () => {}): this {
    return this.unwind((frame) => {
      frame.cfaOffset(this.#depth + this.#word);
      saved(frame);
    });
  }

  /** What an unwinder has to know from here on. */
  unwind(write: (frame: FrameInstructions) => void): this {
    const frame = new FrameInstructions();
    write(frame);
    const label = `${this.#name}: frame ${this.#frame.length}`;
    this.#assembler.label(label);
    this.#frame.push({ label, instructions: frame.bytes });
    return this;
  }
}

/** Functions to be assembled one behind another. */
export interface TextPlan {
  readonly functions: readonly FunctionPlan[];
  /** Each begins at a multiple of it, and the end is at one too. */
  readonly align: number;
  /** The functions that are to begin at an offset, by name; these come first. */
  readonly places?: ReadonlyMap<string, number>;
}

/**
 * Assembles functions.
 *
 * In front of each signal return there is at least one byte that belongs to no function: unwinders look a frame up at
 * the return address less one, and nothing called these. Throws `ForgeError` where functions do not find room at their
 * places.
 */
export function assembleText(
  iced: IcedModule,
  bits: 32 | 64,
  { functions: plans, align, places = new Map() }: TextPlan,
): { readonly text: Uint8Array; readonly functions: readonly ForgedFunction[] } {
  const assembler = new Assembler(iced, bits);
  const endOf = (name: string): string => `${name}: end`;
  const placeOf = ({ name }: FunctionPlan): number => places.get(name) ?? Number.POSITIVE_INFINITY;
  let end = 0;
  const codes = [...plans]
    .sort((a, b) => Math.sign(placeOf(a) - placeOf(b)) || 0)
    .map((plan) => {
      const place = places.get(plan.name);
      if (place === undefined) {
        if (plan.signal) assembler.op("Nopd");
        assembler.align(align);
      } else {
        const gap = place - end;
        if (gap < (plan.signal ? 1 : 0)) throw new ForgeError(`there is no room for ${plan.name} at its place`);
        assembler.data(new Uint8Array(gap).fill(NOP));
        end = place + measure(iced, bits, plan).size;
      }
      assembler.label(plan.name);
      const code = new FunctionCode(assembler, plan.name);
      plan.write(code);
      assembler.label(endOf(plan.name));
      return { plan, code };
    });
  const { bytes, labels } = assembler.align(align).assemble(0n);
  const at = (label: string): number => Number(labels.get(label));
  const functions = codes.map(({ plan, code }) => ({
    plan,
    start: at(plan.name),
    end: at(endOf(plan.name)),
    frame: code.frame.map(({ label, instructions }) => ({ at: at(label), instructions })),
  }));
  return { text: bytes, functions };
}

const NOP = 0x90;

/** The size of a function that refers to no other, and where a label of its own lies in it: -1 where there is none. */
export function measure(
  iced: IcedModule,
  bits: 32 | 64,
  plan: FunctionPlan,
  label = "",
): { readonly size: number; readonly at: number } {
  const assembler = new Assembler(iced, bits);
  const code = new FunctionCode(assembler, plan.name);
  plan.write(code);
  const { bytes, labels } = assembler.assemble(0n);
  return { size: bytes.length, at: Number(labels.get(code.local(label)) ?? -1) };
}
