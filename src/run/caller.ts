import { closeSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { LiveProcess } from "../linux/live.js";
import { type Mapping, mappingAt, parseMaps } from "../linux/maps.js";

/** The memory that a call names is not there, or not such as the program may write. */
export class Fault extends Error {
  override readonly name = "Fault";
}

/** Nobody waits for the answer any more. */
export class CallerGone extends Error {
  override readonly name = "CallerGone";
}

/** How many threads are remembered from one call to the next. */
const REMEMBERED = 64;

/** What is remembered of a thread that made a call, as long as it runs the same program. */
interface Known {
  /** /proc/PID/stat, which stays that of the one thread. */
  readonly stat: number;
  readonly program: string;
  readonly mappings: readonly Mapping[];
}

/** The threads whose calls are answered. */
export class Callers {
  readonly #known = new Map<number, Known>();
  readonly #said = new Set<string>();

  /** `isWaiting` tells whether the thread still waits for the answer. */
  of(pid: number, isWaiting: () => Promise<boolean>): Caller {
    return new Caller(this, pid, isWaiting);
  }

  /** Does something for the first of several same reasons. */
  once(reason: string, act: () => void): void {
    if (this.#said.has(reason)) return;
    this.#said.add(reason);
    act();
  }

  /** The mappings of a thread's program, as they were when they were last read; `again` has them read now. */
  mappings(pid: number, again: boolean): readonly Mapping[] {
    const known = this.#known.get(pid);
    if (known && !again && programOf(known.stat) === known.program) return known.mappings;
    this.#forget(pid);
    const stat = openSync(`/proc/${pid}/stat`, "r");
    const program = programOf(stat) ?? "";
    const mappings = parseMaps(new TextDecoder("utf-8").decode(new LiveProcess(pid).mapsBytes()));
    this.#known.set(pid, { stat, program, mappings });
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= REMEMBERED) break;
      this.#forget(oldest);
    }
    return mappings;
  }

  close(): void {
    for (const pid of [...this.#known.keys()]) this.#forget(pid);
  }

  #forget(pid: number): void {
    const known = this.#known.get(pid);
    if (known) closeSync(known.stat);
    this.#known.delete(pid);
  }
}

/**
 * What tells a program from the one that the same thread ran before, or that shares its memory with it until it executes
 * another: where its code and its stack lie. `undefined` when the thread has ended.
 */
function programOf(stat: number): string | undefined {
  const bytes = Buffer.alloc(1024);
  try {
    const text = bytes.toString("latin1", 0, readSync(stat, bytes, 0, bytes.length, 0));
    // startcode, endcode, startstack: fields 26 to 28, of which the third is the first behind the name.
    return text
      .slice(text.lastIndexOf(")") + 2)
      .split(" ", 26)
      .slice(23)
      .join(" ");
  } catch {
    return undefined;
  }
}

/** Where the return address is on the stack of the i386 entry, behind %ebp, %edx and %ecx, when it enters the kernel. */
const RETURN_OFFSET = 12n;

/** A thread that waits for the answer to a call, and its memory. */
export class Caller {
  readonly #callers: Callers;
  readonly #pid: number;
  readonly #isWaiting: () => Promise<boolean>;
  #memory: Promise<number> | undefined;

  constructor(callers: Callers, pid: number, isWaiting: () => Promise<boolean>) {
    this.#callers = callers;
    this.#pid = pid;
    this.#isWaiting = isWaiting;
  }

  /**
   * Whether the kernel's own vDSO made the call, for what it could not answer by itself. `instruction` is where the
   * program entered the kernel.
   */
  async isOwnFallback(abi: "x86_64" | "i386", instruction: bigint): Promise<boolean> {
    const inVdso = (address: bigint): boolean => mappingAt(this.#mappings(false), address)?.name === "[vdso]";
    if (!inVdso(instruction)) return false;
    if (abi === "x86_64") return true;
    // All calls of i386 come from there: what counts is who called __kernel_vsyscall.
    const stack = this.#stackPointer();
    const word = await this.read(stack + RETURN_OFFSET, 4);
    return inVdso(BigInt(new DataView(word.buffer, word.byteOffset).getUint32(0, true)));
  }

  async read(address: bigint, size: number): Promise<Uint8Array> {
    const memory = await this.#open();
    const bytes = new Uint8Array(size);
    this.#transfer(address, size, (done) => readSync(memory, bytes, done, size - done, address + BigInt(done)));
    return bytes;
  }

  async write(address: bigint, bytes: Uint8Array): Promise<void> {
    const memory = await this.#open();
    // The kernel would write here what the program may not.
    if (!this.#isWritable(address, bytes.length, false) && !this.#isWritable(address, bytes.length, true)) {
      throw new Fault("the program may not write there");
    }
    const { length } = bytes;
    this.#transfer(address, length, (done) => writeSync(memory, bytes, done, length - done, Number(address) + done));
  }

  close(): void {
    // Where it was not opened, that was said to those who wanted it.
    this.#memory?.then(closeSync, () => {});
  }

  /** Opens the memory of the thread's program; throws {@link CallerGone} where that may be another's by now. */
  #open(): Promise<number> {
    this.#memory ??= (async () => {
      let memory: number;
      try {
        memory = openSync(`/proc/${this.#pid}/mem`, "r+");
      } catch (error) {
        if (!(await this.#isWaiting())) throw new CallerGone();
        const { code } = error as NodeJS.ErrnoException;
        const why = "as where Yama guards one whose parents have ended";
        throw new Error(`its memory may not be opened (${code}), ${why}`, { cause: error });
      }
      // Opened while it waits, it is the memory of the one that waits.
      if (await this.#isWaiting()) return memory;
      closeSync(memory);
      throw new CallerGone();
    })();
    return this.#memory;
  }

  #transfer(address: bigint, size: number, transfer: (done: number) => number): void {
    if (address + BigInt(size) > BigInt(Number.MAX_SAFE_INTEGER)) throw new Fault("no program has memory there");
    for (let done = 0; done < size; ) {
      let moved: number;
      try {
        moved = transfer(done);
      } catch (error) {
        throw new Fault("there is no memory", { cause: error });
      }
      if (moved === 0) throw new CallerGone();
      done += moved;
    }
  }

  #isWritable(address: bigint, size: number, again: boolean): boolean {
    let at = address;
    for (const { start, end, perms } of this.#mappings(again)) {
      if (start <= at && at < end && perms[1] === "w") at = end;
    }
    return at >= address + BigInt(size);
  }

  #mappings(again: boolean): readonly Mapping[] {
    return this.#callers.mappings(this.#pid, again);
  }

  /** Where the stack pointer was when the thread entered the kernel. */
  #stackPointer(): bigint {
    // 265 0x0 0xffe1f2a4 0x0 0x0 0x0 0x0 0xffe1f1c8 0xf7f0a549: the call, six arguments, the stack, the instruction.
    const fields = readFileSync(`/proc/${this.#pid}/syscall`, "latin1").trim().split(" ");
    return BigInt(fields[7] ?? 0);
  }
}
