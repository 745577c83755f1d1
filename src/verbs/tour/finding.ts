import { ARTICLE_BASE, LDD, MAPS } from "./article.js";
import { type CommandRun, exhibit, succeeded } from "./exhibit.js";
import type { Step } from "./step.js";

const VIRTUAL = /linux-(?:gate|vdso)\S*/;

const UNDER_EXEC =
  "Under exec it is where you want it: here, where the article had it. Step 3 shows how that looks from inside.";

export const ldd: Step = {
  name: "ldd",
  title: "A library without a file",
  about: [
    "ldd lists what a program's loader would bring in: a name, an arrow, a path. But one entry has an address and no path.",
  ],
  original: [LDD],
  originalWords: [],
  visit: async ({ run, gate, underGate }) => {
    const [listed, own, forged, under] = await Promise.all([
      run(["ldd", "/bin/sh"]),
      run(["linux-gate", "ldd", "/bin/sh"]),
      gate(),
      underGate(["ldd", "/bin/sh"], "with its children"),
    ]);
    const virtual = VIRTUAL.exec(listed.stdout)?.[0];
    return {
      now: [
        exhibit(listed, { marks: virtual ? [`${virtual} (`, ...addressesOf(listed)] : [] }),
        exhibit(own, {
          caption: "our own: it reads the files and runs nothing",
          marks: ["virtual: mapped by the kernel, no file"],
        }),
        exhibit(forged, { caption: "a gate of our own, written from nothing" }),
        exhibit(under, {
          caption: "ldd again, under that gate, with the loader that it starts",
          marks: [ARTICLE_BASE],
        }),
      ],
      since: [
        ...(virtual === "linux-vdso.so.1"
          ? [
              "In 64-bit programs it is called linux-vdso.so.1; 32-bit ones still have linux-gate.so.1. The path is still missing, and now the arrow too.",
            ]
          : []),
        `Its address is another one at each run. ${under.stdout.includes(ARTICLE_BASE) ? UNDER_EXEC : ""}`.trimEnd(),
      ],
    };
  },
};

/** The address of the virtual object in what ldd printed. */
function addressesOf({ stdout }: CommandRun): string[] {
  const address = /linux-(?:gate|vdso)\S*.*\((0x[0-9a-f]+)\)/.exec(stdout)?.[1];
  return address === undefined ? [] : [address];
}

export const search: Step = {
  name: "search",
  title: "The search that finds nothing",
  about: [
    "A name in a list of libraries makes people look for the file, and so do programs that collect libraries. Here is that search: where loaders look, and in the list that they keep.",
  ],
  original: [],
  originalWords: ["No listing, since there was nothing to list: no such file existed, on any machine."],
  visit: async ({ run, surroundings: { kernelFile } }) => {
    const [found, cached, kernel] = await Promise.all([
      run(["find", "/lib/", "/usr/lib/", "-maxdepth", "2", "-name", "linux-[gv]*.so*"]),
      run(["grep", "-c", "linux-[gv][a-z]*[.]so", "/etc/ld.so.cache"]),
      ...(kernelFile === undefined ? [] : [run(["linux-gate", "images", kernelFile])]),
    ]);
    return {
      now: [
        exhibit(found),
        exhibit(cached, { caption: "entries in the loader's list (grep's status for none is 1)" }),
        ...(kernel
          ? [exhibit(kernel, { caption: "but in the kernel's file", marks: ["linux-gate.so.1", "linux-vdso.so.1"] })]
          : []),
      ],
      since: [
        ...(succeeded(found) ? [searchWords(found)] : []),
        kernel
          ? "The bytes do lie on the disk, but inside the kernel: it carries the images and hands them out."
          : "The bytes do lie on some disk, inside the kernel's own file: linux-gate images /boot takes them out, where kernels are installed.",
        "Some distributions have copies for debuggers in /lib/modules/VERSION/vdso; these lack what the kernel changes at boot.",
      ],
    };
  },
};

function searchWords({ stdout }: CommandRun): string {
  return stdout === ""
    ? "Nothing has changed: no such file. Nothing is broken either, so nothing need be installed."
    : "What was found is a copy: no process loads it.";
}

/** The line of a mapping of the kernel's, or of the forged gate. */
const GATE_LINE = /^ffffe000-|\[vvar|\[vdso\]/;

const DATA = "data of the kernel's, from which the object's clock functions read the time.";

const OTHER_ADDRESS = `Two runs, two addresses: since Linux 2.6.18 the kernel picks one for each process, so that an attacker cannot count on it. [vvar] is new too: ${DATA}`;

const SAME_ADDRESS = `Addresses are not randomized here; elsewhere each process has another. [vvar] is new: ${DATA}`;

export const maps: Step = {
  name: "maps",
  title: "One page near the end of memory",
  about: [
    "The object is in no file, but in every process: the kernel maps it. cat can print its own memory map. In 2005 the object was the last page but one of 4 GiB, in every process alike.",
  ],
  original: [MAPS],
  originalWords: [],
  visit: async ({ run, fresh, underGate }) => {
    const words = ["cat", "/proc/self/maps"];
    const [first, second, own, under] = await Promise.all([
      run(words),
      run(words),
      fresh().then((target) => run(["linux-gate", "maps", target])),
      underGate(words),
    ]);
    const addresses = [vdsoAddress(first), vdsoAddress(second)];
    const marks = ["[vdso]", ...addresses.flatMap((address) => (address === undefined ? [] : [address]))];
    const keep = (line: string) => GATE_LINE.test(line);
    const atArticle = under.stdout.startsWith(`${ARTICLE_BASE}-`);
    return {
      now: [
        exhibit(first, { caption: "as the kernel has it, once", marks, keep }),
        exhibit(second, { caption: "and again", marks, keep }),
        exhibit(own, {
          caption: "our own, of a fresh process",
          marks: ["[vdso]"],
          keep: (line, i) => i === 0 || line.includes("[vdso]"),
        }),
        exhibit(under, {
          caption: "and under our gate (gate.so is forged in step 1)",
          marks: [`${ARTICLE_BASE}-fffff000`],
          keep,
        }),
      ],
      since: [
        ...(addresses[0] === undefined || addresses[1] === undefined
          ? []
          : [addresses[0] === addresses[1] ? SAME_ADDRESS : OTHER_ADDRESS]),
        atArticle
          ? "The last cat has a gate at the article's address. The kernel's own is still mapped, but the program is not told of it. Names in brackets are the kernel's to give: the forged page has none."
          : "The forged gate did not come into force: see what exec says.",
      ],
    };
  },
};

function vdsoAddress({ stdout }: CommandRun): string | undefined {
  return /^([0-9a-f]+-[0-9a-f]+).*\[vdso\]$/m.exec(stdout)?.[1];
}

export const auxv: Step = {
  name: "auxv",
  title: "How a program is told",
  about: [
    "No file, no lasting address: so the kernel tells each new program where the object is. It does so in the auxiliary vector, pairs of a tag and a value that lie on the stack behind arguments and environment.",
  ],
  original: [],
  originalWords: [
    "No listing, but the tag is named: AT_SYSINFO. Going by the other listings it held ffffe400, the entry; and AT_SYSINFO_EHDR, for loaders and debuggers, ffffe000, the object's first byte.",
  ],
  visit: async ({ run, fresh, underGate, withoutI386 }) => {
    const [shown, explained, raw, without] = await Promise.all([
      run(["/bin/true"], { LD_SHOW_AUXV: "1" }),
      fresh().then((target) => run(["linux-gate", "auxv", target])),
      underGate(["od", "-A", "n", "-t", "x8", "-w16", "/proc/self/auxv"]),
      withoutI386(),
    ]);
    const told = /^ *0*21 0*ffffe000$/m.test(raw.stdout);
    return {
      now: [
        exhibit(shown, {
          caption: "glibc's loader prints what it is told",
          marks: ["AT_SYSINFO_EHDR:"],
          keep: (line) => /AT_(SYSINFO\w*|EXECFN):/.test(line),
        }),
        exhibit(explained, {
          caption: "our own, for any process",
          marks: ["AT_SYSINFO"],
          keep: (line, i) => i === 0 || line.includes("AT_SYSINFO"),
        }),
        exhibit(raw, {
          caption: "the pairs themselves, under our gate (step 1)",
          marks: ["0000000000000021 00000000ffffe000"],
          keep: (line, i) => i < 4 || /^ *0*21 /.test(line),
        }),
      ],
      since: [
        ...(told ? ["Tag 33, hex 21, is AT_SYSINFO_EHDR; beside it, the address that was asked for."] : []),
        without === undefined
          ? "AT_SYSINFO, the entry's address, is still given to i386 programs, and to them alone."
          : `AT_SYSINFO, the entry's address, is for i386 programs alone: 64-bit ones have no entry to call. None can be asked here: ${without}.`,
      ],
    };
  },
};
