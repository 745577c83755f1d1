import { readdirSync, statSync } from "node:fs";
import { type Agent, startAgent } from "../agent/live.js";
import { LiveProcess } from "../linux/live.js";
import { ProcessError } from "../linux/process.js";
import { CallCounter, type Counting, NO_CALL_INFO, STOPS } from "./counter/counter.js";
import { describeErrno, EPERM, ESRCH } from "./errno.js";
import { RunError } from "./error.js";
import { PTRACE, TRACE } from "./ptrace.js";
import { isExec, isStop, TracingAgent, tracerOf } from "./tracer.js";
import { takeUpWait } from "./unbroken-wait.js";

/** How calls of a running process were counted. */
export interface Attached {
  /** How long, in seconds. */
  readonly seconds: number;
  /** Threads that were there, or came. */
  readonly threads: number;
  /** Whether it ended meanwhile. */
  readonly ended: boolean;
}

const PR_SET_PTRACER = 0x5961_6d61;
const SYS_PRCTL = 157;

/** Its threads, those to come included, and what it executes; not its children. */
const OPTIONS = TRACE.CLONE | TRACE.EXEC | TRACE.SYSGOOD;

/** Rounds of looking for threads: those that start others while they are looked for are traced by then. */
const MAX_ROUNDS = 100;

/**
 * Counts system calls of a process that runs, until it has ended, or `enough`, which is called when all its threads are
 * traced, resolves. All of them stop at each of their system calls meanwhile. Then, and also where this process is killed,
 * it runs on as before.
 *
 * Throws {@link RunError} where it may not be traced, `ProcessError` where there is none.
 */
export async function countCallsOf(pid: number, counting: Counting, enough: () => Promise<void>): Promise<Attached> {
  const { tgid, kernelThread } = new LiveProcess(pid).state();
  if (tgid === process.pid) throw new RunError("this is the process that would wait for itself");
  if (kernelThread) throw new RunError(`process ${pid} is a thread of the kernel, which makes no system calls`);
  const agents: Agent[] = [];
  let attachment: Attachment | undefined;
  try {
    const agent = await startAgent("x86_64");
    agents.push(agent);
    const bell = await startAgent("x86_64");
    agents.push(bell);
    attachment = await Attachment.of(tgid, { agent, bell, counting });
    return await attachment.countUntil(enough());
  } finally {
    attachment?.finish();
    for (const one of agents) await one.close();
  }
}

/** The threads of a process, traced. */
class Attachment {
  readonly #pid: number;
  readonly #tracing: TracingAgent;
  readonly #counter: CallCounter;
  /** A process that is traced only to end: that wakes the tracer, which nothing else can while it waits. */
  readonly #bell: Agent;
  readonly #threads = new Set<number>();
  /** Those that were told to stop, and have not yet. */
  readonly #interrupted = new Set<number>();
  #seen = 0;
  #done = false;

  private constructor(pid: number, tracing: TracingAgent, counter: CallCounter, bell: Agent) {
    this.#pid = pid;
    this.#tracing = tracing;
    this.#counter = counter;
    this.#bell = bell;
  }

  static async of(
    pid: number,
    { agent, bell, counting }: { readonly agent: Agent; readonly bell: Agent; readonly counting: Counting },
  ): Promise<Attachment> {
    const tracing = await TracingAgent.of(agent, { options: OPTIONS, goOn: STOPS["every call"].goOn });
    // A key of the terminal is for this process to hear.
    await tracing.leaveGroup();
    // Refused where there is no Yama: then nothing needs to be allowed.
    await bell.call(SYS_PRCTL, PR_SET_PTRACER, agent.pid);
    const result = await tracing.request(PTRACE.SEIZE, bell.pid, 0, 0);
    if (result < 0n) throw new RunError(`ptrace is refused: ${describeErrno(result)}`);
    const counter = await CallCounter.of(agent, counting, "every call");
    const attachment = new Attachment(pid, tracing, counter, bell);
    try {
      await attachment.#seizeAll();
      return attachment;
    } catch (error) {
      attachment.finish();
      throw error;
    }
  }

  /** Counts, and says what was seen. */
  async countUntil(enough: Promise<void>): Promise<Attached> {
    let told = false;
    const start = performance.now();
    void enough.then(() => {
      if (this.#done) return;
      told = true;
      this.#counter.stop();
      this.#bell.kill();
    });
    let checked = false;
    let resumed: Promise<unknown> = Promise.resolve();
    while (this.#threads.size > 0 && !told) {
      const [, change] = await Promise.all([resumed, this.#counter.waitForAny()]);
      if (!change || change.pid === this.#bell.pid) break;
      if (change.ended || isExec(change)) this.#counter.forget(change.pid);
      if (change.ended) {
        this.#threads.delete(change.pid);
        continue;
      }
      this.#add(change.pid);
      if (!checked && !(await this.#counter.isAble(change.pid))) throw new RunError(NO_CALL_INFO);
      checked = true;
      // Of its other threads none is left.
      if (isExec(change)) for (const thread of this.#threads) if (thread !== change.pid) this.#threads.delete(thread);
      if (this.#interrupted.delete(change.pid) && isStop(change)) await takeUpWait(this.#tracing, change.pid);
      if (this.#counter.isCall(change)) this.#counter.called(change);
      resumed = this.#tracing.resume(change);
    }
    await resumed;
    const seconds = (performance.now() - start) / 1000;
    return { seconds, threads: this.#seen, ended: this.#threads.size === 0 };
  }

  /**
   * Takes over the last counts. The kernel lets go of all threads when their tracer is ended next: those that wait for
   * something are not disturbed by that, as they are by being stopped once more to be let go of one by one.
   */
  finish(): void {
    this.#done = true;
    this.#counter.finish();
    this.#tracing.close();
  }

  #add(thread: number): void {
    if (this.#threads.has(thread)) return;
    this.#threads.add(thread);
    this.#seen += 1;
  }

  async #seizeAll(): Promise<void> {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const fresh = threadsOf(this.#pid).filter((thread) => !this.#threads.has(thread));
      for (const thread of fresh) await this.#seize(thread);
      if (fresh.length === 0) break;
    }
    if (this.#threads.size === 0) throw new RunError(`process ${this.#pid} has ended`);
  }

  async #seize(thread: number): Promise<void> {
    const result = await this.#tracing.request(PTRACE.SEIZE, thread, 0, OPTIONS);
    if (result === BigInt(-ESRCH) || (result < 0n && hasEnded(thread))) return;
    // One that another started which is traced already is traced from its start.
    const isOurs = result < 0n && tracerOf(thread) === tracerOf(this.#bell.pid);
    if (result < 0n && !isOurs)
      throw new RunError(`process ${this.#pid} cannot be traced: ${whyRefused(thread, result)}`);
    this.#add(thread);
    if (isOurs) return;
    this.#interrupted.add(thread);
    await this.#tracing.request(PTRACE.INTERRUPT, thread, 0, 0);
  }
}

/** Whether a thread has ended, though it may still be listed: the first one, while others run. */
function hasEnded(thread: number): boolean {
  try {
    return /^[ZX]$/.test(new LiveProcess(thread).state().state);
  } catch (error) {
    if (error instanceof ProcessError) return true;
    throw error;
  }
}

function threadsOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number);
  } catch {
    return [];
  }
}

function whyRefused(pid: number, result: bigint): string {
  const said = describeErrno(result);
  if (result !== BigInt(-EPERM)) return said;
  const tracer = tracerOf(pid);
  if (tracer > 0) return `${said}: process ${tracer} traces it already, and a process has one tracer`;
  const user = process.geteuid?.();
  if (user !== 0) {
    const owner = statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid;
    const why =
      owner === user
        ? "where Yama guards processes (kernel.yama.ptrace_scope), only root may, or who starts it: trace -- COMMAND"
        : `it is a process of another user (${owner})`;
    return `${said}: ${why}; run as root (CAP_SYS_PTRACE)`;
  }
  return `${said}: CAP_SYS_PTRACE is missing (a container takes it away), or a security module forbids it`;
}
