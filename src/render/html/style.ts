/** The style sheet of the report: colours for light and dark, layouts for narrow and wide, and for paper. */
export const STYLE_SHEET = `
:root {
  --paper: #ffffff; --raised: #f6f7f9; --ink: #1b1f24; --soft: #57606b; --rule: #dde1e6; --accent: #a63c0b;
  --tint: #fdf1ea; --bad: #b3261e; --bad-tint: #fdeeed; --link: #0b57c2;
  --vdso: #c2470d; --data: #d9930f; --program: #2f6fde; --library: #178a7a; --heap: #8250df; --stack: #c7387f;
  --other: #9aa4b1; --space: #eceff3; --wedge: #c2470d1c;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --raised: #1c2026; --ink: #e4e8ed; --soft: #9da7b3; --rule: #313841; --accent: #ff9d66;
    --tint: #2b2019; --bad: #ff8a80; --bad-tint: #33201f; --link: #7ab4ff;
    --vdso: #ff8a47; --data: #e9b949; --program: #6ba1ff; --library: #3fbfae; --heap: #b28cff; --stack: #ff7fb6;
    --other: #6b7684; --space: #252b32; --wedge: #ff8a4726;
  }
}
*, ::before, ::after { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: clamp(1rem, 3vw, 2.5rem) clamp(1rem, 4vw, 3rem) 4rem; max-width: 76rem;
  background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: .15em; }
h1, h2, h3, h4, p, dl, dd, ul, figure { margin: 0; }
h1, h2, h3, h4 { line-height: 1.2; text-wrap: balance; }
h1 { font-size: 1.1rem; letter-spacing: .01em; color: var(--accent); }
.tagline { font-size: clamp(1.5rem, 1.1rem + 1.8vw, 2.3rem); font-weight: 650; line-height: 1.15; text-wrap: balance; }
.tagline::first-letter { text-transform: uppercase; }
.machine { margin-top: .6rem; color: var(--soft); }
.machine span + span::before { content: "· "; }
nav { margin-top: 1.25rem; }
nav ul { list-style: none; padding: 0; display: grid; gap: .3rem; }
nav .target, header .target { color: var(--soft); }
.part { margin-top: 2.5rem; padding-top: 1.5rem; border-top: 2px solid var(--ink); }
h2 { font-size: 1.7rem; }
.abi {
  display: inline-block; padding: .1em .5em; border: 1px solid currentColor; border-radius: .4em; color: var(--accent);
  font: 600 .875rem/1.3 var(--mono); vertical-align: middle; letter-spacing: 0;
}
nav .abi { font-size: .75rem; }
h3 { font-size: 1.2rem; margin: 2.25rem 0 .75rem; }
.remark { margin-top: .9rem; padding: .6rem .9rem; border-left: 3px solid var(--soft); background: var(--raised); }
.remark.bad { border-color: var(--bad); background: var(--bad-tint); }
.remark.bad strong { color: var(--bad); }
.remark strong::after { content: ":"; }

.facts { margin-top: 1.1rem; display: grid; gap: .35rem; }
.facts div { display: grid; grid-template-columns: 6rem minmax(0, 1fr); column-gap: 1rem; align-items: baseline; }
.facts dt { color: var(--soft); font-size: .875rem; grid-row: 1 / span 2; }
.facts dd.wrong { color: var(--bad); font-weight: 600; }
.facts dd { grid-column: 2; font: .875rem/1.5 var(--mono); }

table { width: 100%; border-collapse: collapse; font-size: .9rem; line-height: 1.4; }
caption { padding-bottom: .4rem; text-align: left; color: var(--soft); font-size: .875rem; }
th, td { padding: .35rem 1.25rem .35rem 0; text-align: left; vertical-align: baseline; font-weight: 400; }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-bottom: 1px solid var(--soft); color: var(--soft); font-size: .8125rem; white-space: nowrap; }
tbody th, tbody td { border-bottom: 1px solid var(--rule); }
tbody .code, tbody .name { font-family: var(--mono); font-size: .84rem; }
tbody .name { min-width: 9.5rem; font-weight: 600; }
.number { text-align: right; white-space: nowrap; }
.alias { color: var(--soft); font-weight: 400; }
.idle > * { color: var(--soft); }
.ours > * { background: var(--tint); }
.ours > .name, .ours > td.code, .ours > th.code { color: var(--accent); font-weight: 600; }
.listing .ours > .prose { font-weight: 600; }
th a { text-decoration: none; }
th a:hover, th a:focus-visible { text-decoration: underline; }
.stacked .code { white-space: nowrap; }

.listing th.code, .listing td.code { white-space: nowrap; }
.listing th, .listing td { padding-left: .5rem; padding-right: .5rem; }
.listing tbody th, .listing .bytes { color: var(--soft); }
.listing .prose { width: 99%; }
.answer { max-width: 80ch; margin-top: 1rem; padding: .9rem 1.1rem; border-left: 4px solid var(--accent); background: var(--tint); }
.answer p + p { margin-top: .6rem; }
.answer .first { font-weight: 650; font-size: 1.1rem; line-height: 1.4; }

.map figcaption { margin: .5rem 0 1.25rem; color: var(--soft); font-size: .8125rem; }
.key { display: inline-block; margin-right: .9rem; white-space: nowrap; }
.scale { display: block; }
.swatch {
  display: inline-block; width: .75em; height: .75em; margin-right: .45em; border-radius: 2px; background: var(--other);
}
.swatch.vdso { background: var(--vdso); } .swatch.data { background: var(--data); }
.swatch.program { background: var(--program); } .swatch.library { background: var(--library); }
.swatch.heap { background: var(--heap); } .swatch.stack { background: var(--stack); }
svg.map { display: block; font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
svg text { fill: var(--ink); paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
svg .heading { fill: var(--soft); }
svg .axis { fill: var(--soft); font: 11px var(--mono); }
svg .label.vdso, svg .label.data { font-weight: 650; }
svg .space { fill: var(--space); }
svg .wedge { fill: var(--wedge); }
svg .wedge-edge { stroke: var(--vdso); stroke-width: 1px; stroke-dasharray: 3 3; }
svg .vdso { --kind: var(--vdso); } svg .data { --kind: var(--data); } svg .program { --kind: var(--program); }
svg .library { --kind: var(--library); } svg .heap { --kind: var(--heap); } svg .stack { --kind: var(--stack); }
svg .other { --kind: var(--other); }
svg .region rect { fill: var(--kind); }
svg .bar-zoom .region rect { stroke: var(--paper); stroke-width: 1px; }
svg .mark, svg .leader { stroke: var(--kind); }
svg .region:hover { opacity: .8; }

.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); gap: 1.1rem 2rem; }
.cards article { padding-left: .9rem; border-left: 2px solid var(--rule); }
.cards article:target { border-color: var(--accent); }
h4 { font: 600 .9375rem/1.35 var(--mono); }
.meta { margin: .1rem 0 .25rem; color: var(--soft); font-size: .8125rem; }

@media screen and (max-width: 46rem) {
  .facts div { grid-template-columns: 1fr; }
  .facts dt { grid-row: auto; }
  .facts dd { grid-column: 1; }
  .facts { gap: .6rem; }
  .stacked, .stacked tbody { display: block; }
  .stacked thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .stacked caption { display: block; }
  .stacked tr { display: block; padding: .5rem 0; border-top: 1px solid var(--rule); }
  .stacked tr.ours { padding: .5rem .6rem; background: var(--tint); }
  .stacked tbody th, .stacked td { display: inline-block; padding: 0 1.1rem 0 0; border: 0; text-align: left; white-space: normal; }
  .stacked tbody th, .stacked .prose { display: block; padding-right: 0; }
  .stacked td:empty { display: none; }
  .stacked td::before {
    content: attr(data-heading) "\\2002"; color: var(--soft); font: .8125rem/1.5 system-ui, sans-serif;
  }
  .listing, .listing tbody, .listing caption { display: block; }
  .listing thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .listing tr {
    display: grid; grid-template-columns: 4.75rem minmax(3.25rem, max-content) 1fr; padding: .4rem 0;
    border-top: 1px solid var(--rule);
  }
  .listing th, .listing td { padding: 0 .6rem 0 0; border: 0; }
  .listing .prose { grid-column: 1 / -1; width: auto; }
  .listing tr.ours { padding: .4rem .6rem; background: var(--tint); }
}
@media print {
  @page { margin: 15mm; }
  html { color-scheme: light; font-size: 9.5pt; }
  body { max-width: none; padding: 0; }
  nav { display: none; }
  a { color: inherit; text-decoration: none; }
  .part + .part { break-before: page; }
  h2, h3, h4, caption { break-after: avoid; }
  tr, figure, article, .answer, .remark { break-inside: avoid; }
  thead { display: table-header-group; }
  svg, .swatch, .answer, .ours > *, .remark { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`;
