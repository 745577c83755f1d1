import type { Agent } from "../agent/live.js";
import { putBlock } from "../agent/memory.js";
import { EACCES, EINVAL, must } from "./errno.js";
import { filterProgram } from "./filter.js";

/** System calls that the process makes that is to be filtered (x86-64). */
const SYS = { prctl: 157, seccomp: 317 } as const;

const PR_SET_NO_NEW_PRIVS = 38;
/** Of seccomp(2); include/uapi/linux/seccomp.h. */
const SET_MODE_FILTER = 1;

/** What became of a filter. */
export interface Installed {
  /** What seccomp(2) gave: negative where it refused. */
  readonly result: bigint;
  /** Whether the process, and all that it starts, had to give up every way to get privileges. */
  readonly noNewPrivileges: boolean;
}

/**
 * Makes a process filter its system calls, and those of all that it becomes and starts. Of `flags` the first that the
 * kernel knows are taken. Throws `AgentError` where the process gets no memory for it, `RunError` where it may not give up
 * its privileges.
 */
export async function installFilter(target: Agent, filter: Uint8Array, flags: readonly number[]): Promise<Installed> {
  const address = await putBlock(target, 16 + filter.length, (at) => filterProgram(filter, at, 8));
  const install = async (): Promise<bigint> => {
    let result = BigInt(-EINVAL);
    for (const flag of flags) {
      result = await target.call(SYS.seccomp, SET_MODE_FILTER, flag, address);
      if (result !== BigInt(-EINVAL)) break;
    }
    return result;
  };
  const result = await install();
  if (result !== BigInt(-EACCES)) return { result, noNewPrivileges: false };
  // Without privileges a process may only confine those that cannot get any.
  await must(target.call(SYS.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
  return { result: await install(), noNewPrivileges: true };
}
