import { resolveTargets } from "../targets/resolve.js";
import { type ProcessTarget, type Target, TargetError } from "../targets/target.js";
import { parseAbi } from "../vdso/abi.js";
import { type Invocation, type OptionSpec, UsageError } from "./command.js";
import type { Output } from "./output.js";

/** The option by which one of several images of a kernel file is picked. */
export const ABI_OPTION = {
  abi: { type: "string", value: "ABI", help: "of the images in a kernel file, that of this ABI alone" },
} as const satisfies Record<string, OptionSpec>;

/**
 * Resolves a target, does something with its images or its process, and closes all whatever happens; what is odd about
 * them is remarked. `abi` is what `--abi` was given.
 */
export async function withTargets<T>(
  word: string | undefined,
  { abi, output }: { readonly abi: string | undefined; readonly output: Pick<Output, "remark"> },
  use: (targets: readonly [Target, ...Target[]]) => T | Promise<T>,
): Promise<T> {
  const only = abi === undefined ? undefined : parseAbi(abi);
  if (abi !== undefined && only === undefined) throw new UsageError(`--abi is ${JSON.stringify(abi)}, no ABI`);
  const targets = await resolveTargets(word, only);
  try {
    for (const note of new Set(targets.flatMap(({ notes }) => notes))) output.remark(note);
    return await use(targets);
  } finally {
    for (const target of targets) await target.close();
  }
}

/** As {@link withTargets}, for verbs that need a process. */
export async function withProcess<T>(
  word: string | undefined,
  output: Pick<Output, "remark">,
  use: (target: ProcessTarget) => T | Promise<T>,
): Promise<T> {
  return withTargets(word, { abi: undefined, output }, ([target]) => {
    if (target.kind !== "process") {
      throw new TargetError(`${target.name} is an image: it has no process to ask; name a process id or an ABI`);
    }
    return use(target);
  });
}

/** What a verb shows of one image; only what is asked for is made. */
export interface Shown {
  /** For `--json`. */
  data(): object | Promise<object>;
  text(): string | Promise<string>;
}

/**
 * Shows each image of the target that the first word behind the verb names: as text, one below the other under their
 * names unless the texts name themselves (`titled` is false); as JSON, one alone as it is, several as `images`.
 */
export async function showEach(
  { positionals, text, json, output }: Invocation,
  show: (target: Target) => Shown | Promise<Shown>,
  { titled = true } = {},
): Promise<number> {
  return withTargets(positionals[0], { abi: text("abi"), output }, async (targets) => {
    const several = targets.length > 1;
    const images: object[] = [];
    for (const [i, target] of targets.entries()) {
      const shown = await show(target);
      if (json) {
        images.push(await shown.data());
        continue;
      }
      const title = several && titled ? `${i > 0 ? "\n" : ""}${output.style.bold(`${target.name}:`)}\n` : "";
      output.text(title + (await shown.text()));
    }
    if (json) output.json(several ? { images } : (images[0] as object));
    return 0;
  });
}

/** The one image of a target; throws {@link UsageError} where it has several. */
export function onlyOne(targets: readonly [Target, ...Target[]]): Target {
  if (targets.length === 1) return targets[0];
  const abis = targets.map(({ image }) => image.abi).join(", ");
  throw new UsageError(`there are several images (${abis}): pick one with --abi, or write all with linux-gate images`);
}

/** The file name that GNU tools would write for a target: its path, or that of the article's dump. */
export function gnuName(target: Target): string {
  return target.kind === "image" ? target.name : "linux-gate.dso";
}
