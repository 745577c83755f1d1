import { hexBytes, paddedHex } from "../bytes/hex.js";
import type { DisasmBlock, DisasmLine, DisasmResult } from "../verbs/disasm.js";
import { plainStyle, type Style } from "./style.js";
import { type Cell, table } from "./table.js";
import { visible } from "./visible.js";

/** Most lanes of branches beside one function: more would hide the code. */
const MAX_LANES = 8;

/** Most branches that are drawn in one function, the shortest first: that bounds the work on hostile code. */
const MAX_ARROWS = 400;

/** A branch inside a block, from line to line. */
interface Arrow {
  readonly from: number;
  readonly to: number;
}

/** The branches of a block that stay inside it. */
function arrowsOf(lines: readonly DisasmLine[]): Arrow[] {
  const lineAt = new Map(lines.map(({ instruction }, i) => [instruction.address, i]));
  return lines.flatMap(({ instruction }, from) => {
    if (instruction.flow !== "jump" && instruction.flow !== "branch") return [];
    const to = instruction.target === undefined ? undefined : lineAt.get(instruction.target);
    return to === undefined || to === from ? [] : [{ from, to }];
  });
}

/**
 * Draws branches as lines to the left of the code, one string a line. Short branches take the lanes next to the code;
 * a branch that finds no free lane is left out.
 */
function drawArrows(lines: readonly DisasmLine[]): string[] {
  const arrows = arrowsOf(lines)
    .sort((a, b) => Math.abs(a.to - a.from) - Math.abs(b.to - b.from))
    .slice(0, MAX_ARROWS);
  const lanes: Arrow[][] = [];
  for (const arrow of arrows) {
    const [low, high] = span(arrow);
    const free = (lane: Arrow[]) =>
      lane.every((other) => {
        const [otherLow, otherHigh] = span(other);
        return high < otherLow || low > otherHigh;
      });
    const lane = lanes.find(free);
    if (lane) lane.push(arrow);
    else if (lanes.length < MAX_LANES) lanes.push([arrow]);
  }
  if (lanes.length === 0) return lines.map(() => "");
  const width = lanes.length + 2;
  const grid = lines.map(() => Array.from({ length: width }, () => " "));
  lanes.forEach((lane, depth) => {
    const column = lanes.length - 1 - depth;
    for (const arrow of lane) draw(grid, arrow, column, width);
  });
  return grid.map((cells) => cells.join(""));
}

function span({ from, to }: Arrow): [low: number, high: number] {
  return from < to ? [from, to] : [to, from];
}

function draw(grid: string[][], arrow: Arrow, column: number, width: number): void {
  const [low, high] = span(arrow);
  for (let line = low; line <= high; line++) {
    const cells = grid[line] as string[];
    const isEnd = line === low || line === high;
    cells[column] = line === low ? "╭" : line === high ? "╰" : cells[column] === "─" ? "┼" : "│";
    if (!isEnd) continue;
    for (let x = column + 1; x < width - 1; x++)
      cells[x] = cells[x] === "│" ? "┼" : cells[x] === " " ? "─" : (cells[x] as string);
    cells[width - 1] = line === arrow.to ? "▶" : cells[width - 1] === "▶" ? "▶" : "─";
  }
}

/** What stands behind an instruction: the kernel's data that it reads. */
function dataComment({ data }: DisasmLine): string {
  if (!data) return "";
  return `; ${data.mapping ? `${data.mapping}: ` : ""}${data.kind === "unknown" ? "data of the kernel" : data.kind}`;
}

function renderBlock(block: DisasmBlock, bias: bigint, width: number, style: Style): string {
  const arrows = drawArrows(block.lines);
  const [name, ...aliases] = block.names;
  const title = name === undefined ? `(${block.section ?? "code"} that no symbol names)` : name;
  const heading = `${style.number(paddedHex(block.start + bias, width))} ${style.accent(visible(title))}${
    aliases.length > 0 ? style.dim(visible(` (${aliases.join(", ")})`)) : ""
  }:\n`;
  return (
    heading +
    table(
      block.lines.map((line, i): Cell[] => [
        { text: (line.instruction.address + bias).toString(16).padStart(width), style: "number" },
        { text: hexBytes(line.instruction.bytes, " "), style: "dim" },
        { text: arrows[i] as string, style: "name" },
        { text: line.text, style: line.instruction.flow === "gate" ? "accent" : "bold" },
        { text: dataComment(line), style: "dim" },
      ]),
      { style },
    )
  );
}

/** The disassembly, annotated: names, branches as arrows, and what is read of the kernel's data. */
export function renderDisasm(result: DisasmResult, style: Style = plainStyle): string {
  const bias = result.bias ?? 0n;
  const ends = result.blocks.map(({ end }) => (end + bias).toString(16).length);
  const width = Math.max(4, ...ends);
  return result.blocks.map((block) => renderBlock(block, bias, width, style)).join("\n");
}
