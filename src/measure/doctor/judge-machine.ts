import { clocksourceMode } from "./clocksources.js";
import type { AbiFacts, MachineFacts } from "./facts.js";
import { type Finding, finding, listed } from "./finding.js";
import { lostCounter } from "./judge-abi.js";
import { marksUnstable, parameterValue } from "./machine/parse.js";
import { clocksourceRemedy } from "./remedy.js";

/** What is to be said of the machine. */
export function judgeMachine(machine: MachineFacts, abis: readonly AbiFacts[]): Finding[] {
  return [...judgeClocksource(machine, abis), ...judgeTsc(machine, abis), ...judgeParameters(machine)];
}

/** Whether the precise clocks of some ABI are known to be slow; `undefined` where no ABI tells. */
function isSlow(abis: readonly AbiFacts[]): boolean | undefined {
  const told = abis.flatMap((abi) => lostCounter(abi) ?? []);
  return told.length === 0 ? undefined : told.some((lost) => lost);
}

function judgeClocksource(machine: MachineFacts, abis: readonly AbiFacts[]): Finding[] {
  const { clocksource } = machine;
  if (!clocksource) {
    const reasons = machine.unread
      .filter(({ what }) => what.includes("clocksource"))
      .map(({ what, why }) => `${what}: ${why}`);
    return [finding("clocksource-unread", "the clocksource in force is not shown", reasons)];
  }
  const { current, available } = clocksource;
  const evidence = [
    `current_clocksource is ${current}; available: ${available.join(", ")}`,
    ...(current.startsWith("tsc") && machine.cpuFlags ? [flagsText(machine.cpuFlags)] : []),
  ];
  const mode = clocksourceMode(current);
  const slow = isSlow(abis);
  if (!mode && slow === undefined) {
    return [finding("clocksource-unknown", `nothing is known of the clocksource ${current}`, evidence)];
  }
  // What was proved outweighs what the table says: kernels before 4.7 mapped the HPET into programs.
  const isBad = slow ?? mode?.vdso === "no";
  const why = mode ? `: ${mode.why}` : "";
  if (isBad) {
    const can =
      mode && mode.vdso !== "no" ? "is not read by programs here, though it can be" : "cannot be read by programs";
    const remedy = clocksourceRemedy(machine);
    return [finding("clocksource-slow", `the clocksource in force, ${current}, ${can}${why}`, evidence, { remedy })];
  }
  if (slow === undefined && mode?.vdso === "sometimes") {
    return [finding("clocksource-unknown", `whether programs can read ${current} is decided at boot${why}`, evidence)];
  }
  return [finding("clocksource-fast", `the clocksource in force, ${current}, is read by programs${why}`, evidence)];
}

function flagsText(cpuFlags: readonly string[]): string {
  return `flags of /proc/cpuinfo: ${cpuFlags.length > 0 ? cpuFlags.join(" ") : "none of the counter's"}`;
}

function judgeTsc(machine: MachineFacts, abis: readonly AbiFacts[]): Finding[] {
  const { clocksource, cpuFlags, parameters, log } = machine;
  if (!cpuFlags || !/^(x86_64|i[3-6]86)$/.test(machine.architecture)) return [];
  const flags = flagsText(cpuFlags);
  if (!cpuFlags.includes("tsc")) return [finding("no-tsc", "no time-stamp counter is shown", [flags])];
  if (clocksource === undefined || /^tsc(-early)?$/.test(clocksource.current)) return [];
  const isFast = isSlow(abis) === false || (clocksourceMode(clocksource.current)?.vdso ?? "no") === "yes";
  const tsc = parameterValue(parameters, "tsc");
  const marked = log?.filter(marksUnstable) ?? [];
  const unstable = marked.length > 0 || tsc === "unstable";
  const evidence = [
    ...(tsc === undefined ? [] : [`the kernel's command line has tsc=${tsc}`]),
    ...marked.map((message) => `the kernel's log: ${message}`),
    ...(log ? [] : ["the kernel's log may not be read"]),
    flags,
  ];
  const state = unstable ? "is marked unstable" : "is not the clocksource";
  if (isFast) {
    return [finding("tsc-unused", `the time-stamp counter ${state}; ${clocksource.current} does as well`, evidence)];
  }
  const remedy = clocksourceRemedy(machine);
  if (unstable) return [finding("tsc-unstable", `the time-stamp counter ${state}`, evidence, { remedy })];
  const sound = ["constant_tsc", "nonstop_tsc"].every((flag) => cpuFlags.includes(flag));
  if (sound || clocksource.available.includes("tsc")) {
    return [finding("tsc-not-used", "the time-stamp counter would serve, and is not used", evidence, { remedy })];
  }
  return [finding("tsc-unstable", "the time-stamp counter is not on offer as a clocksource", evidence, { remedy })];
}

/** What each parameter does; those that change nothing where they stand are told as well, for they surprise later. */
const MEANINGS: readonly (readonly [pattern: RegExp, meaning: string])[] = [
  [/^vdso=0$/, "no vDSO for programs of the kernel's own width"],
  [/^vdso32=0$/, "no vDSO for 32-bit programs"],
  [/^vdso(32)?=/, "the vDSO, as by default"],
  [/^vsyscall=/, "the old page at 0xffffffffff600000; calls of it are slow however it is set"],
  [/^clocksource=/, "the clocksource that is preferred"],
  [/^tsc=unstable$/, "the time-stamp counter is given up"],
  [/^tsc=(reliable|nowatchdog)$/, "the time-stamp counter is not checked against other clocks"],
  [/^notsc$/, "the time-stamp counter is not used"],
  [/^(nohpet|hpet=)/, "the HPET"],
  [/^nosep$/, "sysenter is not used"],
  [/^clearcpuid=/, "features of the processor are hidden from the kernel"],
  [/^no-kvmclock/, "the clock of KVM is not used, or not by programs"],
];

function judgeParameters({ parameters }: MachineFacts): Finding[] {
  if (parameters.length === 0) return [];
  const evidence = parameters.map((word) => {
    const meaning = MEANINGS.find(([pattern]) => pattern.test(word))?.[1];
    return meaning === undefined ? word : `${word}: ${meaning}`;
  });
  return [finding("boot-parameters", `the kernel was booted with ${listed(parameters)}`, evidence)];
}
