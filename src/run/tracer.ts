import { readFileSync } from "node:fs";
import type { Agent } from "../agent/live.js";
import { AgentMemory } from "../agent/memory.js";
import { describeErrno, ECHILD, EINTR, EPERM, ESRCH } from "./errno.js";
import { RunError } from "./error.js";
import { PTRACE, TRACE, TRACE_CHILDREN } from "./ptrace.js";

/** System calls that the tracing agent makes (x86-64). */
const SYS = {
  process_vm_writev: 311,
  wait4: 61,
  kill: 62,
  setpgid: 109,
  clock_gettime: 228,
  prlimit64: 302,
} as const;

/** Events for which a process stops (PTRACE_EVENT_…). */
const EVENT_EXEC = 4;
const EVENT_STOP = 128;
/** In place of the id of a process: any that is traced. */
const ANY = -1;
const WALL = 0x4000_0000;
const SIGTRAP = 5;
/** Beside it where a process has stopped at a system call. */
const SYSCALL_BIT = 0x80;
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

/** The selector of the code segment of 64-bit programs (arch/x86/include/asm/segment.h). */
const USER_CS_64 = 0x33n;

/** Whether a program is one of x86-64, and not of i386. */
export function isWide({ cs }: Registers): boolean {
  return cs === USER_CS_64;
}

/** Bytes that are written no slower word for word. */
const FEW = 16;

/** Size of an instruction by which a program enters the kernel: `syscall`, `int $0x80`. */
const GATE_SIZE = 2n;

/** How a traced process changed. */
export interface Change {
  readonly pid: number;
  /** It has ended; else it stands still until it is told to go on. */
  readonly ended: boolean;
  /** What it was sent, where it stopped for a signal; what stopped it or would have, at an event. */
  readonly signal: number;
  /** PTRACE_EVENT_…; 0 where it is stopped by a signal that is on its way to it. */
  readonly event: number;
}

/** A process stands still as a stop signal makes it: it is to stay so until it is sent SIGCONT. */
function isGroupStop({ event, signal }: Change): boolean {
  return event === EVENT_STOP && STOP_SIGNALS.includes(signal);
}

/** A process stands still because its tracer told it to. */
export function isStop({ event, signal }: Change): boolean {
  return event === EVENT_STOP && signal === SIGTRAP;
}

/** A process has executed a program, of which no instruction has run. */
export function isExec({ event }: Change): boolean {
  return event === EVENT_EXEC;
}

/** A process stands still because of a signal that is on its way to it. */
function isSignal({ event, signal }: Change): boolean {
  return event === 0 && signal !== (SIGTRAP | SYSCALL_BIT);
}

/** How a process changed, by the status that wait4(2) tells. */
export function changeOf(pid: number, status: number): Change {
  const ended = (status & 0xff) !== 0x7f;
  return { pid, ended, signal: (status >>> 8) & 0xff, event: status >>> 16 };
}

/** For what processes stop that are followed, and what becomes of them when their tracer ends. */
export interface Stops {
  /** Of {@link TRACE}. */
  readonly options: number;
  /** The request by which they go on: to the end, or to the next system call. */
  readonly goOn: typeof PTRACE.CONT | typeof PTRACE.SYSCALL;
}

const ONLY_PROGRAMS: Stops = { options: TRACE.EXEC | TRACE_CHILDREN, goOn: PTRACE.CONT };

/** What the kernel writes to memory of the agent, and reads from there: results that are under way have their own. */
const SCRATCH = {
  ...({
    status: 0,
    registersIn: 512,
    registersOut: 1024,
    clock: 2048,
    limit: 2064,
    vectors: 2080,
    word: 2112,
  } as const),
  ...({ bytes: 4096, size: 4096 + 65536 } as const),
} as const;
const MAX_PIECE = SCRATCH.size - SCRATCH.bytes;

/**
 * An agent that traces other processes, one or many. It does one thing after the other: while it waits for a change, it
 * does nothing else.
 *
 * Methods throw {@link RunError} where the kernel refuses.
 */
export class TracingAgent {
  /** What is told of processes that are followed; see {@link TRACE}. */
  readonly options: number;
  /** The request by which a process goes on. */
  readonly goOn: number;
  readonly #agent: Agent;
  readonly #memory: AgentMemory;
  readonly #scratch: bigint;

  private constructor(
    agent: Agent,
    { options, goOn }: Stops,
    { memory, scratch }: { readonly memory: AgentMemory; readonly scratch: bigint },
  ) {
    this.options = options;
    this.goOn = goOn;
    this.#agent = agent;
    this.#memory = memory;
    this.#scratch = scratch;
  }

  static async of(agent: Agent, stops: Stops = ONLY_PROGRAMS): Promise<TracingAgent> {
    const memory = new AgentMemory(agent);
    return new TracingAgent(agent, stops, { memory, scratch: await memory.map(SCRATCH.size) });
  }

  /**
   * Begins to trace a process, which goes on running, and which is killed should the agent end. Throws {@link RunError}
   * where ptrace is refused.
   */
  async seize(pid: number): Promise<Tracer> {
    const result = await this.request(PTRACE.SEIZE, pid, 0, TRACE.EXEC | TRACE.EXIT_KILL);
    if (result < 0n) throw new RunError(`ptrace is refused: ${whyRefused(pid, result)}`);
    return new Tracer(this, pid);
  }

  /** For a process that is traced by this already. */
  tracer(pid: number): Tracer {
    return new Tracer(this, pid);
  }

  /** Waits until a process changes, or {@link TracingAgent.waitForAny any} does. */
  async wait(pid: number): Promise<Change> {
    const change = await this.#wait(pid);
    if (typeof change !== "bigint") return change;
    throw new RunError(`the program cannot be waited for: ${describeErrno(change)}`);
  }

  /** Waits until any traced process changes; `undefined` when there is none left. */
  async waitForAny(): Promise<Change | undefined> {
    const change = await this.#wait(ANY);
    if (typeof change !== "bigint") return change;
    if (change === BigInt(-ECHILD)) return undefined;
    throw new RunError(`programs cannot be waited for: ${describeErrno(change)}`);
  }

  /** Makes a request of ptrace; gives what the kernel gives. */
  request(request: number, pid: number, address: number | bigint, data: number | bigint): Promise<bigint> {
    return this.#agent.call(PTRACE.number, request, pid, address, data);
  }

  /** Lets a process that stopped go on as if nobody traced it, with what it was sent. */
  async resume(change: Change): Promise<void> {
    const { pid, signal } = change;
    // Where this is refused the process was killed: its end is what is waited for next.
    if (isGroupStop(change)) await this.request(PTRACE.LISTEN, pid, 0, 0);
    else await this.request(this.goOn, pid, 0, isSignal(change) ? signal : 0);
  }

  async registers(pid: number): Promise<Registers> {
    const result = await this.request(PTRACE.GETREGS, pid, 0, this.#scratch + BigInt(SCRATCH.registersOut));
    if (result < 0n) throw refusal("the program's registers cannot be read", result);
    const bytes = this.#read(SCRATCH.registersOut, REGISTERS_SIZE);
    return Object.fromEntries(REGISTERS.map((name, i) => [name, bytes.readBigUInt64LE(i * 8)])) as unknown as Registers;
  }

  async setRegisters(pid: number, registers: Registers): Promise<void> {
    const bytes = Buffer.alloc(REGISTERS_SIZE);
    REGISTERS.forEach((name, i) => {
      bytes.writeBigUInt64LE(registers[name], i * 8);
    });
    this.#write(SCRATCH.registersIn, bytes);
    const result = await this.request(PTRACE.SETREGS, pid, 0, this.#scratch + BigInt(SCRATCH.registersIn));
    if (result < 0n) throw refusal("the program's registers cannot be set", result);
  }

  /** Reads a word of 8 bytes of a process, whatever the protection of the page. */
  async peek(pid: number, address: bigint): Promise<Uint8Array> {
    const result = await this.request(PTRACE.PEEKDATA, pid, address, this.#scratch + BigInt(SCRATCH.word));
    if (result < 0n) throw refusal("the program's memory cannot be read", result);
    return this.#read(SCRATCH.word, 8);
  }

  /** Writes to memory of a process, as far as that may write there itself; says whether all was written. */
  async writeWritable(pid: number, address: bigint, bytes: Uint8Array): Promise<boolean> {
    const vectors = this.#scratch + BigInt(SCRATCH.vectors);
    for (let done = 0; done < bytes.length; done += MAX_PIECE) {
      const piece = bytes.subarray(done, done + MAX_PIECE);
      // struct iovec of what is read here, and of where it is put.
      const words = [this.#scratch + BigInt(SCRATCH.bytes), piece.length, address + BigInt(done), piece.length];
      this.#write(SCRATCH.vectors, Buffer.from(BigUint64Array.from(words, BigInt).buffer));
      this.#write(SCRATCH.bytes, piece);
      const written = await this.#agent.call(SYS.process_vm_writev, pid, vectors, 1, vectors + 16n, 1, 0);
      if (written !== BigInt(piece.length)) return false;
    }
    return true;
  }

  /** Sends a signal to a process; one that has ended does not get it. */
  async kill(pid: number, signal: number): Promise<void> {
    await this.#agent.call(SYS.kill, pid, signal);
  }

  /** What a clock shows now, by its id, in nanoseconds; `undefined` for one that this kernel has not. */
  async clock(id: number): Promise<bigint | undefined> {
    const result = await this.#agent.call(SYS.clock_gettime, id, this.#scratch + BigInt(SCRATCH.clock));
    if (result < 0n) return undefined;
    const time = this.#read(SCRATCH.clock, 16);
    return time.readBigInt64LE(0) * 1_000_000_000n + time.readBigInt64LE(8);
  }

  /** Takes from a process (not from those started before) the right to leave a core file. */
  async forbidCore(pid: number): Promise<void> {
    this.#write(SCRATCH.limit, Buffer.alloc(16));
    // Where this is refused, there may be a core file too many.
    await this.#agent.call(SYS.prlimit64, pid, RLIMIT_CORE, this.#scratch + BigInt(SCRATCH.limit), 0);
  }

  /**
   * Leaves the process group of this process. What the keys of a terminal send to those in its foreground, to end or to
   * stop them, is not meant for an agent that stays.
   */
  async leaveGroup(): Promise<void> {
    await this.#agent.call(SYS.setpgid, 0, 0);
  }

  /** Closes what this process has open. */
  close(): void {
    this.#memory.close();
  }

  async #wait(pid: number): Promise<Change | bigint> {
    let result: bigint;
    do {
      result = await this.#agent.call(SYS.wait4, pid, this.#scratch + BigInt(SCRATCH.status), WALL, 0);
    } while (result === BigInt(-EINTR));
    if (result < 0n) return result;
    const status = this.#read(SCRATCH.status, 4).readUInt32LE(0);
    return changeOf(Number(result), status);
  }

  #read(offset: number, size: number): Buffer {
    const bytes = this.#memory.read(this.#scratch + BigInt(offset), size);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  #write(offset: number, bytes: Uint8Array): void {
    this.#memory.write(this.#scratch + BigInt(offset), bytes);
  }
}

/**
 * One process that is traced.
 *
 * Signals that reach it while it is held are kept for it. Methods throw {@link RunError} where it ended or the kernel
 * refuses.
 */
export class Tracer {
  readonly pid: number;
  readonly #agent: TracingAgent;
  readonly #kept: number[] = [];
  #registers: Registers | undefined;
  #changed = false;

  constructor(agent: TracingAgent, pid: number) {
    this.#agent = agent;
    this.pid = pid;
  }

  /** Waits until the process has executed another program, of which no instruction has run. */
  async untilExec(): Promise<void> {
    for (;;) {
      const change = await this.#wait();
      if (isExec(change)) return;
      await this.#agent.resume(change);
    }
  }

  /**
   * Goes on from where the program was executed to the way out of the kernel. Only from there can it make system calls:
   * the execve, before it returns, sets the register that has their number.
   */
  async leaveExec(): Promise<void> {
    let interrupted = this.#ptrace(PTRACE.INTERRUPT, 0, 0);
    for (;;) {
      // Asked for at once, as are those below: to wait for each answer takes longer than all that is done.
      const resumed = this.#ptrace(PTRACE.CONT, 0, 0);
      const all = [interrupted, resumed, this.#wait(), this.#agent.registers(this.pid)] as const;
      const [, , { signal, event }, registers] = await Promise.all(all);
      interrupted = Promise.resolve();
      this.#registers = registers;
      if (event === EVENT_STOP) return;
      if (event === 0) this.#kept.push(signal);
    }
  }

  /** As they are, or will be when the process runs. */
  async registers(): Promise<Registers> {
    this.#registers ??= await this.#agent.registers(this.pid);
    return this.#registers;
  }

  /** Sets them for when the process is let run. */
  setRegisters(registers: Registers): void {
    this.#registers = registers;
    this.#changed = true;
  }

  /**
   * Lets the process execute the one instruction at `gate`, which enters the kernel, with these registers; gives the
   * result. What the process runs with later is not that, but what {@link Tracer.setRegisters} says.
   */
  async enterKernel(gate: bigint, registers: Registers): Promise<bigint> {
    // No system call is under way (-1): none is to be restarted.
    let ready = this.#agent.setRegisters(this.pid, { ...registers, rip: gate, orig_rax: 0xffff_ffff_ffff_ffffn });
    for (;;) {
      const stepped = this.#ptrace(PTRACE.SINGLESTEP, 0, 0);
      const all = [ready, stepped, this.#wait(), this.#agent.registers(this.pid)] as const;
      const [, , { signal, event }, { rip, rax }] = await Promise.all(all);
      ready = Promise.resolve();
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
    const isLong = bytes.length > FEW;
    if (isLong && (await this.#agent.writeWritable(this.pid, address, bytes))) return;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const words = Array.from({ length: bytes.length / 8 }, (_, i) => view.getBigUint64(i * 8, true));
    // The requests are made all at once: each takes a hundredth of the time that asking for it one by one does.
    await Promise.all(words.map((word, i) => this.#ptrace(PTRACE.POKEDATA, address + BigInt(i * 8), word)));
  }

  /** Reads a word of 8 bytes, as {@link Tracer.write} writes them. */
  peek(address: bigint): Promise<Uint8Array> {
    return this.#agent.peek(this.pid, address);
  }

  /** What a clock shows now; see {@link TracingAgent.clock}. */
  clock(id: number): Promise<bigint | undefined> {
    return this.#agent.clock(id);
  }

  /** Lets the process run, traced by nobody, with the signals that were kept for it. */
  async detach(): Promise<void> {
    await Promise.all([this.#ready(), this.#ptrace(PTRACE.DETACH, 0, 0)]);
  }

  /**
   * Has the process, which is held, killed should the agent end: as long as a program is neither what it was nor what
   * it is to be.
   */
  async guard(): Promise<void> {
    await this.#ptrace(PTRACE.SETOPTIONS, 0, this.#agent.options | TRACE.EXIT_KILL);
  }

  /**
   * Lets the process run, traced with all that it starts, with the signals that were kept for it. Should the agent end,
   * it runs on, unless the {@link TracingAgent.options options} say otherwise.
   */
  async follow(): Promise<void> {
    const ready = this.#ready();
    const options = this.#ptrace(PTRACE.SETOPTIONS, 0, this.#agent.options);
    await Promise.all([ready, options, this.#ptrace(this.#agent.goOn, 0, 0)]);
  }

  /** Whether the process is still held: it is not when somebody killed it. */
  async isHeld(): Promise<boolean> {
    return (await this.#agent.request(PTRACE.SETOPTIONS, this.pid, 0, this.#agent.options | TRACE.EXIT_KILL)) >= 0n;
  }

  /** Gives the process its registers, and what was kept for it. */
  async #ready(): Promise<void> {
    const set = this.#registers && this.#changed ? this.#agent.setRegisters(this.pid, this.#registers) : undefined;
    await Promise.all([set, ...this.#kept.splice(0).map((signal) => this.#agent.kill(this.pid, signal))]);
  }

  async #ptrace(request: number, address: number | bigint, data: number | bigint): Promise<void> {
    const result = await this.#agent.request(request, this.pid, address, data);
    if (result < 0n) throw refusal(`ptrace request 0x${request.toString(16)}`, result);
  }

  /** Waits until the process stops. */
  async #wait(): Promise<Change> {
    const change = await this.#agent.wait(this.pid);
    if (change.ended) throw new RunError(ENDED);
    return change;
  }
}

const ENDED = "the program ended before it ran";

/** A process that is held is not found when it was killed. */
function refusal(what: string, result: bigint): RunError {
  return new RunError(result === BigInt(-ESRCH) ? ENDED : `${what}: ${describeErrno(result)}`);
}

function whyRefused(pid: number, result: bigint): string {
  const said = describeErrno(result);
  if (result !== BigInt(-EPERM)) return said;
  const tracer = tracerOf(pid);
  if (tracer > 0) {
    return `${said}: process ${tracer} traces this already, as strace -f does; start that tracer by this command instead`;
  }
  const scope = textOf("/proc/sys/kernel/yama/ptrace_scope").trim();
  if (Number(scope) > 1) return `${said}: kernel.yama.ptrace_scope is ${scope}`;
  return `${said}: a container's system call filter or a security module forbids it`;
}

/** Who traces a process or thread; 0 for nobody. */
export function tracerOf(pid: number): number {
  return Number(/^TracerPid:\s+(\d+)$/m.exec(textOf(`/proc/${pid}/status`))?.[1] ?? 0);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
