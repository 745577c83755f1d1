import { resolveTargets } from "../targets/resolve.js";
import { type Target, TargetError } from "../targets/target.js";
import type { ReferenceImage } from "../vdso/tamper/reference.js";
import { installedImage } from "../verbs/verify/load.js";
import { type Invocation, isExpected } from "./command.js";

/**
 * The images that a word names, to hold processes against: a target, or `build-id:HEX`; none where there is no word.
 *
 * Throws {@link TargetError} where they cannot be had, or are of another kernel than the one that runs.
 */
export async function referencesOf(word: string | undefined, output: Invocation["output"]): Promise<ReferenceImage[]> {
  if (word === undefined) return [];
  const buildId = /^build-id:(.+)$/.exec(word)?.[1]?.toLowerCase();
  if (buildId !== undefined) return [await byBuildId(buildId)];
  const targets = await resolveTargets(word);
  try {
    for (const note of new Set(targets.flatMap(({ notes }) => notes))) output.remark(note);
    await refuseOtherKernel(word, targets);
    return targets.map((target): ReferenceImage => ({ name: target.name, image: target.image, kind: kindOf(target) }));
  } finally {
    for (const target of targets) await target.close();
  }
}

/**
 * Throws {@link TargetError} where a file is of another build than what this process has: every process would be
 * accused, and nothing be learnt. Whether this process has it as it was built is not asked here.
 */
async function refuseOtherKernel(word: string, targets: readonly Target[]): Promise<void> {
  if (targets.every(({ kind }) => kind === "process")) return;
  const [self] = await resolveTargets("self");
  try {
    const mine = self.image;
    const same = targets.filter(({ image }) => image.abi === mine.abi);
    if (same.length === 0 || same.some(({ image }) => image.buildId === mine.buildId)) return;
    throw new TargetError(
      `${word} is of another kernel than the one that runs: its image of ${mine.abi} has build-id ` +
        `${same[0]?.image.buildId ?? "none"}, that of this process ${mine.buildId ?? "none"}`,
    );
  } finally {
    await self.close();
  }
}

function kindOf(target: Target): ReferenceImage["kind"] {
  if (target.kind === "process") return "patched";
  // A file of its own may be what a process had mapped, or what lay in a kernel's file.
  return target.kernel ? "unpatched" : "either";
}

async function byBuildId(buildId: string): Promise<ReferenceImage> {
  const installed = installedImage(buildId);
  if (installed) return installed;
  for (const abi of ["self", "x86_64", "i386"]) {
    try {
      for (const target of await resolveTargets(abi)) {
        const { image, name } = target;
        await target.close();
        if (image.buildId === buildId) return { name, image, kind: "patched" };
      }
    } catch (error) {
      if (!isExpected(error)) throw error;
    }
  }
  throw new TargetError(
    `no image of build-id ${buildId} is in /lib/modules/*/vdso, in /usr/lib/debug/.build-id or in this machine's ` +
      "processes; there is no archive of images yet",
  );
}
