import { type Agent, AgentError } from "../../agent/live.js";
import { AgentMemory, PROT } from "../../agent/memory.js";
import { Reader } from "../../bytes/reader.js";
import { Writer } from "../../bytes/writer.js";
import { LiveProcess } from "../../linux/live.js";
import { parseMaps } from "../../linux/maps.js";
import { ProcessError } from "../../linux/process.js";
import { describeErrno, ECHILD } from "../errno.js";
import { RunError } from "../error.js";
import { AUDIT_ARCH_I386, X32_BIT } from "../filter.js";
import { PTRACE, TRACE, TRACE_CHILDREN } from "../ptrace.js";
import { type Change, changeOf, type Stops } from "../tracer.js";
import { countingImage } from "./image.js";
import { BLOCK, BLOCK_SIZE, INFO, MAX_NUMBER, OP, SITE, SITE_SIZE, STACK_SIZE } from "./layout.js";
import { type CallSite, type CodeSpace, findSite } from "./site.js";

/** How a program's calls are seen: by a filter that stops it for them alone, or by stopping it at every system call. */
export type Sight = "filter" | "every call";

/** Sites that the loop looks through at each stop. */
const MOST_SITES = 2048;

/** Processes whose memory is held open. */
const MOST_SPACES = 64;

/** The status, without its lowest byte, of a process that stopped for a filter, or for a system call. */
const WANTED: Readonly<Record<Sight, number>> = { filter: (7 << 8) | 5, "every call": 0x80 | 5 };

/**
 * What a tracer asks for. A call that a filter tells of fails (ENOSYS) where there is no tracer: programs are not left
 * with clocks that fail.
 */
export const STOPS: Readonly<Record<Sight, Stops>> = {
  filter: { options: TRACE.EXEC | TRACE_CHILDREN | TRACE.SECCOMP | TRACE.EXIT_KILL, goOn: PTRACE.CONT },
  "every call": { options: TRACE.EXEC | TRACE_CHILDREN | TRACE.SYSGOOD, goOn: PTRACE.SYSCALL },
};

/** Where {@link CallCounter.isAble} says no. */
export const NO_CALL_INFO = "this kernel does not tell a tracer of system calls: that needs Linux 5.3";

/** ABIs whose calls are counted. */
type CountedAbi = "x86_64" | "i386";

/** A system call that is counted. */
export interface CountedNumber {
  readonly number: number;
  /** Whether it is counted for each value of its first argument, of which 32 bits count. */
  readonly byArgument: boolean;
}

/** What is counted, and who takes the counts. */
export interface Counting {
  /** By ABI; those of x32 are counted as those of x86-64. */
  readonly calls: Readonly<Record<CountedAbi, readonly CountedNumber[]>>;
  /** Takes how many more calls there were of one number and first argument (0 where that does not count) from a site. */
  count(call: CountedCall, site: CallSite, times: number): void;
}

/** A call as it is told of. */
export interface CountedCall {
  readonly abi: CountedAbi;
  readonly number: number;
  readonly firstArgument: bigint;
}

/** A system call at which a thread stands. */
interface Call extends CountedCall {
  readonly pid: number;
  readonly arch: number;
  /** As the thread gave it. */
  readonly rawNumber: number;
  readonly instruction: bigint;
  readonly argumentMask: bigint;
}

/** A site that the loop knows. */
interface Known {
  readonly call: Call;
  readonly site: CallSite;
}

/**
 * Counts the calls of processes that an agent traces. A loop of machine code in the agent lets what makes a call of a known
 * site go on at once; what is seen here is the first of each site and thread, which stands still while it is looked at.
 */
export class CallCounter {
  readonly #agent: Agent;
  readonly #memory: AgentMemory;
  readonly #code: bigint;
  readonly #block: bigint;
  readonly #counting: Counting;
  readonly #sight: Sight;
  readonly #spaces = new Map<number, Space>();
  /** In the order in which the loop looks at them. */
  #known: Known[] = [];

  private constructor(
    { agent, memory, code, block }: Loop,
    { counting, sight }: { readonly counting: Counting; readonly sight: Sight },
  ) {
    this.#agent = agent;
    this.#memory = memory;
    this.#code = code;
    this.#block = block;
    this.#counting = counting;
    this.#sight = sight;
  }

  /** Puts the loop into an agent of x86-64. Throws what {@link AgentMemory} throws. */
  static async of(agent: Agent, counting: Counting, sight: Sight): Promise<CallCounter> {
    const memory = new AgentMemory(agent);
    try {
      return await CallCounter.#in(agent, memory, { counting, sight });
    } catch (error) {
      memory.close();
      throw error;
    }
  }

  static async #in(
    agent: Agent,
    memory: AgentMemory,
    { counting, sight }: { readonly counting: Counting; readonly sight: Sight },
  ): Promise<CallCounter> {
    const image = Buffer.from(countingImage, "base64");
    const code = await memory.map(image.length);
    memory.write(code, image);
    await memory.protect(code, image.length, PROT.readExecute);
    const sites = BigInt(Math.ceil(BLOCK_SIZE / SITE_SIZE) * SITE_SIZE);
    const block = await memory.map(Number(sites) + MOST_SITES * SITE_SIZE);
    const start = new Writer({ littleEndian: true })
      .padTo(BLOCK.wanted)
      .u32(WANTED[sight])
      .u32(STOPS[sight].goOn)
      .padTo(BLOCK.sites)
      .u64(block + sites)
      .padTo(BLOCK.local)
      .u64(block + BigInt(BLOCK.stack))
      .u64(BigInt(STACK_SIZE))
      .padTo(BLOCK.wide)
      .raw(bitsOf(counting.calls.x86_64))
      .raw(bitsOf(counting.calls.i386));
    memory.write(block, start.finish());
    return new CallCounter({ agent, memory, code, block }, { counting, sight });
  }

  /** Whether the kernel tells of system calls as this wants it; `pid` is one that is held. */
  async isAble(pid: number): Promise<boolean> {
    const at = this.#block + BigInt(BLOCK.info);
    return (await this.#agent.call(PTRACE.number, PTRACE.GET_SYSCALL_INFO, pid, INFO.size, at)) > 0n;
  }

  /** Counts until something else happens; `undefined` when no process is left, and after {@link stop}. */
  async waitForAny(): Promise<Change | undefined> {
    const result = BigInt.asIntN(64, await this.#agent.callAddress(this.#code, this.#block));
    if (result === 0n || result === BigInt(-ECHILD)) return undefined;
    if (result < 0n) throw new RunError(`programs cannot be waited for: ${describeErrno(result)}`);
    return changeOf(Number(result), this.#read(BLOCK.status, 4).u32At(0));
  }

  /** Has {@link waitForAny} return when a process changes next. */
  stop(): void {
    this.#memory.write(this.#block + BigInt(BLOCK.stop), new Writer({ littleEndian: true }).u32(1).finish());
  }

  /** Whether a process has stopped at a system call. */
  isCall({ ended, signal, event }: Change): boolean {
    return !ended && (signal | (event << 8)) === WANTED[this.#sight];
  }

  /** Counts the call for which {@link waitForAny} has returned, and lets the loop count those that are like it. */
  called({ pid }: Change): void {
    const info = this.#read(BLOCK.info, INFO.size);
    const op = info.u8At(INFO.op);
    // The process was killed meanwhile.
    if (op === 0 || op === OP.exit) return;
    const call = this.#callIn(info, pid);
    if (!call) return;
    const got = Number(this.#read(BLOCK.got, 8).wordAt(0));
    const site = this.#spaceOf(pid).siteOf(call, this.#read(BLOCK.stack, got).bytes);
    this.#counting.count(call, site, 1);
    this.#remember({ call, site });
  }

  /** A process has executed another program, or has ended: what was known of it is not true of what comes. */
  forget(pid: number): void {
    this.#spaces.get(pid)?.close();
    this.#spaces.delete(pid);
    if (this.#known.some(({ call }) => call.pid === pid)) {
      this.#harvest();
      this.#setKnown(this.#known.filter(({ call }) => call.pid !== pid));
    }
  }

  /** Takes over what the loop has counted since, and closes. To be called when all is done. */
  finish(): void {
    try {
      this.#harvest();
    } catch (error) {
      // What an agent had counted that was killed went with it.
      if (!(error instanceof AgentError)) throw error;
    } finally {
      this.close();
    }
  }

  /** Closes what this process has open. */
  close(): void {
    for (const space of this.#spaces.values()) space.close();
    this.#spaces.clear();
    this.#memory.close();
  }

  #callIn(info: Reader, pid: number): Call | undefined {
    const arch = info.u32At(INFO.arch);
    const abi = arch === AUDIT_ARCH_I386 ? "i386" : "x86_64";
    const rawNumber = info.u32At(INFO.number);
    const number = abi === "i386" ? rawNumber : rawNumber & ~X32_BIT;
    const counted = this.#counting.calls[abi].find((one) => one.number === number);
    if (!counted) return undefined;
    const argumentMask = counted.byArgument ? 0xffff_ffffn : 0n;
    const firstArgument = info.wordAt(INFO.firstArgument) & argumentMask;
    return {
      abi,
      pid,
      arch,
      number,
      rawNumber,
      firstArgument,
      argumentMask,
      instruction: info.wordAt(INFO.instruction),
    };
  }

  #spaceOf(pid: number): Space {
    const process = processOf(pid);
    const known = this.#spaces.get(process);
    if (known) return known;
    const space = new Space(process);
    this.#spaces.set(process, space);
    for (const [oldest, one] of this.#spaces) {
      if (this.#spaces.size <= MOST_SPACES) break;
      one.close();
      this.#spaces.delete(oldest);
    }
    return space;
  }

  #remember(known: Known): void {
    this.#harvest();
    const all = this.#known.length < MOST_SITES ? this.#known : [];
    // The innermost first, as the stack is searched; where no caller was found, whatever else is there comes before.
    const depth = ({ site }: Known) => site.slot?.offset ?? STACK_SIZE;
    this.#setKnown([...all, known].sort((a, b) => depth(a) - depth(b)));
  }

  /** Takes over what the loop has counted. */
  #harvest(): void {
    if (this.#known.length === 0) return;
    const sites = this.#readSites(this.#known.length);
    this.#known.forEach(({ call, site }, i) => {
      const calls = Number(sites.wordAt(i * SITE_SIZE + SITE.count));
      if (calls > 0) this.#counting.count(call, site, calls);
    });
  }

  /** Tells the loop of sites, with counts of zero. */
  #setKnown(known: Known[]): void {
    this.#known = known;
    const sites = new Writer({ littleEndian: true });
    for (const { call, site } of known) putSite(sites, call, site);
    const address = this.#read(BLOCK.sites, 8).wordAt(0);
    this.#memory.write(address, sites.finish());
    const count = new Writer({ littleEndian: true }).u32(known.length);
    this.#memory.write(this.#block + BigInt(BLOCK.siteCount), count.finish());
  }

  #readSites(count: number): Reader {
    const address = this.#read(BLOCK.sites, 8).wordAt(0);
    return readerOf(this.#memory.read(address, count * SITE_SIZE));
  }

  #read(field: number, size: number): Reader {
    return readerOf(this.#memory.read(this.#block + BigInt(field), size));
  }
}

/** The loop in its agent. */
interface Loop {
  readonly agent: Agent;
  readonly memory: AgentMemory;
  readonly code: bigint;
  readonly block: bigint;
}

function readerOf(bytes: Uint8Array): Reader {
  return new Reader(bytes, { littleEndian: true, wordSize: 8, what: "counting loop" });
}

function bitsOf(calls: readonly CountedNumber[]): Uint8Array {
  const bits = new Uint8Array(MAX_NUMBER / 8);
  for (const { number } of calls) bits[number >> 3] = (bits[number >> 3] as number) | (1 << (number & 7));
  return bits;
}

function putSite(to: Writer, call: Call, { slot }: CallSite): void {
  const valueMask = call.abi === "i386" ? 0xffff_ffffn : 0xffff_ffff_ffff_ffffn;
  to.u32(call.pid)
    .u32(call.arch)
    .u32(call.rawNumber)
    .u32(slot?.offset ?? 0)
    .u64(call.instruction)
    .u64(call.firstArgument)
    .u64(call.argumentMask)
    .u64(slot?.value ?? 0n)
    .u64(slot ? valueMask : 0n)
    .u64(0n);
}

/** The process of a thread; the thread itself where it has ended. */
function processOf(pid: number): number {
  try {
    return new LiveProcess(pid).state().tgid;
  } catch (error) {
    if (error instanceof ProcessError) return pid;
    throw error;
  }
}

/** The code of one process, and the sites in it. */
class Space {
  readonly #process: LiveProcess;
  readonly #sites: (readonly [call: Call, site: CallSite])[] = [];

  constructor(pid: number) {
    this.#process = new LiveProcess(pid);
  }

  /** Who made a call; another thread may have made the same. */
  siteOf(call: Call, stack: Uint8Array): CallSite {
    const same = this.#sites.find(([one, site]) => isSame(one, call) && isThere(site, call, stack));
    if (same) return same[1];
    const site = findSite({ abi: call.abi, instruction: call.instruction, stack }, this.#code());
    if (this.#sites.length < MOST_SITES) this.#sites.push([call, site]);
    return site;
  }

  close(): void {
    this.#process.close();
  }

  /** Its mappings as they are now. */
  #code(): CodeSpace {
    try {
      const mappings = parseMaps(new TextDecoder("utf-8").decode(this.#process.mapsBytes()));
      return { mappings, read: (address, size) => this.#read(address, size) };
    } catch (error) {
      if (error instanceof ProcessError) return { mappings: [], read: () => undefined };
      throw error;
    }
  }

  #read(address: bigint, size: number): Uint8Array | undefined {
    try {
      return this.#process.read(address, size);
    } catch (error) {
      if (error instanceof ProcessError) return undefined;
      throw error;
    }
  }
}

function isSame(one: Call, other: Call): boolean {
  return (
    one.instruction === other.instruction &&
    one.rawNumber === other.rawNumber &&
    one.arch === other.arch &&
    one.firstArgument === other.firstArgument
  );
}

/** Whether a site's caller is on a stack where it was on another. */
function isThere({ slot, caller, entered }: CallSite, { abi }: Call, stack: Uint8Array): boolean {
  if (!slot) return caller === entered;
  const size = abi === "i386" ? 4 : 8;
  if (slot.offset + size > stack.length) return false;
  const words = new Reader(stack, { littleEndian: true, wordSize: size, what: "stack" });
  return words.wordAt(slot.offset) === slot.value;
}
