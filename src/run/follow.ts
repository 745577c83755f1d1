import { readFileSync, readlinkSync, statSync } from "node:fs";
import { constants } from "node:os";
import { AT_SYSINFO_EHDR } from "../linux/auxv.js";
import { LiveProcess } from "../linux/live.js";
import { ProcessError } from "../linux/process.js";
import type { CallCounter } from "./counter/counter.js";
import { applyGate, type Gate } from "./gate.js";
import { HeldProgram } from "./held-program.js";
import { allowReader, isGuarded, withReader } from "./reader.js";
import { isExec, type Tracer, type TracingAgent } from "./tracer.js";

/** Takes what a user should know of a program that was executed, one line without its end. */
export type Remark = (text: string) => void;

/** What is done for programs that are followed. */
export interface Following {
  readonly gate: Gate | undefined;
  /** Whether this process writes to their memory while they run, as to answer their system calls. */
  readonly writes: boolean;
  readonly onRemark: Remark;
  /** Counts system calls of theirs. */
  readonly counter?: CallCounter;
}

/**
 * Puts a gate in force in every program that is executed by processes which an agent traces, and by those that they
 * start; resolves when none of them is left.
 *
 * A program in which it cannot be put in force is killed, and a remark says why. One for which it is not made (of another
 * ABI, or without a vDSO) runs as the kernel made it; a remark says so once.
 */
export async function followPrograms(tracing: TracingAgent, following: Following): Promise<void> {
  const { counter } = following;
  const follower = new Follower(tracing, following);
  let resumed: Promise<unknown> = Promise.resolve();
  for (;;) {
    // Asked for at once, the one is done before the other.
    const [, change] = await Promise.all([resumed, counter ? counter.waitForAny() : tracing.waitForAny()]);
    if (!change) return;
    if (change.ended || isExec(change)) counter?.forget(change.pid);
    if (change.ended) continue;
    if (isExec(change)) {
      await follower.executed(change.pid);
      continue;
    }
    if (counter?.isCall(change)) counter.called(change);
    resumed = tracing.resume(change);
  }
}

/** Gives the gate to one program after the other. */
class Follower {
  readonly #tracing: TracingAgent;
  readonly #following: Following;
  /** Whether what is executed has to allow that this process writes to it. */
  readonly #asksLeave: boolean;
  readonly #said = new Set<string>();

  constructor(tracing: TracingAgent, following: Following) {
    this.#tracing = tracing;
    this.#following = following;
    this.#asksLeave = following.writes && isGuarded();
  }

  /** What is to be done with a program that a process has executed; the process then runs. */
  async executed(pid: number): Promise<void> {
    const tracer = this.#tracing.tracer(pid);
    try {
      // Asked for at once: the registers are wanted next.
      await Promise.all([tracer.guard(), tracer.registers()]);
      const withheld = withheldPrivileges(pid);
      if (withheld) this.#remarkOnce(programOf(pid), withheld);
      if (this.#asksLeave) await allowReader(tracer, process.pid);
      const { gate } = this.#following;
      if (gate) await this.#apply(tracer, gate);
      await tracer.follow();
    } catch (error) {
      // It may have been killed meanwhile, by others; and where there is no tracer any more, that is what is thrown.
      if (!(await tracer.isHeld())) return;
      const name = programOf(pid);
      await this.#tracing.kill(pid, constants.signals.SIGKILL);
      this.#following.onRemark(
        `${name} (process ${pid}) was killed before it ran: ${error instanceof Error ? error.message : error}`,
      );
    }
  }

  async #apply(tracer: Tracer, gate: Gate): Promise<void> {
    const live = new LiveProcess(tracer.pid);
    const give = async (): Promise<void> => {
      const program = await HeldProgram.of(tracer, live);
      const unsuited = whyUnsuited(gate, program);
      if (unsuited) this.#remarkOnce(programOf(tracer.pid), `${unsuited}: such programs get what the kernel gives`);
      else await applyGate(program, gate);
    };
    try {
      await (isOpen(live) ? give() : withReader(tracer, process.pid, give));
    } finally {
      live.close();
    }
  }

  /** Says one thing of the first program of which there is to be said it. */
  #remarkOnce(program: string, what: string): void {
    if (this.#said.has(what)) return;
    this.#said.add(what);
    this.#following.onRemark(`${program}: ${what}`);
  }
}

/** Whether this process may read a program's memory; it is then open. */
function isOpen(live: LiveProcess): boolean {
  try {
    live.hold();
    return true;
  } catch (error) {
    if (error instanceof ProcessError) return false;
    throw error;
  }
}

/** Why a gate is not one for a program. */
function whyUnsuited(gate: Gate, program: HeldProgram): string | undefined {
  if (gate.kind === "none") return undefined;
  if (!program.has(AT_SYSINFO_EHDR)) return "a program without a vDSO";
  const abi = gate.kind === "image" ? gate.replacement.image.abi : program.abi;
  return abi === program.abi ? undefined : `a program of ${program.abi}, where the image is of ${abi}`;
}

/** What of a program's raised privileges the kernel has withheld from it. */
function withheldPrivileges(pid: number): string | undefined {
  const S_ISUID = 0o4000;
  const S_ISGID = 0o2000;
  try {
    const { mode, uid, gid } = statSync(`/proc/${pid}/exe`);
    const setsUser = (mode & S_ISUID) !== 0;
    const setsGroup = (mode & S_ISGID) !== 0 && (mode & 0o010) !== 0;
    if (!setsUser && !setsGroup) return undefined;
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    // Uid: real, effective, saved, of the file system.
    const effective = (field: string): number =>
      Number(new RegExp(`^${field}:\\s+\\d+\\s+(\\d+)`, "m").exec(status)?.[1]);
    const user = setsUser && effective("Uid") !== uid ? `set-user-id (user ${uid})` : undefined;
    const group = setsGroup && effective("Gid") !== gid ? `set-group-id (group ${gid})` : undefined;
    const what = user ?? group;
    return what && `${what}: runs without that privilege, which the kernel withholds from a program that is traced`;
  } catch {
    // It was killed, or is one into which we may not look: then nothing can be put in force in it either.
    return undefined;
  }
}

function programOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return "a program";
  }
}
