import { hex } from "../bytes/hex.js";
import { Writer } from "../bytes/writer.js";
import { AT_SYSINFO, AT_SYSINFO_EHDR, type AuxvEntry, auxvValue, auxvWordSize, parseAuxv } from "../linux/auxv.js";
import type { LiveProcess } from "../linux/live.js";
import { type Mapping, mappingAt, parseMaps } from "../linux/maps.js";
import { describeErrno } from "./errno.js";
import { RunError } from "./error.js";
import { parseInitialStack } from "./initial-stack.js";
import { isWide, type Registers, type Tracer } from "./tracer.js";

/** An entry of the vector that is passed over. */
const AT_IGNORE = 1;

/** A system call that a held program is made to do, by its number in either ABI. */
const CALLS = {
  x86_64: { open: 2, close: 3, mmap: 9, mprotect: 10, mremap: 25, prctl: 157 },
  // The mmap of i386 takes its arguments in memory; mmap2 counts the file's offset in pages.
  i386: { open: 5, close: 6, mprotect: 125, mremap: 163, prctl: 172, mmap: 192 },
} as const;

/** The registers that have the arguments. */
const ARGUMENTS = {
  x86_64: ["rdi", "rsi", "rdx", "r10", "r8", "r9"],
  i386: ["rbx", "rcx", "rdx", "rsi", "rdi", "rbp"],
} as const;

/** `syscall` and `int $0x80`. */
const GATES = { x86_64: [0x0f, 0x05], i386: [0xcd, 0x80] } as const;

/** Lets a program replace the kernel's record of it, its auxiliary vector among it (include/uapi/linux/prctl.h). */
const PR_SET_MM = 35;
const PR_SET_MM_MAP = 14;

/** How far below a new program's stack pointer something is put for a while: nothing lies there yet. */
const BELOW_STACK = 4096n;

/** The kernel gives arguments and environment at most 6 MiB, pointers included. */
const MAX_INITIAL_STACK = 1n << 24n;

/** How much of one mapping is looked through for a gate, and in what pieces. */
const MAX_SEARCH = 1 << 24;
const PIECE = 1 << 16;

/**
 * A program that was executed and has not run yet: what it is, and what is changed of it before it does.
 *
 * Methods throw {@link RunError}, `ProcessError` or `FormatError`; the program is then to be ended.
 */
export class HeldProgram {
  readonly abi: "x86_64" | "i386";
  readonly auxv: readonly AuxvEntry[];
  readonly #tracer: Tracer;
  readonly #process: LiveProcess;
  readonly #wordSize: 4 | 8;
  readonly #stack: bigint;
  readonly #auxvAddress: bigint;
  /** As they are to be when the program runs; known when it has left the kernel. */
  #registers: Registers | undefined;

  private constructor(tracer: Tracer, process: LiveProcess, registers: Registers) {
    const { rsp } = registers;
    this.#tracer = tracer;
    this.#process = process;
    this.#stack = rsp;
    const record = process.auxvBytes();
    const wordSize = auxvWordSize(record, true);
    this.abi = isWide(registers) ? "x86_64" : "i386";
    this.#wordSize = this.abi === "x86_64" ? 8 : 4;
    if (wordSize !== this.#wordSize) {
      throw new RunError(`the program is neither of x86_64 nor of i386: entries of its vector have ${wordSize} bytes`);
    }
    const layout = { wordSize, littleEndian: true };
    const mapping = mappingAt(this.mappings(), rsp);
    if (!mapping || mapping.end - rsp > MAX_INITIAL_STACK) {
      throw new RunError(`the program's stack pointer is ${hex(rsp)}: no new program's`);
    }
    const stack = parseInitialStack(process.read(rsp, Number(mapping.end - rsp)), layout);
    this.auxv = stack.auxv;
    this.#auxvAddress = rsp + BigInt(stack.auxvOffset);
    const recorded = parseAuxv(record, layout);
    const same = (entry: AuxvEntry, i: number) => entry.tag === recorded[i]?.tag && entry.value === recorded[i]?.value;
    if (recorded.length !== this.auxv.length || !this.auxv.every(same)) {
      throw new RunError(`what lies at ${hex(this.#auxvAddress)} is not the vector that the kernel recorded`);
    }
  }

  /** What a clock shows now, by its id, in nanoseconds; `undefined` for one that this kernel has not. */
  clock(id: number): Promise<bigint | undefined> {
    return this.#tracer.clock(id);
  }

  /** Looks at a program that its tracer has seen executed. */
  static async of(tracer: Tracer, process: LiveProcess): Promise<HeldProgram> {
    return new HeldProgram(tracer, process, await tracer.registers());
  }

  mappings(): Mapping[] {
    return parseMaps(new TextDecoder("utf-8").decode(this.#process.mapsBytes()));
  }

  read(address: bigint, size: number): Uint8Array {
    return this.#process.read(address, size);
  }

  /** Writes bytes, and reads them again to be sure. */
  async write(address: bigint, bytes: Uint8Array): Promise<void> {
    await this.#tracer.write(address, bytes);
    if (Buffer.compare(this.read(address, bytes.length), bytes) !== 0) {
      throw new RunError(`what was written to ${hex(address)} is not there`);
    }
  }

  /** Whether the vector that the program will read has an entry. */
  has(tag: number): boolean {
    return auxvValue(this.auxv, tag) !== undefined;
  }

  /** Replaces all entries of one tag. */
  async replaceEntries(tag: number, entry: AuxvEntry): Promise<void> {
    const size = this.#wordSize;
    for (const [i, { tag: found }] of this.auxv.entries()) {
      if (found !== tag) continue;
      const bytes = new Writer({ littleEndian: true, wordSize: size }).word(entry.tag).word(entry.value);
      await this.write(this.#auxvAddress + BigInt(2 * size * i), bytes.finish());
    }
  }

  /** Hides every vDSO from the program: its entries in the vector become such as are passed over. */
  async hideVdso(): Promise<void> {
    for (const tag of [AT_SYSINFO_EHDR, AT_SYSINFO]) await this.replaceEntries(tag, { tag: AT_IGNORE, value: 0n });
  }

  /**
   * Makes the kernel's record of the vector (/proc/PID/auxv) say what the program reads on its stack, so that debuggers
   * find what it was given. A kernel without checkpoint and restore refuses: the record then says what that gave.
   */
  async recordVector(): Promise<void> {
    const vector = this.read(this.#auxvAddress, (this.auxv.length + 1) * 2 * this.#wordSize);
    const layout = this.#process.memoryLayout();
    // struct prctl_mm_map as 64-bit kernels have it, which they want of programs of i386 too.
    const map = new Writer({ littleEndian: true, wordSize: 8 });
    for (const field of ["startCode", "endCode", "startData", "endData", "startBrk"] as const) map.word(layout[field]);
    // The heap of a program that has not run is empty.
    map.word(layout.startBrk);
    for (const field of ["startStack", "argStart", "argEnd", "envStart", "envEnd"] as const) map.word(layout[field]);
    const size = map.length + 8 + 4 + 4;
    await this.withScratch(size + vector.length, async (address) => {
      const noFile = 0xffff_ffff;
      map
        .word(address + BigInt(size))
        .u32(vector.length)
        .u32(noFile)
        .raw(vector);
      await this.write(address, map.finish());
      try {
        await this.call("prctl", [PR_SET_MM, PR_SET_MM_MAP, address, size, 0], "the record cannot be replaced");
      } catch (error) {
        if (!(error instanceof RunError)) throw error;
      }
    });
  }

  /** Lends bytes below the program's stack, which are zero again when `use` is done. */
  async withScratch<T>(size: number, use: (address: bigint) => Promise<T>): Promise<T> {
    const address = (this.#stack - BELOW_STACK) & -16n;
    if (size > BELOW_STACK) throw new RangeError(`${size} bytes are too many to be lent`);
    try {
      return await use(address);
    } finally {
      await this.write(address, new Uint8Array(Math.ceil(size / 8) * 8));
    }
  }

  /** Lets the program make a system call of its own ABI; gives the result, or throws {@link RunError} with `what`. */
  async call(name: keyof (typeof CALLS)["x86_64"], args: readonly (number | bigint)[], what: string): Promise<bigint> {
    if (!this.#registers) {
      await this.#tracer.leaveExec();
      this.#registers = await this.#tracer.registers();
    }
    const bits = this.#wordSize * 8;
    const registers = { ...this.#registers, rax: BigInt(CALLS[this.abi][name]) };
    ARGUMENTS[this.abi].forEach((register, i) => {
      registers[register] = BigInt.asUintN(bits, BigInt(args[i] ?? 0));
    });
    const result = await this.#tracer.enterKernel(this.#findGate(), registers);
    this.#tracer.setRegisters(this.#registers);
    const signed = BigInt.asIntN(bits, result);
    if (signed < 0n && signed >= -4095n) throw new RunError(`${what}: ${describeErrno(signed)}`);
    return BigInt.asUintN(bits, result);
  }

  /** An instruction by which the program may enter the kernel: in its own text or its dynamic linker's, or the vDSO. */
  #findGate(): bigint {
    const [first, second] = GATES[this.abi];
    const executable = this.mappings().filter(({ perms, name }) => /^r.x/.test(perms) && name !== "[vsyscall]");
    // That of the vDSO last: it may be what is being moved.
    for (const { start, end } of executable.sort((a, b) => Number(a.name === "[vdso]") - Number(b.name === "[vdso]"))) {
      const size = Math.min(Number(end - start), MAX_SEARCH);
      for (let offset = 0; offset < size; offset += PIECE - 1) {
        const bytes = this.read(start + BigInt(offset), Math.min(PIECE, size - offset));
        for (let at = bytes.indexOf(first); at >= 0; at = bytes.indexOf(first, at + 1)) {
          if (bytes[at + 1] === second) return start + BigInt(offset + at);
        }
      }
    }
    throw new RunError(
      "the program has no instruction that enters the kernel, so that it cannot be made to map memory",
    );
  }
}
