import { hex, paddedHex } from "../bytes/hex.js";
import type { VdsoLocation } from "../vdso/locate.js";
import type { ReportContent, ReportPart, ReportProcess } from "../verbs/report.js";
import { addressBars, barText } from "./address-map.js";
import { gateTable, wrap } from "./explain.js";
import {
  auxvFacts,
  type Fact,
  functionKind,
  gateTitle,
  imageFacts,
  lddFacts,
  machineWords,
  noGateWords,
  REPORT_TITLE,
  type Report,
} from "./report-facts.js";
import { plainStyle, type Style } from "./style.js";
import { type Cell, humanSize, table } from "./table.js";
import { visible } from "./visible.js";
import { gateAnswer } from "./words.js";

export type { Report, ReportHost } from "./report-facts.js";

const BAR_WIDTH = 72;

/** The report as text. */
export function renderReport({ host, parts }: Report, style: Style = plainStyle): string {
  const machine = host ? machineWords(host) : [];
  return (
    `${style.bold(REPORT_TITLE)}\n` +
    (machine.length > 0 ? `${style.dim(visible(machine.join(" · ")))}\n` : "") +
    parts.map((part) => `\n${renderPart(part, style)}`).join("")
  );
}

function renderPart(part: ReportPart, style: Style): string {
  const { process, content } = part;
  const heading = visible(
    content ? `${content.image.soname ?? "(no SONAME)"} · ${content.image.abi} · ${part.target}` : part.target,
  );
  let text = `${style.accent(`── ${heading} ${"─".repeat(Math.max(4, 88 - heading.length))}`)}\n`;
  for (const note of part.notes) text += `${style.warning("note")}  ${visible(note)}\n`;
  const facts = [
    ...(process ? processFacts(process, content) : []),
    ...(content ? [...imageFacts(content), ...dataFacts(content)] : []),
  ];
  text += table(
    facts.map(([label, value, tone]): Cell[] => [
      { text: label, style: "dim" },
      { text: value, ...(tone === "wrong" && { style: "warning" as const }) },
    ]),
    { indent: "  ", style },
  );
  for (const { what, why } of part.missing) text += `${style.warning(`  ${what} unreadable`)}: ${visible(why)}\n`;
  if (part.problem) text += `${style.warning("  problem")}: ${visible(part.problem)}\n`;
  if (content) text += renderFunctions(content, style) + renderGate(content, style);
  if (process?.location) text += renderBars(process, process.location, style);
  return text;
}

/** What the system says of where the object is: ldd, maps, auxv. */
function processFacts({ pid, location }: ReportProcess, content: ReportContent | undefined): Fact[] {
  if (!location) return [["process", `${pid}`]];
  const [first] = location.mappings;
  const width = first && first.end > 0xffff_ffffn ? 12 : 8;
  const line = (start: bigint, end: bigint, perms: string, name: string) =>
    `${paddedHex(start, width)}-${paddedHex(end, width)} ${perms} ${name}  ${humanSize(end - start)}`;
  return [
    ...lddFacts(location, content),
    ...[...location.dataMappings, ...location.mappings].map(
      ({ start, end, perms, name }, i) => [i === 0 ? "maps" : "", line(start, end, perms, name)] as const,
    ),
    ...location.otherMappings.map(
      ({ start, end, perms, name }) => ["", `${line(start, end, perms, name)}  another one`] as const,
    ),
    ...auxvFacts(location, content),
  ];
}

/** The pages of the kernel's data that the code reads. */
function dataFacts({ explained }: ReportContent): Fact[] {
  return explained.dataPages
    .filter(({ readBy }) => readBy.length > 0)
    .map(({ kind, mapping, offset }, i) => [
      i === 0 ? "data read" : "",
      `${mapping ? `${mapping} ` : ""}-${hex(-offset)}  ${kind}`,
    ]);
}

function renderFunctions({ image, explained }: ReportContent, style: Style): string {
  const facts = new Map(explained.functions.map((one) => [one.function.name, one]));
  const width = image.elf.header.class / 4;
  const bias = explained.bias ?? 0n;
  return `\n${table(
    image.functions.map((one): Cell[] => {
      const { name, aliases, address, size, version } = one;
      return [
        { text: (address + bias).toString(16).padStart(bias === 0n ? 4 : Math.min(12, width)), style: "number" },
        { text: String(size) },
        { text: version ?? "" },
        { text: aliases.length > 0 ? `${name} (${aliases.join(", ")})` : name, style: "accent" },
        { text: functionKind(one, facts.get(name)), style: "dim" },
      ];
    }),
    { indent: "  ", header: ["address", "size", "version", "function", "kind"], right: [1], style },
  )}`;
}

function renderGate(content: ReportContent, style: Style): string {
  const { gate, bias } = content.explained;
  if (gate) {
    return (
      `\n  ${style.bold(visible(gateTitle(gate)))}\n` +
      gateTable(gate, bias ?? 0n, style, "  ") +
      gateAnswer(gate)
        .map((sentence) => wrap(sentence, "  "))
        .join("")
    );
  }
  const words = noGateWords(content);
  return words ? `\n${wrap(words, "  ")}` : "";
}

function renderBars({ mappings }: ReportProcess, location: VdsoLocation, style: Style): string {
  const bars = addressBars(mappings, location).map((bar) => {
    const ends = `${hex(bar.start)}${" ".repeat(Math.max(1, BAR_WIDTH - hex(bar.start).length - hex(bar.end).length))}${hex(bar.end)}`;
    return `  ${style.dim(`${bar.title}, ${humanSize(bar.end - bar.start)}`)}\n  ${barText(bar, BAR_WIDTH)}\n  ${style.dim(ends)}\n`;
  });
  return `\n${bars.join("")}  ${style.dim("█ vDSO  ▓ its data  ▒ other mappings  · nothing; to scale, but nothing is narrower than one mark")}\n`;
}
