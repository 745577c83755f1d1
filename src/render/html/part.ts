import { hex, hexBytes, paddedHex } from "../../bytes/hex.js";
import { explainMapping, type Mapping } from "../../linux/maps.js";
import type { DataPage } from "../../vdso/data-pages.js";
import type { FunctionFacts } from "../../vdso/facts.js";
import type { VdsoFunction } from "../../vdso/image.js";
import type { VdsoLocation } from "../../vdso/locate.js";
import type { ExplainedGate } from "../../verbs/explain.js";
import type { ReportContent, ReportPart, ReportProcess } from "../../verbs/report.js";
import { auxvFacts, type Fact, functionKind, gateTitle, imageFacts, lddFacts, noGateWords } from "../report-facts.js";
import { humanSize } from "../table.js";
import { functionWords, gateAnswer, list, stepWords } from "../words.js";
import { addressMapSvg, KIND_WORDS, type MappingKind } from "./address-map.js";
import { html, type Markup, type Part } from "./markup.js";
import { htmlTable, type Row } from "./table.js";

/** What a part is called: the library, or, where none was found, the target. */
export function partTitle({ content, target }: ReportPart): string {
  return content ? (content.image.soname ?? "(no SONAME)") : target;
}

/** One target of a report as a section. `id` is unique in the page and a word of letters, digits and hyphens. */
export function partHtml(part: ReportPart, id: string): Markup {
  const { content, process } = part;
  return html`<section class="part" id="${id}" aria-labelledby="${id}-title">
<header>
<h2 id="${id}-title">${partTitle(part)}${content && html` <span class="abi">${content.image.abi}</span>`}</h2>
${content && html`<p class="target">${part.target}</p>`}
</header>
${part.notes.map(
  (note) => html`<p class="remark" role="note"><strong>Note</strong> ${note}</p>
`,
)}${part.missing.map(
  ({ what, why }) => html`<p class="remark bad" role="note"><strong>${what} unreadable</strong> ${why}</p>
`,
)}${
  part.problem !== undefined &&
  html`<p class="remark bad" role="note"><strong>Problem</strong> ${part.problem}</p>
`
}${factList(process, content)}
${process?.location && placeHtml(process, process.location, id)}
${content && [functionsHtml(content, id), gateHtml(content), wordsHtml(content, id), pagesHtml(content)]}
</section>
`;
}

function factList(process: ReportProcess | undefined, content: ReportContent | undefined): Markup {
  const location = process?.location;
  const facts: Fact[] = [
    ...(process ? [["process", String(process.pid)] as const] : []),
    ...(location ? [...lddFacts(location, content), ...auxvFacts(location, content)] : []),
    ...(content ? imageFacts(content) : []),
  ];
  if (facts.length === 0) return html``;
  return html`<dl class="facts">
${facts.map(
  ([label, value, tone], i) =>
    html`${i > 0 && label !== "" && html`</div>\n`}${label !== "" && html`<div><dt>${label}</dt>`}<dd${tone && html` class="${tone}"`}>${value}</dd>`,
)}</div>
</dl>`;
}

/** Hex digits that the addresses of a process are padded to. */
function addressWidth({ mappings }: VdsoLocation): number {
  const [first] = mappings;
  return first && first.end > 0xffff_ffffn ? 12 : 8;
}

function placeHtml(process: ReportProcess, location: VdsoLocation, id: string): Markup {
  const width = addressWidth(location);
  const row = (kind: MappingKind, { start, end, perms, name }: Mapping, meaning: string): Row => ({
    cells: [
      [swatch(kind), name || "(no name)"],
      // A place to break the line at, where the page is narrow.
      html`${paddedHex(start, width)}-<wbr>${paddedHex(end, width)}`,
      humanSize(end - start),
      perms,
      meaning,
    ],
  });
  const rows = [
    ...location.dataMappings.map((one) => row("data", one, explainMapping(one.name) ?? "")),
    ...location.mappings.map((one) => row("vdso", one, explainMapping(one.name) ?? "")),
    ...location.otherMappings.map((one) => row("other", one, "another one")),
  ];
  return html`<h3>Where it is</h3>
<figure class="map">
${addressMapSvg(process.mappings, location, `${id}-map`)}
<figcaption>${Object.entries(KIND_WORDS).map(
    ([kind, words]) => html`<span class="key">${swatch(kind as MappingKind)}${words}</span> `,
  )}<span class="scale">To scale; a thin line marks what would be too narrow to see.</span></figcaption>
</figure>
${htmlTable(
  "Mappings",
  [
    { heading: "mapping", className: "name" },
    { heading: "addresses", className: "code" },
    { heading: "size", className: "number" },
    { heading: "perms", className: "code" },
    { heading: "what it is", className: "prose" },
  ],
  rows,
  "stacked",
)}`;
}

function swatch(kind: MappingKind): Markup {
  return html`<span class="swatch ${kind}" aria-hidden="true"></span>`;
}

/** An address as every part of the page writes it: in the process, or as linked in a file. */
function addressText(address: bigint, { explained, image }: ReportContent): string {
  const { bias } = explained;
  const digits = (address + (bias ?? 0n)).toString(16);
  return bias === undefined ? digits.padStart(4, "0") : digits.padStart(image.elf.header.class === 64 ? 12 : 8, "0");
}

/** The system calls that a function makes: names, or numbers where they have none. */
function callWords(facts: FunctionFacts | undefined, role: VdsoFunction["role"]): string {
  if (!facts || role === "entry") return "";
  const calls = facts.kernelEntries.map(({ name, number }) => name ?? (number === undefined ? "?" : String(number)));
  return calls.length === 0 ? "none" : [...new Set(calls)].join(", ");
}

function functionsHtml(content: ReportContent, id: string): Markup {
  const { image, explained } = content;
  const facts = new Map(explained.functions.map((one) => [one.function, one]));
  return html`<h3>Functions</h3>
${htmlTable(
  `Functions, ${explained.bias === undefined ? "with their addresses in the file" : "with their addresses in this process"}`,
  [
    { heading: "function", className: "name" },
    { heading: "address", className: "code" },
    { heading: "size", className: "number" },
    { heading: "version", className: "code" },
    { heading: "kind", className: "text" },
    ...(explained.decoded ? [{ heading: "system calls", className: "code" }] : []),
  ],
  image.functions.map((one, i): Row => {
    const { name, aliases, address, size, version, role } = one;
    const title: Part = facts.has(one) && role !== "entry" ? html`<a href="#${id}-function-${i}">${name}</a>` : name;
    return {
      cells: [
        [title, aliases.length > 0 && html` <span class="alias">${aliases.join(", ")}</span>`],
        addressText(address, content),
        size,
        version ?? "",
        functionKind(one, facts.get(one)),
        ...(explained.decoded ? [callWords(facts.get(one), role)] : []),
      ],
      ...(role === "entry" && { className: "ours" }),
    };
  }),
  "stacked",
)}`;
}

function gateHtml(content: ReportContent): Markup {
  const { gate } = content.explained;
  const words = gate ? undefined : noGateWords(content);
  if (!gate)
    return words === undefined ? html`` : html`<h3>The way into the kernel</h3>\n<p class="answer">${words}</p>\n`;
  const [first, ...others] = gateAnswer(gate);
  return html`<h3>The way into the kernel</h3>
${htmlTable(
  gateTitle(gate),
  [
    { heading: "address", className: "code" },
    { heading: "bytes", className: "code bytes" },
    { heading: "instruction", className: "code" },
    { heading: "what it is for", className: "prose" },
  ],
  gate.steps.map((step) => stepRow(step, gate, content)),
  "listing",
)}<div class="answer">
<p class="first">${first}</p>
${others.map((sentence) => html`<p>${sentence}</p>\n`)}</div>
`;
}

function stepRow(step: ExplainedGate["steps"][number], gate: ExplainedGate, content: ReportContent): Row {
  const { instruction, text, purpose } = step;
  return {
    cells: [
      addressText(instruction.address, content),
      hexBytes(instruction.bytes, " "),
      text.replace(/\s+/g, " "),
      stepWords(step, gate),
    ],
    ...(purpose.kind === "enter" && { className: "ours" }),
    ...(purpose.kind === "padding" && { className: "idle" }),
  };
}

function wordsHtml(content: ReportContent, id: string): Markup | undefined {
  const { explained, image } = content;
  const indexes = new Map(image.functions.map((one, i) => [one, i]));
  const others = explained.functions.filter((one) => one.function.role !== "entry");
  if (others.length === 0) return undefined;
  return html`<h3>What the functions do</h3>
<div class="cards">
${others.map((facts) => {
  const { name, aliases, address, size } = facts.function;
  return html`<article id="${id}-function-${indexes.get(facts.function)}">
<h4>${name}${aliases.length > 0 && html` <span class="alias">also ${aliases.join(", ")}</span>`}</h4>
<p class="meta">at ${addressText(address, content)}, ${size} bytes, ${facts.instructionCount} instructions followed</p>
<p>${functionWords(facts, explained.dataPages).join(" ")}</p>
</article>
`;
})}</div>
`;
}

function pagesHtml(content: ReportContent): Markup | undefined {
  const { dataPages, bias } = content.explained;
  if (dataPages.length === 0) return undefined;
  const mapped = dataPages.some(({ mapping }) => mapping !== undefined);
  return html`<h3>The kernel's data that it reads</h3>
${htmlTable(
  "Pages before the image",
  [
    { heading: "offset", className: "code" },
    ...(bias === undefined ? [] : [{ heading: "address", className: "code" }]),
    ...(mapped ? [{ heading: "mapping", className: "code" }] : []),
    { heading: "what it holds", className: "prose" },
    { heading: "read by", className: "names" },
  ],
  dataPages.map((page): Row => pageRow(page, content, mapped)),
  "stacked",
)}`;
}

function pageRow({ offset, kind, mapping, readBy }: DataPage, content: ReportContent, mapped: boolean): Row {
  return {
    cells: [
      hex(offset),
      ...(content.explained.bias === undefined ? [] : [addressText(content.image.linkBase + offset, content)]),
      ...(mapped ? [mapping ?? ""] : []),
      kind,
      readBy.length > 0 ? list(readBy) : "no function here",
    ],
    ...(readBy.length === 0 && { className: "idle" }),
  };
}
