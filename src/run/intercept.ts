import type { Agent } from "../agent/live.js";
import { AgentMemory } from "../agent/memory.js";
import { Reader } from "../bytes/reader.js";
import { Writer } from "../bytes/writer.js";
import { CallerGone, Callers, Fault } from "./caller.js";
import { describeErrno, EBUSY, EFAULT, EINTR, ENOENT, must } from "./errno.js";
import { RunError } from "./error.js";
import { AUDIT_ARCH_I386, buildFilter, type CaughtCalls, X32_BIT } from "./filter.js";
import { installFilter } from "./install-filter.js";

/** A system call that a program made and that waits for an answer. */
export interface PendingCall {
  /** The thread that made it. */
  readonly pid: number;
  readonly abi: "x86_64" | "i386";
  readonly number: number;
  /** Its six arguments, as words without a sign. Those that are less than a word may have more above. */
  readonly args: readonly bigint[];
  /** What a clock that all processes share shows now, in nanoseconds; `undefined` for one that this kernel has not. */
  clock(id: number): Promise<bigint | undefined>;
  /** Reads memory of the program. What this throws makes the call fail (EFAULT), if it is not caught. */
  read(address: bigint, size: number): Promise<Uint8Array>;
  /** Writes memory that the program may write itself; what this throws makes the call fail (EFAULT), if not caught. */
  write(address: bigint, bytes: Uint8Array): Promise<void>;
}

/** What the call gives, a negative error number where it fails; or the kernel is to do it. */
export type Answer = { readonly result: bigint } | "continue";

/** System calls that are answered in place of the kernel. */
export interface Interception {
  readonly calls: CaughtCalls;
  /**
   * Decides about one call after the other. Those that the kernel's own vDSO makes, for clocks that it cannot read by
   * itself, are not asked about: the kernel does them. Whatever else this throws, the kernel does the call.
   */
  answer(call: PendingCall): Promise<Answer>;
}

/** System calls that the agents make (x86-64). */
const SYS = {
  ...({ close: 3, poll: 7, ioctl: 16, setpgid: 109, clock_gettime: 228 } as const),
  ...({ pidfd_open: 434, pidfd_getfd: 438 } as const),
} as const;

/** Of seccomp(2); include/uapi/linux/seccomp.h. */
const NEW_LISTENER = 8;
/** Once a call was told of, only a deadly signal interrupts it: handlers wait. Since Linux 5.19. */
const WAIT_KILLABLE = 0x20;
const CONTINUE = 1;

/** Requests to a listener. That for validity has the number that the first kernels knew, and all know since. */
const NOTIF_RECV = 0xc050_2100;
const NOTIF_SEND = 0xc018_2101;
const NOTIF_ID_VALID = 0x8008_2102;
const NOTIF_SET_FLAGS = 0x4008_2104;
/** Caller and listener wake each other on the processor that they are on, which is quicker. Since Linux 6.6. */
const WAKE_UP_HERE = 1;

const POLLIN = 1;

/** Size of `struct seccomp_notif`. */
const NOTIFICATION_SIZE = 80;

/** Where in the agent's memory each of these is; a page in all. */
const SCRATCH = { size: 4096, notification: 0, response: 128, id: 256, poll: 320, clock: 384 } as const;

interface Notification {
  readonly id: bigint;
  readonly pid: number;
  readonly abi: "x86_64" | "i386";
  readonly number: number;
  /** Behind the instruction that entered the kernel. */
  readonly instruction: bigint;
  readonly args: readonly bigint[];
}

/** Hears of the system calls of a program and of all that it starts, and answers them; an agent does the waiting. */
export class Listener {
  readonly #agent: Agent;
  readonly #fd: bigint;
  readonly #interception: Interception;
  readonly #memory: AgentMemory;
  readonly #scratch: bigint;
  readonly #callers = new Callers();

  private constructor(
    agent: Agent,
    interception: Interception,
    { fd, memory, scratch }: { readonly fd: bigint; readonly memory: AgentMemory; readonly scratch: bigint },
  ) {
    this.#agent = agent;
    this.#fd = fd;
    this.#interception = interception;
    this.#memory = memory;
    this.#scratch = scratch;
  }

  /**
   * Puts a filter in force in a process that is to become a program. `agent` must be allowed to trace it; it leaves this
   * process's group, so that what a terminal's keys send does not end it.
   *
   * Throws {@link RunError} where the kernel, or who confines this process, does not allow it.
   */
  static async of(target: Agent, agent: Agent, interception: Interception): Promise<Listener> {
    const what = "the interception of system calls";
    const theirs = await installListener(target, interception.calls);
    const pidfd = await must(agent.call(SYS.pidfd_open, target.pid, 0), what);
    const fd = await must(agent.call(SYS.pidfd_getfd, pidfd, theirs, 0), what);
    await agent.call(SYS.close, pidfd);
    await agent.call(SYS.ioctl, fd, NOTIF_SET_FLAGS, WAKE_UP_HERE);
    await agent.call(SYS.setpgid, 0, 0);
    await must(target.call(SYS.close, theirs), what);
    const memory = new AgentMemory(agent);
    return new Listener(agent, interception, { fd, memory, scratch: await memory.map(SCRATCH.size) });
  }

  /** Answers until the last program has ended. */
  async answerAll(onRemark: (text: string) => void): Promise<void> {
    let sent = Promise.resolve(0n);
    for (;;) {
      const [notification] = await Promise.all([this.#next(), sent]);
      if (!notification) return;
      const answer = await this.#decide(notification, onRemark);
      // Nobody waits for an answer any more that was killed; an answer to it is refused.
      sent = answer === undefined ? sent : this.#send(notification.id, answer);
    }
  }

  /** Ends the agent. Programs that are still there get an error for the calls that are caught (ENOSYS). */
  close(): void {
    this.#agent.kill();
    this.#callers.close();
    this.#memory.close();
  }

  /** Waits for a call; `undefined` when nobody is left to make one. */
  async #next(): Promise<Notification | undefined> {
    for (;;) {
      const poll = new Writer({ littleEndian: true }).u32(Number(this.#fd)).u16(POLLIN).u16(0);
      this.#write(SCRATCH.poll, poll.finish());
      this.#write(SCRATCH.notification, new Uint8Array(NOTIFICATION_SIZE));
      const at = (offset: number): bigint => this.#scratch + BigInt(offset);
      const polled = this.#agent.call(SYS.poll, at(SCRATCH.poll), 1, -1);
      const received = this.#agent.call(SYS.ioctl, this.#fd, NOTIF_RECV, at(SCRATCH.notification));
      // When nobody is left this may wait for ever, and fails when the agent is ended.
      received.catch(() => {});
      const waited = await polled;
      if (waited === 1n && (this.#read(SCRATCH.poll, 8).u16At(6) & POLLIN) === 0) return undefined;
      const result = await received;
      if (result === 0n) return parseNotification(this.#read(SCRATCH.notification, NOTIFICATION_SIZE));
      // The caller was killed between the two.
      if (result !== BigInt(-ENOENT) && result !== BigInt(-EINTR)) {
        throw new RunError(`system calls cannot be heard of: ${describeErrno(result)}`);
      }
    }
  }

  /** What a call is answered; `undefined` where its caller is no longer there. */
  async #decide(notification: Notification, onRemark: (text: string) => void): Promise<Answer | undefined> {
    const { id, pid, abi, number, instruction, args } = notification;
    // Of a process that is not to be seen from here, as in a sibling's namespace.
    if (pid === 0) return "continue";
    const caller = this.#callers.of(pid, () => this.#isValid(id));
    try {
      if (await caller.isOwnFallback(abi, instruction)) return "continue";
      return await this.#interception.answer({
        ...{ pid, abi, number, args },
        clock: (clock) => this.#clock(clock),
        read: (address, size) => caller.read(address, size),
        write: (address, bytes) => caller.write(address, bytes),
      });
    } catch (error) {
      if (error instanceof CallerGone) return undefined;
      if (error instanceof Fault) return { result: BigInt(-EFAULT) };
      // What is known of it went with it.
      if (!(await this.#isValid(id))) return undefined;
      const text = error instanceof Error ? error.message : String(error);
      this.#callers.once(text, () => onRemark(`a system call of process ${pid} is left to the kernel: ${text}`));
      return "continue";
    } finally {
      caller.close();
    }
  }

  async #clock(id: number): Promise<bigint | undefined> {
    const at = this.#scratch + BigInt(SCRATCH.clock);
    if ((await this.#agent.call(SYS.clock_gettime, id, at)) !== 0n) return undefined;
    const time = this.#read(SCRATCH.clock, 16);
    return BigInt.asIntN(64, time.wordAt(0)) * 1_000_000_000n + time.wordAt(8);
  }

  async #isValid(id: bigint): Promise<boolean> {
    this.#write(SCRATCH.id, new Writer({ littleEndian: true }).u64(id).finish());
    return (await this.#agent.call(SYS.ioctl, this.#fd, NOTIF_ID_VALID, this.#scratch + BigInt(SCRATCH.id))) === 0n;
  }

  #send(id: bigint, answer: Answer): Promise<bigint> {
    const result = answer === "continue" ? 0n : answer.result;
    const failed = result < 0n && result >= -4095n;
    const response = new Writer({ littleEndian: true })
      .u64(id)
      .u64(failed ? 0n : result)
      .u32(failed ? Number(BigInt.asUintN(32, result)) : 0)
      .u32(answer === "continue" ? CONTINUE : 0)
      .finish();
    this.#write(SCRATCH.response, response);
    return this.#agent.call(SYS.ioctl, this.#fd, NOTIF_SEND, this.#scratch + BigInt(SCRATCH.response));
  }

  #read(offset: number, size: number): Reader {
    const bytes = this.#memory.read(this.#scratch + BigInt(offset), size);
    return new Reader(bytes, { littleEndian: true, wordSize: 8, what: "notification" });
  }

  #write(offset: number, bytes: Uint8Array): void {
    this.#memory.write(this.#scratch + BigInt(offset), bytes);
  }
}

function parseNotification(bytes: Reader): Notification {
  // The id, the thread, flags, and struct seccomp_data.
  const narrow = bytes.u32At(20) === AUDIT_ARCH_I386;
  return {
    id: bytes.wordAt(0),
    pid: bytes.u32At(8),
    abi: narrow ? "i386" : "x86_64",
    number: narrow ? bytes.u32At(16) : bytes.u32At(16) & ~X32_BIT,
    instruction: bytes.wordAt(24),
    args: Array.from({ length: 6 }, (_, i) => bytes.wordAt(32 + 8 * i)),
  };
}

/** Makes a process filter its system calls, and those of all that it becomes and starts; gives its listener. */
async function installListener(target: Agent, calls: CaughtCalls): Promise<bigint> {
  const filter = buildFilter(calls);
  const { result } = await installFilter(target, filter, [NEW_LISTENER | WAIT_KILLABLE, NEW_LISTENER]);
  if (result >= 0n) return result;
  const why =
    result === BigInt(-EBUSY)
      ? "; system calls of this process are intercepted already, as by this same command"
      : "; it needs Linux 5.6 and a container or sandbox that allows seccomp(2)";
  throw new RunError(`the interception of system calls is refused: ${describeErrno(result)}${why}`);
}
