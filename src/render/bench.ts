import type { CallFigures } from "../measure/figures.js";
import type { BenchAbi, BenchResult } from "../verbs/bench.js";
import { type NsScale, nsScale } from "./bench-scale.js";
import {
  type BenchRow,
  callName,
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
  toleranceText,
  wholeText,
} from "./bench-words.js";
import { wrap } from "./explain.js";
import { machineWords } from "./report-facts.js";
import { plainStyle, type Style } from "./style.js";
import { type Cell, table } from "./table.js";
import { visible } from "./visible.js";

/** How a run is laid out. */
export interface BenchLayout {
  /** Columns of the terminal; lines fit from 80 on. */
  readonly width: number;
  /** Whether only characters of ASCII are shown. */
  readonly ascii: boolean;
  readonly style?: Style;
}

/** From here on there is room for cycles, and for the interval's ends. */
const WIDE = 100;

/** Blocks of an eighth to seven eighths of a column. */
const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** Characters that are not ASCII, and what stands for them there. */
const ASCII: readonly (readonly [RegExp, string])[] = [
  [/[–−─]/g, "-"],
  [/±/g, "+-"],
  [/×/g, "x"],
  [/·/g, "|"],
  [/[^\p{ASCII}]/gu, "?"],
];

/** A run as text: for each ABI a table with bars, then what there is to know about the figures. */
export function renderBench(result: BenchResult, { width, ascii, style = plainStyle }: BenchLayout): string {
  const { host, abis, missing, remarks, compared, rows } = result;
  const scale = nsScale(rows);
  const prose = Math.min(100, width);
  const text = [
    wrap([...machineWords(host), ...conditionWords(result)].join(" · "), "", width),
    ...abis.map((abi) => `\n${abiText(result, abi, scale, { width, ascii, style })}`),
    ...missing.map(({ abi, why }) => `\n${style.accent(abi)}\n${wrap(why, "  ", prose)}`),
    "\n",
    ...remarks.map((remark) => `${warned(remarkWords(remark, result), remark.kind === "noisy", style, prose)}`),
    wrap(methodWords(result).join(" "), "", prose)
      .split("\n")
      .map((line) => style.dim(line))
      .join("\n"),
    ...(compared ? [`\n${comparisonText(result, { style, prose })}`] : []),
  ].join("");
  return ascii ? inAscii(text) : text;
}

function warned(sentence: string, noisy: boolean, style: Style, width: number): string {
  const lines = wrap(sentence, "", width);
  return noisy ? `${style.warning(lines.trimEnd())}\n` : lines;
}

/** Escapes of the style are ASCII themselves. */
function inAscii(text: string): string {
  return ASCII.reduce((all, [pattern, instead]) => all.replace(pattern, instead), text);
}

/** A line of the table before its bar. */
interface Line {
  readonly cells: readonly Cell[];
  readonly row?: CallFigures;
  /** Stands in place of the figures. */
  readonly words?: string;
}

function abiText(
  result: BenchResult,
  { abi }: BenchAbi,
  scale: NsScale,
  { width, ascii, style }: Required<BenchLayout>,
): string {
  const wide = width >= WIDE;
  // Before it is laid out: what stands for a character may be longer than that.
  const shown = (text: string): string => (ascii ? inAscii(text) : text);
  const lines = linesOf(rowsOf(result, abi), wide).map((line) => ({
    ...line,
    cells: line.cells.map((cell) => ({ ...cell, text: shown(cell.text) })),
  }));
  const header = ["call", "by", "ns", "95%", "p5–p95", ...(wide ? ["cycles"] : []), "×"].map(shown);
  const right = new Set([2, ...(wide ? [] : [3]), 5, 6]);
  const gap = " ".repeat(wide ? 2 : 1);
  const widths = header.map((text, i) =>
    Math.max(text.length, ...lines.map(({ cells }) => cells[i]?.text.length ?? 0)),
  );
  const used = widths.reduce((sum, one) => sum + one + gap.length, 0);
  const room = Math.max(0, width - used);
  const padded = (text: string, i: number): string => {
    const space = " ".repeat((widths[i] as number) - text.length);
    return right.has(i) ? space + text : text + space;
  };
  const written = (cells: readonly Cell[]): string =>
    cells.map(({ text, style: tone }, i) => (tone ? style[tone](padded(text, i)) : padded(text, i))).join(gap);
  const scaleWords = `${style.accent(abi)} · nanoseconds per call · bars: ${scale.kind}, ${nsText(scale.from)} to ${nsText(scale.to)} ns`;
  const body = lines.map(({ cells, row, words }) => {
    const start = words === undefined ? written(cells) : `${written(cells)}${gap}${style.warning(words)}`;
    const bar = row && room > 0 ? `${gap}${barOf(row, scale, room, ascii, style)}` : "";
    return `${start}${bar}`.trimEnd();
  });
  return [scaleWords, style.dim(header.map(padded).join(gap).trimEnd()), ...body].map((one) => `${one}\n`).join("");
}

function linesOf(rows: readonly BenchRow[], wide: boolean): Line[] {
  const lines: Line[] = [];
  let [lastCall, lastGroup]: (string | undefined)[] = [];
  for (const row of rows) {
    const { group, name } = callName(row.call);
    if (group !== undefined && group !== lastGroup) lines.push({ cells: [{ text: group, style: "bold" }] });
    const title = row.call === lastCall ? "" : group === undefined ? name : `  ${name}`;
    [lastCall, lastGroup] = [row.call, group];
    const first: Cell[] = [{ text: visible(title), style: group === undefined ? "bold" : "name" }, { text: row.via }];
    if (isRefused(row)) {
      lines.push({ cells: first, words: refusalWords(row) });
      continue;
    }
    const { nsMedian, nsP5, nsP95, cycles, ratio } = row;
    const marks = marksOf(row);
    lines.push({
      cells: [
        ...first,
        { text: nsText(nsMedian), style: "number" },
        { text: wide ? `${intervalText(row)} ${marks}`.trimEnd() : `${toleranceText(row)} ${marks.padEnd(2)}` },
        { text: rangeText(nsP5, nsP95), style: "dim" },
        ...(wide ? [{ text: cycles === undefined ? "" : wholeText(cycles), style: "dim" as const }] : []),
        { text: ratio === undefined ? "" : ratioText(ratio) },
      ],
      row,
    });
  }
  return lines;
}

/** A bar of at most `room` columns, of which every row has a mark at the least. */
function barOf(row: CallFigures, scale: NsScale, room: number, ascii: boolean, style: Style): string {
  const length = scale.at(row.nsMedian) * room;
  const whole = Math.floor(length);
  const bar = ascii
    ? "#".repeat(Math.max(1, Math.round(length)))
    : "█".repeat(whole) + (EIGHTHS[Math.floor((length - whole) * 8)] ?? "");
  const tone = row.via === "vdso" ? "accent" : row.via === "int80" ? "warning" : "name";
  return style[tone](bar === "" ? "▏" : bar);
}

function comparisonText(
  { compared = [] }: BenchResult,
  { style, prose }: { readonly style: Style; readonly prose: number },
): string {
  const changed = compared.filter(({ change }) => change !== "same");
  const rows = changed.map((row): Cell[] => {
    const { abi, call, via, change, before, after } = row;
    const figures = [before, after].map((one) => (one ? `${nsText(one.nsMedian)} [${intervalText(one)}]` : ""));
    const tone = change === "slower" || change === "gone" ? "warning" : change === "faster" ? "accent" : "dim";
    return [
      { text: abi },
      { text: call, style: "name" },
      { text: via },
      { text: figures[0] as string },
      { text: figures[1] as string },
      { text: changeWords(row), style: tone },
    ];
  });
  const header = ["abi", "call", "by", "then", "now", "verdict"];
  return (
    wrap(`Beside the earlier run: ${comparisonWords(compared)}.`, "", prose) +
    (rows.length > 0 ? table(rows, { indent: "  ", header, style }) : "")
  );
}
