import { closeSync, openSync, writeSync } from "node:fs";
import type { Agent } from "../agent/live.js";
import { describeErrno } from "./errno.js";
import { RunError } from "./error.js";

const SYS_MMAP = 9;
/** PROT_READ and PROT_WRITE, MAP_PRIVATE and MAP_ANONYMOUS. */
const READ_WRITE = 3;
const PRIVATE_ANONYMOUS = 0x22;

/** Waits for an agent's system call; throws {@link RunError} with `what` where the kernel refuses it. */
export async function must(call: Promise<bigint>, what: string): Promise<bigint> {
  const result = await call;
  if (result < 0n) throw new RunError(`${what} is refused: ${describeErrno(result)}`);
  return result;
}

/** Maps memory of its own in an agent of x86-64; gives the address. */
export function mapMemory(agent: Agent, size: number, what: string): Promise<bigint> {
  return must(agent.call(SYS_MMAP, 0, size, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0), what);
}

/** Writes to memory of a process, all bytes. */
export function writeMemory(pid: number, address: bigint, bytes: Uint8Array): void {
  const memory = openSync(`/proc/${pid}/mem`, "r+");
  try {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(memory, bytes, done, bytes.length - done, Number(address) + done);
    }
  } finally {
    closeSync(memory);
  }
}
