import { mkdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { forged } from "../support/forged.js";
import { debianKernel } from "../support/guest.js";
import { i386Programs, PROGRAMS } from "../support/i386-programs.js";
import { GO_WORKED, WORKED } from "../support/i386-sources.js";
import { Workshop } from "../support/programs.js";
import { needs } from "../support/referee.js";
import { unfetched } from "../support/unfetched.js";
import { PlanGuest } from "./exec-i386-place.js";
import type { CalledBack, PlannedCall } from "./exec-i386-runner.js";

/** Time for a boot and what is done then, on a machine that is busy. */
const BOOT_MS = 240_000;

const workshop = new Workshop();
afterAll(() => workshop.remove());

const KINDS = ["int80", "sysenter", "syscall"] as const;
type Kind = (typeof KINDS)[number];

/** Programs of Debian's busybox that write the same each time. */
const SCRIPT = `
b=${PROGRAMS}/busybox
$b cat /data/text
$b sha256sum /data/text /data/numbers
$b sort -rn /data/numbers
$b ls -lR /data
$b find /data -type f
$b awk '{ s += $1 } END { print s }' /data/numbers
$b tar -c data | $b gzip -c | $b md5sum
$b uname -a
`;
const STARTED = SCRIPT.match(/\$b /g)?.length;

const guest = await findGuest();

async function findGuest(): Promise<PlanGuest | undefined> {
  const installed = [needs("busybox", "busybox-static"), needs("qemu-system-x86_64", "qemu-system-x86")];
  const kernel = installed.every(Boolean) ? await debianKernel() : undefined;
  const programs = kernel && (await i386Programs(workshop));
  if (!kernel || !programs) return undefined;
  const folder = workshop.path("tree");
  mkdirSync(folder);
  const images = KINDS.map((kind) => ({ path: imageOf(kind).slice(1), mode: 0o100644, data: forged(kind) }));
  const script = { path: "script", mode: 0o100644, data: Buffer.from(SCRIPT) };
  return PlanGuest.of(kernel, folder, [...programs, ...images, script]);
}

/** Where an image that was forged here lies in the guest. */
function imageOf(kind: Kind): string {
  return `${PROGRAMS}/${kind}.so`;
}

/** A call, and what must hold of it. */
interface Case extends PlannedCall {
  check(result: CalledBack): void;
}

const run = (options: string, program: string, ...words: readonly string[]): readonly string[] => [
  ...["exec", ...options.split(" ").filter((word) => word !== "")],
  ...["--", program.startsWith("/") ? program : `${PROGRAMS}/${program}`, ...words],
];

/**
 * Gates that lie beside the kernel's image and enter by a fast way: an interrupted call is at that image's landing pad
 * then, of which unwinders were not told, so that threads which are cancelled do not come to their cleanup.
 */
const APART = /(?:syscall|sysenter|historical)(?:\.so|.*--(?:base|time))/;

const uncleaned = (text: string): string => text.replace("\ncancelled: 1 1\n", "\ncancelled: 1 0\n");

/** The whole workload under a gate. */
function works(program: string, options: string, ...words: readonly string[]): Case {
  const go = program === "work-go";
  // A dynamic linker shows only what is meant for the program that it loads.
  const shown = program.startsWith("/") ? words.slice(1) : words;
  const written = go ? GO_WORKED : /glibc/.test(program) && APART.test(options) ? uncleaned(WORKED) : WORKED;
  const expected = [...shown.map((word) => `argument: ${word}\n`), written].join("");
  return {
    name: `${program} ${options === "" ? "without options" : `with ${options}`} does and writes what it always does`,
    words: run(options, program, ...words),
    check({ stdout, stderr, status }) {
      expect(stdout, stderr).toBe(expected);
      if (!options.includes("--count")) expect(stderr).toBe("");
      expect(status).toBe(go ? 43 : 42);
    },
  };
}

const frames = (...functions: readonly string[]): string =>
  functions
    .map((name) => (name === "" ? "#\\d+ +<signal handler called>\\n" : `#\\d+ .* in ${name} \\(\\)[^\\n]*\\n`))
    .join("");

/** What gdb shows of a program that waits in a system call, itself or in a handler. */
function debugs(where: "call" | "handler" | "restorer", options: string): Case {
  const returning = where === "restorer" ? ", that returns through the image," : "";
  const main = "(?:#\\d+ .* in wait_for_debugger \\(\\)[^\\n]*\\n)?#\\d+ .* in main \\(\\)";
  const above = where === "call" ? "" : frames("handler", "", "__kernel_vsyscall", "kill");
  return {
    name: `gdb finds the way from a call${where === "call" ? "" : ` in a signal handler${returning}`} to main with ${options}`,
    words: run(options, "probe-glibc", where),
    meanwhile: [
      `gdb -nx -batch -p $pid -ex bt -ex 'info auxv' -ex 'info symbol $pc' ${PROGRAMS}/probe-glibc`,
      "echo x >/tmp/fifo",
    ],
    check({ stdout, stderr, status, meanwhile: [shown = ""] }) {
      const trace = new RegExp(`^${frames("__kernel_vsyscall", "read", "waits")}${above}${main}`, "m");
      expect(shown).toMatch(trace);
      expect(shown).toMatch(/^__kernel_vsyscall(?: \+ \d+)? in section \.text of system-supplied DSO/m);
      const [, image, gate, symbol] = /^image (\w+) gate (\w+) (\w+)$/m.exec(stdout) ?? [];
      expect(gate).toBe(symbol);
      expect(shown).toMatch(new RegExp(`^33 +AT_SYSINFO_EHDR .* 0x${image}$`, "m"));
      expect(shown).toMatch(new RegExp(`^32 +AT_SYSINFO .* 0x${gate}$`, "m"));
      expect([status, options.includes("--count") ? "" : stderr]).toEqual([5, ""]);
    },
  };
}

interface Counted {
  readonly calls: readonly { readonly number?: number; readonly name?: string; readonly calls: string | number }[];
}

/** How often a program makes calls that are known, through a gate that counts. */
function counts(program: string, options: string, expected: Readonly<Record<string, number>>): Case {
  return {
    name: `--count ${options} of ${program} counts ${JSON.stringify(expected)}`,
    words: run(`--count --json ${options}`, program, ...(program === "work-go" ? [] : ["calls"])),
    check({ stdout, stderr }) {
      const { calls } = JSON.parse(stdout.slice(stdout.indexOf("{"))) as Counted;
      const found = new Map(
        calls.map(({ name, number, calls: times }) => [name ?? `${number ?? "others"}`, Number(times)]),
      );
      for (const [name, times] of Object.entries(expected))
        expect(found.get(name) ?? 0, `${name}, ${stderr}`).toBe(times);
    },
  };
}

type Clock = readonly [first: number, second: number];

/** What a program shows of clocks that were changed: `check` gets what each showed, before its pause and behind it. */
function shows(program: string, options: string, what: string, check: (clock: (name: string) => Clock) => void): Case {
  return {
    name: `${program} with ${options} ${what}`,
    words: run(options, program, "clocks"),
    check({ stdout, stderr, status }) {
      if (!options.includes("--count")) expect(stderr).toBe("");
      expect(status).toBe(0);
      check((name) => {
        const values = [...stdout.matchAll(new RegExp(`^${name} ([\\d.]+)$`, "gm"))].map(([, value]) => Number(value));
        expect(values).toHaveLength(2);
        return values as unknown as Clock;
      });
    },
  };
}

/** Seconds that a program may take to come to a line. */
const SLOW = 30;
const DATE = "2031-05-06T07:08:09Z";

/** System calls that a program makes itself are answered too. */
function strict(program: string): Case {
  return shows(program, `--time ${DATE} --strict`, "has the date from system calls too", (clock) => {
    const start = Date.parse(DATE) / 1000;
    for (const name of program === "work-go" ? ["realtime"] : ["realtime", "gettimeofday", "time", "call", "call64"]) {
      for (const value of clock(name)) expect(Math.abs(value - start), name).toBeLessThan(SLOW);
    }
  });
}

/** Clocks as a program has them from {@link DATE} on, by every function that the C library has for it. */
function dated(program: string, options = ""): Case {
  return shows(program, `--time ${DATE} ${options}`.trimEnd(), "has the date, and time goes on", (clock) => {
    const start = Date.parse(DATE) / 1000;
    for (const name of program === "work-go" ? ["realtime"] : ["realtime", "gettimeofday", "time"]) {
      const [first, second] = clock(name);
      expect(first, name).toBeGreaterThanOrEqual(start);
      expect(second, name).toBeLessThan(start + SLOW);
      if (name !== "time") expect(second - first, name).toBeGreaterThan(0.09);
    }
    // System calls that the program makes itself are answered by the kernel.
    if (program !== "work-go") for (const name of ["call", "call64"]) expect(clock(name)[0]).toBeLessThan(start - 1e6);
  });
}

function frozen(program: string): Case {
  return shows(program, "--freeze --time @1000000000.25", "has a time that stands still", (clock) => {
    expect(clock("realtime")).toEqual([1e9 + 0.25, 1e9 + 0.25]);
    if (program !== "work-go") expect(clock("gettimeofday")).toEqual([1e9 + 0.25, 1e9 + 0.25]);
  });
}

function refused(options: string, message: RegExp, status = 126): Case {
  return {
    name: `${options} is refused before the program runs`,
    words: run(options, "probe-glibc", "calls"),
    check(result) {
      expect(result.stderr).toMatch(message);
      expect([result.stdout, result.status]).toEqual(["", status]);
    },
  };
}

/** What the script looks at, and what it writes when they are started without our doing. */
const SCRIPT_COMMANDS = [
  "mkdir -p /data/folder; seq 1 2000 >/data/numbers; cp /init /data/text; ln /data/text /data/folder/link",
  `${PROGRAMS}/busybox sh /script`,
];

/** What the programs of the script write, started without our doing, on the machine that was booted last. */
let written = "";

/** A shell and the programs that it starts, all under the gate. */
function scripted(options: string): Case {
  return {
    name: `programs of busybox and the shell that starts them write what they always write with --follow ${options}`,
    words: run(`--follow ${options}`, "busybox", "sh", "/script"),
    check({ stdout, stderr }) {
      expect(stdout.length).toBeGreaterThan(10_000);
      expect(stdout).toBe(written);
      if (options.includes("--count")) expect(stderr).toMatch(new RegExp(`^ +${STARTED} +11 +execve$`, "m"));
      else expect(stderr).toBe("");
    },
  };
}

interface Machine {
  readonly cpu: string;
  readonly append?: string;
  readonly cases: readonly Case[];
}

/** No program of i386 is given a vDSO while the kernel's own switch says so. */
const SWITCH = "/proc/sys/abi/vsyscall32";
const withoutVdso = (one: Case): Case => ({
  ...one,
  name: `without a vDSO from the kernel: ${one.name}`,
  before: `echo 0 >${SWITCH}`,
  after: `echo 1 >${SWITCH}`,
});

const SYSENTER_REFUSED = /: programs of i386 cannot enter .* by sysenter: .* AuthenticAMD; syscall works here\n$/;
const SYSCALL_REFUSED = /: programs of i386 cannot enter .* by syscall: .* GenuineIntel; sysenter works here\n$/;
const KNOWN = { getppid: 10_000, getpgid: 77, read: 5, others: 3 };
/** Where a thread may be cancelled musl's library enters the kernel by itself, to know whether it is still before the call. */
const KNOWN_OF_MUSL = { ...KNOWN, read: 0 };

const amd: Machine = {
  cpu: "EPYC",
  cases: [
    works("work-glibc", "", "one", "two words", "", "ümlaut"),
    works("work-glibc", "--no-vdso"),
    works("work-glibc", "--entry int80", "10000"),
    works("work-glibc", "--entry syscall", "10000"),
    works("work-glibc", `--vdso ${imageOf("int80")} --base 0xffffd000`),
    works("work-glibc", "--entry syscall --base 0xffffd000"),
    works("work-glibc", "--base 0x10000000 --aslr off"),
    works("work-glibc", "--time +1d --count"),
    works("/lib/ld-linux.so.2", "--entry syscall", `${PROGRAMS}/work-glibc`),
    works("work-glibc-static", "--no-vdso"),
    works("work-glibc-static", "--entry syscall", "10000"),
    works("work-musl", "--entry syscall"),
    works("work-musl-static", "--no-vdso"),
    works("work-musl-static", "--entry syscall", "10000"),
    works("work-go", "", "one", "two words"),
    works("work-go", "--no-vdso"),
    works("work-go", "--entry syscall"),
    debugs("call", "--entry syscall"),
    debugs("handler", "--entry syscall"),
    debugs("restorer", `--vdso ${imageOf("int80")}`),
    debugs("restorer", "--entry int80 --count"),
    counts("probe-glibc", "", KNOWN),
    counts("probe-glibc-static", "", KNOWN),
    counts("probe-musl-static", "--entry int80", KNOWN),
    counts("probe-musl", "", KNOWN_OF_MUSL),
    counts("work-go", "", { getppid: 0, kill: 0 }),
    ...["probe-glibc", "probe-glibc64", "probe-glibc-static", "probe-musl-static", "work-go"].map((one) => dated(one)),
    dated("probe-glibc", "--entry syscall --count"),
    frozen("probe-glibc-static"),
    frozen("work-go"),
    strict("probe-glibc"),
    strict("probe-musl-static"),
    strict("work-go"),
    ...["--entry sysenter", "--entry historical", "--entry sysenter --count", `--vdso ${imageOf("sysenter")}`].map(
      (one) => refused(one, SYSENTER_REFUSED),
    ),
    withoutVdso(works("work-glibc", "--no-vdso")),
    ...["--entry syscall", "--count", "--time +1d", "--base 0x10000000"].map((one) =>
      withoutVdso(refused(one, /the kernel gives this program no vDSO/, 125)),
    ),
    scripted("--entry syscall --count"),
    scripted("--entry int80"),
  ],
};

const intel: Machine = {
  cpu: "Nehalem",
  cases: [
    works("work-glibc", ""),
    works("work-glibc", "--entry int80"),
    works("work-glibc", "--entry sysenter", "10000"),
    works("work-glibc", "--entry historical", "10000"),
    works("work-glibc", "--entry historical --base 0xffffd000 --count"),
    works("work-glibc-static", "--entry sysenter"),
    works("work-musl-static", "--entry sysenter"),
    works("work-go", "--entry sysenter"),
    debugs("call", "--entry sysenter"),
    debugs("handler", "--entry sysenter --count"),
    debugs("restorer", "--entry sysenter"),
    debugs("restorer", "--entry historical"),
    counts("probe-glibc", "--entry historical", KNOWN),
    counts("probe-musl-static", "", KNOWN),
    dated("probe-glibc"),
    dated("probe-glibc-static", "--entry sysenter"),
    ...["--entry syscall", `--vdso ${imageOf("syscall")}`, `--entry ${imageOf("syscall")}`].map((one) =>
      refused(one, SYSCALL_REFUSED),
    ),
    scripted("--entry sysenter"),
  ],
};

/** Linux's own number of the feature by which the kernel would take syscall: it takes int $0x80, where syscall works. */
const neither: Machine = {
  cpu: "EPYC",
  append: "clearcpuid=110",
  cases: [works("work-glibc", "--count"), works("work-glibc", "--entry syscall"), debugs("restorer", "--count")],
};

if (guest) {
  describe.each([amd, intel, neither])("exec of programs of i386 on $cpu", ({ cpu, append, cases }) => {
    const planned: PlannedCall[] = [
      // What is to be checked is left out where the plan is written as JSON.
      ...cases,
      { name: "end", words: run("", "probe-glibc", "end") },
    ];
    let ended: Awaited<ReturnType<PlanGuest["run"]>>;
    beforeAll(async () => {
      ended = await guest.run(planned, { cpu, ...(append !== undefined && { append }), commands: SCRIPT_COMMANDS });
      written = ended.outputs.at(-1) ?? "";
    }, BOOT_MS);

    it.each(cases.map((one) => [one.name, one] as const))("%s", (name, one) => {
      const result = ended.calls.find((call) => call.name === name);
      if (!result) throw new Error("this call was not made");
      one.check(result);
    });

    it("ends by the signal that ended the program", () => {
      expect(ended.status).toBe(128 + 15);
    });
  });
} else {
  unfetched("Debian's kernel, busybox and musl of i386, or gdb: exec of programs of i386");
}
