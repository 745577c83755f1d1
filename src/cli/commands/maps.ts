import { renderMaps } from "../../render/maps.js";
import { maps } from "../../verbs/maps.js";
import type { Command } from "../command.js";
import { refuseTogether } from "../exclusive.js";
import { withProcess } from "../with-target.js";

export const command: Command = {
  name: "maps",
  summary: "the mappings of a process",
  usage: "[TARGET] [--raw]",
  description:
    "Lists the mappings of a process and says what those are that the kernel makes for itself ([vdso], [vvar], [stack] …).",
  options: { raw: { type: "boolean", help: "the bytes of /proc/PID/maps, unchanged" } },
  examples: [
    ["linux-gate maps", "of this process"],
    ["linux-gate maps 1234 --raw", "as cat /proc/1234/maps"],
    ["linux-gate maps i386", "of a fresh 32-bit process"],
  ],
  arity: [0, 1],
  run: async (invocation) => {
    refuseTogether(invocation, "raw", ["json"]);
    const { positionals, flag, output, json } = invocation;
    return withProcess(positionals[0], output, (target) => {
      if (flag("raw")) output.bytes(target.mapsBytes);
      else if (json) output.json(maps(target));
      else output.text(renderMaps(maps(target), output.style));
      return 0;
    });
  },
};
