import { hex } from "../../bytes/hex.js";
import { dump } from "../../verbs/dump.js";
import type { Command } from "../command.js";
import { ABI_OPTION, onlyOne, withTargets } from "../with-target.js";
import { refuseTerminal, writeWhole } from "../write-file.js";

export const command: Command = {
  name: "dump",
  summary: "the image, as mapped, to a file",
  usage: "[TARGET] [-o FILE]",
  description:
    "Writes all bytes that are mapped at the vDSO, as the kernel patched them at boot, to a file or to standard output.\n" +
    "The size is that of the mapping, not one computed from the ELF header.",
  options: {
    output: { type: "string", short: "o", value: "FILE", help: "where to write; - for standard output" },
    ...ABI_OPTION,
  },
  examples: [
    ["linux-gate dump -o linux-gate.dso", "the image of this machine's own ABI"],
    ["linux-gate dump i386 -o linux-gate.dso", "the real linux-gate.so.1"],
    ["linux-gate dump 1234 | file -", "that of a process, to another tool"],
  ],
  arity: [0, 1],
  run: ({ positionals, text, output, json }) => {
    const file = text("output") ?? "-";
    if (file !== "-" || !json) refuseTerminal(file);
    return withTargets(positionals[0], { abi: text("abi"), output }, (targets) => {
      const result = dump(onlyOne(targets));
      if (json && file === "-") {
        output.json(result);
        return 0;
      }
      if (file === "-") {
        output.bytes(result.bytes);
        return 0;
      }
      writeWhole(file, result.bytes);
      const { bytes, ...described } = result;
      if (json) output.json({ ...described, file, size: bytes.length });
      else
        output.remark(`${file}: ${bytes.length} bytes${result.base === undefined ? "" : ` from ${hex(result.base)}`}`);
      return 0;
    });
  },
};
