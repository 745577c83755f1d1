import { getSystemErrorMap } from "node:util";

/** The name of the error that the kernel gives as a negative number: `EINVAL`. */
export function errnoName(result: bigint): string {
  return getSystemErrorMap().get(Number(result))?.[0] ?? `error ${-result}`;
}
