import { closeSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import type { Agent } from "../agent/live.js";
import { describeErrno, EINTR, EPERM } from "./errno.js";
import { RunError } from "./error.js";

/** System calls that the tracing agent makes (x86-64). */
const SYS = { mmap: 9, wait4: 61, kill: 62, ptrace: 101, clock_gettime: 228, prlimit64: 302 } as const;

/** Requests of ptrace(2) and what goes with them; include/uapi/linux/ptrace.h. */
const PTRACE = {
  POKEDATA: 5,
  CONT: 7,
  SINGLESTEP: 9,
  GETREGS: 12,
  SETREGS: 13,
  DETACH: 17,
  SEIZE: 0x4206,
  INTERRUPT: 0x4207,
  LISTEN: 0x4208,
} as const;
const OPTIONS = 0x10 /* TRACEEXEC */ | 0x100000; /* EXITKILL */
const EVENT_EXEC = 4;
const EVENT_STOP = 128;
const WALL = 0x4000_0000;
const SIGTRAP = 5;
/** SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU. */
const STOP_SIGNALS: readonly number[] = [19, 20, 21, 22];
const RLIMIT_CORE = 4;

/** The words of `struct user_regs_struct` of x86-64, in order; programs of i386 are shown in it too. */
const REGISTERS = [
  ...(["r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"] as const),
  ...(["orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"] as const),
] as const;
const REGISTERS_SIZE = REGISTERS.length * 8;

export type Registers = Readonly<Record<(typeof REGISTERS)[number], bigint>>;

/** Size of an instruction by which a program enters the kernel: `syscall`, `int $0x80`. */
const GATE_SIZE = 2n;

/**
 * An agent that traces another process, whom it ends should it itself end.
 *
 * Signals that reach the process while it is held are kept for it. Methods throw {@link RunError} where the process ended
 * or the kernel refuses.
 */
export class Tracer {
  readonly #agent: Agent;
  readonly #pid: number;
  /** Memory of the agent that the kernel writes results to and reads registers from. */
  readonly #scratch: bigint;
  readonly #memory: number;
  readonly #kept: number[] = [];

  private constructor(agent: Agent, pid: number, scratch: bigint) {
    this.#agent = agent;
    this.#pid = pid;
    this.#scratch = scratch;
    this.#memory = openSync(`/proc/${agent.pid}/mem`, "r+");
  }

  /** Begins to trace a process, which goes on running; throws {@link RunError} where ptrace is refused. */
  static async seize(agent: Agent, pid: number): Promise<Tracer> {
    // PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS.
    const scratch = await agent.call(SYS.mmap, 0, 4096, 3, 0x22, -1, 0);
    if (scratch < 0n) throw new RunError(`the tracer gets no memory: ${describeErrno(scratch)}`);
    const result = await agent.call(SYS.ptrace, PTRACE.SEIZE, pid, 0, OPTIONS);
    if (result < 0n) throw new RunError(`ptrace is refused: ${whyRefused(pid, result)}`);
    return new Tracer(agent, pid, scratch);
  }

  /** Waits until the process has executed another program, of which no instruction has run. */
  async untilExec(): Promise<void> {
    for (;;) {
      const { signal, event } = await this.#wait();
      if (event === EVENT_EXEC) return;
      if (event === EVENT_STOP && STOP_SIGNALS.includes(signal)) await this.#ptrace(PTRACE.LISTEN, 0, 0);
      else await this.#ptrace(PTRACE.CONT, 0, event === 0 ? signal : 0);
    }
  }

  /**
   * Goes on from where the program was executed to the way out of the kernel. Only from there can it make system calls:
   * the execve, before it returns, sets the register that has their number.
   */
  async leaveExec(): Promise<void> {
    await this.#ptrace(PTRACE.INTERRUPT, 0, 0);
    await this.#ptrace(PTRACE.CONT, 0, 0);
    for (;;) {
      const { signal, event } = await this.#wait();
      if (event === EVENT_STOP) return;
      if (event === 0) this.#kept.push(signal);
      await this.#ptrace(PTRACE.CONT, 0, 0);
    }
  }

  async registers(): Promise<Registers> {
    await this.#ptrace(PTRACE.GETREGS, 0, this.#scratch);
    const bytes = this.#readScratch(REGISTERS_SIZE);
    return Object.fromEntries(REGISTERS.map((name, i) => [name, bytes.readBigUInt64LE(i * 8)])) as unknown as Registers;
  }

  async setRegisters(registers: Registers): Promise<void> {
    const bytes = Buffer.alloc(REGISTERS_SIZE);
    REGISTERS.forEach((name, i) => {
      bytes.writeBigUInt64LE(registers[name], i * 8);
    });
    writeSync(this.#memory, bytes, 0, bytes.length, Number(this.#scratch));
    await this.#ptrace(PTRACE.SETREGS, 0, this.#scratch);
  }

  /**
   * Lets the process execute the one instruction at `gate`, which enters the kernel, with these registers; gives the
   * result. The registers are left as that left them.
   */
  async enterKernel(gate: bigint, registers: Registers): Promise<bigint> {
    // No system call is under way (-1): none is to be restarted.
    await this.setRegisters({ ...registers, rip: gate, orig_rax: 0xffff_ffff_ffff_ffffn });
    for (;;) {
      await this.#ptrace(PTRACE.SINGLESTEP, 0, 0);
      const { signal, event } = await this.#wait();
      const { rip, rax } = await this.registers();
      if (signal !== SIGTRAP && event === 0) this.#kept.push(signal);
      if (rip === gate + GATE_SIZE) return rax;
      if (rip !== gate || signal === SIGTRAP) {
        throw new RunError(
          `the program did not make the system call that it was to make, but is at 0x${rip.toString(16)}`,
        );
      }
    }
  }

  /** Writes words of 8 bytes to the process, whatever the protection of the page. */
  async write(address: bigint, bytes: Uint8Array): Promise<void> {
    if (bytes.length % 8 !== 0) throw new RangeError(`${bytes.length} bytes are no words`);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const words = Array.from({ length: bytes.length / 8 }, (_, i) => view.getBigUint64(i * 8, true));
    // The requests are made all at once: each takes a hundredth of the time that asking for it one by one does.
    await Promise.all(words.map((word, i) => this.#ptrace(PTRACE.POKEDATA, address + BigInt(i * 8), word)));
  }

  /** Lets the process run, traced by nobody, with the signals that were kept for it. */
  async detach(): Promise<void> {
    for (const signal of this.#kept) await this.#agent.call(SYS.kill, this.#pid, signal);
    await this.#ptrace(PTRACE.DETACH, 0, 0);
  }

  /** What a clock shows now, by its id, in nanoseconds; `undefined` for one that this kernel has not. */
  async clock(id: number): Promise<bigint | undefined> {
    const result = await this.#agent.call(SYS.clock_gettime, id, this.#scratch);
    if (result < 0n) return undefined;
    const time = this.#readScratch(16);
    return time.readBigInt64LE(0) * 1_000_000_000n + time.readBigInt64LE(8);
  }

  /** Takes from this process (not from those started before) the right to leave a core file. */
  async forbidCore(pid: number): Promise<void> {
    writeSync(this.#memory, Buffer.alloc(16), 0, 16, Number(this.#scratch));
    // Where this is refused, there may be a core file too many.
    await this.#agent.call(SYS.prlimit64, pid, RLIMIT_CORE, this.#scratch, 0);
  }

  /** Closes what this process has open. */
  close(): void {
    closeSync(this.#memory);
  }

  async #ptrace(request: number, address: number | bigint, data: number | bigint): Promise<void> {
    const result = await this.#agent.call(SYS.ptrace, request, this.#pid, address, data);
    if (result < 0n) throw new RunError(`ptrace request 0x${request.toString(16)}: ${describeErrno(result)}`);
  }

  /** Waits until the process stops. */
  async #wait(): Promise<{ readonly signal: number; readonly event: number }> {
    let result: bigint;
    do {
      result = await this.#agent.call(SYS.wait4, this.#pid, this.#scratch, WALL, 0);
    } while (result === BigInt(-EINTR));
    if (result < 0n) throw new RunError(`the program cannot be waited for: ${describeErrno(result)}`);
    const status = this.#readScratch(4).readUInt32LE(0);
    const stopped = (status & 0xff) === 0x7f;
    if (!stopped) throw new RunError("the program ended before it ran");
    return { signal: (status >>> 8) & 0xff, event: status >>> 16 };
  }

  #readScratch(size: number): Buffer {
    const bytes = Buffer.alloc(size);
    readSync(this.#memory, bytes, 0, size, this.#scratch);
    return bytes;
  }
}

function whyRefused(pid: number, result: bigint): string {
  const said = describeErrno(result);
  if (result !== BigInt(-EPERM)) return said;
  const tracer = Number(/^TracerPid:\s+(\d+)$/m.exec(textOf(`/proc/${pid}/status`))?.[1] ?? 0);
  if (tracer > 0) {
    return `${said}: process ${tracer} traces this already, as strace -f does; start that tracer by this command instead`;
  }
  const scope = textOf("/proc/sys/kernel/yama/ptrace_scope").trim();
  if (Number(scope) > 1) return `${said}: kernel.yama.ptrace_scope is ${scope}`;
  return `${said}: a container's system call filter or a security module forbids it`;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
