import { ENTRY, ENTRY_RANGE, JUMP } from "./article.js";
import { type CommandRun, type Exhibit, exhibit, succeeded } from "./exhibit.js";
import type { Step } from "./step.js";
import { HISTORICAL, type Workshop } from "./workshop.js";

/** The processor's name in /proc/cpuinfo. */
const MODEL = /model name\s*: (.*)/;

export const why: Step = {
  name: "why",
  title: "Why there is a gate",
  about: [
    "A program asks the kernel for something by a system call, and on x86 that was an interrupt, int $0x80, as int 21h was for MS-DOS and int 2eh for Windows. Newer processors do interrupts ever more slowly, so their makers added faster instructions. Which of them a processor has, programs would have to find out; the gate is the kernel's answer, there to be called.",
  ],
  original: [],
  originalWords: [
    "No listing, but figures: an int $0x80 could take ten times as long on a Pentium 4 of 2 GHz as on a Pentium III of 850 MHz.",
    "sysenter came with the Pentium Pro, where it did not work properly; Linux took it up in version 2.5, in December 2002, Windows XP a little earlier.",
  ],
  visit: async ({ run, fresh, withoutI386 }) => {
    const [model, flags, predicted, without] = await Promise.all([
      run(["grep", "-m1", "model name", "/proc/cpuinfo"]),
      run(["grep", "-m1", "-owE", "sep|syscall|lm", "/proc/cpuinfo"]),
      fresh().then((target) => run(["linux-gate", "predict", target])),
      withoutI386(),
    ]);
    const name = MODEL.exec(model.stdout)?.[1];
    return {
      now: [
        exhibit(model),
        exhibit(flags, {
          caption: "sep: sysenter; syscall: AMD's answer to it; lm: 64 bits",
          marks: ["sep", "syscall"],
        }),
        exhibit(predicted, {
          caption: "what the kernel chose, read from the image in force",
          marks: ["present", " sysenter", " syscall"],
          keep: (line, i, lines) => i < sitesAt(lines) - 1 || line.includes("__kernel_vsyscall"),
        }),
      ],
      since: [
        fastWords(name ?? "", flags.stdout),
        "The kernel still chooses at boot. In 2005 it had an object for each way in; since Linux 4.4 it has one, with the ways in a table of alternatives, and patches the object before any program runs.",
        without === undefined
          ? "For the choice on other processors: linux-gate predict /boot/vmlinuz-… --matrix."
          : `There is no choice to be seen for i386 here: ${shortly(without)}. The 64-bit object has one way in, but other choices, above: how to read the counter, how to number processors.`,
      ],
    };
  },
};

/** Where predict's table of places begins. */
const sitesAt = (lines: readonly string[]): number => lines.findIndex((line) => line.startsWith("offset"));

/** Which fast way 32-bit programs have on a processor, by its name and features. */
function fastWords(model: string, flags: string): string {
  const has = (flag: string): boolean => flags.split("\n").includes(flag);
  if (!has("lm")) return has("sep") ? "This processor has sysenter." : "This processor's features are not told.";
  if (/AMD|Hygon/.test(model)) {
    return "This is a 64-bit processor of AMD's make: 32-bit programs can enter by syscall, and 64-bit ones always do.";
  }
  if (/Intel/.test(model)) {
    return "This is a 64-bit processor of Intel's: 32-bit programs can enter by sysenter; 64-bit ones always do by syscall, which is AMD's.";
  }
  return "This is a 64-bit processor: its 64-bit programs always enter by syscall, which is AMD's.";
}

export const entry: Step = {
  name: "entry",
  title: "The way in",
  about: [
    "Which way in a machine takes can be read from the instructions of __kernel_vsyscall. objdump shows them from a start to a stop address: the 20 bytes that the symbol table gives.",
  ],
  original: [ENTRY],
  originalWords: [],
  visit: async (workshop) => {
    const { run, historical, withoutI386 } = workshop;
    const [forged, without] = await Promise.all([historical(), withoutI386()]);
    const { start, stop } = ENTRY_RANGE;
    const [listed, mine, machines] = await Promise.all([
      run(["objdump", "-d", `--start-address=${start}`, `--stop-address=${stop}`, HISTORICAL]),
      run(["linux-gate", "disasm", HISTORICAL, "--gnu", "--start-address", start, "--stop-address", stop]),
      ownWayIn(workshop),
    ]);
    const identical = sameCode(succeeded(listed) ? listed : mine);
    return {
      now: [
        ...(succeeded(forged) ? [] : [exhibit(forged)]),
        exhibit(listed, { caption: "of the article's object, forged (step 6)", marks: ENTRY.marks }),
        exhibit(mine, { caption: "our own", beside: listed, marks: ENTRY.marks }),
        machines,
      ],
      since: [
        identical
          ? "The forged entry has the article's bytes, all 20. It says sysenter: the article's machine was one of Intel's."
          : "The forged entry has not the article's bytes.",
        without === undefined
          ? "This machine's own, above, is shorter: no padding, and something else where the jump was."
          : `${capitalized(shortly(without))}, so the machine's own way in is shown where its 64-bit object has one: in a clock function, for questions that it cannot answer itself.`,
      ],
    };
  },
};

/** This machine's own way into the kernel: the entry of i386, or the system call in a function of the 64-bit object. */
async function ownWayIn({ run, own }: Workshop): Promise<Exhibit> {
  const { abi, file, dump } = await own();
  if (!succeeded(dump)) return exhibit(dump);
  if (abi === "i386") {
    return exhibit(await run(["linux-gate", "disasm", file, "__kernel_vsyscall"]), {
      caption: "this machine's linux-gate.so.1",
      marks: [" sysenter", " syscall", "int    $0x80"],
    });
  }
  return exhibit(await run(["linux-gate", "disasm", file, "__vdso_clock_getres"]), {
    caption: "this machine's own object",
    marks: [" syscall"],
    keep: (_, i, lines) => i === 0 || Math.abs(i - lines.findIndex((line) => /\bsyscall$/.test(line))) <= 1,
  });
}

/** Whether a listing has the article's addresses and bytes. */
function sameCode({ stdout }: CommandRun): boolean {
  const code = (text: string): string =>
    [...text.matchAll(/^([0-9a-f]{8}):\s+((?:[0-9a-f]{2} )+)/gm)]
      .map(([, at, bytes]) => `${at} ${bytes?.trim()}`)
      .join("\n");
  return code(stdout) === code(ENTRY.output);
}

/** The instructions that the jump is about: what it leads to, what it stands behind, itself, and what it stands before. */
const AROUND_JUMP =
  /^ +[0-9a-f]+ {2}(?:[0-9a-f]{2} )+ *(?:mov +%e(?:sp|cx),%ebp|sysenter|syscall|jmp|int +\$0x80|pop +%ebp)/;

/** File of an entry as today's kernels have it, where the machine's own cannot be had. */
const TODAY = "today.dso";

export const jump: Step = {
  name: "jump",
  title: "The jump that goes back",
  about: [
    "Behind sysenter stands a jump backwards, off the way: the kernel returns to the pop after it. It is for calls with six arguments that a signal interrupts. %ebp should carry the sixth; but sysenter keeps no stack pointer, so that is in %ebp, and the sixth argument waits on the stack. To start such a call again, the kernel returns two bytes earlier, onto the jump, which leads to where %ebp is set anew.",
    "Linus Torvalds thought of it, and was proud of it; the article has his words.",
  ],
  original: [JUMP],
  originalWords: [],
  visit: async (workshop) => {
    const { run, historical, own } = workshop;
    const [, { abi, file }] = await Promise.all([historical(), own()]);
    const forged = abi === "i386" ? undefined : await run(["linux-gate", "forge", "--entry", "sysenter", "-o", TODAY]);
    const [then, today] = await Promise.all([
      run(["linux-gate", "explain", HISTORICAL]),
      run(["linux-gate", "explain", forged ? TODAY : file]),
    ]);
    const marks = ["restart:"];
    const keep = (line: string): boolean => AROUND_JUMP.test(line);
    return {
      now: [
        exhibit(then, { caption: "the article's entry, explained from its bytes", marks, keep }),
        ...(forged ? [exhibit(forged, { caption: "an entry as today's kernels have it" })] : []),
        exhibit(today, { ...(!forged && { caption: "and this machine's" }), marks, keep }),
      ],
      since: [
        "The jump has gone: where it stood is int $0x80, two bytes long as well. The kernel puts all six registers back and steps onto it, and the oldest way in starts the call again.",
        "Where it returns to otherwise is called the landing pad: fast ways save no return address that it could trust, so it goes by its own object. Hence an image of exec's lies beside the kernel's, or has its landing pad on that one's.",
      ],
    };
  },
};

export const onward: Step = {
  name: "onward",
  title: "Where to go on",
  about: [
    "That was the article, to its last line. What it did by hand, the verbs do for any process, program, kernel file or machine, and some go further.",
  ],
  original: [],
  originalWords: [],
  visit: async () => ({
    now: [],
    since: [],
    onward: [
      ["linux-gate report", "all of it for this machine, on one page; --html FILE for a browser"],
      ["linux-gate explain", "what each function of the object does, from its instructions"],
      ["linux-gate maps 1234", "any process's memory, with what the kernel's mappings are"],
      ["linux-gate verify --all", "has every process the gate that the kernel put there?"],
      ["linux-gate images /boot", "the objects inside the kernels on the disk"],
      ["linux-gate predict KERNEL --matrix", "which way in that kernel chooses, on which processor"],
      ["linux-gate diff A B", "did the update change the object?"],
      ["linux-gate exec --no-vdso -- date", "a program that is told of no gate: strace sees its clock calls"],
      ["linux-gate exec --time +1y -- date", "a program that is told another time, a static one too"],
      ["linux-gate forge -o gate.so", "an object of your own, written from nothing"],
      ["linux-gate --help", "all verbs; each has --help, with examples"],
    ],
  }),
};

/** The first part of a reason, where the whole of it was said before. */
const shortly = (reason: string): string => reason.split(";")[0] ?? reason;

const capitalized = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
