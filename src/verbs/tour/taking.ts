import { ARTICLE_BASE, DD, FILE, SYMBOLS } from "./article.js";
import { type CommandRun, type Exhibit, exhibit, succeeded } from "./exhibit.js";
import type { Step } from "./step.js";
import { COPY, GATE, HISTORICAL, type OwnImage, type Workshop } from "./workshop.js";

export const dd: Step = {
  name: "dd",
  title: "A copy of the page",
  about: [
    "In /proc/self/mem the offset is the address, so dd can copy the page out of its own memory. 4 GiB are 2^20 = 1048576 pages of 4096 bytes; skip 1048574, and the next is the last but one.",
  ],
  original: [DD],
  originalWords: [],
  visit: async (workshop) => {
    const { run, copy, own } = workshop;
    const [{ plain, copied }, { dump }] = await Promise.all([copy(), own()]);
    const compared = await run(["linux-gate", "diff", GATE, COPY]);
    const identical = compared.stdout.includes("byte for byte");
    return {
      now: [
        exhibit(plain, { caption: "as it stands", marks: ["Input/output error"] }),
        exhibit(copied, { caption: "the very same words, under our gate (step 1)", marks: ["1+0 records out"] }),
        exhibit(compared, {
          caption: "and is it what was forged?",
          marks: ["byte for byte"],
          keep: (line) => line.includes("byte for byte"),
        }),
        exhibit(dump, { caption: "of any process, wherever the object is" }),
      ],
      since: [
        ...(plain.trouble === undefined
          ? [
              succeeded(plain)
                ? `The plain command works, for something lies at ${ARTICLE_BASE} here.`
                : `The plain command fails: nothing lies at ${ARTICLE_BASE} today, and dd cannot know where the object is.`,
            ]
          : []),
        ...(identical && succeeded(copied)
          ? ["Under our gate it works as it did in 2005, and what it copied is the forged file, byte for byte."]
          : []),
        ...(copied.output.includes("cannot skip")
          ? ["dd complains about skipping, and does it: to go by their sizes, the files in /proc are empty."]
          : []),
        "dump asks the process's auxiliary vector where the object is, and need not guess.",
      ],
    };
  },
};

/** The article's line about the object, as far as `file` has not learned to say more. */
const SAME_WORDS = "ELF 32-bit LSB shared object, Intel 80386, version 1 (SYSV)";

export const file: Step = {
  name: "file",
  title: "What kind of file it would be",
  about: [
    "The page begins with 7f 45 4c 46, as every ELF file does. The copy is a library like others, and file takes it for one.",
  ],
  original: [FILE],
  originalWords: [],
  visit: async (workshop) => {
    const { run, copy, historical, own } = workshop;
    const [{ copied }, forged, image] = await Promise.all([copy(), historical(), own()]);
    const [article, page, mine] = await Promise.all([
      run(["file", "-b", HISTORICAL]),
      run(["file", "-b", COPY]),
      run(["linux-gate", "file", COPY]),
    ]);
    return {
      now: [
        exhibit(forged, { caption: "the article's own object, forged to its listings" }),
        exhibit(article, { marks: [SAME_WORDS] }),
        ...(succeeded(copied) ? [] : [exhibit(copied)]),
        exhibit(page, { caption: "the page that dd copied (step 5)", marks: ["ELF 64-bit LSB shared object"] }),
        exhibit(mine, { caption: "our own", beside: page }),
        ...(await ownExhibits(workshop, image, (name) => ["file", "-b", name])),
      ],
      since: [
        article.stdout.startsWith(SAME_WORDS)
          ? "Of the article's object, file says today what it said then, and more: since then it tells what is dynamically linked, and the build-id, by which debuggers find the right symbols."
          : "Today file also tells what is dynamically linked, and the build-id, by which debuggers find the right symbols.",
        "The page that dd copied is x86-64 since dd is: a gate is made for one kind of program.",
      ],
    };
  },
};

/** A command on the machine's own image. */
async function ownExhibits(
  { run }: Workshop,
  { abi, file: name, dump }: OwnImage,
  wordsFor: (file: string) => readonly string[],
): Promise<Exhibit[]> {
  if (!succeeded(dump)) return [exhibit(dump)];
  const own = exhibit(await run(wordsFor(name)), {
    caption: abi === "i386" ? "this machine's linux-gate.so.1" : "what this machine's kernel maps",
    marks: ["__kernel_vsyscall"],
  });
  return [own];
}

export const symbols: Step = {
  name: "symbols",
  title: "What it exports",
  about: [
    "It has a dynamic symbol table, with three functions: the way into the kernel, and two places for signal handlers to return to. Before it was linux-gate.so.1 it was linux-vsyscall.so.1; the new name fits other processors as well.",
  ],
  original: [SYMBOLS],
  originalWords: [],
  visit: async (workshop) => {
    const { run, historical, own } = workshop;
    const [forged, image] = await Promise.all([historical(), own()]);
    const [listed, mine, machines] = await Promise.all([
      run(["objdump", "-T", HISTORICAL]),
      run(["linux-gate", "symbols", HISTORICAL, "--gnu"]),
      ownExhibits(workshop, image, (name) => ["linux-gate", "symbols", name, "--gnu"]),
    ]);
    const identical = sameSymbols(succeeded(listed) ? listed : mine);
    return {
      now: [
        ...(succeeded(forged) ? [] : [exhibit(forged)]),
        exhibit(listed, { caption: "of the article's object, forged (step 6)", marks: SYMBOLS.marks }),
        exhibit(mine, { caption: "our own", beside: listed, marks: SYMBOLS.marks }),
        ...machines,
      ],
      since: [
        identical
          ? "The forged object has the article's listing, entry for entry: addresses, sizes, versions, order. (objdump has learned to name sections.)"
          : "The forged object's listing is not the article's.",
        image.abi === "i386"
          ? "The three are still there. What came since tells the time, or the processor's number, without entering the kernel."
          : "Of the three, a 64-bit object has none. Its functions tell the time, the processor's number or a random one without entering the kernel: that is what the gate is for today.",
      ],
    };
  },
};

/** Whether the listing has the article's rows, in its order. Sections had no names in objdump's listings of 2005. */
function sameSymbols({ stdout }: CommandRun): boolean {
  const rows = (text: string): string =>
    text
      .split("\n")
      .filter((line) => /^[0-9a-f]{8} /.test(line))
      .map((line) => line.replace(/\s+/g, " ").replace(/^(\S+ l d \S+ \S+).*/, "$1"))
      .join("\n");
  return rows(stdout) === rows(SYMBOLS.output);
}
