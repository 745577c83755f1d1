import { closeSync, openSync, writeSync } from "node:fs";
import { type Agent, AgentError, type AgentExit, startAgent } from "../agent/live.js";
import { REPLY_FD, REQUEST_FD } from "../agent/protocol.js";
import { LiveProcess } from "../linux/live.js";
import { describeErrno, ENOENT, ENOEXEC } from "./errno.js";
import { CANNOT_EXECUTE, NOT_FOUND, RunError } from "./error.js";
import { applyGate, type Gate } from "./gate.js";
import { HeldProgram } from "./held-program.js";
import { findProgram, type Program } from "./program.js";
import { Tracer } from "./tracer.js";

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
}

/** A program that runs, traced by nobody. */
export interface Running {
  readonly pid: number;
  /** Resolves when it has ended; until then this process is kept from ending. */
  readonly exited: Promise<AgentExit>;
}

/** System calls that the process makes that becomes the program (x86-64). */
const SYS = { mmap: 9, execve: 59, fcntl: 72, personality: 135, prctl: 157, getxattr: 191 } as const;

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
 * Whatever fails, nothing is left running, and the program has run no instruction. Throws {@link RunError}; `AgentError` where no agent can be started.
 */
export async function startProgram(request: RunRequest): Promise<Running> {
  const program = findProgram(request.words[0], variable(request.environment, "PATH"));
  const { target, tracing } = await startBoth();
  let tracer: Tracer | undefined;
  const live = new LiveProcess(target.pid);
  try {
    await prepare(target, request);
    // Refused where there is no Yama: then nothing needs to be allowed.
    await target.call(SYS.prctl, PR_SET_PTRACER, tracing.pid);
    tracer = await Tracer.seize(tracing, target.pid);
    await target.call(SYS.prctl, PR_SET_PTRACER, 0);
    await execute(target, program, request, tracer);
    if (request.gate) await applyGate(await HeldProgram.of(tracer, live), request.gate);
    await tracer.forbidCore(process.pid);
    await tracer.detach();
    return { pid: target.pid, exited: target.exited };
  } catch (error) {
    target.kill();
    // Its end is told to us only when its tracer has seen it, or has ended.
    await tracing.close();
    await target.close();
    if (error instanceof AgentError && error.reason === "gone") {
      throw new RunError(`the program was ended before it ran: ${error.message}`, undefined, { cause: error });
    }
    throw error;
  } finally {
    live.close();
    tracer?.close();
    await tracing.close();
  }
}

/** Starts the process that becomes the program, and its tracer. */
async function startBoth(): Promise<{ readonly target: Agent; readonly tracing: Agent }> {
  const [target, tracing] = await Promise.allSettled([
    startAgent("x86_64", { stdio: "inherit" }),
    startAgent("x86_64"),
  ]);
  if (target.status === "fulfilled" && tracing.status === "fulfilled") {
    return { target: target.value, tracing: tracing.value };
  }
  for (const one of [target, tracing]) if (one.status === "fulfilled") await one.value.close();
  throw [target, tracing].find((one) => one.status === "rejected")?.reason;
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

async function must(call: Promise<bigint>, what: string): Promise<bigint> {
  const result = await call;
  if (result < 0n) throw new RunError(`${what} is refused: ${describeErrno(result)}`);
  return result;
}

/** Makes the process execute the program; resolves when it has, and its tracer holds it. */
async function execute(target: Agent, program: Program, request: RunRequest, tracer: Tracer): Promise<void> {
  const executed = tracer.untilExec().then(() => undefined);
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
  // PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS.
  const start = await must(target.call(SYS.mmap, 0, size, 3, 0x22, -1, 0), "memory for the arguments");
  const block = Buffer.alloc(size);
  let end = pointersSize;
  const addresses = strings.map((bytes) => {
    const address = start + BigInt(end);
    block.set(bytes, end);
    end += bytes.length + 1;
    return address;
  });
  const [pathAddress, ...pointers] = addresses;
  const lists = [...pointers.slice(0, words.length), 0n, ...pointers.slice(words.length), 0n];
  lists.forEach((pointer, i) => {
    block.writeBigUInt64LE(pointer, 8 * i);
  });
  writeMemory(target.pid, start, block);
  return { path: pathAddress as bigint, words: start, environment: start + BigInt(8 * (words.length + 1)) };
}

function writeMemory(pid: number, address: bigint, bytes: Uint8Array): void {
  const memory = openSync(`/proc/${pid}/mem`, "r+");
  try {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(memory, bytes, done, bytes.length - done, Number(address) + done);
    }
  } finally {
    closeSync(memory);
  }
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
