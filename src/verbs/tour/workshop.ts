import { ARTICLE_BASE, DD } from "./article.js";
import { type CommandRun, succeeded } from "./exhibit.js";

/** Runs a command in the tour's folder. The program `linux-gate` is this one. Never rejects. */
export type Run = (words: readonly string[], environment?: Readonly<Record<string, string>>) => Promise<CommandRun>;

/** What is told of the machine beside what commands print. */
export interface Surroundings {
  /** How a fresh process of this machine's own kind is asked for: `x86_64`, or `self` where none can be had. */
  readonly fresh: string;
  /** The running kernel's file, where it can be read. */
  readonly kernelFile?: string;
}

/** The machine's own image: of i386 where the kernel runs that, as the article's machine did. */
export interface OwnImage {
  readonly abi: "i386" | "native";
  readonly file: string;
  /** The command that wrote it. */
  readonly dump: CommandRun;
}

/** The article's copy of the page. */
export interface PageCopy {
  /** The article's command as it stands. */
  readonly plain: CommandRun;
  /** The same under our gate. */
  readonly copied: CommandRun;
}

/** Where the steps of the tour get their commands run, and what they have in common: files, made once. */
export interface Workshop {
  readonly run: Run;
  readonly surroundings: Surroundings;
  /** A command under the forged gate at the article's address, alone or with all that it starts; forges it first. */
  underGate(words: readonly string[], extent?: "alone" | "with its children"): Promise<CommandRun>;
  /** The command that forged {@link GATE}. */
  gate(): Promise<CommandRun>;
  /** The command that forged {@link HISTORICAL}. */
  historical(): Promise<CommandRun>;
  /** The commands that wrote {@link COPY}. */
  copy(): Promise<PageCopy>;
  own(): Promise<OwnImage>;
  /** A target whose process is fresh: of i386 where the kernel runs that. */
  fresh(): Promise<string>;
  /** Why no i386 program runs here; absent where they do. */
  withoutI386(): Promise<string | undefined>;
}

/** File of the forged x86_64 image, which programs are started under. */
export const GATE = "gate.so";

/** The article's name for the copy of the page. */
export const COPY = "linux-gate.dso";

/** File of the article's own image. */
export const HISTORICAL = "historical.dso";

const I386 = "linux-gate-i386.dso";
const NATIVE = "linux-vdso.dso";

/** A workshop whose commands are run by `run`. */
export function createWorkshop(run: Run, surroundings: Surroundings): Workshop {
  const once = <Result>(make: () => Promise<Result>): (() => Promise<Result>) => {
    let made: Promise<Result> | undefined;
    return () => {
      made ??= make();
      return made;
    };
  };
  const gate = once(() => run(["linux-gate", "forge", "--base", `0x${ARTICLE_BASE}`, "-o", GATE]));
  const i386 = once(() => run(["linux-gate", "dump", "i386", "-o", I386]));
  const native = once(() => run(["linux-gate", "dump", "-o", NATIVE]));
  const underGate: Workshop["underGate"] = async (words, extent = "alone") => {
    await gate();
    const follow = extent === "alone" ? [] : ["--follow"];
    return run(["linux-gate", "exec", ...follow, "--vdso", GATE, "--base", `0x${ARTICLE_BASE}`, "--", ...words]);
  };
  return {
    run,
    surroundings,
    gate,
    underGate,
    copy: once(async () => {
      const words = DD.command.split(" ");
      // Both write the same file: one after the other, and meanwhile the image is forged.
      const [plain] = await Promise.all([run(words), gate()]);
      return { plain, copied: await underGate(words) };
    }),
    historical: once(() => run(["linux-gate", "forge", "--historical", "-o", HISTORICAL])),
    own: async () => {
      const dump = await i386();
      return succeeded(dump)
        ? { abi: "i386", file: I386, dump }
        : { abi: "native", file: NATIVE, dump: await native() };
    },
    fresh: async () => (succeeded(await i386()) ? "i386" : surroundings.fresh),
    withoutI386: async () => {
      const dump = await i386();
      return succeeded(dump) ? undefined : reasonOf(dump);
    },
  };
}

function reasonOf({ output, trouble }: CommandRun): string {
  return (
    trouble ??
    output
      .trim()
      .replace(/^linux-gate: /, "")
      .split("\n")[0] ??
    ""
  );
}
