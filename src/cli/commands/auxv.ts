import { renderAuxv } from "../../render/auxv.js";
import { auxv } from "../../verbs/auxv.js";
import type { Command } from "../command.js";
import { withProcess } from "../with-target.js";

export const command: Command = {
  name: "auxv",
  summary: "the auxiliary vector of a process",
  usage: "[TARGET]",
  description:
    "Lists what the kernel told a new process through its auxiliary vector, AT_SYSINFO and AT_SYSINFO_EHDR among it.\n" +
    "Entries that point to strings or bytes are followed in the memory of the process itself.",
  options: {},
  examples: [
    ["linux-gate auxv", "of this process"],
    ["linux-gate auxv i386", "with AT_SYSINFO, which only 32-bit x86 processes have"],
    ["linux-gate auxv 1234 --json", "for a program"],
  ],
  arity: [0, 1],
  run: ({ positionals, output, json }) =>
    withProcess(positionals[0], output, (target) => {
      const result = auxv(target);
      if (json) output.json(result);
      else output.text(renderAuxv(result, output.style));
      return 0;
    }),
};
