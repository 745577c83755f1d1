import { type Agent, AgentError, type AgentExit, startAgent } from "../agent/live.js";
import { putBlock } from "../agent/memory.js";
import { REPLY_FD, REQUEST_FD } from "../agent/protocol.js";
import { LiveProcess } from "../linux/live.js";
import { CallCounter, type Counting, NO_CALL_INFO, type Sight, STOPS } from "./counter/counter.js";
import { describeErrno, ENOENT, ENOEXEC, must } from "./errno.js";
import { CANNOT_EXECUTE, NOT_FOUND, RunError } from "./error.js";
import { buildFilter, VERDICT } from "./filter.js";
import type { Following, Remark } from "./follow.js";
import { applyGate, type Gate } from "./gate.js";
import { HeldProgram } from "./held-program.js";
import { installFilter } from "./install-filter.js";
import type { Interception, Listener } from "./intercept.js";
import { findProgram, type Program } from "./program.js";
import { type Tracer, TracingAgent } from "./tracer.js";

/** A program to be started. */
export interface RunRequest {
  /** The program's name, looked up as execvp does, and its arguments, without their zero bytes. */
  readonly words: readonly [Uint8Array, ...Uint8Array[]];
  /** `NAME=value`, without their zero bytes. */
  readonly environment: readonly Uint8Array[];
  /** Absent: what the kernel gives. */
  readonly gate?: Gate;
  /** Whether the kernel is to leave addresses unrandomized, as setarch -R does. */
  readonly fixedAddresses?: boolean;
  /** Whether the gate is also for what the program executes, and for its children and all that they execute. */
  readonly follow?: boolean;
  /** System calls of the program, and of its children, that are answered here. */
  readonly intercept?: Interception;
  /** Counts system calls of the program, and of all that it starts. Where it is given, all of them are followed. */
  readonly count?: Counting;
  /** Called when the process is there that becomes the program: keys of the terminal reach it from then on. */
  readonly onProcess?: () => void;
  /** Called when the program is about to run: from then on it may stop, or be stopped, as any other. */
  readonly onRelease?: (pid: number) => void;
  /** Takes what is to be said of followed or answered programs while they run: a line without its end. */
  readonly onRemark?: Remark;
}

/** A program that runs: traced by nobody, unless it is followed. */
export interface Running {
  readonly pid: number;
  /** Resolves when it has ended; until then this process is kept from ending. */
  readonly exited: Promise<AgentExit>;
  /**
   * Resolves when nothing more is to be done here for it or what it started: at once, unless programs are followed or
   * answered; else when all of them have ended, those too that outlive the first. Should this process end before, they
   * run on, as the kernel makes them from then on; calls that would be answered fail (ENOSYS).
   */
  readonly settled: Promise<void>;
  /** How calls are counted, if they are. */
  readonly counted?: CountedBy;
}

/** How calls of programs are counted. */
export interface CountedBy {
  /** By a filter, which dies with its tracer as do the programs; or, where none is to be had, at every system call. */
  readonly sight: Sight;
  /** Whether the filter made the programs give up every way to get privileges. */
  readonly noNewPrivileges: boolean;
}

/** System calls that the process makes that becomes the program (x86-64). */
const SYS = { execve: 59, fcntl: 72, personality: 135, prctl: 157, getxattr: 191 } as const;

const ADDR_NO_RANDOMIZE = 0x4_0000n;
const PERSONALITY_QUERY = 0xffff_ffff;
const PR_SET_PDEATHSIG = 1;
/** Of Yama; other kernels do not know it. */
const PR_SET_PTRACER = 0x5961_6d61;
const F_SETFD = 2;
const FD_CLOEXEC = 1;

/**
 * Starts a program with this process's standard streams, working folder, process group and limits. It is
 * a child of this process, and outlives it.
 *
 * Whatever fails, nothing is left running, and the program has run no instruction. Throws {@link RunError}; `AgentError`
 * where no agent can be started.
 */
export async function startProgram(request: RunRequest): Promise<Running> {
  const program = findProgram(request.words[0], variable(request.environment, "PATH"));
  const { target, tracing, listening } = await startAgents(request);
  request.onProcess?.();
  const live = new LiveProcess(target.pid);
  const remark = request.onRemark ?? (() => {});
  let tracingAgent: TracingAgent | undefined;
  let listener: Listener | undefined;
  let counter: CallCounter | undefined;
  let staying: Promise<void> | undefined;
  try {
    await prepare(target, request);
    if (request.intercept && listening) {
      await target.call(SYS.prctl, PR_SET_PTRACER, listening.pid);
      const { Listener } = await import("./intercept.js");
      listener = await Listener.of(target, listening, request.intercept);
    }
    // Refused where there is no Yama: then nothing needs to be allowed.
    await target.call(SYS.prctl, PR_SET_PTRACER, tracing.pid);
    const counted = request.count && (await filterCalls(target, request.count));
    tracingAgent = await TracingAgent.of(tracing, counted && STOPS[counted.sight]);
    const tracer = await tracingAgent.seize(target.pid);
    await target.call(SYS.prctl, PR_SET_PTRACER, 0);
    await execute(target, program, request, tracer);
    if (request.gate) await applyGate(await HeldProgram.of(tracer, live), request.gate);
    await tracingAgent.forbidCore(process.pid);
    if (request.count && counted) {
      counter = await CallCounter.of(tracing, request.count, counted.sight);
      if (!(await counter.isAble(target.pid))) throw new RunError(NO_CALL_INFO);
    }
    request.onRelease?.(target.pid);
    if (request.follow || counter) {
      await tracingAgent.leaveGroup();
      await tracer.follow();
      staying = follow(tracingAgent, tracing, {
        gate: request.gate,
        writes: request.intercept !== undefined,
        onRemark: remark,
        ...(counter && { counter }),
      });
    } else await tracer.detach();
    const answering = listener && answer(listener, remark);
    return {
      pid: target.pid,
      exited: target.exited,
      settled: settle(staying, answering),
      ...(counted && { counted }),
    };
  } catch (error) {
    target.kill();
    listener?.close();
    await listening?.close();
    // Its end is told to us only when its tracer has seen it, or has ended.
    await tracing.close();
    await target.close();
    if (error instanceof AgentError && error.reason === "gone") {
      throw new RunError(`the program was ended before it ran: ${error.message}`, undefined, { cause: error });
    }
    throw error;
  } finally {
    live.close();
    if (!staying) {
      counter?.close();
      tracingAgent?.close();
      await tracing.close();
    }
  }
}

/** The processes that it takes to start a program. */
interface Agents {
  /** Becomes the program. */
  readonly target: Agent;
  /** Traces it. */
  readonly tracing: Agent;
  /** Hears of its system calls. */
  readonly listening: Agent | undefined;
}

async function startAgents({ intercept }: RunRequest): Promise<Agents> {
  const all = await Promise.allSettled([
    startAgent("x86_64", { stdio: "inherit" }),
    startAgent("x86_64"),
    ...(intercept ? [startAgent("x86_64")] : []),
  ]);
  const started = all.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  const [target, tracing, listening] = started;
  if (target && tracing && started.length === all.length) return { target, tracing, listening };
  for (const one of started) await one.close();
  throw all.find((one) => one.status === "rejected")?.reason;
}

/** Follows programs to the end of the last, and lets go of their tracer. */
async function follow(tracer: TracingAgent, agent: Agent, following: Following): Promise<void> {
  try {
    const { followPrograms } = await import("./follow.js");
    await followPrograms(tracer, following);
  } catch (error) {
    following.onRemark(`programs are no longer followed: ${error instanceof Error ? error.message : error}`);
  } finally {
    following.counter?.finish();
    tracer.close();
    await agent.close();
  }
}

/** Has the kernel stop a process that is to become a program at the calls that are counted, if it lets us. */
async function filterCalls(target: Agent, { calls }: Counting): Promise<CountedBy> {
  const { result, noNewPrivileges } = await installFilter(target, buildFilter(calls, VERDICT.trace), [0]);
  return { sight: result < 0n ? "every call" : "filter", noNewPrivileges };
}

/** Answers programs to the end of the last. */
async function answer(listener: Listener, remark: Remark): Promise<void> {
  try {
    await listener.answerAll(remark);
  } catch (error) {
    remark(`system calls are no longer answered: ${error instanceof Error ? error.message : error}`);
  } finally {
    listener.close();
  }
}

async function settle(...all: readonly (Promise<void> | undefined)[]): Promise<void> {
  await Promise.all(all);
}

function variable(environment: readonly Uint8Array[], name: string): Uint8Array | undefined {
  const start = Buffer.from(`${name}=`);
  return environment.find((one) => Buffer.compare(one.subarray(0, start.length), start) === 0)?.subarray(start.length);
}

/** What is to be so in the process that becomes the program, and stays so. */
async function prepare(target: Agent, { fixedAddresses }: RunRequest): Promise<void> {
  for (const fd of [REQUEST_FD, REPLY_FD]) await must(target.call(SYS.fcntl, fd, F_SETFD, FD_CLOEXEC), "fcntl");
  // It dies with its tracer until the tracer lets go of it; from then on it is not to die with this process.
  await must(target.call(SYS.prctl, PR_SET_PDEATHSIG, 0), "prctl");
  if (!fixedAddresses) return;
  const persona = await must(target.call(SYS.personality, PERSONALITY_QUERY), "personality");
  await must(target.call(SYS.personality, persona | ADDR_NO_RANDOMIZE), "personality");
}

/** Makes the process execute the program; resolves when it has, and its tracer holds it. */
async function execute(target: Agent, program: Program, request: RunRequest, tracer: Tracer): Promise<void> {
  const executed = tracer.untilExec().then(() => undefined);
  // Where the program is refused before it is tried, nobody waits for this.
  executed.catch(() => {});
  const attempt = async (path: Uint8Array, words: readonly Uint8Array[]): Promise<bigint | undefined> => {
    const block = await putStrings(target, path, words, request.environment);
    // Where it succeeds, the call is without an answer until the program has ended.
    return Promise.race([target.call(SYS.execve, block.path, block.words, block.environment), executed]);
  };
  await refuseCapabilities(target, program);
  const refusal = await attempt(program.path, request.words);
  if (refusal === undefined) return;
  const name = program.path.toString();
  if (refusal === BigInt(-ENOENT)) {
    throw new RunError(`${name}: its interpreter or dynamic linker does not exist (ENOENT)`, NOT_FOUND);
  }
  if (refusal !== BigInt(-ENOEXEC)) throw new RunError(`${name}: ${describeErrno(refusal)}`, CANNOT_EXECUTE);
  if (!program.unmarked) {
    const what = program.abi
      ? `a program of ${program.abi}, which this kernel does not run`
      : "no program that runs here";
    throw new RunError(`${name}: ${what} (ENOEXEC)`, CANNOT_EXECUTE);
  }
  // As execvp does with what the kernel does not take for a program.
  const shell = Buffer.from("/bin/sh");
  const refused = await attempt(shell, [shell, program.path, ...request.words.slice(1)]);
  if (refused !== undefined) throw new RunError(`${shell}: ${describeErrno(refused)}`, CANNOT_EXECUTE);
}

/** Addresses, in the process that is to execute a program, of what execve wants. */
interface ExecBlock {
  readonly path: bigint;
  readonly words: bigint;
  readonly environment: bigint;
}

/** Puts the strings that execve wants, and the lists of pointers to them, into the process that is to call it. */
async function putStrings(
  target: Agent,
  path: Uint8Array,
  words: readonly Uint8Array[],
  environment: readonly Uint8Array[],
): Promise<ExecBlock> {
  const strings = [path, ...words, ...environment];
  const pointersSize = 8 * (words.length + 1 + environment.length + 1);
  const size = strings.reduce((sum, { length }) => sum + length + 1, pointersSize);
  const block = Buffer.alloc(size);
  let end = pointersSize;
  const [pathOffset, ...offsets] = strings.map((bytes) => {
    const offset = BigInt(end);
    block.set(bytes, end);
    end += bytes.length + 1;
    return offset;
  });
  const start = await putBlock(target, size, (at) => {
    const pointers = offsets.map((offset) => at + offset);
    const lists = [...pointers.slice(0, words.length), 0n, ...pointers.slice(words.length), 0n];
    lists.forEach((pointer, i) => {
      block.writeBigUInt64LE(pointer, 8 * i);
    });
    return block;
  });
  const environmentAt = start + BigInt(8 * (words.length + 1));
  return { path: start + (pathOffset as bigint), words: start, environment: environmentAt };
}

/** Refuses programs to which their file gives capabilities: the kernel would withhold them from one that is traced. */
async function refuseCapabilities(target: Agent, { path }: Program): Promise<void> {
  if (process.geteuid?.() === 0) return;
  const block = await putStrings(target, path, [Buffer.from("security.capability")], []);
  const name = block.path + BigInt(path.length + 1);
  if ((await target.call(SYS.getxattr, block.path, name, 0, 0)) < 0n) return;
  throw new RunError(
    `${path}: its file gives it capabilities, which the kernel would withhold from a program that is traced`,
    CANNOT_EXECUTE,
  );
}
