import { renderExplain } from "../../render/explain.js";
import { explain } from "../../verbs/explain.js";
import type { Command } from "../command.js";
import { quickDecoderFor } from "../decoder.js";
import { ABI_OPTION, showEach } from "../with-target.js";

export const command: Command = {
  name: "explain",
  summary: "the gate and each function in words",
  usage: "[TARGET]",
  description:
    "Says in words which way into the kernel the image takes and what each function does. Nothing of it is canned: the\n" +
    "code is decoded and followed, and what is said is what was found in it.",
  options: ABI_OPTION,
  examples: [
    ["linux-gate explain i386", "linux-gate.so.1 of this machine"],
    ["linux-gate explain", "the image of this machine's own ABI"],
    ["linux-gate explain image.so", "one from elsewhere"],
  ],
  arity: [0, 1],
  run: (invocation) =>
    showEach(invocation, async (target) => {
      const result = explain(target, await quickDecoderFor(target.image.abi));
      return { data: () => result, text: () => renderExplain(result, invocation.output.style) };
    }),
};
