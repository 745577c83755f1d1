import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { errnoName } from "./errno.js";
import { type Agent, AgentError } from "./live.js";
import type { AgentAbi } from "./protocol.js";

/** Numbers of the system calls on memory; the mmap of i386 counts its offset in pages, which matters to no file here. */
const NUMBERS: Readonly<Record<AgentAbi, { readonly mmap: number; readonly mprotect: number }>> = {
  x86_64: { mmap: 9, mprotect: 10 },
  i386: { mmap: 192, mprotect: 125 },
};

/** What memory may be used for, as mmap and mprotect take it. */
export const PROT = { readWrite: 3, readExecute: 5 } as const;

/** MAP_PRIVATE and MAP_ANONYMOUS. */
export const PRIVATE_ANONYMOUS = 0x22;

/** Memory of an agent: what it maps, read and written from here. Close it when done; it ends with the agent. */
export class AgentMemory {
  readonly #agent: Agent;
  readonly #descriptor: number;

  /** Throws {@link AgentError} where the memory of a child may not be opened, as where Yama guards all processes. */
  constructor(agent: Agent) {
    this.#agent = agent;
    try {
      this.#descriptor = openSync(`/proc/${agent.pid}/mem`, "r+");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new AgentError("start-failed", `the memory of the ${agent.abi} agent may not be opened (${code})`, {
        cause: error,
      });
    }
  }

  /** Maps memory that is nobody else's and has no file; `protection` as in {@link PROT}. Throws {@link AgentError}. */
  async map(size: number, protection: number = PROT.readWrite, flags = PRIVATE_ANONYMOUS): Promise<bigint> {
    const { mmap } = NUMBERS[this.#agent.abi];
    const address = await this.#agent.call(mmap, 0, size, protection, flags, -1, 0);
    if (address < 0n) throw this.#refused(`${size} bytes of memory`, address);
    return address;
  }

  /** Changes what whole pages may be used for. Throws {@link AgentError}. */
  async protect(address: bigint, size: number, protection: number): Promise<void> {
    const { mprotect } = NUMBERS[this.#agent.abi];
    const result = await this.#agent.call(mprotect, address, size, protection);
    if (result < 0n) throw this.#refused("memory that may be executed", result);
  }

  /** Writes all bytes. Throws {@link AgentError} where the agent has ended. */
  write(address: bigint, bytes: Uint8Array): void {
    this.#whole(bytes.length, (done) =>
      writeSync(this.#descriptor, bytes, done, bytes.length - done, Number(address) + done),
    );
  }

  /** Reads `size` bytes. Throws {@link AgentError} where the agent has ended. */
  read(address: bigint, size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    this.#whole(size, (done) => readSync(this.#descriptor, bytes, done, size - done, address + BigInt(done)));
    return bytes;
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #whole(size: number, transfer: (done: number) => number): void {
    for (let done = 0; done < size; ) {
      const moved = transfer(done);
      // The address space is gone.
      if (moved === 0)
        throw new AgentError("gone", `the ${this.#agent.abi} agent (process ${this.#agent.pid}) has ended`);
      done += moved;
    }
  }

  #refused(what: string, result: bigint): AgentError {
    return new AgentError("start-failed", `the ${this.#agent.abi} agent is refused ${what} (${errnoName(result)})`);
  }
}

/** Puts a block that has pointers into itself, as `bytesAt` makes it for an address, into an agent; gives the address. */
export async function putBlock(agent: Agent, size: number, bytesAt: (address: bigint) => Uint8Array): Promise<bigint> {
  const memory = new AgentMemory(agent);
  try {
    const address = await memory.map(size);
    memory.write(address, bytesAt(address));
    return address;
  } finally {
    memory.close();
  }
}
