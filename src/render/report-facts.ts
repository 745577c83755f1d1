import { hex } from "../bytes/hex.js";
import type { FunctionFacts } from "../vdso/facts.js";
import type { VdsoFunction } from "../vdso/image.js";
import type { VdsoLocation } from "../vdso/locate.js";
import type { ExplainedGate } from "../verbs/explain.js";
import type { ReportContent, ReportPart } from "../verbs/report.js";
import { gnuFile } from "./gnu/file.js";
import { list, noEntryWords, notDecodedWords } from "./words.js";

/** What a report says of the machine. */
export interface ReportHost {
  readonly system: string;
  readonly architecture: string;
  readonly processor?: string;
  readonly clocksource?: string;
}

/** A report as data: the machine, and a part for each target. */
export interface Report {
  readonly host?: ReportHost;
  readonly parts: readonly ReportPart[];
}

/**
 * A line of a report. The label is empty where the line goes on with the subject of the one before; `wrong` where the
 * fact is not as it should be.
 */
export type Fact = readonly [label: string, value: string, tone?: "wrong"];

/** What every report is headed with. */
export const REPORT_TITLE = "linux-gate: the library that is in every process and on no disk";

/** The machine: system and architecture, processor, clocksource, as far as they are known. */
export function machineWords(host: ReportHost): string[] {
  return [
    `${host.system} ${host.architecture}`,
    ...(host.processor ? [host.processor] : []),
    ...(host.clocksource ? [`clocksource ${host.clocksource}`] : []),
  ];
}

/** What the dynamic linker's list says of the library. */
export function lddFacts({ base }: VdsoLocation, content: ReportContent | undefined): Fact[] {
  const soname = content?.image.soname;
  return soname === undefined ? [] : [["ldd", `${soname} (${hex(base)}): no file, the kernel maps it`]];
}

/** What the auxiliary vector says of the library. */
export function auxvFacts(location: VdsoLocation, content: ReportContent | undefined): Fact[] {
  const { base, foundBy, sysinfo, sysinfoEhdr } = location;
  return [
    [
      "auxv",
      foundBy === "AT_SYSINFO_EHDR"
        ? `AT_SYSINFO_EHDR ${hex(base)}: its ELF header`
        : sysinfoEhdr === undefined
          ? "no AT_SYSINFO_EHDR: found by its name in maps"
          : `AT_SYSINFO_EHDR ${hex(sysinfoEhdr)}, where nothing is mapped: found by its name in maps`,
    ],
    ...(sysinfo === undefined ? [] : [sysinfoFact(location, sysinfo, content)]),
  ];
}

function sysinfoFact(location: VdsoLocation, sysinfo: bigint, content: ReportContent | undefined): Fact {
  const entry = content?.image.entry;
  const expected = entry && content && entry.address + location.base - content.image.linkBase;
  const value = `AT_SYSINFO ${hex(sysinfo)}`;
  if (expected === undefined) return ["", value];
  return expected === sysinfo ? ["", `${value}: __kernel_vsyscall`] : ["", `${value}: NOT __kernel_vsyscall`, "wrong"];
}

/** What the image says of itself. */
export function imageFacts({ image, explained }: ReportContent): Fact[] {
  return [
    ["file", gnuFile(image.elf)],
    ["build-id", image.buildId ?? "none"],
    ["kernel", image.kernelVersion ? `${image.kernelVersion.text} (note "Linux")` : "no note says"],
    ["versions", list(explained.identity.versions) || "none"],
  ];
}

/** What a function is for and, for a clock whose code was read, whether it ever needs the kernel. */
export function functionKind({ role }: VdsoFunction, facts: FunctionFacts | undefined): string {
  if (role !== "clock" || !facts) return role;
  return `${role}, ${facts.kernelEntries.length > 0 ? "falls back" : "never enters"}`;
}

/** The heading of the entry's instructions. */
export function gateTitle(gate: ExplainedGate): string {
  return `${gate.entry.name}: the way into the kernel is ${gate.mechanism}`;
}

/** What stands in place of the entry's instructions in an image without one; `undefined` where there is nothing to say. */
export function noGateWords({ image, explained }: ReportContent): string | undefined {
  return explained.decoded ? noEntryWords(explained.functions) : notDecodedWords(image.abi);
}
