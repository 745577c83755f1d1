import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, constants, fstatSync, lstatSync, openSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { agentImages } from "./images.js";
import { type AgentAbi, CALL_ADDRESS, REPLY_FD, REQUEST_FD, REQUEST_WORDS, WORD_SIZE } from "./protocol.js";

export type { AgentAbi } from "./protocol.js";

/** Why there is no agent, or no longer one. */
export type AgentFailure =
  /** No folder was found in which a program may be put and started; `tried` has them all. */
  | "no-exec-folder"
  /** This machine does not run programs of this ABI. */
  | "abi-unsupported"
  /** The system lets no process be started: too many processes or open files, too little memory, no /proc. */
  | "start-failed"
  /** The agent ended while a call was under way, or before; `exit` says how. */
  | "gone"
  /** The agent was closed. */
  | "closed";

/** How an agent ended: by its own exit, or by a signal. */
export interface AgentExit {
  readonly code: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
}

/** A folder that would not do, and why. */
export interface FolderTried {
  readonly folder: string;
  readonly why: string;
}

/** An agent could not be started, or could not answer. */
export class AgentError extends Error {
  override readonly name = "AgentError";
  readonly reason: AgentFailure;
  readonly exit: AgentExit | undefined;
  /** For `no-exec-folder`; `[]` otherwise. */
  readonly tried: readonly FolderTried[];

  constructor(
    reason: AgentFailure,
    message: string,
    details: { exit?: AgentExit; tried?: readonly FolderTried[]; cause?: unknown } = {},
  ) {
    super(message, "cause" in details ? { cause: details.cause } : undefined);
    this.reason = reason;
    this.exit = details.exit;
    this.tried = details.tried ?? [];
  }
}

/** How an agent is to be started. */
export interface AgentOptions {
  /** Folders in which to put its program, for as long as it takes to start; {@link agentFolders} unless said. */
  readonly folders?: readonly string[];
  /** A program that keeps the agent's protocol, in place of the agent itself. */
  readonly image?: Uint8Array;
  /** Standard input, output and error, for an agent that is to become another program; `ignore` unless said. */
  readonly stdio?: "ignore" | "inherit";
}

/**
 * Starts an agent. It is running when the promise resolves, and has mapped what the kernel maps into every process of
 * its ABI; it may not yet be ready for a call, but the first call waits for that.
 *
 * Its environment is empty and its one argument is `linux-gate-agent`, so that nothing of this process shows in it. It
 * dies with the thread that started it, however that ends, and leaves no file.
 *
 * Throws {@link AgentError}: `no-exec-folder`, `abi-unsupported` or `start-failed`.
 */
export async function startAgent(abi: AgentAbi, options: AgentOptions = {}): Promise<Agent> {
  // An emulator might run the agent on another processor, but what such a process shows is the emulator's.
  if (process.platform !== "linux" || !(process.arch === "x64" || process.arch === "ia32")) {
    throw new AgentError("abi-unsupported", `${abi} does not run on ${process.platform}, ${process.arch}`);
  }
  // A file without a name is executed through /proc; each folder would be blamed for what it cannot help.
  if (!lstatSync("/proc/self", { throwIfNoEntry: false })) {
    throw new AgentError("start-failed", `the ${abi} agent cannot be started: /proc is not mounted`);
  }
  const image = options.image ?? Buffer.from(agentImages[abi], "base64");
  const tried: FolderTried[] = [];
  for (const folder of options.folders ?? agentFolders()) {
    let fd: number;
    try {
      fd = unnamedFile(folder, image);
    } catch (error) {
      tried.push({ folder, why: `no file can be made there (${errorCode(error)})` });
      continue;
    }
    try {
      const child = await launch(fd, options.stdio ?? "ignore");
      if (!isRunning(child, fd)) throw await unsupported(child, abi);
      return new Agent(child, abi);
    } catch (error) {
      const code = errorCode(error);
      if (error instanceof AgentError) throw error;
      if (code !== "EACCES" && code !== "EPERM") {
        throw new AgentError("start-failed", `the ${abi} agent cannot be started (${code})`, { cause: error });
      }
      tried.push({ folder, why: `programs there may not be run, as where it is mounted noexec (${code})` });
    } finally {
      closeSync(fd);
    }
  }
  const list = tried.map(({ folder, why }) => `${folder}: ${why}`).join("; ");
  throw new AgentError("no-exec-folder", `the ${abi} agent cannot be started from any folder: ${list}`, { tried });
}

/** The folders in which an agent's program is put: the first that lets it be started. */
export function agentFolders(): string[] {
  const variable = (name: string): string[] => (process.env[name] ? [process.env[name]] : []);
  const home = variable("HOME").map((folder) => `${folder}/.cache`);
  const folders = [
    // What os.tmpdir() gives, without another module to load.
    [...variable("TMPDIR"), ...variable("TMP"), ...variable("TEMP"), "/tmp"][0] as string,
    ...variable("XDG_RUNTIME_DIR"),
    ...[...variable("XDG_CACHE_HOME"), ...home].slice(0, 1),
    "/dev/shm",
    "/var/tmp",
    ...workingFolder(),
  ];
  return [...new Set(folders)];
}

/** The working folder, unless it was removed. */
function workingFolder(): string[] {
  try {
    return [process.cwd()];
  } catch {
    return [];
  }
}

/**
 * Opens, for reading, a file in `folder` that has these bytes, may be executed and has no name, so that it is gone as
 * soon as nothing has it open.
 *
 * It is made without a name (O_TMPFILE); where the file system cannot do that, it loses its name before anything is
 * written.
 */
function unnamedFile(folder: string, bytes: Uint8Array): number {
  const writable = openUnnamed(folder, 0o700);
  try {
    writeFileSync(writable, bytes);
    // A file that is open for writing cannot be executed (ETXTBSY): it is opened anew.
    return openAboveReplies(`/proc/self/fd/${writable}`);
  } finally {
    closeSync(writable);
  }
}

/** Opens, for reading and writing, a new file in `folder` that has no name. Throws what the system says. */
export function openUnnamed(folder: string, mode: number): number {
  // The flag includes O_DIRECTORY, so that a kernel or a file system that does not know it cannot take it for the wish
  // to write to the folder.
  const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;
  try {
    return openSync(folder, O_TMPFILE | constants.O_RDWR, mode);
  } catch (error) {
    // Node has ENOTSUP for EOPNOTSUPP, as the two are one number.
    if (!["ENOTSUP", "EISDIR", "EINVAL", "ENOSYS"].includes(errorCode(error))) throw error;
  }
  const path = `${folder}/.linux-gate-agent-${process.pid}-${Math.random().toString(36).slice(2)}`;
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, mode);
  unlinkSync(path);
  return fd;
}

/**
 * Opens a file with a descriptor above those that the child's own standard streams and pipes will take before it looks
 * for its program. Low ones may be free where this process was itself given pipes, and closed them.
 */
function openAboveReplies(path: string): number {
  const low: number[] = [];
  let fd = openSync(path, constants.O_RDONLY);
  while (fd <= REPLY_FD) {
    low.push(fd);
    fd = openSync(path, constants.O_RDONLY);
  }
  for (const held of low) closeSync(held);
  return fd;
}

/** Times that starting is tried while another thread's child still has the file open for writing. */
const BUSY_TRIES = 50;

/** Starts the program in an open file. Throws what `spawn` throws or emits. */
async function launch(fd: number, stdio: "ignore" | "inherit"): Promise<ChildProcess> {
  for (let tries = 1; ; tries++) {
    try {
      const child = spawn(`/proc/self/fd/${fd}`, [], {
        argv0: "linux-gate-agent",
        env: {},
        stdio: [stdio, stdio, stdio, "pipe", "pipe"],
      });
      await new Promise<void>((resolve, reject) => {
        child.once("spawn", resolve);
        child.once("error", (error) => {
          // Where no pipe could be made, there is not even the list.
          for (const stream of child.stdio ?? []) stream?.destroy();
          reject(error);
        });
      });
      return child;
    } catch (error) {
      if (errorCode(error) !== "ETXTBSY" || tries === BUSY_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }
}

/**
 * Whether a child runs the program in this file. The C library's execvp, by which children are started, runs a shell
 * in place of a file that the kernel does not take for a program (ENOEXEC), and says nothing.
 */
function isRunning(child: ChildProcess, fd: number): boolean {
  const wanted = fstatSync(fd);
  try {
    const found = statSync(`/proc/${child.pid}/exe`);
    return found.dev === wanted.dev && found.ino === wanted.ino;
  } catch (error) {
    // A process that has already ended has no such file. Where we may not look, the first call will tell.
    return !["ENOENT", "ESRCH"].includes(errorCode(error));
  }
}

/** Ends a child that is no agent, and says what it was. */
async function unsupported(child: ChildProcess, abi: AgentAbi): Promise<AgentError> {
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  for (const stream of child.stdio) stream?.destroy();
  child.kill("SIGKILL");
  await ended;
  const why = abi === "i386" ? "; 32-bit emulation is switched off or not built in" : "";
  return new AgentError("abi-unsupported", `this kernel does not run ${abi} programs${why}`);
}

function errorCode(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  return code ?? String(error);
}

interface Waiting {
  resolve(word: bigint): void;
  reject(error: AgentError): void;
}

/** Signals by which a program dies that this kernel or processor started but cannot run. */
const FATAL_AT_ONCE: readonly (string | undefined)[] = ["SIGSEGV", "SIGILL", "SIGSYS", "SIGBUS", "SIGTRAP"];

/**
 * A running agent: a process that does what it is told. Made by {@link startAgent}.
 *
 * Calls are done one after the other in the order in which they were made. Only while one is under way does an agent
 * keep this process from ending. Calls after the end reject with {@link AgentError} (`gone`, `closed`), as do those that
 * it cut short.
 */
export class Agent {
  readonly abi: AgentAbi;
  readonly pid: number;
  /** Resolves when the agent has ended. Waiting for it does not by itself keep this process from ending. */
  readonly exited: Promise<AgentExit>;
  readonly #child: ChildProcess;
  readonly #requests: Socket;
  readonly #replies: Socket;
  readonly #wordSize: 4 | 8;
  readonly #waiting: Waiting[] = [];
  /** Requests made before the agent said that it is ready: it must not be blocked before it is sure to die with us. */
  #unsent: Buffer[] | undefined = [];
  #received: Buffer = Buffer.alloc(0);
  #end: AgentError | undefined;

  constructor(child: ChildProcess, abi: AgentAbi) {
    this.abi = abi;
    this.pid = child.pid as number;
    this.#child = child;
    this.#wordSize = WORD_SIZE[abi];
    this.#requests = child.stdio[REQUEST_FD] as Socket;
    this.#replies = child.stdio[REPLY_FD] as unknown as Socket;
    // An agent that ended breaks its pipes; what there is to say of it is said when it has exited.
    this.#requests.on("error", () => {});
    this.#replies.on("error", () => {});
    this.#replies.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.exited = new Promise((resolve) => {
      child.once("exit", (code, signal) => {
        const exit = { code: code ?? undefined, signal: signal ?? undefined };
        this.#finish(this.#gone(exit));
        resolve(exit);
      });
    });
    this.#requests.unref();
    this.#hold(false);
  }

  /**
   * Makes a system call, by the number that it has in the agent's ABI, with up to six arguments.
   *
   * The result is as the kernel gives it: a negative error number (-4095n … -1n), or an unsigned word. Throws
   * `RangeError` on an argument that is no word. A call that does not return (`exit`, a successful `execve`) rejects
   * when the process has ended.
   */
  async call(number: number, ...args: readonly (number | bigint)[]): Promise<bigint> {
    if (!(Number.isSafeInteger(number) && number >= 0)) throw new RangeError(`system call number is ${number}`);
    const word = await this.#request([number, ...args]);
    const signed = BigInt.asIntN(this.#wordSize * 8, word);
    return signed < 0n && signed >= -4095n ? signed : word;
  }

  /**
   * Calls the function at an address in the agent by the C calling convention of its ABI (x86-64: System V, i386:
   * cdecl; the stack aligned to 16 bytes) with up to five arguments of a word each.
   *
   * The result is the register that holds it, as an unsigned word. Of a function that returns less than a word, only
   * the lower part counts: `BigInt.asIntN(32, …)` for an `int`.
   */
  async callAddress(address: bigint, ...args: readonly (number | bigint)[]): Promise<bigint> {
    return this.#request([CALL_ADDRESS, address, ...args]);
  }

  /** Ends the agent, whatever it does, and waits until it has. Calls that it has not answered reject (`closed`). */
  async close(): Promise<void> {
    this.kill();
    // Only from here on: what waits for answers lets go of the event loop as it ends.
    this.#child.ref();
    await this.exited;
  }

  /** As {@link Agent.close}, without waiting: it is sure to end, and this process need not see that. */
  kill(): void {
    this.#finish(new AgentError("closed", `the ${this.abi} agent (process ${this.pid}) was closed`));
    this.#child.kill("SIGKILL");
  }

  /** The same as {@link Agent.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #request(words: readonly (number | bigint)[]): Promise<bigint> {
    if (words.length > REQUEST_WORDS) throw new RangeError(`a request has ${words.length} words`);
    const request = Buffer.alloc(REQUEST_WORDS * this.#wordSize);
    words.forEach((word, i) => {
      this.#putWord(request, i * this.#wordSize, BigInt(word));
    });
    if (this.#end) throw this.#end;
    return new Promise((resolve, reject) => {
      if (this.#waiting.length === 0) this.#hold(true);
      this.#waiting.push({ resolve, reject });
      if (this.#unsent) this.#unsent.push(request);
      else this.#requests.write(request);
    });
  }

  /** Writes a word, which may be given signed or unsigned. */
  #putWord(buffer: Buffer, offset: number, word: bigint): void {
    const bits = this.#wordSize * 8;
    const unsigned = BigInt.asUintN(bits, word);
    if (word !== unsigned && word !== BigInt.asIntN(bits, word)) {
      throw new RangeError(`argument ${word} does not fit a word of ${bits} bits`);
    }
    if (bits === 64) buffer.writeBigUInt64LE(unsigned, offset);
    else buffer.writeUInt32LE(Number(unsigned), offset);
  }

  #receive(chunk: Buffer): void {
    this.#received = this.#received.length > 0 ? Buffer.concat([this.#received, chunk]) : chunk;
    let at = 0;
    for (; at + this.#wordSize <= this.#received.length; at += this.#wordSize) {
      const word = this.#wordSize === 8 ? this.#received.readBigUInt64LE(at) : BigInt(this.#received.readUInt32LE(at));
      if (this.#unsent) {
        // The first word says that the agent is ready.
        for (const request of this.#unsent) this.#requests.write(request);
        this.#unsent = undefined;
        continue;
      }
      this.#waiting.shift()?.resolve(word);
      if (this.#waiting.length === 0) this.#hold(false);
    }
    this.#received = this.#received.subarray(at);
  }

  /** Whether this process is kept from ending. */
  #hold(on: boolean): void {
    if (on) {
      this.#child.ref();
      this.#replies.ref();
    } else {
      this.#child.unref();
      this.#replies.unref();
    }
  }

  #gone(exit: AgentExit): AgentError {
    const how = exit.signal === undefined ? `exited with status ${exit.code}` : `was ended by ${exit.signal}`;
    const what = `the ${this.abi} agent (process ${this.pid}) ${how}`;
    if (this.#unsent && FATAL_AT_ONCE.includes(exit.signal)) {
      return new AgentError("abi-unsupported", `${what} at once: this machine does not run ${this.abi} programs`, {
        exit,
      });
    }
    return new AgentError("gone", what, { exit });
  }

  /** Rejects all calls, those to come included. Only the first error counts. */
  #finish(error: AgentError): void {
    if (this.#end) return;
    this.#end = error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    this.#requests.destroy();
    this.#replies.destroy();
    this.#hold(false);
  }
}
