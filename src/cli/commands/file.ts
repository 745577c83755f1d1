import { gnuFile } from "../../render/gnu/file.js";
import { identify } from "../../verbs/identity.js";
import type { Command } from "../command.js";
import { ABI_OPTION, showEach } from "../with-target.js";

export const command: Command = {
  name: "file",
  summary: "what kind of file the image is",
  usage: "[TARGET]",
  description: "Says of the image what file -b says of a file with its bytes.",
  options: ABI_OPTION,
  examples: [
    ["linux-gate file", "of this machine's own ABI"],
    ["linux-gate file i386", "of linux-gate.so.1"],
    ["linux-gate file image.so --json", "with build-id, SONAME and kernel version apart"],
  ],
  arity: [0, 1],
  run: (invocation) =>
    showEach(invocation, ({ name, image, notes }) => {
      const file = gnuFile(image.elf);
      return { data: () => ({ target: name, file, identity: identify(image), notes }), text: () => `${file}\n` };
    }),
};
