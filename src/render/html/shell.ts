import { html, Markup, type Part } from "./markup.js";
import { STYLE_SHEET } from "./style.js";

/** Nothing but what is in the page itself: a name that would load something cannot, even if it got into the markup. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/** A mark of its own, so that a browser asks no server for one. */
const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M1 15V5l7-4 7 4v10h-4V8H5v7z' fill='%23b8430f'/%3E%3C/svg%3E";

/** What a page is made of. */
export interface Page {
  /** What a browser calls it. */
  readonly title: string;
  /** The program's name, and what the page is about. */
  readonly heading: readonly [tool: string, tagline: string];
  /** The machine, in facts. */
  readonly machine?: readonly string[];
  /** What comes before the main part: links to its sections. */
  readonly contents?: Part;
  readonly main: Part;
  /** Rules beyond those of all pages. */
  readonly style?: string;
}

/** A page that stands alone: no script, nothing loaded, light and dark. */
export function pageText({ title, heading, machine, contents, main, style = "" }: Page): string {
  const [tool, tagline] = heading;
  return html`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<link rel="icon" href="${ICON}">
<style>${new Markup(STYLE_SHEET + style)}</style>
</head>
<body>
<header class="page">
<h1>${tool}</h1>
<p class="tagline">${tagline}</p>
${machine && html`<p class="machine">${machine.map((words) => html`<span>${words}</span> `)}</p>\n`}</header>
${contents}<main>
${main}</main>
</body>
</html>
`.text;
}
