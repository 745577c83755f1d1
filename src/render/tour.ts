import type { Exhibit } from "../verbs/tour/exhibit.js";
import type { Step, Visit } from "../verbs/tour/step.js";
import { wrap } from "./explain.js";
import type { Style } from "./style.js";
import { visible } from "./visible.js";

/** What a step is drawn with. */
export interface TourLayout {
  /** Columns; no line is longer, as long as there are {@link LEAST_WIDTH}. */
  readonly width: number;
  readonly style: Style;
}

/** A step, as far as it is known. */
export interface StepView {
  readonly number: number;
  readonly total: number;
  readonly step: Omit<Step, "visit">;
  /** What was found; absent while its commands run. */
  readonly found?: Visit;
  /** Commands that run now. */
  readonly running?: readonly string[];
}

/** Narrower than this, lines are cut by the terminal. */
export const LEAST_WIDTH = 30;

/** From here on 2005 and today stand side by side. */
const WIDE = 140;

/** Longest line of prose, which is read worse when it is longer. */
const PROSE_WIDTH = 96;

/** Longest line of a column beside another. */
const COLUMN_WIDTH = 104;

const TAB = 8;

/** Text and how it is emphasised. */
interface Span {
  readonly text: string;
  readonly tone?: keyof Style;
}

type Line = readonly Span[];

const lengthOf = (line: Line): number => line.reduce((sum, { text }) => sum + text.length, 0);

const drawn = (line: Line, style: Style): string =>
  line.map(({ text, tone }) => (tone ? style[tone](text) : text)).join("");

/** The heading of a step: where one is, and what it is about. */
export function stepHeading({ number, total, step }: StepView, { width, style }: TourLayout): string[] {
  const text = `${number} · ${step.title}`;
  const dots = Array.from({ length: total }, (_, i) => (i + 1 === number ? "●" : i + 1 < number ? "•" : "·")).join(" ");
  const space = width - text.length - dots.length;
  const first =
    space >= 2 ? `${style.bold(text)}${" ".repeat(space)}${style.dim(dots)}` : style.bold(text.slice(0, width));
  return [first, style.dim("━".repeat(width))];
}

/** All that is to be said of a step, line by line. */
export function stepLines(view: StepView, layout: TourLayout): string[] {
  const width = Math.max(LEAST_WIDTH, layout.width);
  const { style } = layout;
  const { step, found } = view;
  const lines: Line[] = [...step.about.flatMap((text) => prose(text, width)), []];
  const original = (columns: number): Line[] => [
    ...step.original.flatMap((one, i) => [...(i > 0 ? [[]] : []), ...exhibitLines(one, columns)]),
    ...step.originalWords.flatMap((text) => prose(text, columns - 2, "  ")),
  ];
  const today = (columns: number): Line[] => (found ? exhibits(found, columns) : runningLines(view, columns));
  const hasOriginal = step.original.length + step.originalWords.length > 0;
  const hasToday = !found || found.now.length > 0;
  if (hasOriginal && hasToday && width >= WIDE) {
    lines.push(...sideBySide(original, today, width, found?.now[0]?.caption !== undefined), []);
  } else {
    if (hasOriginal) lines.push(title("2005", width), ...original(width), []);
    if (hasToday) lines.push(title("today, on this machine", width), ...today(width), []);
  }
  if (found) {
    if (found.since.length > 0) {
      const columns = Math.min(width, WIDE - 1);
      lines.push(title("since then", width >= WIDE ? width : columns));
      lines.push(...found.since.flatMap((text) => bullet(text, columns)));
    }
    if (found.onward) lines.push(...onwardLines(found.onward, width));
  }
  while (lines.length > 0 && lengthOf(lines.at(-1) as Line) === 0) lines.pop();
  return lines.map((line) => drawn(line, style));
}

/** A step alone, heading and all. */
export function renderStep(view: StepView, layout: TourLayout): string {
  return [...stepHeading(view, layout), ...stepLines(view, layout)].map((line) => `${line}\n`).join("");
}

/** What the tour is, and on which machine it is made. */
export function coverLines(machine: readonly string[], { width: columns, style }: TourLayout): string[] {
  const width = Math.max(LEAST_WIDTH, columns);
  const lines: Line[] = [
    [{ text: "What is linux-gate.so.1?", tone: "bold" }],
    [],
    ...prose(
      "ldd names it for every program, and no file has that name. In August 2005 Johan Petersson explained it with six commands: it is a small library, put into each process by the kernel itself, as a gate between the two. This is a walk along his article, from the first line to the last: what the commands printed then, and what they print here, now.",
      width,
    ),
    [],
    ...addressBar(width),
    [],
    ...prose(
      "Today the gate lies at another address in each process, and belongs to 64-bit programs, so his commands fail or say other things. Where one fails, the tour forges a gate of its own and starts the very same command under it, at the very same address: it works again.",
      width,
    ),
    [],
    ...prose(`This machine: ${machine.join(" · ")}.`, width),
    ...prose("Commands run in a folder of their own, which goes when you do, and with LC_ALL=C.", width),
  ];
  return lines.map((line) => drawn(line, style));
}

/** 4 GiB to scale, but for the page, which would be too thin to be seen. */
function addressBar(columns: number): Line[] {
  const width = Math.min(columns, 72);
  const label = "ffffe000";
  return [
    [
      { text: "░".repeat(width - 2), tone: "dim" },
      { text: "█", tone: "accent" },
      { text: "░", tone: "dim" },
    ],
    [
      { text: `00000000${" ".repeat(Math.max(1, width - 16))}`, tone: "dim" },
      { text: label, tone: "accent" },
    ],
  ];
}

/** The steps, numbered, each with the name that asks for it. */
export function stepList(steps: readonly Pick<Step, "name" | "title">[], { style }: TourLayout): string[] {
  const names = Math.max(...steps.map(({ name }) => name.length));
  return steps.map(
    ({ name, title: words }, i) =>
      `${style.number(String(i + 1).padStart(2))}  ${style.accent(name.padEnd(names))}  ${words}`,
  );
}

function title(text: string, width: number): Line {
  return [
    { text: "── ", tone: "dim" },
    { text, tone: "name" },
    { text: ` ${"─".repeat(Math.max(0, width - text.length - 4))}`, tone: "dim" },
  ];
}

function prose(text: string, width: number, indent = ""): Line[] {
  return wrap(text, indent, Math.min(width, PROSE_WIDTH))
    .trimEnd()
    .split("\n")
    .flatMap((line) => cut(line, width))
    .map((line) => [{ text: line }]);
}

function bullet(text: string, width: number): Line[] {
  return prose(text, width - 2).map((line, i) => [{ text: i === 0 ? "• " : "  ", tone: "accent" }, ...line]);
}

/**
 * Two columns with a line between them, the left one no wider than it needs to be. `lower` begins it a line lower, where
 * the right one begins with a caption: so that the commands stand beside each other.
 */
function sideBySide(
  original: (columns: number) => Line[],
  today: (columns: number) => Line[],
  width: number,
  lower: boolean,
): Line[] {
  const half = Math.min(COLUMN_WIDTH, Math.floor((width - 3) / 2));
  const left = [...(lower ? [[]] : []), ...original(half)];
  const column = Math.max(LEAST_WIDTH, ...left.map(lengthOf));
  const rest = width - 3 - column;
  const right = today(rest);
  const lines: Line[] = [
    [...title("2005", column), { text: "─┬─", tone: "dim" }, ...title("today, on this machine", rest)],
  ];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const [line, other] = [left[i] ?? [], right[i] ?? []];
    const gap = `${" ".repeat(Math.max(0, column - lengthOf(line)))} │${other.length > 0 ? " " : ""}`;
    lines.push([...line, { text: gap, tone: "dim" }, ...other]);
  }
  return lines;
}

function exhibits({ now }: Visit, width: number): Line[] {
  return now.flatMap((one, i) => [...(i > 0 ? [[]] : []), ...exhibitLines(one, width)]);
}

function runningLines({ running = [] }: StepView, width: number): Line[] {
  if (running.length === 0) return [[{ text: "  …", tone: "dim" }]];
  return running.map((command) => [
    { text: "  … ", tone: "accent" },
    { text: shortened(visible(command), width - 4), tone: "dim" },
  ]);
}

const shortened = (text: string, width: number): string =>
  text.length <= width ? text : `${text.slice(0, width - 1)}…`;

function exhibitLines(one: Exhibit, width: number): Line[] {
  const { caption, command, output, status, trouble, sameAs } = one;
  const lines: Line[] = [];
  if (caption !== undefined) {
    lines.push(
      ...prose(caption, width, "  # ").map((line) => line.map(({ text }) => ({ text, tone: "dim" as const }))),
    );
  }
  commandLines(command, width - 4).forEach((text, i) => {
    lines.push([
      { text: i === 0 ? "  $ " : "    ", tone: "dim" },
      { text, tone: "bold" },
    ]);
  });
  if (sameAs !== undefined) {
    lines.push(...quiet(`(the same, byte for byte, as ${sameAs.split(" ")[0]} prints)`, width));
  } else if (output.trim() === "" && trouble === undefined) {
    lines.push(...quiet("(nothing)", width));
  } else {
    lines.push(...outputLines(one, width));
  }
  if (trouble !== undefined) lines.push(...warned(trouble, width));
  else if (status !== undefined && status !== 0) lines.push(...warned(`exit status ${status}`, width));
  return lines;
}

const quiet = (text: string, width: number): Line[] =>
  prose(text, width, "  ").map((line) => line.map((span) => ({ ...span, tone: "dim" as const })));

const warned = (text: string, width: number): Line[] =>
  prose(text, width - 2).map((line) => [
    { text: "  " },
    ...line.map((span) => ({ ...span, tone: "warning" as const })),
  ]);

/** A command, broken between words so that it can still be pasted. */
function commandLines(command: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of visible(command).split(" ")) {
    if (line !== "" && line.length + word.length + 3 > width) {
      lines.push(`${line} \\`);
      line = "";
    }
    line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines.flatMap((one) => cut(one, width));
}

function cut(text: string, width: number): string[] {
  const parts: string[] = [];
  for (let from = 0; from < text.length || from === 0; from += width) parts.push(text.slice(from, from + width));
  return parts;
}

/** Columns left of the output, with a sign where the eye should go. */
const GUTTER = 2;

function outputLines({ output, shown, marks }: Exhibit, width: number): Line[] {
  const all = output.split("\n").map(plain);
  const indexes = shown ?? all.map((_, i) => i).slice(...withoutBlankEnds(all));
  const texts = narrowed(
    indexes.map((i) => all[i] ?? ""),
    width - GUTTER,
  );
  const lines: Line[] = [];
  let expected = shown ? 0 : indexes[0];
  indexes.forEach((index, i) => {
    if (index !== expected) lines.push(leftOut(index - (expected ?? 0)));
    expected = index + 1;
    const text = texts[i] ?? "";
    if (text === "") {
      // One empty line parts as well as two.
      if (i > 0 && texts[i - 1] !== "") lines.push([]);
      return;
    }
    const marked = marks.some((mark) => text.includes(mark));
    folded(text, width - GUTTER).forEach((part, j) => {
      lines.push([{ text: marked && j === 0 ? "▸ " : "  ", tone: "accent" }, ...emphasised(part, marks)]);
    });
  });
  if (shown && expected !== all.length) lines.push(leftOut(all.length - (expected ?? 0)));
  return lines;
}

const leftOut = (count: number): Line => [{ text: `  ⋮ ${count} line${count === 1 ? "" : "s"}`, tone: "dim" }];

/** First and last line that are not empty, as slice wants them. */
function withoutBlankEnds(lines: readonly string[]): [number, number] {
  const first = lines.findIndex((line) => line.trim() !== "");
  const last = lines.findLastIndex((line) => line.trim() !== "");
  return [Math.max(0, first), last + 1];
}

/** A line as it may be sent to a terminal, with spaces for tabs. */
function plain(line: string): string {
  let text = "";
  for (const character of line.trimEnd()) {
    text += character === "\t" ? " ".repeat(TAB - (text.length % TAB)) : visible(character);
  }
  return text;
}

/** Lines with less room between their columns, where one of them is too long otherwise; each table for itself. */
function narrowed(lines: readonly string[], width: number): readonly string[] {
  const tables: string[][] = [[]];
  for (const line of lines) {
    if (line === "") tables.push([]);
    (tables.at(-1) as string[]).push(line);
  }
  return tables.flatMap((table) => (table.some(({ length }) => length > width) ? narrowedTable(table) : table));
}

function narrowedTable(lines: readonly string[]): string[] {
  const isHeading = (line: string): boolean => line.endsWith(":");
  const rows = lines.filter((line) => !isHeading(line));
  const longest = Math.max(0, ...rows.map(({ length }) => length));
  const blank = Array.from({ length: longest }, (_, at) => rows.every((row) => (row[at] ?? " ") === " "));
  const kept = blank.flatMap((is, at) => (is && blank[at - 1] && blank[at - 2] ? [] : [at]));
  return lines.map((line) =>
    isHeading(line)
      ? line
      : kept
          .map((at) => line[at] ?? "")
          .join("")
          .trimEnd(),
  );
}

/** Most of a line's width that what hangs under a column may leave free. */
const HANG = 0.6;

/** A line in parts that fit, those behind the first under the column in which it was broken. */
function folded(line: string, width: number): string[] {
  const parts: string[] = [];
  let rest = line;
  let hang: number | undefined;
  while (rest.length > width) {
    const head = rest.slice(0, width + 1);
    hang ??= hangOf(head, width);
    const space = head.lastIndexOf(" ");
    const at = space > hang ? space : width;
    parts.push(rest.slice(0, at).trimEnd());
    rest = " ".repeat(hang) + rest.slice(at).trimStart();
  }
  parts.push(rest);
  return parts;
}

function hangOf(head: string, width: number): number {
  const columns = [...head.matchAll(/\S( {2,})(?=\S)/g)].map(({ index, 0: gap }) => index + gap.length);
  const indent = head.length - head.trimStart().length;
  return columns.findLast((column) => column <= width * HANG) ?? Math.min(indent + 4, Math.floor(width / 2));
}

/** A text with the marks in it emphasised. */
function emphasised(text: string, marks: readonly string[]): Line {
  for (const mark of marks) {
    const at = mark === "" ? -1 : text.indexOf(mark);
    if (at < 0) continue;
    return [
      ...emphasised(text.slice(0, at), marks),
      { text: mark, tone: "accent" },
      ...emphasised(text.slice(at + mark.length), marks),
    ];
  }
  return text === "" ? [] : [{ text }];
}

/** Commands for later, each with its meaning beside or, where it is narrow, under it. */
function onwardLines(rows: readonly (readonly [string, string])[], width: number): Line[] {
  const commands = Math.max(...rows.map(([command]) => command.length));
  const beside = rows.every(([, meaning]) => 4 + commands + 2 + meaning.length <= width);
  return rows.flatMap(([command, meaning]): Line[] => {
    if (beside) {
      return [[{ text: "  $ ", tone: "dim" }, { text: command.padEnd(commands + 2), tone: "bold" }, { text: meaning }]];
    }
    const lines = commandLines(command, width - 4).map(
      (text, i): Line => [
        { text: i === 0 ? "  $ " : "    ", tone: "dim" },
        { text, tone: "bold" },
      ],
    );
    return [...lines, ...prose(meaning, width, "      ")];
  });
}
