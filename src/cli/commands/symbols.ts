import type { Style } from "../../render/style.js";
import type { Target } from "../../targets/target.js";
import { symbols } from "../../verbs/symbols.js";
import type { Command } from "../command.js";
import { refuseTogether } from "../exclusive.js";
import { ABI_OPTION, gnuName, showEach } from "../with-target.js";

export const command: Command = {
  name: "symbols",
  summary: "the functions that the image exports",
  usage: "[TARGET] [--gnu]",
  description:
    "Lists the dynamic symbols with their versions, by address; in a process, with their address there.\n" +
    "The column nm has the letter that nm -D writes.",
  options: { gnu: { type: "boolean", help: "the text of objdump -T" }, ...ABI_OPTION },
  examples: [
    ["linux-gate symbols", "of this machine's own ABI"],
    ["linux-gate symbols i386 --gnu", "as the article shows them"],
    ["linux-gate symbols 1234", "where they lie in a process"],
  ],
  arity: [0, 1],
  run: async (invocation) => {
    refuseTogether(invocation, "gnu", ["json"]);
    const gnu = invocation.flag("gnu");
    const show = (target: Target) => ({
      data: () => symbols(target),
      text: () => (gnu ? gnuText(target) : ownText(target, invocation.output.style)),
    });
    return showEach(invocation, show, { titled: !gnu });
  },
};

async function gnuText(target: Target): Promise<string> {
  const { gnuDynamicSymbols } = await import("../../render/gnu/dynamic-symbols.js");
  return gnuDynamicSymbols(target.image.elf, gnuName(target));
}

async function ownText(target: Target, style: Style): Promise<string> {
  const { renderSymbols } = await import("../../render/symbols.js");
  return renderSymbols(symbols(target), style);
}
