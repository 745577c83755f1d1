import type { ParseArgsConfig } from "node:util";
import type { Output } from "./output.js";

/** An option of a verb, for the parser and for the help. */
export interface OptionSpec {
  readonly type: "string" | "boolean";
  readonly short?: string;
  /** Whether it may be given several times. */
  readonly multiple?: boolean;
  /** How the help writes its value: `FILE`. */
  readonly value?: string;
  readonly help: string;
}

/** What a verb is called with. */
export interface Invocation {
  readonly positionals: readonly string[];
  /** Whether a boolean option was given. */
  flag(name: string): boolean;
  /** The value of a string option. */
  text(name: string): string | undefined;
  readonly output: Output;
  /** `--json` was given. */
  readonly json: boolean;
}

/** A verb: how it is written, and what it does. */
export interface Command {
  readonly name: string;
  /** One line for the list of verbs. */
  readonly summary: string;
  /** What stands behind the verb: `[TARGET] -o FILE`. */
  readonly usage: string;
  /** A paragraph or two for `linux-gate VERB --help`. */
  readonly description: string;
  readonly options: Readonly<Record<string, OptionSpec>>;
  readonly examples: readonly (readonly [command: string, meaning: string])[];
  /** Fewest and most words behind the verb. */
  readonly arity: readonly [least: number, most: number];
  /** Does it; resolves to the exit code. */
  run(invocation: Invocation): Promise<number>;
}

/** Options that every verb has. */
export const COMMON_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  json: { type: "boolean", help: "print the result as JSON" },
  color: { type: "boolean", help: "colour even where the output is no terminal (--no-color: never)" },
  "no-color": { type: "boolean", help: "no colour" },
  help: { type: "boolean", short: "h", help: "print this" },
};

/** The options of a verb as the parser wants them. */
export function parserOptions(command: Command): NonNullable<ParseArgsConfig["options"]> {
  const options: NonNullable<ParseArgsConfig["options"]> = {};
  for (const [name, { type, short, multiple }] of Object.entries({ ...command.options, ...COMMON_OPTIONS })) {
    options[name] = { type, ...(short && { short }), ...(multiple && { multiple }) };
  }
  return options;
}

/** The command was written wrongly; the message is what the user reads. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Names of errors whose message is meant for the user; any other is a defect of ours and shows where. */
const EXPECTED = new Set([
  "UsageError",
  "TargetError",
  "ProcessError",
  "AgentError",
  "FormatError",
  "WriteError",
  "RunError",
]);

/** Whether an error's message is meant for the user. Told by name: each verb is a file with classes of its own. */
export function isExpected(error: unknown): error is Error {
  return error instanceof Error && EXPECTED.has(error.name);
}
