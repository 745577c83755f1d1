import { html, type Markup, type Part } from "./markup.js";

/** A column: its heading and a class for its cells (`number`, `code`, `prose`). */
interface Column {
  readonly heading: string;
  readonly className: string;
}

/** A row: its cells, of which the first names it, and a class where it stands out. */
export interface Row {
  readonly cells: readonly Part[];
  readonly className?: string;
}

/**
 * A table with its caption. `stacked`: on a narrow page each row becomes a block with its headings beside the cells.
 *
 * The roles say again what the elements say already: browsers forget that a table is one where the style sheet lays it
 * out as something else.
 */
export function htmlTable(
  caption: string,
  columns: readonly Column[],
  rows: readonly Row[],
  className: "stacked" | "listing",
): Markup {
  return html`<table class="${className}" role="table">
<caption>${caption}</caption>
<thead role="rowgroup"><tr role="row">${columns.map(
    ({ heading, className: kind }) => html`<th scope="col" role="columnheader" class="${kind}">${heading}</th>`,
  )}</tr></thead>
<tbody role="rowgroup">
${rows.map(
  (row) => html`<tr role="row"${row.className !== undefined && html` class="${row.className}"`}>${row.cells.map(
    (cell, i) => {
      const { heading, className: kind } = columns[i] as Column;
      return i === 0
        ? html`<th scope="row" role="rowheader" class="${kind}">${cell}</th>`
        : html`<td role="cell" class="${kind}" data-heading="${heading}">${cell}</td>`;
    },
  )}</tr>
`,
)}</tbody>
</table>
`;
}
