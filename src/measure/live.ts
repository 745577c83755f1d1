import { readFileSync } from "node:fs";
import { errnoName } from "../agent/errno.js";
import { AgentError } from "../agent/live.js";
import type { AgentAbi } from "../agent/protocol.js";
import { type Via, type Way, waysOf } from "./calls.js";
import {
  type CallFigures,
  type Controls,
  figuresOf,
  type Measured,
  type RefusedCall,
  type Samples,
  type Scale,
  withRatios,
} from "./figures.js";
import { CLOCK_MONOTONIC_RAW } from "./layout.js";
import { calmestCpu, cpusIn, maskOf, parseCpuTimes, tscFlags } from "./machine.js";
import { type Clocks, CONTROLS, type Control, type Job, MeasuringAgent, type Ran, Trial } from "./process/live.js";

export type { Via } from "./calls.js";
export type { CallFigures, Measured } from "./figures.js";

/** What is to be measured, and how long. */
export interface MeasureOptions {
  /** Which calls, by which ways; all unless said. */
  readonly calls?: (call: string, via: Via) => boolean;
  /** How long measuring takes, roughly, beside what it takes to prepare; {@link DEFAULT_MS} unless said. */
  readonly milliseconds?: number;
  /** The processor to run on; the calmest unless said. */
  readonly cpu?: number;
  /** What to time batches with; the time stamp counter unless said, or unless it is not to be used. */
  readonly clock?: Measured["clock"];
  /** Is told how far it is, 0 to 1. */
  readonly progress?: (done: number) => void;
}

/** Milliseconds of measuring in one ABI. */
export const DEFAULT_MS = 2000;

/** Most batches of a call: more tell nothing new. Odd, so that the median is one of them. */
const MAX_ROUNDS = 401;

/** Fewest: however slow the calls, a median and its interval take some. */
const MIN_ROUNDS = 15;

/** How long the code runs before it is asked for what it has. */
const CHUNK_MS = 100;

/** Calls in a batch: the faster the more, so that the clock's own steps do not show. */
const BATCH_CALLS = [
  { below: 100, calls: 200, warm: 20 },
  { below: 1000, calls: 100, warm: 10 },
  { below: Number.POSITIVE_INFINITY, calls: 50, warm: 3 },
];

/** Times as many calls where batches are timed by system calls, whose own cost swings by more than a fast call takes. */
const SLOW_CLOCK_CALLS = 20;

/** An ABI that was not measured: no process of it can be had, or it ended at once. */
export interface Unmeasured {
  readonly abi: AgentAbi;
  readonly error: AgentError;
}

/** Measures the calls of one ABI. Throws {@link AgentError} where no process of it can be had. */
export async function measureCalls(abi: AgentAbi, options: MeasureOptions = {}): Promise<Measured> {
  const { measured, unmeasured } = await measureAbis([abi], options);
  const [one] = measured;
  if (!one) throw (unmeasured[0] as Unmeasured).error;
  return one;
}

/**
 * Measures the calls of several ABIs, by turns, so that what disturbs the machine disturbs all alike. `milliseconds` are
 * for each of them.
 */
export async function measureAbis(
  abis: readonly AgentAbi[],
  options: MeasureOptions = {},
): Promise<{ readonly measured: readonly Measured[]; readonly unmeasured: readonly Unmeasured[] }> {
  const { milliseconds = DEFAULT_MS, progress } = options;
  const before = cpuTimes();
  const unmeasured: Unmeasured[] = [];
  const orTell = async <T>(abi: AgentAbi, get: () => T | Promise<T>): Promise<T[]> => {
    try {
      return [await get()];
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      unmeasured.push({ abi, error });
      return [];
    }
  };
  const measurements: Measurement[] = [];
  try {
    for (const abi of abis) measurements.push(...(await orTell(abi, () => Measurement.prepare(abi, options))));
    let { cpu } = options;
    const settled: Measurement[] = [];
    for (const one of measurements) {
      settled.push(
        ...(await orTell(one.abi, async () => {
          cpu = await one.settle(cpu, before);
          return one;
        })),
      );
    }
    for (;;) {
      const unfinished = settled.filter((one) => !one.isDone(milliseconds));
      if (unfinished.length === 0) break;
      for (const one of unfinished) await one.chunk();
      progress?.(settled.reduce((sum, one) => sum + one.part(milliseconds), 0) / settled.length);
    }
    const measured: Measured[] = [];
    for (const one of settled) measured.push(...(await orTell(one.abi, () => one.finish())));
    return { measured, unmeasured };
  } finally {
    for (const one of measurements) one.close();
  }
}

/** Numbers of the calls that prepare a measurement. */
const NUMBERS: Readonly<Record<AgentAbi, { readonly setAffinity: number; readonly getAffinity: number }>> = {
  x86_64: { setAffinity: 203, getAffinity: 204 },
  i386: { setAffinity: 241, getAffinity: 242 },
};
const SYS_CLOCK_GETTIME64 = 403;

/** Bytes of a mask of processors: for 8,192, as many as any kernel is built for. */
const MASK_SIZE = 1024;

/** One ABI's measurement: prepared, settled on a processor, then done in chunks. */
class Measurement {
  readonly #target: MeasuringAgent;
  readonly #jobs: readonly Job[];
  readonly #refused: readonly RefusedCall[];
  readonly #clocks: Clocks;
  readonly #problems: string[];
  readonly #mayTie: boolean;
  #cpu: number | undefined;
  #roundMs = CHUNK_MS;
  #rounds = 0;
  #elapsedMs = 0;
  #failed = false;
  #first: Ran["start"] | undefined;
  #last: Ran["end"] | undefined;

  private constructor(
    target: MeasuringAgent,
    found: {
      readonly jobs: readonly Job[];
      readonly refused: readonly RefusedCall[];
      readonly clocks: Clocks;
      readonly problems: string[];
      readonly mayTie: boolean;
    },
  ) {
    this.#target = target;
    this.#jobs = found.jobs;
    this.#refused = found.refused;
    this.#clocks = found.clocks;
    this.#problems = found.problems;
    this.#mayTie = found.mayTie;
  }

  get abi(): AgentAbi {
    return this.#target.abi;
  }

  /** Starts a process and finds out, in others that may die of it, what can be called there. */
  static async prepare(abi: AgentAbi, { calls = () => true, clock }: MeasureOptions): Promise<Measurement> {
    const target = await MeasuringAgent.start(abi);
    const trial = new Trial(abi);
    try {
      const problems: string[] = [];
      const clocks = await clocksOf(target, trial, problems, clock);
      const noTying = await trial.fatal(tieAnywhere);
      if (noTying !== undefined) problems.push(`tying a process to a processor ends it (${noTying}): it is not tied`);
      const jobs: Job[] = [];
      const refused: RefusedCall[] = [];
      for (const control of CONTROLS) {
        const job = controlJob(target, control);
        const outcome = control.startsWith("empty")
          ? undefined
          : await trial.outcome((other) => controlJob(other, control));
        if (outcome === undefined) jobs.push(job);
        else problems.push(`the instruction ${control} ends a process (${outcome})`);
      }
      const { functions, gateCode, problem } = target.vdso;
      if (problem !== undefined) problems.push(problem);
      const ways = waysOf(abi, (name) => functions(name) !== undefined, gateCode);
      for (const way of ways.filter(({ plan, via }) => calls(plan.call, via))) {
        const outcome = await trial.outcome((other) => wayJob(other, way));
        if (outcome === undefined) jobs.push(await wayJob(target, way));
        else refused.push({ abi, call: way.plan.call, via: way.via, refused: outcome });
      }
      return new Measurement(target, { jobs, refused, clocks, problems, mayTie: noTying === undefined });
    } catch (error) {
      target.kill();
      throw error;
    } finally {
      trial.end();
    }
  }

  /**
   * Ties the process to a processor and sizes the batches. Gives the processor, for those that follow; `wanted` may say
   * which, and `before` how busy all have been until some time ago.
   */
  async settle(wanted: number | undefined, before: ReturnType<typeof cpuTimes>): Promise<number | undefined> {
    const cpu = this.#mayTie ? await this.#tie(wanted, before) : wanted;
    await this.#size();
    return cpu;
  }

  async #tie(wanted: number | undefined, before: ReturnType<typeof cpuTimes>): Promise<number | undefined> {
    const { agent, memory, buffer } = this.#target;
    const got = await agent.call(NUMBERS[agent.abi].getAffinity, 0, MASK_SIZE, buffer);
    const allowed = got > 0n ? cpusIn(memory.read(buffer, Number(got))) : [];
    const cpu = wanted ?? calmestCpu(before, cpuTimes(), allowed);
    if (cpu === undefined) {
      this.#problems.push("which processors it may run on is not told: it is not tied to one");
      return undefined;
    }
    memory.write(buffer, maskOf(cpu, MASK_SIZE));
    const result = await agent.call(NUMBERS[agent.abi].setAffinity, 0, MASK_SIZE, buffer);
    if (result === 0n) this.#cpu = cpu;
    else this.#problems.push(`it cannot be tied to processor ${cpu} (${errnoName(result)}): the scheduler may move it`);
    return cpu;
  }

  /** Measures roughly, throws that away, and decides from it how many calls make a batch. */
  async #size(): Promise<void> {
    const ROUNDS = 5;
    for (const job of this.#jobs) [job.calls, job.warm] = [10, 2];
    const ran = await this.#target.run(this.#jobs, ROUNDS, this.#clocks);
    const { nsPerTick } = scaleOf(this.#clocks, ran.start, ran.end);
    let roundNs = 0;
    this.#jobs.forEach((job, i) => {
      const each = Array.from({ length: ROUNDS }, (_, round) => ran.ticks[round * this.#jobs.length + i] as number);
      const ns = (Math.min(...each) / 10) * nsPerTick;
      const size = BATCH_CALLS.find(({ below }) => ns < below) as (typeof BATCH_CALLS)[number];
      const times = this.#clocks.batch === "readTsc" ? 1 : SLOW_CLOCK_CALLS;
      [job.calls, job.warm] = [size.calls * times, size.warm];
      roundNs += ns * (job.calls + job.warm);
    });
    this.#roundMs = roundNs / 1e6;
  }

  isDone(milliseconds: number): boolean {
    return this.part(milliseconds) >= 1;
  }

  /** How much is done, 0 to 1. */
  part(milliseconds: number): number {
    if (this.#failed) return 1;
    const byTime = this.#rounds < MIN_ROUNDS ? 0 : this.#elapsedMs / milliseconds;
    return Math.min(1, Math.max(this.#rounds / MAX_ROUNDS, byTime));
  }

  /** Measures for a while. Should the process end of it, what was measured until then counts. */
  async chunk(): Promise<void> {
    const jobs = this.#jobs;
    const fit = Math.min(this.#target.roundsThatFit(jobs.length), MAX_ROUNDS - this.#rounds);
    const rounds = Math.max(1, Math.min(Math.floor(CHUNK_MS / this.#roundMs), fit));
    const start = performance.now();
    let ran: Ran;
    try {
      ran = await this.#target.run(jobs, rounds, this.#clocks);
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      this.#failed = true;
      this.#problems.push(`${error.message} while it was measured: there are ${this.#rounds} batches of each call`);
      return;
    }
    this.#elapsedMs += performance.now() - start;
    this.#rounds += rounds;
    this.#first ??= ran.start;
    this.#last = ran.end;
    ran.ticks.forEach((ticks, i) => {
      (jobs[i % jobs.length] as Job).ticks.push(ticks);
    });
  }

  /** The figures. Throws {@link AgentError} where there is not one batch. */
  finish(): Measured {
    const { abi } = this.#target;
    if (!this.#first || !this.#last) throw new AgentError("gone", this.#problems.join("; "));
    const scale = scaleOf(this.#clocks, this.#first, this.#last);
    const samples = (job: Job): Samples => ({ ticks: Float64Array.from(job.ticks), calls: job.calls });
    const control = (name: Control): Job | undefined => this.#jobs.find((job) => job.control === name);
    const empty = {
      emptyReturn: figuresOf(samples(control("emptyReturn") as Job), scale),
      emptyJump: figuresOf(samples(control("emptyJump") as Job), scale),
    };
    const figures = (job: Job) => figuresOf(samples(job), scale, empty[job.empty].nsMedian / scale.nsPerTick);
    const others = (["cpuid", "rdtsc"] as const).flatMap((name) => {
      const job = control(name);
      return job ? [[name, figures(job)] as const] : [];
    });
    const rows = this.#jobs.flatMap((job): CallFigures[] =>
      job.way ? [{ abi, call: job.way.plan.call, via: job.way.via, ...figures(job) }] : [],
    );
    return {
      abi,
      rows: withRatios(rows),
      refused: this.#refused,
      controls: { ...empty, ...Object.fromEntries(others) } satisfies Controls,
      clock: scale.tsc ? "tsc" : "system call",
      ...(scale.tsc && { ticksPerNs: 1 / scale.nsPerTick }),
      ...(this.#cpu !== undefined && { cpu: this.#cpu }),
      problems: this.#problems,
    };
  }

  close(): void {
    this.#target.kill();
  }
}

/** Ties a process to those processors that it may run on already: to find out whether it survives that. */
async function tieAnywhere({ abi, agent, buffer }: MeasuringAgent): Promise<void> {
  const { setAffinity, getAffinity } = NUMBERS[abi];
  const size = await agent.call(getAffinity, 0, MASK_SIZE, buffer);
  if (size > 0n) await agent.call(setAffinity, 0, size, buffer);
}

function scaleOf(clocks: Clocks, start: Ran["start"], end: Ran["end"]): Scale {
  if (clocks.batch !== "readTsc") return { nsPerTick: 1, tsc: false };
  return { nsPerTick: Number(end.kernel - start.kernel) / Number(end.clock - start.clock), tsc: true };
}

function controlJob(target: MeasuringAgent, control: Control): Job {
  const entry = target.routine(control) as bigint;
  const empty = control === "emptyJump" ? control : "emptyReturn";
  return { entry, number: 0, args: [], empty, control, calls: 1, warm: 1, ticks: [] };
}

async function wayJob(target: MeasuringAgent, way: Way): Promise<Job> {
  const { plan, via, routine } = way;
  const name = via === "gate" ? "__kernel_vsyscall" : (plan.name as string);
  const entry = routine ? target.routine(routine) : target.vdso.functions(name);
  const memory = via === "vdso" && plan.functionArgs ? await target.callMemory() : { buffer: target.buffer };
  const args = [...plan.args(memory), ...(via === "vdso" ? (plan.functionArgs?.(memory) ?? []) : [])];
  return {
    entry: entry as bigint,
    number: via === "vdso" ? 0 : (plan.numbers[target.abi] as number),
    args,
    // The gate's own instructions, and those of the kernel's that come back for it, end with a return.
    empty: routine === "int80" || (routine === "syscall" && target.abi === "x86_64") ? "emptyJump" : "emptyReturn",
    way,
    calls: 1,
    warm: 1,
    ticks: [],
  };
}

/** Which clocks can be read. The kernel's with 64 bits is asked for first: it is always there where i386 has both. */
async function clocksOf(
  target: MeasuringAgent,
  trial: Trial,
  problems: string[],
  wanted: MeasureOptions["clock"],
): Promise<Clocks> {
  const readsWide = async (one: MeasuringAgent): Promise<boolean> =>
    (await one.agent.call(SYS_CLOCK_GETTIME64, CLOCK_MONOTONIC_RAW, one.buffer)) === 0n;
  const wide = target.abi === "i386" && (await trial.fatal(readsWide)) === undefined && (await readsWide(target));
  const kernel = wide ? "readKernelClock64" : "readKernelClock";
  if (wanted === "system call") return { batch: kernel, kernel };
  const flags = tscFlags(textOf("/proc/cpuinfo"));
  const outcome = await trial.outcome((other) => controlJob(other, "rdtsc"));
  if (outcome === undefined && flags?.tsc !== false) {
    if (flags && !flags.constant) {
      problems.push(
        "the time stamp counter may change its speed with the processor's (no constant_tsc): then times are right on average only",
      );
    }
    return { batch: "readTsc", kernel };
  }
  const why = outcome === undefined ? "the processor has none" : `reading it ends a process (${outcome})`;
  problems.push(`the time stamp counter is not to be used, ${why}: batches are timed by a system call`);
  return { batch: kernel, kernel };
}

function cpuTimes(): ReturnType<typeof parseCpuTimes> {
  return parseCpuTimes(textOf("/proc/stat"));
}

/** The text of a file that may not be there: then empty. */
function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
