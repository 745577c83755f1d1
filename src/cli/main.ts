import { parseArgs } from "node:util";
import { type Command, type Invocation, isExpected, parserOptions, UsageError } from "./command.js";
import { BrokenPipe, chooseStyle, Output } from "./output.js";
import { VERBS, type VerbEntry } from "./verbs.js";

/** Exit status for wrong usage and for input that cannot be read. */
const FAILED = 2;

/**
 * Runs the program and resolves to its exit status. `argv` is what stands behind the program's name; `version` tells
 * that of the package.
 */
export async function main(argv: readonly string[], version: () => string): Promise<number> {
  try {
    return await dispatch(argv, version);
  } catch (error) {
    return failure(error, argv.includes("--json"));
  }
}

async function dispatch(argv: readonly string[], version: () => string): Promise<number> {
  const [word, ...rest] = argv;
  const plain = new Output(chooseStyle({ color: false, noColor: true }));
  if (word === "--version" || word === "-V") {
    plain.text(`linux-gate ${version()}\n`);
    return 0;
  }
  if (word === "help" && rest[0] !== undefined) return dispatch([rest[0], "--help"], version);
  if (word === undefined || word === "--help" || word === "-h" || word === "help") {
    const { mainHelp } = await import("./help.js");
    plain.text(mainHelp(VERBS.map(({ name, summary }) => [name, summary])));
    return 0;
  }
  return runVerb(findVerb(word), rest);
}

function findVerb(word: string): VerbEntry {
  const entry = VERBS.find(({ name }) => name === word);
  if (entry) return entry;
  const near = VERBS.find(({ name }) => name.startsWith(word) || word.startsWith(name));
  throw new UsageError(
    `there is no verb ${JSON.stringify(word)}${near ? `; did you mean ${near.name}?` : ""} (linux-gate --help lists them)`,
  );
}

async function runVerb(entry: VerbEntry, words: readonly string[]): Promise<number> {
  const command = await entry.load();
  const { values, positionals } = parseWords(command, words);
  const output = new Output(
    chooseStyle({ color: values.color === true, noColor: values["no-color"] === true || values.json === true }),
  );
  if (values.help === true) {
    const { commandHelp } = await import("./help.js");
    output.text(commandHelp(command));
    return 0;
  }
  const [least, most] = command.arity;
  if (positionals.length < least || positionals.length > most) {
    throw new UsageError(`usage: linux-gate ${command.name} ${command.usage}`.trimEnd());
  }
  const invocation: Invocation = {
    positionals,
    flag: (name) => values[name] === true,
    text: (name) => {
      const value = values[name];
      return typeof value === "string" ? value : undefined;
    },
    output,
    json: values.json === true,
  };
  return command.run(invocation);
}

/** `--time -10d` as `--time=-10d`: what begins with a minus and a digit is a value, which the parser would not take. */
function withNegativeValues(command: Command, words: readonly string[]): string[] {
  const args: string[] = [];
  const end = words.indexOf("--");
  for (const [i, word] of words.entries()) {
    const before = args.at(-1) ?? "";
    const option = /^--([a-z-]+)$/.exec(before)?.[1] ?? "";
    const isValue = /^-\d/.test(word) && command.options[option]?.type === "string" && !(end >= 0 && i > end);
    if (isValue) args[args.length - 1] = `${before}=${word}`;
    else args.push(word);
  }
  return args;
}

function parseWords(command: Command, words: readonly string[]) {
  try {
    const args = withNegativeValues(command, words);
    return parseArgs({ args, options: parserOptions(command), allowPositionals: true, strict: true });
  } catch (error) {
    // The parser's own messages name the option and what is wrong with it, then guess at length what was meant.
    const message = error instanceof Error ? error.message : String(error);
    const fact = message
      .replace(/\.?\s(?:Did you forget|To specify)\b.*$/s, "")
      .replace(/^Option '(\S+)' argument is ambiguous$/, "$1 wants a value; one that begins with a dash as $1=VALUE");
    throw new UsageError(`${fact} (linux-gate ${command.name} --help)`);
  }
}

function failure(error: unknown, json: boolean): number {
  if (error instanceof BrokenPipe) return 0;
  const expected = isExpected(error);
  const message = expected ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error);
  const output = new Output(chooseStyle({ color: false, noColor: true }));
  for (const line of expected ? [message] : message.split("\n")) output.remark(line);
  if (json) {
    try {
      output.json({ error: message });
    } catch {
      // Standard output takes nothing: that is what was remarked, or changes nothing about it.
    }
  }
  return FAILED;
}
