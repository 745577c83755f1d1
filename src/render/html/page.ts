import { machineWords, REPORT_TITLE, type Report } from "../report-facts.js";
import { html, type Markup } from "./markup.js";
import { partHtml, partTitle } from "./part.js";
import { pageText } from "./shell.js";

/**
 * The report as one page that stands alone: no script, nothing loaded, every text from elsewhere escaped. Reads like
 * the text report, with the address space as a drawing and what every function does in words.
 */
export function renderReportHtml(report: Report): string {
  const { host, parts } = report;
  const heading = REPORT_TITLE.split(": ") as [string, string];
  const titles = parts.map((part) => partTitle(part));
  return pageText({
    title: `${[...new Set(titles)].join(", ")} · ${heading[0]}`,
    heading,
    ...(host && { machine: machineWords(host) }),
    contents: parts.length > 1 && contents(report),
    main: parts.map((part, i) => partHtml(part, `part-${i + 1}`)),
  });
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
