import { resolveTarget } from "../targets/resolve.js";
import { type ProcessTarget, type Target, TargetError } from "../targets/target.js";
import type { Output } from "./output.js";

/** Resolves a target, does something with it, and closes it whatever happens; what is odd about it is remarked. */
export async function withTarget<T>(
  word: string | undefined,
  output: Pick<Output, "remark">,
  use: (target: Target) => T | Promise<T>,
): Promise<T> {
  const target = await resolveTarget(word);
  try {
    for (const note of target.notes) output.remark(note);
    return await use(target);
  } finally {
    await target.close();
  }
}

/** As {@link withTarget}, for verbs that need a process. */
export async function withProcess<T>(
  word: string | undefined,
  output: Pick<Output, "remark">,
  use: (target: ProcessTarget) => T | Promise<T>,
): Promise<T> {
  return withTarget(word, output, (target) => {
    if (target.kind !== "process") {
      throw new TargetError(`${target.name} is an image: it has no process to ask; name a process id or an ABI`);
    }
    return use(target);
  });
}

/** The file name that GNU tools would write for a target: its path, or that of the article's dump. */
export function gnuName(target: Target): string {
  return target.kind === "image" ? target.name : "linux-gate.dso";
}
