import { getSystemErrorMap } from "node:util";

export const ENOENT = 2;
export const ENOEXEC = 8;
export const EINTR = 4;
export const EPERM = 1;

/** What the kernel's negative result means: `no such file or directory (ENOENT)`. */
export function describeErrno(result: bigint): string {
  const [name, text] = getSystemErrorMap().get(Number(result)) ?? [`error ${-result}`, "refused by the kernel"];
  return `${text} (${name})`;
}
