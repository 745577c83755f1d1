import { errnoName } from "../../../agent/errno.js";
import { type Agent, AgentError, startAgent } from "../../../agent/live.js";
import { AgentMemory, putBlock } from "../../../agent/memory.js";
import { type AgentAbi, WORD_SIZE } from "../../../agent/protocol.js";
import { FormatError } from "../../../bytes/error.js";
import { ProcessError } from "../../../linux/process.js";
import { filterProgram } from "../../../run/filter.js";
import { wayIn } from "../../../vdso/boot/entry.js";
import type { VdsoImage } from "../../../vdso/image.js";
import { makerOf } from "../../../vdso/maker.js";
import { type AgentImage, addressIn, type RandomState, randomState, readImage } from "../../process/image/live.js";
import { PROVED_CALLS, type ProvedCall, RANDOM_BYTES, REAL_CALLS } from "../calls.js";
import type { AbiFacts, ImageFacts, ProofRow } from "../facts.js";
import { errnoFilter, FIRST_ERRNO } from "./filter.js";

/** System calls that the agent makes for the proof, by the numbers of its ABI. */
const NUMBERS = {
  x86_64: { open: 2, prctl: 157, setns: 308, clock_gettime: 228 },
  i386: { open: 5, prctl: 172, setns: 346, clock_gettime: 265 },
} as const;

const PR_SET_SECCOMP = 22;
const PR_SET_NO_NEW_PRIVS = 38;
const SECCOMP_MODE_FILTER = 2;
const CLONE_NEWTIME = 0x80;
const PAGE = 4096;

/** Parts of the page that is mapped for the proof. */
const AT = { answer: 0, path: 256 } as const;

/** What a fresh process showed, with the bytes of its image. */
export interface Proof {
  readonly facts: AbiFacts;
  readonly imageBytes?: Uint8Array;
  /** Why it could not be made in the time namespace that was asked for. */
  readonly outsideNamespace?: string;
}

/**
 * Starts a process of an ABI, asks each function of its vDSO in turn, and says which entered the kernel: there a seccomp
 * filter waits that answers the real system calls with error numbers that no kernel gives.
 *
 * `namespaceOf` is a process whose time namespace it joins first. Nothing is thrown for what cannot be done: the facts
 * say why.
 */
export async function prove(abi: AgentAbi, options: { readonly namespaceOf?: number } = {}): Promise<Proof> {
  let agent: Agent;
  try {
    agent = await startAgent(abi);
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    return { facts: { abi, notRun: error.message, proof: [], figures: [] } };
  }
  try {
    return await proveIn(agent, options.namespaceOf);
  } catch (error) {
    if (!isExpected(error)) throw error;
    return { facts: { abi, proof: [], figures: [], unproved: error.message } };
  } finally {
    agent.kill();
  }
}

/** A step of the proof was refused. */
class Unprovable extends Error {
  override readonly name = "Unprovable";
}

async function proveIn(agent: Agent, namespaceOf: number | undefined): Promise<Proof> {
  const { abi } = agent;
  const found = imageOf(agent);
  if (!found) return { facts: { abi, proof: [], figures: [] } };
  const { image, bytes: imageBytes } = found;
  const told = { abi, image: imageFacts(image), figures: [] };
  let memory: AgentMemory | undefined;
  try {
    memory = new AgentMemory(agent);
    const page = await memory.map(PAGE);
    const outsideNamespace = namespaceOf === undefined ? undefined : await join(agent, memory, { page, namespaceOf });
    const random = await filledState(agent, memory, { page, getrandom: addressIn(found, "getrandom") });
    await putFilter(agent, page);
    const proof: ProofRow[] = [];
    for (const call of PROVED_CALLS[abi]) {
      const address = addressIn(found, call.function);
      proof.push(address === undefined ? row(call, "absent") : await ask(agent, call, { address, page, random }));
    }
    return { facts: { ...told, proof }, imageBytes, ...(outsideNamespace !== undefined && { outsideNamespace }) };
  } catch (error) {
    if (!isExpected(error)) throw error;
    return { facts: { ...told, proof: [], unproved: error.message }, imageBytes };
  } finally {
    memory?.close();
  }
}

function isExpected(error: unknown): error is Error {
  return error instanceof ProcessError || error instanceof AgentError || error instanceof Unprovable;
}

function imageOf(agent: Agent): AgentImage | undefined {
  try {
    return readImage(agent);
  } catch (error) {
    if (error instanceof FormatError) throw new Unprovable(`a fresh ${agent.abi} process: ${error.message}`);
    throw error;
  }
}

function imageFacts(image: VdsoImage): ImageFacts {
  const { soname, buildId, kernelVersion } = image;
  const [maker, gate] = [makerOf(image), wayIn(image, image.bytes)];
  return {
    ...(soname !== undefined && { soname }),
    ...(buildId !== undefined && { buildId }),
    ...(kernelVersion && { kernelVersion: kernelVersion.text }),
    ...(maker && { maker }),
    functions: image.functions.map(({ name }) => name),
    ...(gate && { gate }),
  };
}

/** Puts the filter in force, and sees to it that it works. */
async function putFilter(agent: Agent, page: bigint): Promise<void> {
  const { abi } = agent;
  const numbers = NUMBERS[abi];
  const filter = errnoFilter(
    abi,
    REAL_CALLS[abi].map(([, number]) => number),
  );
  const program = await putBlock(agent, 16 + filter.length, (at) => filterProgram(filter, at, WORD_SIZE[abi]));
  // Without this a filter needs CAP_SYS_ADMIN; a kernel that does not know it may still grant that.
  await agent.call(numbers.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const set = await agent.call(numbers.prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program);
  if (set !== 0n) throw new Unprovable(`the kernel takes no seccomp filter (${errnoName(set)})`);
  const control = await agent.call(numbers.clock_gettime, 1, page);
  if (realCall(abi, control) !== "clock_gettime") {
    throw new Unprovable(`the seccomp filter has no effect: a real clock_gettime gives ${control}`);
  }
}

/** Has the agent join the time namespace of a process; gives why it cannot. */
async function join(
  agent: Agent,
  memory: AgentMemory,
  { page, namespaceOf }: { readonly page: bigint; readonly namespaceOf: number },
): Promise<string | undefined> {
  const numbers = NUMBERS[agent.abi];
  const path = `/proc/${namespaceOf}/ns/time`;
  memory.write(page + BigInt(AT.path), new TextEncoder().encode(`${path}\0`));
  const fd = await agent.call(numbers.open, page + BigInt(AT.path), 0);
  if (fd < 0n) return `${path} cannot be opened (${errnoName(fd)})`;
  const joined = await agent.call(numbers.setns, fd, CLONE_NEWTIME);
  return joined === 0n ? undefined : `it may not be joined (${errnoName(joined)}): that takes CAP_SYS_ADMIN`;
}

/** A state of random bytes, filled by one call that enters the kernel; `undefined` where there is no use for one. */
async function filledState(
  agent: Agent,
  memory: AgentMemory,
  { page, getrandom }: { readonly page: bigint; readonly getrandom: bigint | undefined },
): Promise<RandomState | undefined> {
  const state = getrandom === undefined ? undefined : await randomState(agent, memory, { getrandom, buffer: page });
  if (getrandom === undefined || !state) return undefined;
  await agent.callAddress(getrandom, page, RANDOM_BYTES, 0, state.address, state.size);
  return state;
}

/** The system call whose error number this is. */
function realCall(abi: AgentAbi, result: bigint): string | undefined {
  const index = -Number(BigInt.asIntN(32, result)) - FIRST_ERRNO;
  return REAL_CALLS[abi][index]?.[0];
}

function row({ call, function: name, need }: ProvedCall, answer: ProofRow["answer"]): ProofRow {
  return { call, function: name, need, answer };
}

async function ask(
  agent: Agent,
  call: ProvedCall,
  {
    address,
    page,
    random,
  }: { readonly address: bigint; readonly page: bigint; readonly random: RandomState | undefined },
): Promise<ProofRow> {
  const answer = page + BigInt(AT.answer);
  const second = answer + 64n;
  const result = await (call.clock !== undefined
    ? agent.callAddress(address, call.clock, answer)
    : call.need === "random state"
      ? agent.callAddress(address, answer, RANDOM_BYTES, 0, random?.address ?? 0, random?.size ?? 0)
      : call.function === "__vdso_getcpu"
        ? agent.callAddress(address, answer, second, 0)
        : agent.callAddress(address, answer, 0));
  const made = realCall(agent.abi, result);
  if (made !== undefined) return { ...row(call, "kernel"), systemCall: made };
  const value = Number(BigInt.asIntN(32, result));
  // Of all that are asked, only time gives what may look like an error: after 2038, in 32 bits.
  if (value < 0 && value >= -4095 && call.function !== "__vdso_time") return { ...row(call, "error"), errno: -value };
  return row(call, "vdso");
}
