import type { Instruction, MemoryOperand, Operand } from "../isa/instruction.js";
import { behind, type Code, goesOn } from "./code.js";

/** What is known of a register or a stack slot. */
type Value = { readonly kind: "constant"; readonly value: bigint } | { readonly kind: "bit-of-argument" };

/** Known values by register (`ax` stands for rax, eax, ax, al) or by stack slot (`bp-24`). */
type State = ReadonlyMap<string, Value>;

/** Something seen in the code, with what was known when it was reached. */
export interface Visit {
  readonly instruction: Instruction;
  /** Value of eax before the instruction, where it is the same on every path: it carries system call numbers. */
  readonly accumulator?: bigint;
  /** Address of the instruction's memory operand, where it is known. */
  readonly memoryAddress?: bigint;
  /** The immediate that a one-bit-shifted argument is tested against: which values of it take this path. */
  readonly argumentMask?: bigint;
}

/** Whether a key stands for a stack slot. */
function isSlot(key: string): boolean {
  return key.startsWith("bp+") || key.startsWith("bp-");
}

/**
 * How many instructions may still be followed in one image, over all its functions: real ones take a few thousand, and a
 * hostile one could make every function reach all the others.
 */
export class Budget {
  /** Instructions left. */
  left = 200_000;

  /** Takes one; `false` where none is left. */
  spend(): boolean {
    this.left -= 1;
    return this.left >= 0;
  }

  get exhausted(): boolean {
    return this.left < 0;
  }
}

const CALLER_SAVED = ["ax", "cx", "dx", "si", "di", "r8", "r9", "r10", "r11"];
const CALLER_SAVED_32 = ["ax", "cx", "dx"];

/** A register by the name of its lower half, and how much of it a name stands for. */
interface RegisterPart {
  readonly register: string;
  readonly width: 8 | 16 | 32 | 64;
}

const parts = new Map<string, RegisterPart>();

/** The register that a name is part of. There are few names, so each is taken apart once. */
function canonical(name: string): RegisterPart {
  let part = parts.get(name);
  if (!part) {
    part = takeApart(name);
    parts.set(name, part);
  }
  return part;
}

function takeApart(name: string): RegisterPart {
  const extended = /^(r(?:[89]|1[0-5]))([dwb]?)$/.exec(name);
  if (extended) {
    const width = ({ d: 32, w: 16, b: 8 } as const)[extended[2] as "d" | "w" | "b"] ?? 64;
    return { register: extended[1] as string, width };
  }
  if (/^r[a-z]{2}$/.test(name)) return { register: name.slice(1), width: 64 };
  if (/^e[a-z]{2}$/.test(name)) return { register: name.slice(1), width: 32 };
  if (/^[abcd][lh]$/.test(name)) return { register: `${name[0]}x`, width: 8 };
  if (/^(sil|dil|bpl|spl)$/.test(name)) return { register: name.slice(0, 2), width: 8 };
  return { register: name, width: 16 };
}

/** What a mnemonic does to registers, as far as the flow of constants is concerned. */
interface Effect {
  /** The mnemonic without the letter for the operands' size. */
  readonly stem: string;
  /** Whether the last operand is only read. */
  readonly readsOnly: boolean;
  /** Registers that are changed without being named. */
  readonly writes: readonly string[];
  /** Whether all operands change. */
  readonly exchanges: boolean;
}

const READS_ONLY =
  /^(cmp[bwlq]?|test[bwlq]?|bt[wlq]?|push[a-z]*|nop[a-z]*|prefetch.*|ver[rw]|j[a-z]+|call|ret|int|clflush.*|u?comis[sd])$/;

const IMPLICIT_WRITES: readonly (readonly [pattern: RegExp, registers: readonly string[]])[] = [
  [/^cpuid$/, ["ax", "bx", "cx", "dx"]],
  [/^(xgetbv|rdpmc|rdtsc)$/, ["ax", "dx"]],
  [/^rdtscp$/, ["ax", "cx", "dx"]],
  [/^(i?mul|i?div)[bwlq]?$/, ["ax", "dx"]],
  [/^(cltd|cqto|cwtd)$/, ["dx"]],
  [/^(cltq|cwtl|cbtw|cmpxchg.*|lahf|lods.*)$/, ["ax", "dx"]],
  [/^(movs[bwlq]|stos[bwlq]?|cmps[bwlq]|scas[bwlq]?)$/, ["cx", "si", "di"]],
  [/^(syscall|sysenter|int)$/, ["ax", "cx", "r11"]],
  [/^leave$/, ["bp"]],
];

const effects = new Map<string, Effect>();

/** The effect of a mnemonic. There are few, so each is looked at once. */
function effectOf(mnemonic: string): Effect {
  let effect = effects.get(mnemonic);
  if (!effect) {
    effect = {
      stem: mnemonic.replace(/^(mov|add|sub|xor|shl|sal|lea)[bwlq]$/, "$1"),
      readsOnly: READS_ONLY.test(mnemonic),
      writes: IMPLICIT_WRITES.flatMap(([pattern, registers]) => (pattern.test(mnemonic) ? registers : [])),
      exchanges: /^(xchg|xadd)/.test(mnemonic),
    };
    effects.set(mnemonic, effect);
  }
  return effect;
}

/**
 * Follows every path from a function's start through the image, carrying the constants that registers and stack slots
 * hold, and reports each instruction once, with what is known there on all paths. Calls inside the image are followed.
 *
 * Enough to find the number of a system call and the data pages that position-independent code reads, on both widths;
 * nothing is guessed: a value that differs between paths is unknown.
 *
 * `neverReturns` says of the number of a system call that the kernel does not come back from it. Where the budget ends,
 * so does the following.
 */
export function follow(
  start: bigint,
  code: Code,
  options: { readonly wide: boolean; readonly budget: Budget; neverReturns(number: number): boolean },
): Visit[] {
  const { budget } = options;
  const leaders = findLeaders(start, code, budget);
  const states = new Map<bigint, State>([[start, new Map()]]);
  const pending = [start];
  const flowTo = (address: bigint, state: State): void => {
    const known = states.get(address);
    const merged = known ? intersect(known, state) : state;
    if (known && merged.size === known.size) return;
    states.set(address, merged);
    pending.push(address);
  };

  /** Runs through the straight code that starts at a leader. */
  const run = (leader: bigint, pass: (address: bigint, state: State) => void, see?: (visit: Visit) => void): void => {
    const machine = new Machine(states.get(leader) as State, options.wide);
    for (let address = leader; budget.spend(); ) {
      const instruction = code.at(address);
      if (!instruction) return;
      const { flow, target } = instruction;
      see?.(machine.visit(instruction));
      const number = flow === "gate" ? machine.accumulator : undefined;
      if (number !== undefined && options.neverReturns(Number(number))) return;
      if ((flow === "jump" || flow === "branch") && target !== undefined) pass(target, machine.snapshot());
      if (flow === "call") machine.call(instruction, code, pass);
      else if (flow === "indirect-call") machine.forgetCallerSaved();
      else machine.execute(instruction);
      if (!goesOn(instruction)) return;
      address = behind(instruction);
      if (leaders.has(address)) {
        pass(address, machine.snapshot());
        return;
      }
    }
  };

  for (let leader = pending.pop(); leader !== undefined; leader = pending.pop()) run(leader, flowTo);
  const visits: Visit[] = [];
  for (const leader of states.keys()) {
    run(
      leader,
      () => {},
      (visit) => visits.push(visit),
    );
  }
  return visits.sort((a, b) => (a.instruction.address < b.instruction.address ? -1 : 1));
}

/** Addresses at which paths may meet: destinations of jumps, branches and calls, and what is behind a branch. */
function findLeaders(start: bigint, code: Code, budget: Budget): Set<bigint> {
  const leaders = new Set([start]);
  const reached = new Set<bigint>();
  const pending = [start];
  for (let address = pending.pop(); address !== undefined; address = pending.pop()) {
    for (let instruction = code.at(address); instruction; instruction = code.at(address)) {
      if (reached.has(address) || !budget.spend()) break;
      reached.add(address);
      const { flow, target } = instruction;
      const next = behind(instruction);
      if (target !== undefined && flow !== "next") {
        leaders.add(target);
        pending.push(target);
      }
      if (flow === "branch") leaders.add(next);
      if (!goesOn(instruction)) break;
      address = next;
    }
  }
  return leaders;
}

function sameValue(a: Value, b: Value): boolean {
  return a.kind === "constant" ? b.kind === "constant" && a.value === b.value : b.kind === a.kind;
}

function intersect(a: State, b: State): State {
  const common = new Map<string, Value>();
  for (const [key, value] of a) {
    const other = b.get(key);
    if (other && sameValue(value, other)) common.set(key, value);
  }
  return common;
}

/** The registers and stack slots at one instruction. The state that it starts from is shared, and copied to be changed. */
class Machine {
  #values: State;
  #changed: Map<string, Value> | undefined;
  readonly #wide: boolean;

  constructor(state: State, wide: boolean) {
    this.#values = state;
    this.#wide = wide;
  }

  /** The values as a map of this machine's own. */
  get #own(): Map<string, Value> {
    if (!this.#changed) {
      this.#changed = new Map(this.#values);
      this.#values = this.#changed;
    }
    return this.#changed;
  }

  #drop(key: string): void {
    if (this.#values.has(key)) this.#own.delete(key);
  }

  /** What eax holds, zero-extended, where it is known. */
  get accumulator(): bigint | undefined {
    const value = this.#values.get("ax");
    return value?.kind === "constant" ? BigInt.asUintN(32, value.value) : undefined;
  }

  visit(instruction: Instruction): Visit {
    const memory = instruction.operands.find((operand) => operand.kind === "memory");
    const memoryAddress = memory && this.#addressOf(memory);
    const argumentMask = this.#argumentMask(instruction);
    const { accumulator } = this;
    return {
      instruction,
      ...(accumulator !== undefined && { accumulator }),
      ...(memoryAddress !== undefined && { memoryAddress }),
      ...(argumentMask !== undefined && { argumentMask }),
    };
  }

  #argumentMask({ mnemonic, operands }: Instruction): bigint | undefined {
    const [source, destination] = operands;
    if (!/^(and|test)[bwlq]?$/.test(mnemonic) || source?.kind !== "immediate") return undefined;
    if (destination?.kind !== "register") return undefined;
    return this.#values.get(canonical(destination.name).register)?.kind === "bit-of-argument"
      ? BigInt.asUintN(32, source.value)
      : undefined;
  }

  /** The state now, which later changes leave as it is. */
  snapshot(): State {
    this.#changed = undefined;
    return this.#values;
  }

  /** What a call does: the function gets the registers, and leaves those that it need not keep unknown. */
  call({ target, ...instruction }: Instruction, code: Code, pass: (address: bigint, state: State) => void): void {
    const thunk = target === undefined ? undefined : thunkRegister(target, code);
    if (thunk !== undefined) {
      // i386 code learns its own address by calling a function that returns the return address.
      this.#set(thunk, { kind: "constant", value: behind(instruction) });
      return;
    }
    // Slots belong to the caller's frame.
    if (target !== undefined) pass(target, new Map([...this.#values].filter(([key]) => !isSlot(key))));
    this.forgetCallerSaved();
  }

  /** A function that was called may have changed these registers. */
  forgetCallerSaved(): void {
    this.#forget(this.#wide ? CALLER_SAVED : CALLER_SAVED_32);
  }

  #forget(registers: readonly string[]): void {
    for (const register of registers) this.#drop(register);
  }

  #set(name: string, value: Value | undefined): void {
    const { register, width } = canonical(name);
    if (register === "bp") this.#forgetSlots();
    if (value === undefined || width < 32) {
      this.#drop(register);
      return;
    }
    const sized: Value =
      value.kind === "constant" ? { kind: "constant", value: this.#wrap(value.value, width) } : value;
    this.#own.set(register, sized);
  }

  #forgetSlots(): void {
    for (const key of [...this.#values.keys()]) if (isSlot(key)) this.#drop(key);
  }

  #wrap(value: bigint, width = this.#wide ? 64 : 32): bigint {
    return BigInt.asUintN(width, value);
  }

  /** The key of a stack slot that is addressed through the frame pointer. */
  #slot(operand: Operand | undefined): string | undefined {
    if (operand?.kind !== "memory" || operand.base === undefined || operand.index !== undefined) return undefined;
    if (canonical(operand.base).register !== "bp") return undefined;
    return `bp${operand.displacement < 0n ? "" : "+"}${operand.displacement}`;
  }

  #addressOf(memory: MemoryOperand): bigint | undefined {
    if (memory.segment !== undefined && memory.segment !== "ds" && memory.segment !== "cs") return undefined;
    if (memory.address !== undefined) return this.#wrap(memory.address);
    const part = (name: string | undefined) => {
      if (name === undefined) return 0n;
      const value = this.#values.get(canonical(name).register);
      return value?.kind === "constant" ? value.value : undefined;
    };
    const base = part(memory.base);
    const index = part(memory.index);
    if (base === undefined || index === undefined) return undefined;
    return this.#wrap(base + index * BigInt(memory.scale) + memory.displacement);
  }

  #valueOf(operand: Operand | undefined): Value | undefined {
    switch (operand?.kind) {
      case "immediate":
        return { kind: "constant", value: operand.value };
      case "register":
        return this.#values.get(canonical(operand.name).register);
      case "memory": {
        const slot = this.#slot(operand);
        return slot === undefined ? undefined : this.#values.get(slot);
      }
      default:
        return undefined;
    }
  }

  /** Does to the values what the instruction does. */
  execute({ mnemonic, operands }: Instruction): void {
    const [source, second] = operands;
    const destination = operands.at(-1);
    const { stem, readsOnly, writes, exchanges } = effectOf(mnemonic);
    // `imul` with more operands than one names all that it changes.
    const namesAll = operands.length > 1 && stem.startsWith("imul");
    if (!namesAll) for (const register of writes) this.#set(register, undefined);
    if (readsOnly || destination === undefined) return;

    const result = operands.length === 2 ? this.#result(stem, source, second) : undefined;
    if (exchanges) {
      for (const operand of operands) if (operand.kind === "register") this.#set(operand.name, undefined);
    } else if (destination.kind === "register") {
      this.#set(destination.name, result);
    } else {
      const slot = this.#slot(destination);
      if (slot === undefined) return;
      if (result === undefined || stem !== "mov") this.#drop(slot);
      else this.#own.set(slot, result);
    }
  }

  /** What the destination holds afterwards, where that can be told. */
  #result(stem: string, source: Operand | undefined, destination: Operand | undefined): Value | undefined {
    const from = this.#valueOf(source);
    const to = this.#valueOf(destination);
    switch (stem) {
      case "mov":
        return from;
      case "lea": {
        const address = source?.kind === "memory" ? this.#addressOf(source) : undefined;
        return address === undefined ? undefined : { kind: "constant", value: address };
      }
      case "xor":
      case "sub":
        if (source?.kind === "register" && destination?.kind === "register" && source.name === destination.name) {
          return { kind: "constant", value: 0n };
        }
        if (stem === "xor") return undefined;
        return from?.kind === "constant" && to?.kind === "constant"
          ? { kind: "constant", value: this.#wrap(to.value - from.value) }
          : undefined;
      case "add":
        return from?.kind === "constant" && to?.kind === "constant"
          ? { kind: "constant", value: this.#wrap(to.value + from.value) }
          : undefined;
      case "shl":
      case "sal":
        // 1 << argument: how clock_gettime asks which kind of clock it was given.
        return source?.kind === "register" && to?.kind === "constant" && to.value === 1n
          ? { kind: "bit-of-argument" }
          : undefined;
      default:
        return undefined;
    }
  }
}

/** The register that a function like `mov (%esp),%ebx; ret` returns its return address in. */
function thunkRegister(address: bigint, code: Code): string | undefined {
  const first = code.at(address);
  const second = first && code.at(behind(first));
  const [source, destination] = first?.operands ?? [];
  const loads =
    first?.mnemonic === "mov" &&
    source?.kind === "memory" &&
    source.base === "esp" &&
    source.index === undefined &&
    source.displacement === 0n;
  return loads && destination?.kind === "register" && second?.flow === "return" ? destination.name : undefined;
}
