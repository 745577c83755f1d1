import type { AsmOperand, Assembler, Branch, CodeName } from "../isa/x86/assembler.js";
import { FrameInstructions, I386_REGISTERS, type I386Register } from "./dwarf.js";

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

const I386_WORD = 4;

/** The instructions of one function, and with them what an unwinder has to know behind each. */
export class FunctionCode {
  readonly #assembler: Assembler;
  readonly #name: string;
  readonly #frame: { readonly label: string; readonly instructions: Uint8Array }[] = [];
  #pushed = 0;

  constructor(assembler: Assembler, name: string) {
    this.#assembler = assembler;
    this.#name = name;
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

  /** Saves a register of i386 code on the stack. */
  push(register: I386Register): this {
    this.#assembler.op("Push_r32", register);
    this.#pushed += 1;
    // Above what was pushed lies the return address: one word more.
    return this.unwind((frame) =>
      frame.cfaOffset((this.#pushed + 1) * I386_WORD).saved(I386_REGISTERS[register], this.#pushed + 1),
    );
  }

  /** Takes a register of i386 code back, in the reverse order of {@link FunctionCode.push}. */
  pop(register: I386Register): this {
    this.#assembler.op("Pop_r32", register);
    this.#pushed -= 1;
    return this.unwind((frame) => frame.restored(I386_REGISTERS[register]).cfaOffset((this.#pushed + 1) * I386_WORD));
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

/**
 * Assembles functions one behind another, each at a multiple of `align`, and the end too.
 *
 * In front of each signal return there is at least one byte that belongs to no function: unwinders look a frame up at
 * the return address less one, and nothing called these.
 */
export function assembleText(
  assembler: Assembler,
  plans: readonly FunctionPlan[],
  align: number,
): { readonly text: Uint8Array; readonly functions: readonly ForgedFunction[] } {
  const endOf = (name: string): string => `${name}: end`;
  const codes = plans.map((plan) => {
    if (plan.signal) assembler.op("Nopd");
    assembler.align(align).label(plan.name);
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
