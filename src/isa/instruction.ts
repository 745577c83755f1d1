/** What an instruction does to the flow of control. */
export type Flow =
  /** Goes on to the next instruction. */
  | "next"
  /** Always goes to `target`. */
  | "jump"
  /** Goes to `target` or on. */
  | "branch"
  /** Calls `target` and comes back. */
  | "call"
  /** Jumps or calls through a register or memory; `target` is unknown. */
  | "indirect-jump"
  | "indirect-call"
  | "return"
  /** Enters the kernel: `int`, `sysenter`, `syscall`, `svc`, `ecall`, `sc`. */
  | "gate"
  /** Never goes on: `ud2`, `hlt`. */
  | "stop"
  /** The bytes are no instruction. */
  | "invalid";

/** One operand. Operands stand in the order in which GNU tools write them: on x86 the destination last. */
export type Operand =
  | { readonly kind: "register"; readonly name: string; readonly decoration?: string }
  | { readonly kind: "immediate"; readonly value: bigint }
  /** The destination of a direct jump, branch or call. */
  | { readonly kind: "target"; readonly address: bigint }
  /** What is written among the operands and is none: the rounding `{rn-sae}` of AVX-512. */
  | { readonly kind: "modifier"; readonly text: string }
  | MemoryOperand;

/** An operand in memory; each part that the instruction names. */
export interface MemoryOperand {
  readonly kind: "memory";
  readonly segment?: string;
  readonly base?: string;
  readonly index?: string;
  readonly scale: number;
  /** Signed; unsigned where there is neither base nor index. */
  readonly displacement: bigint;
  /** Bytes that the encoding spends on the displacement; 0 where it has none. */
  readonly displacementSize: number;
  /** The address where it does not depend on a register other than the program counter. */
  readonly address?: bigint;
  /** Bytes accessed; 0 where the instruction only computes the address. */
  readonly size: number;
  /** What AVX-512 adds to the operand: a mask and zeroing (`{%k1}{z}`) or a broadcast (`{1to8}`). */
  readonly decoration?: string;
}

/** One decoded instruction of any architecture. Register names are lower-case, without `%`. */
export interface Instruction {
  readonly address: bigint;
  readonly bytes: Uint8Array;
  /** The bare mnemonic as GNU tools write it, without prefixes: `mov`, `testb`, `jne`. */
  readonly mnemonic: string;
  /** Prefixes that GNU tools write before the mnemonic: `lock`, `rep`, `cs`. */
  readonly prefixes: readonly string[];
  readonly operands: readonly Operand[];
  readonly flow: Flow;
  /** Destination of a direct jump, branch or call. */
  readonly target?: bigint;
}

/** Turns bytes into instructions and instructions into text. */
export interface Decoder {
  /**
   * Decodes all of `bytes`, the first of which lies at `address`. Bytes that are no instruction become instructions of
   * flow `invalid`, so that the lengths always add up to that of `bytes`; unless `goOn` says of an instruction that it is
   * the last one wanted.
   */
  decode(bytes: Uint8Array, address: bigint, goOn?: (instruction: Instruction) => boolean): Instruction[];
  /**
   * The text as GNU objdump writes it, AT&T syntax on x86: mnemonic, operands and, for targets and addresses that
   * `symbolize` knows, the symbol in angle brackets.
   */
  text(instruction: Instruction, symbolize?: (address: bigint) => string | undefined): string;
}
