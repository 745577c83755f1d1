import type { AgentAbi } from "../../../agent/protocol.js";
import { buildFilter, VERDICT } from "../../../run/filter.js";

/**
 * The first of the error numbers that stand for system calls. The kernel gives none of them: its own end at 133 for
 * programs and at 531 inside, and what a program can tell from an address ends at 4095.
 */
export const FIRST_ERRNO = 3800;

/**
 * A seccomp filter by which each of some system calls of an ABI fails with an error number of its own, {@link FIRST_ERRNO}
 * and up; all others pass.
 */
export function errnoFilter(abi: AgentAbi, numbers: readonly number[]): Uint8Array {
  const calls = numbers.map((number, i) => ({ number, verdict: VERDICT.errno | (FIRST_ERRNO + i) }));
  return buildFilter({ x86_64: [], i386: [], [abi]: calls });
}
