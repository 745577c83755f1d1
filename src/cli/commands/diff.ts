import { renderDiff } from "../../render/diff.js";
import { parseAbi } from "../../vdso/abi.js";
import { diff } from "../../verbs/diff.js";
import { type Command, type Invocation, UsageError } from "../command.js";
import { isTerminal } from "../output.js";
import { withTargets } from "../with-target.js";

/** Characters in a line where standard output is no terminal that says. */
const USUAL_WIDTH = 130;

export const command: Command = {
  name: "diff",
  summary: "what differs between two images, and whether a C library would notice",
  usage: "A B [--abi] [--only ABI] [--width COLUMNS]",
  description:
    "Compares two targets image by image: what a C library sees, the places that boot patches, code function by function\n" +
    "with the disassembly side by side (x86), and data. What boot puts in place is shown and is no difference.\n" +
    "Exit status: 0 without a difference in what was asked for, 1 with one, 2 where something cannot be read.",
  options: {
    abi: { type: "boolean", help: "only what a C library would notice: names, versions, hash tables" },
    only: { type: "string", value: "ABI", help: "of the images in kernel files, those of this ABI alone" },
    width: {
      type: "string",
      value: "COLUMNS",
      help: "below 100, code stands one under the other (the terminal's width)",
    },
  },
  examples: [
    ["linux-gate diff /boot/vmlinuz.old /boot/vmlinuz", "did the update change the vDSO?"],
    ["linux-gate diff old.deb new.deb --abi", "would a C library notice?"],
    ["linux-gate diff /boot/vmlinuz self", "is what runs what is installed, and what did boot choose?"],
  ],
  arity: [2, 2],
  run: async (invocation) => {
    const { positionals, flag, output, json } = invocation;
    const [wordA, wordB] = positionals;
    const only = abiOf(invocation);
    const width = widthOf(invocation);
    return withTargets(wordA, { abi: undefined, output }, (a) =>
      withTargets(wordB, { abi: undefined, output }, async (b) => {
        const result = await diff(a, b, {
          abiOnly: flag("abi"),
          ...(only !== undefined && { only }),
          decoderFor: async (abi) => (await import("../decoder.js")).quickDecoderFor(abi),
        });
        if (json) output.json(result);
        else output.text(renderDiff(result, { style: output.style, width }));
        return result.different ? 1 : 0;
      }),
    );
  },
};

function abiOf({ text }: Invocation) {
  const name = text("only");
  const abi = name === undefined ? undefined : parseAbi(name);
  if (name !== undefined && abi === undefined) throw new UsageError(`--only is ${JSON.stringify(name)}, no ABI`);
  return abi;
}

function widthOf({ text }: Invocation): number {
  const asked = text("width");
  if (asked === undefined) return (isTerminal(1) && process.stdout.columns) || USUAL_WIDTH;
  const width = Number(asked);
  if (!/^\d+$/.test(asked) || width < 40 || width > 10_000) {
    throw new UsageError(`--width is ${JSON.stringify(asked)}, no number of columns from 40 to 10000`);
  }
  return width;
}
