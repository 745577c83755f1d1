import { describe, expect, it } from "vitest";
import type { AgentAbi } from "../../src/agent/protocol.js";
import { PROVED_CALLS } from "../../src/measure/doctor/calls.js";
import { FINDING_IDS, type FindingId } from "../../src/measure/doctor/catalog.js";
import type {
  AbiFacts,
  Answer,
  DoctorFacts,
  Figure,
  MachineFacts,
  ProcessFacts,
} from "../../src/measure/doctor/facts.js";
import { doctor } from "../../src/verbs/doctor.js";

/** What a call is answered by where all is well. */
const usual: Partial<Record<string, Answer>> = { kernel: "kernel" };

function abi(
  name: AgentAbi = "x86_64",
  answers: Partial<Record<string, Answer>> = {},
  more: Partial<AbiFacts> = {},
): AbiFacts {
  return {
    abi: name,
    image: { maker: "Linux", functions: ["__vdso_clock_gettime", "__vdso_getcpu"] },
    proof: PROVED_CALLS[name].map((call) => {
      const answer = answers[call.call] ?? answers[call.function] ?? answers[call.need] ?? usual[call.need] ?? "vdso";
      return {
        call: call.call,
        function: call.function,
        need: call.need,
        answer,
        ...(answer === "kernel" && { systemCall: call.function.replace("__vdso_", "") }),
      };
    }),
    figures: [],
    ...more,
  };
}

function machine(more: Partial<MachineFacts> = {}): MachineFacts {
  return {
    release: "6.1.0",
    architecture: "x86_64",
    clocksource: { current: "tsc", available: ["tsc", "hpet", "acpi_pm"] },
    cpuFlags: ["tsc", "constant_tsc", "nonstop_tsc"],
    parameters: [],
    log: [],
    unread: [],
    ...more,
  };
}

const on = (current: string, ...others: string[]) => ({ clocksource: { current, available: [current, ...others] } });

function process(more: Partial<ProcessFacts> = {}): ProcessFacts {
  const libc = {
    path: "/lib/libc.so.6",
    imports: [],
    looksFor: ["__vdso_clock_gettime"],
    defines: [],
    systemCalls: [],
  };
  return {
    pid: 42,
    name: "program",
    abi: "x86_64",
    announced: true,
    mapped: true,
    sameImage: true,
    maker: "Linux",
    seccomp: 0,
    static: false,
    objects: [libc],
    filesRead: 2,
    unread: [],
    ...more,
  };
}

function figures(vdso: number, real: number): readonly Figure[] {
  const of = (via: Figure["via"], ns: number) => ({ via, nsMedian: ns, nsLow: ns - 0.5, nsHigh: ns + 0.5 });
  return [
    { call: "clock_gettime(MONOTONIC)", ...of("vdso", vdso) },
    { call: "clock_gettime(MONOTONIC)", ...of("syscall", real) },
  ];
}

const lost = { counter: "kernel", "newer counter": "kernel" } as const;
const none = { image: undefined, proof: [] } as unknown as Partial<AbiFacts>;
const own = (more: Partial<ProcessFacts["objects"][number]>) => [
  { path: "/bin/own", imports: [], looksFor: [], defines: [], systemCalls: [], ...more },
];

interface Case {
  readonly name: string;
  readonly facts: DoctorFacts;
  /** All ids, the worst first. */
  readonly ids: readonly FindingId[];
  readonly lost: boolean;
  readonly verdict: RegExp;
  /** What some remedy says. */
  readonly remedy?: RegExp;
}

const CASES: readonly Case[] = [
  {
    name: "all is well",
    facts: { machine: machine(), abis: [abi(), abi("i386")] },
    ids: ["fast-path", "fast-path", "clocksource-fast", "kernel-by-design", "kernel-by-design"],
    lost: false,
    verdict: /^the fast path is there: clock calls of x86_64 and i386 programs go through the vDSO$/,
  },
  {
    name: "a slow clocksource, with a fast one on offer",
    facts: { machine: machine(on("hpet", "tsc")), abis: [abi("x86_64", lost)] },
    ids: ["clock-falls-back", "clocksource-slow", "tsc-not-used", "kernel-by-design"],
    lost: true,
    verdict: /^the fast path is lost: clock calls of x86_64 programs enter the kernel$/,
    remedy: /^at once: echo tsc > .*current_clocksource; for good: boot with clocksource=tsc$/,
  },
  {
    name: "a slow clocksource that was asked for",
    facts: { machine: machine({ ...on("hpet"), parameters: ["clocksource=hpet"] }), abis: [abi("x86_64", lost)] },
    ids: ["clock-falls-back", "clocksource-slow", "tsc-not-used", "kernel-by-design", "boot-parameters"],
    lost: true,
    verdict: /is lost/,
    remedy: /^for good: remove clocksource=hpet from the kernel's command line$/,
  },
  {
    name: "a slow clocksource where nothing can be proved",
    facts: {
      machine: machine({ ...on("hpet"), cpuFlags: ["tsc", "hypervisor"] }),
      abis: [abi("x86_64", {}, { proof: [], unproved: "no" })],
    },
    ids: ["clocksource-slow", "unproved", "tsc-unstable"],
    lost: true,
    verdict: /^the fast path is lost: the clocksource in force is slow$/,
    remedy: /have the hypervisor offer a clock/,
  },
  {
    name: "figures that say what could not be proved: fast",
    facts: {
      machine: machine({ ...on("kvm-clock"), parameters: ["tsc=unstable"] }),
      abis: [abi("x86_64", {}, { proof: [], unproved: "no", figures: figures(23, 170) })],
    },
    ids: ["unproved", "measured-fast", "clocksource-fast", "cost", "tsc-unused", "boot-parameters"],
    lost: false,
    verdict: /^the fast path is there: .*, with remarks$/,
  },
  {
    name: "figures that say what could not be proved: slow",
    facts: {
      machine: machine(on("hpet", "tsc")),
      abis: [abi("x86_64", {}, { proof: [], unproved: "no", figures: figures(1700, 1650) })],
    },
    ids: ["measured-slow", "clocksource-slow", "unproved", "tsc-not-used", "cost"],
    lost: true,
    verdict: /^the fast path is lost: clock calls of x86_64 programs enter the kernel$/,
  },
  {
    name: "a time-stamp counter that was given up while it ran",
    facts: {
      machine: machine({
        ...on("acpi_pm"),
        log: [
          "clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable because the skew is too large:",
        ],
      }),
      abis: [abi("x86_64", lost)],
    },
    ids: ["clock-falls-back", "clocksource-slow", "tsc-unstable", "kernel-by-design"],
    lost: true,
    verdict: /is lost/,
    remedy: /find out from the kernel's log/,
  },
  {
    name: "a clocksource that the hypervisor does not vouch for",
    facts: { machine: machine(on("kvm-clock")), abis: [abi("x86_64", lost)] },
    ids: ["clock-falls-back", "clocksource-slow", "tsc-not-used", "kernel-by-design"],
    lost: true,
    verdict: /is lost/,
  },
  {
    name: "a fast clocksource beside an unstable counter",
    facts: { machine: machine({ ...on("kvm-clock"), parameters: ["tsc=unstable"] }), abis: [abi()] },
    ids: ["fast-path", "clocksource-fast", "kernel-by-design", "tsc-unused", "boot-parameters"],
    lost: false,
    verdict: /is there/,
  },
  {
    name: "the HPET of kernels that mapped it into programs: the proof outweighs the table",
    facts: { machine: machine(on("hpet")), abis: [abi()] },
    ids: ["fast-path", "clocksource-fast", "kernel-by-design", "tsc-unused"],
    lost: false,
    verdict: /is there/,
  },
  {
    name: "no time-stamp counter at all",
    facts: { machine: machine({ ...on("pit"), cpuFlags: [], parameters: ["notsc"] }), abis: [abi("x86_64", lost)] },
    ids: ["clock-falls-back", "clocksource-slow", "no-tsc", "kernel-by-design", "boot-parameters"],
    lost: true,
    verdict: /is lost/,
    remedy: /remove notsc/,
  },
  {
    name: "a clocksource that nobody knows, and no proof",
    facts: {
      machine: machine({ ...on("sundial"), architecture: "aarch64" }),
      abis: [abi("x86_64", {}, { notRun: "not here", proof: [] })],
    },
    ids: ["abi-not-run", "clocksource-unknown"],
    lost: false,
    verdict: /^nothing is proved/,
  },
  {
    name: "no sight of the clocksource",
    facts: {
      machine: (({ clocksource: _, ...rest }) => ({
        ...rest,
        unread: [{ what: "/sys/…/current_clocksource", why: "ENOENT" }],
      }))(machine()),
      abis: [abi()],
    },
    ids: ["clocksource-unread", "fast-path", "kernel-by-design"],
    lost: false,
    verdict: /is there: .*, with remarks$/,
  },
  {
    name: "no vDSO for 64-bit programs",
    facts: { machine: machine({ parameters: ["vdso=0"] }), abis: [abi("x86_64", {}, none), abi("i386")] },
    ids: ["no-vdso", "fast-path", "clocksource-fast", "kernel-by-design", "boot-parameters"],
    lost: true,
    verdict: /^the fast path is lost: programs of x86_64 have no vDSO; i386 programs keep theirs$/,
    remedy: /^remove vdso=0 from the kernel's command line$/,
  },
  {
    name: "a process on a machine without a vDSO",
    facts: {
      machine: machine({ parameters: ["vdso=0"] }),
      abis: [abi("x86_64", {}, none)],
      process: process({ announced: false, mapped: false, seccomp: 2 }),
    },
    ids: ["no-vdso", "fallback-filtered", "looks-at-vdso", "clocksource-fast", "boot-parameters"],
    lost: true,
    verdict: /^the fast path is lost: programs of x86_64 have no vDSO$/,
  },
  {
    name: "an old kernel, whose vDSO serves few clocks",
    facts: {
      machine: machine(),
      abis: [abi("x86_64", { "newer counter": "kernel", __vdso_clock_getres: "absent", __vdso_getrandom: "absent" })],
    },
    ids: ["fast-path", "clocksource-fast", "clock-not-served", "kernel-by-design", "function-not-exported"],
    lost: false,
    verdict: /is there/,
  },
  {
    name: "a vDSO without clocks",
    facts: { machine: machine(), abis: [abi("x86_64", { __vdso_clock_gettime: "absent" })] },
    ids: ["clock-not-exported", "clocksource-fast", "kernel-by-design", "function-not-exported"],
    lost: true,
    verdict: /is lost/,
  },
  {
    name: "a vDSO that makes system calls of what needs no counter",
    facts: {
      machine: machine(),
      abis: [
        abi(
          "x86_64",
          { "data page": "kernel", processor: "kernel", "random state": "kernel" },
          {
            image: { maker: "qemu-user", functions: ["__vdso_clock_gettime"] },
          },
        ),
      ],
    },
    ids: ["function-falls-back", "random-falls-back", "emulated", "clocksource-fast", "kernel-by-design"],
    lost: true,
    verdict: /is lost/,
  },
  {
    name: "32-bit programs on the slowest way in",
    facts: {
      machine: machine(),
      abis: [abi("i386", {}, { image: { maker: "Linux", functions: [], gate: "int $0x80" } })],
    },
    ids: ["gate-int80", "fast-path", "clocksource-fast", "kernel-by-design"],
    lost: false,
    verdict: /is there/,
  },
  {
    name: "figures: a read that a hypervisor traps",
    facts: { machine: machine(), abis: [abi("x86_64", {}, { figures: figures(1900, 2100) })] },
    ids: ["vdso-no-gain", "fast-path", "clocksource-fast", "kernel-by-design", "cost"],
    lost: false,
    verdict: /with remarks$/,
  },
  {
    name: "a process that all is well with",
    facts: {
      machine: machine(),
      abis: [abi("x86_64", {}, { figures: figures(23, 170) })],
      process: process({
        seccomp: 2,
        seccompFilters: 3,
        timeNamespace: { other: true, offsets: ["boottime 10.000000000"] },
        objects: [...process().objects, ...own({ imports: ["clock_gettime", "time"] })],
      }),
    },
    ids: [
      "fast-path",
      "looks-at-vdso",
      "clocksource-fast",
      "kernel-by-design",
      "cost",
      "time-namespace",
      "seccomp-filters",
      "clock-imports",
    ],
    lost: false,
    verdict: /^the fast path is there: clock calls of process 42 \(program\) go through the vDSO$/,
  },
  {
    name: "a process without a vDSO",
    facts: {
      machine: machine(),
      abis: [abi("x86_64", {}, { figures: figures(23, 170) })],
      process: process({
        announced: false,
        seccomp: 2,
        objects: own({ imports: ["time"] }),
        tracer: { pid: 7, name: "gdb" },
      }),
    },
    ids: [
      "process-no-vdso",
      "may-not-look",
      "fallback-filtered",
      "fast-path",
      "clocksource-fast",
      "kernel-by-design",
      "cost",
      "clock-imports",
    ],
    lost: true,
    verdict: /^the fast path is lost: process 42 \(program\) has no vDSO, and its clock calls enter the kernel$/,
  },
  {
    name: "a program with clock calls of its own",
    facts: {
      machine: machine(),
      abis: [abi()],
      process: process({ static: true, objects: own({ systemCalls: ["clock_gettime"] }) }),
    },
    ids: ["never-looks", "fast-path", "clocksource-fast", "kernel-by-design"],
    lost: true,
    verdict: /^the fast path is lost: process 42 \(program\) never looks at its vDSO/,
  },
  {
    name: "a process with another vDSO, run by a tool, in a namespace that may not be joined",
    facts: {
      machine: machine(),
      abis: [abi()],
      process: process({
        sameImage: false,
        runner: "rr",
        timeNamespace: { other: true, offsets: [], unproved: "it may not be joined (EPERM)" },
      }),
    },
    ids: [
      "image-differs",
      "run-by-tool",
      "namespace-unproved",
      "fast-path",
      "looks-at-vdso",
      "clocksource-fast",
      "kernel-by-design",
      "time-namespace",
    ],
    lost: false,
    verdict:
      /^the fast path is there for x86_64 programs; whether process 42 \(program\) takes it is not known: it is run by rr$/,
  },
  {
    name: "a process of somebody else's",
    facts: {
      machine: machine(),
      abis: [abi()],
      process: {
        pid: 42,
        name: "program",
        objects: [],
        filesRead: 0,
        unread: [{ what: "/proc/42/auxv", why: "EACCES" }],
      },
    },
    ids: ["process-unread", "fast-path", "clocksource-fast", "kernel-by-design"],
    lost: false,
    verdict: /is not known: its auxiliary vector may not be read$/,
  },
];

describe("the doctor's judgement", () => {
  it.each(CASES)("$name", ({ facts, ids, lost: isLost, verdict, remedy }) => {
    const result = doctor(facts);
    expect(result.findings.map(({ id }) => id)).toEqual(ids);
    expect(result.lost).toBe(isLost);
    expect(result.verdict).toMatch(verdict);
    if (remedy)
      expect(result.findings.map((one) => one.remedy).filter((one) => remedy.test(one ?? ""))).not.toEqual([]);
  });

  it("names every finding that is documented in one of these cases, and no other", () => {
    expect(new Set(CASES.flatMap(({ ids }) => ids))).toEqual(new Set(FINDING_IDS));
  });

  it("gives each finding that is bad news something to do, and evidence or a subject", () => {
    for (const { facts } of CASES) {
      for (const { id, severity, remedy, what } of doctor(facts).findings) {
        expect(what).not.toBe("");
        if (severity === "bad" || severity === "warn") expect(remedy ?? "", id).not.toBe("");
      }
    }
  });
});
