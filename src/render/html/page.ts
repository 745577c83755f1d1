import { machineWords, REPORT_TITLE, type Report } from "../report-facts.js";
import { html, Markup } from "./markup.js";
import { partHtml, partTitle } from "./part.js";
import { STYLE_SHEET } from "./style.js";

/** Nothing but what is in the page itself: a name that would load something cannot, even if it got into the markup. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/** A mark of its own, so that a browser asks no server for one. */
const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M1 15V5l7-4 7 4v10h-4V8H5v7z' fill='%23b8430f'/%3E%3C/svg%3E";

/**
 * The report as one page that stands alone: no script, nothing loaded, every text from elsewhere escaped. Reads like
 * the text report, with the address space as a drawing and what every function does in words.
 */
export function renderReportHtml(report: Report): string {
  const { host, parts } = report;
  const [tool, tagline] = REPORT_TITLE.split(": ") as [string, string];
  const titles = parts.map((part) => partTitle(part));
  return html`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${[...new Set(titles)].join(", ")} · ${tool}</title>
<link rel="icon" href="${ICON}">
<style>${new Markup(STYLE_SHEET)}</style>
</head>
<body>
<header class="page">
<h1>${tool}</h1>
<p class="tagline">${tagline}</p>
${host && html`<p class="machine">${machineWords(host).map((words) => html`<span>${words}</span> `)}</p>\n`}</header>
${parts.length > 1 && contents(report)}<main>
${parts.map((part, i) => partHtml(part, `part-${i + 1}`))}</main>
</body>
</html>
`.text;
}

function contents({ parts }: Report): Markup {
  return html`<nav aria-label="Targets"><ul>
${parts.map((part, i) => {
  const { content, target } = part;
  return html`<li><a href="#part-${i + 1}">${partTitle(part)}</a>${
    content && html` <span class="abi">${content.image.abi}</span> <span class="target">${target}</span>`
  }</li>
`;
})}</ul></nav>
`;
}
