import type { Via } from "../../measure/calls.js";
import type { CallFigures } from "../../measure/figures.js";
import type { BenchAbi, BenchResult } from "../../verbs/bench.js";
import { type NsScale, nsScale } from "../bench-scale.js";
import {
  type BenchRow,
  changeWords,
  comparisonWords,
  conditionWords,
  intervalText,
  isRefused,
  marksOf,
  methodWords,
  nsText,
  rangeText,
  ratioText,
  refusalWords,
  remarkWords,
  rowsOf,
  VIA_WORDS,
  wholeText,
} from "../bench-words.js";
import { machineWords } from "../report-facts.js";
import { html, lines, type Markup } from "./markup.js";
import { pageText } from "./shell.js";
import { htmlTable, type Row } from "./table.js";

/** Colours of the ways, among those that the pages have, and how the drawing is set. */
const STYLE = `
.bars { margin-top: 1rem; }
.bars figcaption { margin: .5rem 0 1.25rem; color: var(--soft); font-size: .8125rem; }
svg.bars { display: block; font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
.way-vdso { --kind: var(--vdso); } .way-gate { --kind: var(--program); } .way-syscall { --kind: var(--library); }
.way-sysenter { --kind: var(--heap); } .way-int80 { --kind: var(--stack); }
.swatch[class*="way-"] { background: var(--kind); }
svg .bar { fill: var(--kind); }
svg .call { font-weight: 650; }
svg .grid { stroke: var(--rule); stroke-width: 1px; }
svg .whisker { stroke: var(--ink); stroke-width: 1px; }
svg .value { fill: var(--soft); }
svg .row:hover .bar { opacity: .8; }
.answer + table caption { padding-top: 1rem; }
@media (min-width: 46.01rem) { .stacked tbody .name { white-space: nowrap; } }
.worse { color: var(--bad); font-weight: 600; } .better { color: var(--library); font-weight: 600; }
`;

/** Lengths in pixels; along the scale all is in per cent, so that text keeps its size on any page. */
const BAR_HEIGHT = 12;
const ROW_HEIGHT = 17;
const CALL_HEIGHT = 24;
const AXIS_HEIGHT = 20;

/** The part of the width that bars may have; what is right of it is for the figures behind the longest. */
const BARS = 0.66;

/** A run as one page that stands alone, with a chart for each ABI above its table. */
export function renderBenchHtml(result: BenchResult): string {
  const { host, abis, rows, missing, remarks } = result;
  const scale = nsScale(rows);
  return pageText({
    title: "Nanoseconds per call · linux-gate",
    heading: ["linux-gate", "Nanoseconds per call, by every way into the kernel"],
    machine: [...machineWords(host), ...conditionWords(result)],
    style: STYLE,
    main: [
      html`${remarks.map(
        (
          remark,
        ) => html`<p class="remark${remark.kind === "noisy" && " bad"}" role="note">${remarkWords(remark, result)}</p>
`,
      )}${missing.map(
        ({ abi, why }) => html`<p class="remark" role="note"><strong>${abi}</strong> ${why}</p>
`,
      )}`,
      comparisonHtml(result),
      ...abis.map((abi) => abiHtml(result, abi, scale)),
      html`<section class="part"><h2>How it was measured</h2>
${methodWords(result).map((sentence) => html`<p>${sentence}</p>\n`)}</section>
`,
    ],
  });
}

function abiHtml(result: BenchResult, { abi }: BenchAbi, scale: NsScale): Markup {
  const rows = rowsOf(result, abi);
  const vias = [...new Set(rows.map(({ via }) => via))];
  return html`<section class="part" id="${abi}" aria-labelledby="${abi}-title">
<h2 id="${abi}-title">${abi}</h2>
<figure class="bars">
${chartSvg(rows, scale, abi)}
<figcaption>${vias.map(
    (via) =>
      html`<span class="key"><span class="swatch way-${via}" aria-hidden="true"></span>${VIA_WORDS[via]}</span> `,
  )}<span class="scale">${scale.kind === "logarithmic" ? "The scale is logarithmic: each line is ten times the one before." : "The scale is linear."} A line at a bar's end is the 95% interval of its median.</span></figcaption>
</figure>
${tableHtml(rows, abi)}</section>
`;
}

/** The least that is drawn of a bar, as a part of the scale. */
const LEAST_BAR = 0.005;

const percent = (part: number): string => `${Number((part * 100 * BARS).toFixed(3))}%`;

function chartSvg(rows: readonly BenchRow[], scale: NsScale, id: string): Markup {
  const calls = [...new Set(rows.map(({ call }) => call))];
  let y = AXIS_HEIGHT;
  const groups = calls.map((call) => {
    const own = rows.filter((row) => row.call === call);
    const top = y;
    y += CALL_HEIGHT + own.length * ROW_HEIGHT;
    return html`<text class="call" x="0" y="${top + 16}">${call}</text>
${own.map((row, i) => barSvg(row, scale, top + CALL_HEIGHT + i * ROW_HEIGHT))}`;
  });
  const figures = rows.filter((row): row is CallFigures => !isRefused(row));
  const least = figures.reduce((a, b) => (a.nsMedian <= b.nsMedian ? a : b), figures[0] as CallFigures);
  const most = figures.reduce((a, b) => (a.nsMedian >= b.nsMedian ? a : b), figures[0] as CallFigures);
  const summary = figures.length === 0 ? "Nothing was measured." : `From ${rowWords(least)} to ${rowWords(most)}.`;
  return html`<svg class="bars" role="img" aria-labelledby="${id}-chart-title ${id}-chart-desc" width="100%" height="${y + 6}">
<title id="${id}-chart-title">Nanoseconds per call in ${id}</title>
<desc id="${id}-chart-desc">A bar for each call and way. ${summary} The table below has all figures.</desc>
${scale.ticks.map((tick) => {
  const x = percent(scale.at(tick));
  return html`<line class="grid" x1="${x}" y1="${AXIS_HEIGHT}" x2="${x}" y2="${y}"/><text class="axis" x="${x}" y="13" text-anchor="${tick === scale.from ? "start" : "middle"}">${tickText(tick)}</text>
`;
})}${groups}</svg>`;
}

function tickText(tick: number): string {
  return tick >= 1 || tick === 0 ? `${wholeText(tick)} ns` : `${tick} ns`;
}

function rowWords({ call, via, nsMedian }: CallFigures): string {
  return `${call} by ${VIA_WORDS[via]}, ${nsText(nsMedian)} ns`;
}

function barSvg(row: BenchRow, scale: NsScale, y: number): Markup {
  const middle = y + BAR_HEIGHT / 2;
  const name = (via: Via) => (via === "vdso" ? "vDSO" : via);
  if (isRefused(row)) {
    return html`<text class="value" x="0" y="${middle + 4}">${name(row.via)}: ${refusalWords(row)}</text>
`;
  }
  const { via, nsMedian, nsLow, nsHigh } = row;
  const [length, low, high] = [nsMedian, nsLow, nsHigh].map((ns) => scale.at(ns)) as [number, number, number];
  return html`<g class="row way-${via}"><title>${lines([rowWords(row), `95% interval ${intervalText(row)} ns`, `${row.batches} batches of ${row.calls} calls`])}</title><rect class="bar" x="0" y="${y}" width="${percent(Math.max(LEAST_BAR, length))}" height="${BAR_HEIGHT}" rx="2"/><line class="whisker" x1="${percent(low)}" y1="${middle}" x2="${percent(high)}" y2="${middle}"/><text class="value" x="${percent(Math.max(length, high))}" dx="6" y="${middle + 4}">${name(via)} ${nsText(nsMedian)}</text></g>
`;
}

function tableHtml(rows: readonly BenchRow[], abi: string): Markup {
  const cycles = rows.some((row) => !isRefused(row) && row.cycles !== undefined);
  return htmlTable(
    `Nanoseconds per call in ${abi}`,
    [
      { heading: "call", className: "name" },
      { heading: "by", className: "code" },
      { heading: "ns", className: "number" },
      { heading: "95% interval", className: "number" },
      { heading: "p5–p95", className: "number" },
      ...(cycles ? [{ heading: "cycles", className: "number" }] : []),
      { heading: "× real call", className: "number" },
      { heading: "batches", className: "number" },
    ],
    rows.map((row): Row => {
      if (isRefused(row)) {
        const empty = cycles ? ["", ""] : [""];
        return { cells: [row.call, row.via, refusalWords(row), "", "", ...empty, ""], className: "idle" };
      }
      const { call, via, nsMedian, nsP5, nsP95, ratio, batches, calls } = row;
      return {
        cells: [
          call,
          via,
          nsText(nsMedian),
          `${intervalText(row)} ${marksOf(row)}`.trimEnd(),
          rangeText(nsP5, nsP95),
          ...(cycles ? [row.cycles === undefined ? "" : wholeText(row.cycles)] : []),
          ratio === undefined ? "" : ratioText(ratio),
          `${batches} × ${calls}`,
        ],
        ...(via === "vdso" && { className: "ours" }),
      };
    }),
    "stacked",
  );
}

function comparisonHtml({ compared }: BenchResult): Markup | undefined {
  if (!compared) return undefined;
  const changed = compared.filter(({ change }) => change !== "same");
  const title = html`<section class="part"><h2>Beside the earlier run</h2>
<p class="answer">${comparisonWords(compared)}</p>
`;
  if (changed.length === 0) return html`${title}</section>\n`;
  const table = htmlTable(
    "What changed",
    [
      { heading: "call", className: "name" },
      { heading: "abi", className: "code" },
      { heading: "by", className: "code" },
      { heading: "then, ns", className: "number" },
      { heading: "now, ns", className: "number" },
      { heading: "verdict", className: "text" },
    ],
    changed.map((row): Row => {
      const { abi, call, via, change, before, after } = row;
      const figures = [before, after].map((one) => (one ? `${nsText(one.nsMedian)} (${intervalText(one)})` : ""));
      const tone = change === "slower" || change === "gone" ? "worse" : change === "faster" ? "better" : "alias";
      return { cells: [call, abi, via, ...figures, html`<span class="${tone}">${changeWords(row)}</span>`] };
    }),
    "stacked",
  );
  return html`${title}${table}</section>\n`;
}
