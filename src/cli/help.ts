import { table } from "../render/table.js";
import { COMMON_OPTIONS, type Command, type OptionSpec } from "./command.js";

function optionRows(options: Readonly<Record<string, OptionSpec>>): string {
  return table(
    Object.entries(options).map(([name, { short, value, help }]) => [
      `${short ? `-${short}, ` : "    "}--${name}${value ? ` ${value}` : ""}`,
      help,
    ]),
    { indent: "  " },
  );
}

/** `linux-gate VERB --help`. */
export function commandHelp(command: Command): string {
  return [
    `linux-gate ${command.name} ${command.usage}`.trimEnd(),
    "",
    command.description,
    "",
    "Options:",
    optionRows({ ...command.options, ...COMMON_OPTIONS }).trimEnd(),
    "",
    "Examples:",
    table(
      command.examples.map(([line, meaning]) => [line, meaning]),
      { indent: "  " },
    ).trimEnd(),
    "",
  ].join("\n");
}

/** `linux-gate --help`. */
export function mainHelp(verbs: readonly (readonly [name: string, summary: string])[]): string {
  return `linux-gate VERB [TARGET] [OPTIONS]

Finds, reads and explains the one library that is in every Linux process and on no disk: the vDSO, which 32-bit x86
calls linux-gate.so.1.

Verbs:
${table(verbs, { indent: "  " })}
Targets:
${table(
  [
    ["(none), self", "this process"],
    ["1234", "the process with that id"],
    ["i386, x86_64", "a fresh process of that ABI; no library of it need be installed"],
    ["PATH, -", "a vDSO image, or a program (then: the vDSO that it would get); ./1234 for a file of that name"],
  ],
  { indent: "  " },
)}
Options of every verb:
${optionRows(COMMON_OPTIONS)}
Exit status: 0 done; 1 the answer is bad news; 2 wrong usage or unreadable input.
"linux-gate VERB --help" tells more, with examples.
`;
}
