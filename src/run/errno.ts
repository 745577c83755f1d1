import { getSystemErrorMap } from "node:util";
import { RunError } from "./error.js";

export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const ENOEXEC = 8;
export const ECHILD = 10;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EINVAL = 22;

/** What the kernel's negative result means: `no such file or directory (ENOENT)`. */
export function describeErrno(result: bigint): string {
  const [name, text] = getSystemErrorMap().get(Number(result)) ?? [`error ${-result}`, "refused by the kernel"];
  return `${text} (${name})`;
}

/** Waits for a system call of an agent; throws {@link RunError} with `what` where the kernel refuses it. */
export async function must(call: Promise<bigint>, what: string): Promise<bigint> {
  const result = await call;
  if (result < 0n) throw new RunError(`${what} is refused: ${describeErrno(result)}`);
  return result;
}
