import type { Instruction } from "../isa/instruction.js";
import { behind, type Code } from "./code.js";
import type { VdsoFunction, VdsoImage } from "./image.js";

/** A way into the kernel on x86. */
export type Mechanism = "sysenter" | "syscall" | "int $0x80";

/** Why an instruction of the entry is there. */
export type StepPurpose =
  /** `push`: a register that the way in destroys, or that it uses. */
  | { readonly kind: "save"; readonly register: string }
  /** `mov %esp,%ebp`: tells the kernel where the stack is, and on it the sixth argument. */
  | { readonly kind: "pass-stack" }
  /** `mov %ecx,%ebp`: the second argument, because `syscall` overwrites `%ecx`. */
  | { readonly kind: "pass-second-argument" }
  | { readonly kind: "enter"; readonly mechanism: Mechanism }
  /** Behind the fast instruction: what an interrupted system call is started again with. */
  | { readonly kind: "restart"; readonly by: "int $0x80" }
  | { readonly kind: "restart"; readonly by: "jump"; readonly to: bigint }
  /** `pop`: the mirror of a save. `landing`: where the kernel returns to. */
  | { readonly kind: "restore"; readonly register: string; readonly landing: boolean }
  | { readonly kind: "return" }
  /** Does nothing: room for another way in, or for the kernel's return address to stay where it is. */
  | { readonly kind: "padding" }
  | { readonly kind: "jump"; readonly to: bigint }
  | { readonly kind: "other" };

/** One instruction of the entry. */
export interface GateStep {
  readonly instruction: Instruction;
  readonly purpose: StepPurpose;
}

/** How i386 programs enter the kernel: the entry, read. */
export interface Gate {
  readonly entry: VdsoFunction;
  readonly mechanism: Mechanism;
  readonly steps: readonly GateStep[];
  /** How an interrupted system call is restarted; absent where the gate itself is `int $0x80`. */
  readonly restart?: "int $0x80" | "jump";
  /** Address as linked to which the kernel returns from the fast instruction. */
  readonly landing?: bigint;
  /** Ways in among the image's alternatives, the one in force included: the kernel puts one in place at boot. */
  readonly alternatives: readonly Mechanism[];
  /** Where the kernel finds the sixth argument, which arrives in %ebp. */
  readonly sixthArgument: "register" | "stack";
}

/** Longest entry that is followed: the kernel's have 13 to 32 bytes. */
const MAX_STEPS = 64;

const MECHANISMS: Readonly<Record<string, Mechanism>> = { sysenter: "sysenter", syscall: "syscall" };

/** The way in that an instruction takes; `undefined` where it does not enter the kernel. */
export function mechanismOf(instruction: Instruction): Mechanism | undefined {
  if (instruction.flow !== "gate") return undefined;
  const fast = MECHANISMS[instruction.mnemonic];
  if (fast) return fast;
  const [operand] = instruction.operands;
  const isInt80 = instruction.mnemonic === "int" && operand?.kind === "immediate" && operand.value === 0x80n;
  return isInt80 ? "int $0x80" : undefined;
}

/** Whether a name is that of the index register that is none: it makes a longer encoding of the same address. */
function isNoIndex(register: string): boolean {
  return register === "eiz" || register === "riz";
}

/**
 * Whether an instruction does nothing, as compilers and kernels fill gaps: `nop`, `xchg %ax,%ax`, `lea 0(%esi),%esi`,
 * `mov %esi,%esi`. In 64-bit code (`wide`) writing 32 bits of a register clears the others, which is something.
 */
export function isNop({ mnemonic, operands }: Instruction, wide: boolean): boolean {
  if (/^nop[wlq]?$/.test(mnemonic)) return true;
  const [source, destination] = operands;
  if (destination?.kind !== "register" || operands.length !== 2) return false;
  const { name } = destination;
  if (wide && /^e|d$/.test(name)) return false;
  if (source?.kind === "register") {
    return source.name === name && (mnemonic === "mov" || (mnemonic === "xchg" && name === "ax"));
  }
  return (
    mnemonic === "lea" &&
    source?.kind === "memory" &&
    source.base === name &&
    source.displacement === 0n &&
    (source.index === undefined || isNoIndex(source.index))
  );
}

function registerOperand(instruction: Instruction, place: number): string | undefined {
  const operand = instruction.operands[place];
  return operand?.kind === "register" ? operand.name : undefined;
}

/**
 * Reads the entry of an i386 image: which way into the kernel it takes and what each instruction is for.
 *
 * The way in is the first instruction that enters the kernel, not the presence of an `int $0x80`: one stands behind the
 * fast instruction of every kernel since 4.4, for restarts. `undefined` where the image has no entry, or one that
 * enters the kernel in no known way.
 */
export function readGate(image: VdsoImage, code: Code): Gate | undefined {
  const { entry } = image;
  if (!entry) return undefined;
  const path = followEntry(entry.address, code);
  const at = path.findIndex((instruction) => mechanismOf(instruction) !== undefined);
  const gate = path[at];
  const mechanism = gate && mechanismOf(gate);
  if (!mechanism) return undefined;

  const restartAt = mechanism === "int $0x80" ? -1 : findRestart(path, at);
  const restart = path[restartAt];
  const landing = restart ? behind(restart) : undefined;
  const steps = path.map((instruction, i): GateStep => {
    if (i === at) return { instruction, purpose: { kind: "enter", mechanism } };
    if (i === restartAt) {
      const to = instruction.target;
      return {
        instruction,
        purpose: to === undefined ? { kind: "restart", by: "int $0x80" } : { kind: "restart", by: "jump", to },
      };
    }
    return { instruction, purpose: purposeOf(instruction, landing) };
  });
  return {
    entry,
    mechanism,
    steps,
    ...(restart && { restart: restart.target === undefined ? "int $0x80" : "jump" }),
    ...(landing !== undefined && { landing }),
    alternatives: waysInAlternatives(image, code, [behind(path.at(-1) as Instruction), entry]),
    sixthArgument: mechanism === "int $0x80" ? "register" : "stack",
  };
}

/**
 * The ways into the kernel among the instructions that the kernel may put in place of others at boot, and, since 7.0,
 * behind the entry's return: there a fast way lies ready, from which boot may take the `int $0x80; ret` before it.
 */
function waysInAlternatives(
  image: VdsoImage,
  code: Code,
  [end, entry]: readonly [end: bigint, entry: VdsoFunction],
): Mechanism[] {
  const section = image.elf.section(".altinstr_replacement");
  if (!section) return [];
  const ready = code.range(end, entry.address + BigInt(entry.size));
  const instead = code.range(section.sh_addr, section.sh_addr + BigInt(section.sh_size));
  const fast = ready.filter((instruction) => mechanismOf(instruction) !== "int $0x80");
  return [...new Set([...fast, ...instead].flatMap((instruction) => mechanismOf(instruction) ?? []))];
}

/** The instructions from the entry to its return, through forward jumps that come before the gate. */
function followEntry(start: bigint, code: Code): Instruction[] {
  const path: Instruction[] = [];
  let entered = false;
  let address = start;
  while (path.length < MAX_STEPS) {
    const instruction = code.at(address);
    if (!instruction || instruction.flow === "invalid") break;
    path.push(instruction);
    if (instruction.flow === "return" || instruction.flow === "stop") break;
    entered ||= mechanismOf(instruction) !== undefined;
    const jumps = instruction.flow === "jump" && !entered && instruction.target !== undefined;
    address = jumps ? (instruction.target as bigint) : behind(instruction);
  }
  return path;
}

/**
 * The kernel restarts an interrupted system call by moving the return address back by two bytes, the length of any way
 * in. Since 4.4 at the latest an `int $0x80` lies there; before, a jump back to the instruction that sets %ebp.
 */
function findRestart(path: readonly Instruction[], gateAt: number): number {
  return path.findIndex((instruction, i) => {
    if (i <= gateAt || instruction.bytes.length !== 2) return false;
    if (mechanismOf(instruction) === "int $0x80") return true;
    const gate = path[gateAt] as Instruction;
    return instruction.flow === "jump" && instruction.target !== undefined && instruction.target <= gate.address;
  });
}

function purposeOf(instruction: Instruction, landing: bigint | undefined): StepPurpose {
  const first = registerOperand(instruction, 0);
  const second = registerOperand(instruction, 1);
  if (isNop(instruction, false) || instruction.mnemonic === "int3") return { kind: "padding" };
  if (instruction.flow === "return") return { kind: "return" };
  if (instruction.flow === "jump" && instruction.target !== undefined) {
    return { kind: "jump", to: instruction.target };
  }
  if (instruction.mnemonic === "push" && first) return { kind: "save", register: first };
  if (instruction.mnemonic === "pop" && first) {
    return { kind: "restore", register: first, landing: instruction.address === landing };
  }
  if (instruction.mnemonic === "mov" && first === "esp" && second === "ebp") return { kind: "pass-stack" };
  if (instruction.mnemonic === "mov" && first === "ecx" && second === "ebp") return { kind: "pass-second-argument" };
  return { kind: "other" };
}
