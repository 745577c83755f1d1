import { symbols } from "../../verbs/symbols.js";
import type { Command } from "../command.js";
import { refuseTogether } from "../exclusive.js";
import { gnuName, withTarget } from "../with-target.js";

export const command: Command = {
  name: "symbols",
  summary: "the functions that the image exports",
  usage: "[TARGET] [--gnu]",
  description:
    "Lists the dynamic symbols with their versions, by address; in a process, with their address there.\n" +
    "The column nm has the letter that nm -D writes.",
  options: { gnu: { type: "boolean", help: "the text of objdump -T" } },
  examples: [
    ["linux-gate symbols", "of this machine's own ABI"],
    ["linux-gate symbols i386 --gnu", "as the article shows them"],
    ["linux-gate symbols 1234", "where they lie in a process"],
  ],
  arity: [0, 1],
  run: async (invocation) => {
    refuseTogether(invocation, "gnu", ["json"]);
    const { positionals, flag, output, json } = invocation;
    return withTarget(positionals[0], output, async (target) => {
      if (flag("gnu")) {
        const { gnuDynamicSymbols } = await import("../../render/gnu/dynamic-symbols.js");
        output.text(gnuDynamicSymbols(target.image.elf, gnuName(target)));
      } else if (json) {
        output.json(symbols(target));
      } else {
        const { renderSymbols } = await import("../../render/symbols.js");
        output.text(renderSymbols(symbols(target), output.style));
      }
      return 0;
    });
  },
};
