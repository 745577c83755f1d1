import { plainStyle, type Style } from "./style.js";
import { visible } from "./visible.js";

/** A cell: its text, and how it is emphasised once it has been padded. */
export interface Cell {
  readonly text: string;
  readonly style?: keyof Style;
}

/** How the columns of a table are laid out. */
export interface TableOptions {
  /** Columns whose text ends at the right edge: numbers. */
  readonly right?: readonly number[];
  readonly header?: readonly string[];
  readonly indent?: string;
  readonly style?: Style;
}

/**
 * Rows in aligned columns, two spaces apart; the last column is not padded. Ends with a newline unless empty. What a
 * terminal would obey in a cell is made visible.
 */
export function table(rows: readonly (readonly (Cell | string)[])[], options: TableOptions = {}): string {
  const style = options.style ?? plainStyle;
  const right = new Set(options.right);
  const cells = rows.map((row) =>
    row.map((cell) => (typeof cell === "string" ? { text: visible(cell) } : { ...cell, text: visible(cell.text) })),
  );
  const all: (readonly Cell[])[] = options.header
    ? [options.header.map((text) => ({ text, style: "dim" as const })), ...cells]
    : cells;
  const widths: number[] = [];
  for (const row of all) {
    row.forEach(({ text }, i) => {
      widths[i] = Math.max(widths[i] ?? 0, text.length);
    });
  }
  return all
    .map((row) => {
      const line = row.map((cell, i) => {
        const width = widths[i] as number;
        const last = i === row.length - 1;
        const space = " ".repeat(width - cell.text.length);
        const text = cell.style ? style[cell.style](cell.text) : cell.text;
        if (right.has(i)) return space + text;
        return last ? text : text + space;
      });
      return `${options.indent ?? ""}${line.join("  ").trimEnd()}\n`;
    })
    .join("");
}

/** `8 KiB`, `2.5 MiB`: sizes as people say them. */
export function humanSize(bytes: number | bigint): string {
  let value = Number(bytes);
  for (const unit of ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]) {
    if (value < 1024) return `${Number.isInteger(value) ? value : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} EiB`;
}
