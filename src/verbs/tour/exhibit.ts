/** A command and what it printed: in 2005, or just now. */
export interface Exhibit {
  /** What is to be said before it, in a few words. */
  readonly caption?: string;
  /** As it is typed. */
  readonly command: string;
  /** What it printed, both streams in the order of arrival, without the last newline. */
  readonly output: string;
  /** Its exit status; absent where it had none, and for what ran in 2005. */
  readonly status?: number;
  /** Why it did not run to its end: it is not installed, took too long, was ended by a signal. */
  readonly trouble?: string;
  /** Indexes of the lines of `output` that are worth showing; absent: all of them. */
  readonly shown?: readonly number[];
  /** Parts of lines that the eye should find. */
  readonly marks: readonly string[];
  /** It printed, byte for byte, what the command named here did. */
  readonly sameAs?: string;
}

/** How a command ended. */
export interface CommandRun {
  readonly command: string;
  readonly output: string;
  /** What it wrote to standard output alone. */
  readonly stdout: string;
  readonly status?: number;
  readonly trouble?: string;
}

/** How an exhibit is made of a command that ran. */
export interface ExhibitOptions {
  readonly caption?: string;
  readonly marks?: readonly string[];
  /** Which lines are worth showing; those of a command that failed are all shown. */
  readonly keep?: (line: string, index: number, lines: readonly string[]) => boolean;
  /** A command that may have printed the same. */
  readonly beside?: CommandRun;
}

/** What a command printed, made ready to be shown. */
export function exhibit(run: CommandRun, options: ExhibitOptions = {}): Exhibit {
  const { caption, marks = [], keep, beside } = options;
  const output = run.output.replace(/\n+$/, "");
  const lines = output.split("\n");
  const kept = keep && succeeded(run) ? lines.map((line, i) => keep(line, i, lines)) : [];
  // To say that a single line was left out takes a line.
  const alone = (i: number): boolean => (kept[i - 1] ?? i === 0) && (kept[i + 1] ?? i === lines.length - 1);
  const shown = kept.includes(true) ? kept.flatMap((is, i) => (is || alone(i) ? [i] : [])) : [];
  const same = beside && succeeded(run) && succeeded(beside) && run.stdout !== "" && beside.stdout === run.stdout;
  return {
    ...(caption !== undefined && { caption }),
    command: run.command,
    output,
    ...(run.status !== undefined && { status: run.status }),
    ...(run.trouble !== undefined && { trouble: run.trouble }),
    ...(shown.length > 0 && shown.length < lines.length && { shown }),
    marks,
    ...(same && { sameAs: beside.command }),
  };
}

/** Whether a command ran, and ended well. */
export function succeeded({ status, trouble }: CommandRun): boolean {
  return status === 0 && trouble === undefined;
}

/** Words as a shell wants them, behind the variables that are set for them alone. */
export function shellWords(words: readonly string[], environment: Readonly<Record<string, string>> = {}): string {
  const assignments = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const quoted = words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`));
  return [...assignments, ...quoted].join(" ");
}
