import { errnoName } from "../../agent/errno.js";
import { type Agent, AgentError, startAgent } from "../../agent/live.js";
import { AgentMemory, PROT } from "../../agent/memory.js";
import { type AgentAbi, WORD_SIZE } from "../../agent/protocol.js";
import { FormatError } from "../../bytes/error.js";
import { Reader } from "../../bytes/reader.js";
import { Writer } from "../../bytes/writer.js";
import type { CallMemory, Way } from "../calls.js";
import { measuringImages } from "../images.js";
import { JOB, JOB_ARGS, JOB_SIZE, PROGRAM, PROGRAM_SIZE, type RoutineName } from "../layout.js";
import { addressIn, randomState, readImage } from "./image/live.js";

/** Routines that are measured beside the calls. */
export const CONTROLS = ["emptyReturn", "emptyJump", "cpuid", "rdtsc"] as const satisfies readonly RoutineName[];

/** One of them. */
export type Control = (typeof CONTROLS)[number];

/** A job with what becomes of it. */
export interface Job {
  readonly entry: bigint;
  readonly number: number;
  readonly args: readonly (number | bigint)[];
  /** The routine whose cost is the loop's share in this one's. */
  readonly empty: "emptyReturn" | "emptyJump";
  readonly way?: Way;
  readonly control?: Control;
  calls: number;
  warm: number;
  readonly ticks: number[];
}

/** Sizes of the agent's memory: the table of jobs, what calls write to, the results of a chunk. */
const TABLE_SIZE = 0x8000;
const BUFFER_SIZE = 0x1000;
const RESULTS_SIZE = 0x40000;

/** An agent with the measuring code, and with the memory that it needs. */
export class MeasuringAgent {
  readonly agent: Agent;
  readonly memory: AgentMemory;
  readonly #code: bigint;
  readonly #table: bigint;
  readonly #results: bigint;
  readonly buffer: bigint;
  readonly vdso: Vdso;
  #callMemory: Promise<CallMemory> | undefined;

  private constructor(agent: Agent, memory: AgentMemory, code: bigint, data: bigint) {
    this.agent = agent;
    this.memory = memory;
    this.vdso = vdsoOf(agent);
    this.#code = code;
    this.#table = data;
    this.buffer = data + BigInt(TABLE_SIZE);
    this.#results = this.buffer + BigInt(BUFFER_SIZE);
  }

  static async start(abi: AgentAbi): Promise<MeasuringAgent> {
    const agent = await startAgent(abi);
    let memory: AgentMemory | undefined;
    try {
      memory = new AgentMemory(agent);
      const bytes = Buffer.from(measuringImages[abi].base64, "base64");
      const code = await memory.map(bytes.length);
      memory.write(code, bytes);
      await memory.protect(code, bytes.length, PROT.readExecute);
      return new MeasuringAgent(agent, memory, code, await memory.map(TABLE_SIZE + BUFFER_SIZE + RESULTS_SIZE));
    } catch (error) {
      memory?.close();
      agent.kill();
      throw error;
    }
  }

  get abi(): AgentAbi {
    return this.agent.abi;
  }

  /** What calls may write to, with the state of the vDSO's getrandom, for which that function is called. */
  callMemory(): Promise<CallMemory> {
    this.#callMemory ??= callMemory(this);
    return this.#callMemory;
  }

  /** Where a routine is; `undefined` in an ABI that has it not. */
  routine(name: RoutineName): bigint | undefined {
    const offset = measuringImages[this.abi].routines[name];
    return offset === undefined ? undefined : this.#code + BigInt(offset);
  }

  /** Does jobs in rounds, and gives the ticks of every batch, in order, with the clocks before and after. */
  async run(jobs: readonly Job[], rounds: number, clocks: Clocks): Promise<Ran> {
    const table = new Writer();
    const place = (name: RoutineName): bigint => this.routine(name) as bigint;
    const fields: Partial<Record<keyof typeof PROGRAM, number | bigint>> = {
      jobs: this.#table + BigInt(PROGRAM_SIZE),
      jobCount: jobs.length,
      rounds,
      results: this.#results,
      clock: place(clocks.batch),
      kernelClock: place(clocks.kernel),
    };
    for (const [name, value] of Object.entries(fields)) table.padTo(PROGRAM[name as keyof typeof PROGRAM]).u64(value);
    table.padTo(PROGRAM_SIZE);
    for (const { entry, number, args, calls, warm } of jobs) {
      const start = table.length;
      table.u64(entry).u64(number);
      for (let i = 0; i < JOB_ARGS; i++) table.u64(args[i] ?? 0);
      table
        .padTo(start + JOB.count)
        .u64(calls)
        .u64(warm)
        .padTo(start + JOB_SIZE);
    }
    try {
      this.memory.write(this.#table, table.finish());
    } catch (error) {
      // Its memory goes first: how it ended, the next call knows.
      if (error instanceof AgentError) await this.agent.exited;
      else throw error;
    }
    await this.agent.callAddress(place("run"), this.#table);
    const written = new Reader(this.memory.read(this.#table, table.length), { what: "measuring program" });
    const results = new Reader(this.memory.read(this.#results, rounds * jobs.length * 8), { what: "measured ticks" });
    return {
      ticks: Array.from({ length: rounds * jobs.length }, (_, i) => Number(results.u64At(8 * i))),
      returned: jobs.map((_, i) => {
        const at = PROGRAM_SIZE + i * JOB_SIZE + JOB.result;
        return WORD_SIZE[this.abi] === 4 ? BigInt(written.i32At(at)) : written.i64At(at);
      }),
      start: { clock: written.u64At(PROGRAM.start), kernel: written.u64At(PROGRAM.startKernel) },
      end: { clock: written.u64At(PROGRAM.end), kernel: written.u64At(PROGRAM.endKernel) },
    };
  }

  /** How many rounds of so many jobs the memory for results takes. */
  roundsThatFit(jobs: number): number {
    return Math.floor(RESULTS_SIZE / 8 / jobs);
  }

  kill(): void {
    this.memory.close();
    this.agent.kill();
  }
}

/** The routines that read the clocks of a run. */
export interface Clocks {
  readonly batch: RoutineName;
  readonly kernel: RoutineName;
}

/** Reads no clock, for a run that is to show only what becomes of its calls. */
const NO_CLOCKS: Clocks = { batch: "emptyReturn", kernel: "emptyReturn" };

/** What a run gave. */
export interface Ran {
  readonly ticks: readonly number[];
  /** What the last call of each job returned, signed. */
  readonly returned: readonly bigint[];
  readonly start: { readonly clock: bigint; readonly kernel: bigint };
  readonly end: { readonly clock: bigint; readonly kernel: bigint };
}

/** What of the vDSO of a process is called. */
interface Vdso {
  /** The address of a function, by its name with or without `__vdso_`. */
  functions(name: string): bigint | undefined;
  /** The first bytes of `__kernel_vsyscall`; empty without one. */
  readonly gateCode: Uint8Array;
  /** Why it cannot be called although there is one. */
  readonly problem?: string;
}

/** Bytes of the gate within which it enters the kernel. */
const GATE_SIZE = 16;

function vdsoOf(agent: Agent): Vdso {
  const none: Vdso = { functions: () => undefined, gateCode: new Uint8Array() };
  try {
    const found = readImage(agent);
    if (!found) return none;
    const { image } = found;
    const gate = image.entry && Number(image.entry.address - image.linkBase);
    return {
      functions: (name) => addressIn(found, name),
      gateCode: gate === undefined ? none.gateCode : image.bytes.slice(gate, gate + GATE_SIZE),
    };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return { ...none, problem: `the vDSO is damaged, and not called: ${error.message}` };
  }
}

/** Signals that kill an agent for what it did, not for what another wanted. */
const FAULTS: readonly (string | undefined)[] = ["SIGILL", "SIGSEGV", "SIGBUS", "SIGTRAP", "SIGSYS", "SIGFPE"];

/** What calls write to, and what the vDSO's getrandom wants. */
async function callMemory({ buffer, agent, memory, vdso }: MeasuringAgent): Promise<CallMemory> {
  const getrandom = vdso.functions("getrandom");
  const state = getrandom === undefined ? undefined : await randomState(agent, memory, { getrandom, buffer });
  return { buffer, ...(state && { randomState: state }) };
}

/** Processes in which calls are tried: one after the other, as they die of it. */
export class Trial {
  readonly #abi: AgentAbi;
  #agent: MeasuringAgent | undefined;

  constructor(abi: AgentAbi) {
    this.#abi = abi;
  }

  /**
   * Does a job once: `undefined` where that works, or else the name of the kernel's error or of the signal by which the
   * process ended.
   */
  async outcome(make: (agent: MeasuringAgent) => Job | Promise<Job>): Promise<string | undefined> {
    let refused: string | undefined;
    const signal = await this.fatal(async (target) => {
      const job = await make(target);
      const { returned } = await target.run([{ ...job, calls: 1, warm: 1 }], 1, NO_CLOCKS);
      const [result = 0n] = returned;
      if (job.control === undefined && result < 0n && result >= -4095n) refused = errnoName(result);
    });
    return signal ?? refused;
  }

  /** The signal by which a process ended of something; `undefined` where it did not. */
  async fatal(act: (agent: MeasuringAgent) => Promise<unknown>): Promise<string | undefined> {
    const target = this.#agent ?? (await MeasuringAgent.start(this.#abi));
    this.#agent = target;
    try {
      await act(target);
      return undefined;
    } catch (error) {
      const signal = error instanceof AgentError ? (error.exit?.signal ?? undefined) : undefined;
      if (!FAULTS.includes(signal) || signal === undefined) throw error;
      this.end();
      return signal;
    }
  }

  end(): void {
    this.#agent?.kill();
    this.#agent = undefined;
  }
}
