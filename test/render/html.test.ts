import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { html, Markup, visible } from "../../src/render/html/markup.js";
import { renderReportHtml } from "../../src/render/html/page.js";
import { STYLE_SHEET } from "../../src/render/html/style.js";
import { type Report, renderReport } from "../../src/render/report.js";
import { imageTarget, type Target } from "../../src/targets/target.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { type ReportPart, report } from "../../src/verbs/report.js";
import { imageBytes, imageNames } from "../support/images.js";
import { I386_BASE, i386Maps, stillProcess } from "../support/still-process.js";

const HOST = { system: "Linux 6.18.44", architecture: "x64", processor: "AMD EPYC", clocksource: "tsc" };
const EVIL = `<script>alert(1)</script>"' onload=x> &lt; ]]> --> \u001b[31m\u202egnp\n`;

const partOf = (target: Target): Promise<ReportPart> => report(target, ({ abi }) => decoderFor(abi));
const fileOf = (name: string): Promise<ReportPart> => partOf(imageTarget(name, imageBytes(name)));

const VOID = new Set(["meta", "link", "wbr"]);
/** A tag whose attributes are all quoted, or text. Anything else is no page of ours. */
const TOKEN = /<(\/?)([a-z][a-z0-9]*)((?: [a-zA-Z][a-zA-Z0-9-]*="[^"<>]*")*)(\/?)>|[^<>]+/gy;

/** The tags of a page in their order; throws where it is not well-formed. */
function tagsOf(page: string): string[] {
  const tags: string[] = [];
  const open: string[] = [];
  const [doctype, rest] = [page.slice(0, 15), page.slice(15)];
  expect(doctype).toBe("<!DOCTYPE html>");
  // The style sheet is no markup; in it `>` is a combinator.
  const body = rest.replace(STYLE_SHEET, "");
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < body.length) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(body);
    if (!match) throw new Error(`not well-formed: ${JSON.stringify(body.slice(at, at + 60))}`);
    const [, closes, name, , empty] = match;
    if (name === undefined) continue;
    tags.push(`${closes}${name}`);
    if (closes) expect(open.pop()).toBe(name);
    else if (!empty && !VOID.has(name)) open.push(name);
  }
  expect(open).toEqual([]);
  return tags;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" };

/** What a reader of the page sees. */
function textOf(page: string): string {
  return page
    .replace(STYLE_SHEET, "")
    .replace(/<wbr>/g, "")
    .replace(/<[^>]*>/g, " ")
    .replace(/&(\w+|#39);/g, (_, name: string) => ENTITIES[name] ?? `&${name};`);
}

/** The words of the text report; what draws the bars there is drawn otherwise on the page. */
function factsOf(whole: Report): Set<string> {
  const lines = renderReport(whole)
    .split("\n")
    .filter((line) => !/[█▓▒·]{20}|^ +█ vDSO/.test(line));
  return new Set(
    lines
      .flatMap((line) => line.split(/\s+/))
      .map((word) => word.replace(/^[(─·]+|[),:;─·]+$/g, ""))
      .filter((word) => word !== ""),
  );
}

describe("markup", () => {
  it("escapes whatever is put into a template, and nothing twice", () => {
    expect(html`<p title="${'"<'}">${["a<b", html`<b>${"&"}</b>`, 1, undefined, false]}</p>`.text).toBe(
      '<p title="&quot;&lt;">a&lt;b<b>&amp;</b>1</p>',
    );
    expect(html`${new Markup("<hr>")}`.text).toBe("<hr>");
  });

  it("makes characters visible that a page would not show or that would reorder it", () => {
    expect(visible("a\nb\u001b[0m\u202ec\u200b\ud800d\u2028\uffff")).toBe(
      "a\\x0ab\\x1b[0m\\u{202e}c\\u{200b}\\u{d800}d\\u{2028}\\u{ffff}",
    );
    expect(visible("naïve 時計 👩")).toBe("naïve 時計 👩");
    expect(visible("x".repeat(10_000))).toHaveLength(4097);
  });
});

describe("the page", () => {
  it("has every fact of the text report, for every image", async () => {
    for (const name of imageNames) {
      const whole = { host: HOST, parts: [await fileOf(name)] };
      const text = textOf(renderReportHtml(whole)).toLowerCase();
      expect([...factsOf(whole)].filter((word) => !text.includes(word.toLowerCase()), name)).toEqual([]);
    }
  });

  it("has every fact of the text report, for a process", async () => {
    for (const options of [
      {},
      { sysinfo: I386_BASE + 1, notes: ["123 is a thread of process 4242"] },
      { maps: [...i386Maps.slice(0, -1), "f8000000-f8002000 r-xp 00000000 00:00 0 [vdso]"] },
      { maps: i386Maps.filter((line) => !line.includes("vdso")) },
    ]) {
      const whole = { host: HOST, parts: [await partOf(stillProcess(options))] };
      const text = textOf(renderReportHtml(whole)).toLowerCase();
      expect([...factsOf(whole)].filter((word) => !text.includes(word.toLowerCase()))).toEqual([]);
    }
  });

  it("says why there is nothing to show", () => {
    const part = { target: "process 1", missing: [{ what: "maps", why: "permission denied" }], notes: [] } as const;
    const page = renderReportHtml({ parts: [part, { ...part, missing: [], problem: "the image is damaged" }] });
    tagsOf(page);
    expect(textOf(page)).toMatch(/maps unreadable\s+permission denied/);
    expect(textOf(page)).toMatch(/Problem\s+the image is damaged/);
  });

  it("is well-formed, for every image and a process", async () => {
    const parts = [await partOf(stillProcess()), ...(await Promise.all(imageNames.map(fileOf)))];
    const page = renderReportHtml({ host: HOST, parts });
    const tags = tagsOf(page);
    expect(tags.filter((tag) => tag === "section")).toHaveLength(parts.length);
    const ids = [...page.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const [, id] of page.matchAll(/ href="#([^"]*)"/g)) expect(ids).toContain(id);
    for (const [, list] of page.matchAll(/ aria-labelledby="([^"]*)"/g)) {
      for (const id of (list as string).split(" ")) expect(ids).toContain(id);
    }
  });

  it("loads nothing and runs nothing", async () => {
    const page = renderReportHtml({ host: HOST, parts: [await partOf(stillProcess())] });
    expect(page).toContain(
      `<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;; img-src data:">`,
    );
    expect(page).not.toMatch(/<script|<iframe|<img|<object|<embed|@import|url\(| on[a-z]+="/i);
    const links = [...page.matchAll(/ (?:href|src|action)="([^"]*)"/g)].map(([, link]) => link);
    expect(links.filter((link) => !/^(#|data:image\/svg\+xml,)/.test(link as string))).toEqual([]);
  });

  it("keeps hostile names of processes, files and machines out of its markup", async () => {
    const maps = [
      ...i386Maps.slice(0, 5),
      `f7f60000-f7f61000 r-xp 00000000 00:00 1 /tmp/${EVIL.replace(/\n/g, "\\012")}`,
      `f7f62000-f7f63000 r-xp 00000000 00:00 1 /tmp/${EVIL.replace(/\n/g, "\\012")}.so`,
      ...i386Maps.slice(6),
    ];
    const hostile = { name: `process 1 (${EVIL})`, maps, notes: [EVIL] };
    const tame = { name: "a", maps: maps.map((line) => line.replace(/\/tmp\/.*?(\.so)?$/, "/tmp/a$1")), notes: ["a"] };
    const page = async (words: string, options: typeof tame) =>
      renderReportHtml({
        host: { system: words, architecture: words, processor: words, clocksource: words },
        parts: [
          await partOf(stillProcess(options)),
          { target: words, missing: [{ what: "maps", why: words }], problem: words, notes: [words] },
        ],
      });
    const evil = await page(EVIL, hostile);
    expect(tagsOf(evil)).toEqual(tagsOf(await page("a", tame)));
    expect(textOf(evil)).toContain(
      `process 1 (<script>alert(1)</script>"' onload=x> &lt; ]]> --> \\x1b[31m\\u{202e}gnp\\x0a)`,
    );
    expect(evil).not.toMatch(/[^\P{C}\n]/u);
  });

  it("keeps hostile names of an image out of its markup", async () => {
    const bytes = imageBytes("host618__native__i386");
    const evil = `"><script x='`;
    let name = new TextDecoder("latin1").decode(bytes).indexOf("linux-gate.so.1");
    for (const character of evil) bytes[name++] = character.charCodeAt(0);
    const page = renderReportHtml({ parts: [await partOf(imageTarget(EVIL, bytes))] });
    expect(tagsOf(page)).not.toContain("script");
    expect(textOf(page)).toContain(evil);
  });

  it("has the same tags whatever a process is called", async () => {
    const part = await partOf(stillProcess());
    const pageOf = (target: string) => tagsOf(renderReportHtml({ parts: [{ ...part, target, notes: [target] }] }));
    const tags = pageOf("sleep");
    const markup = fc.constantFrom(
      "<",
      ">",
      "</",
      "&",
      "&lt",
      ";",
      '"',
      "'",
      "=",
      "script",
      "b",
      "!--",
      "\n",
      "\u202e",
    );
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "binary" }), fc.string({ unit: markup })), (target) => {
        expect(pageOf(target)).toEqual(tags);
      }),
      { numRuns: 50 },
    );
  });
});

describe("the drawing", () => {
  const drawingOf = async (maps: readonly string[]) => {
    const page = renderReportHtml({ parts: [await partOf(stillProcess({ maps }))] });
    return page.slice(page.indexOf("<svg"), page.lastIndexOf("</svg>"));
  };

  it("draws every mapping as wide as the scale says", async () => {
    const drawing = await drawingOf(i386Maps);
    // 32 KiB of image and data, eight times as wide around their middle.
    const [start, span] = [0xf7f50000, 0x40000];
    const boxes = [...drawing.matchAll(/<title>([^<]*)<\/title><rect x="([\d.]+)%" y="\d+" width="([\d.]+)%"/g)];
    const zoomed = boxes.filter(([, title]) => /^\[v/.test(title as string)).slice(-3);
    expect(zoomed.map(([, title]) => (title as string).split("\n"))).toEqual([
      ["[vvar]", "0xf7f6c000-0xf7f70000 r--p", "16 KiB"],
      ["[vvar_vclock]", "0xf7f70000-0xf7f72000 r--p", "8 KiB"],
      ["[vdso]", "0xf7f72000-0xf7f74000 r-xp", "8 KiB"],
    ]);
    for (const [, title, x, width] of zoomed) {
      const [from, to] = [...(title as string).matchAll(/0x([0-9a-f]+)/g)].map(([, digits]) => Number(`0x${digits}`));
      expect(Number(x)).toBeCloseTo((((from as number) - start) / span) * 100, 3);
      expect(Number(width)).toBeCloseTo((((to as number) - (from as number)) / span) * 100, 3);
    }
  });

  it("labels the vDSO, its data, stack, heap, program and libraries", async () => {
    const drawing = await drawingOf(i386Maps);
    const labels = [...drawing.matchAll(/<text class="label [^>]*>([^<]*)</g)].map(([, text]) => text);
    expect(labels.toSorted()).toEqual(
      [
        ...["program sleep", "heap", "libraries", "stack", "vDSO"],
        ...["[vvar] 16 KiB", "[vvar_vclock] 8 KiB", "[vdso] 8 KiB", "anonymous 8 KiB", "ld-linux.so.2 140 KiB"],
      ].toSorted(),
    );
  });

  it("stays small however many mappings there are", async () => {
    const many = Array.from({ length: 60_000 }, (_, i) => {
      const start = 0x10000000 + i * 0x2000;
      const name = i % 2 ? "" : `/tmp/${i % 4 ? "lib.so" : "x"}${i}`;
      return `${start.toString(16)}-${(start + 0x1000).toString(16)} r-xp 00000000 00:00 0 ${name}`;
    });
    const drawing = await drawingOf([...many, ...i386Maps.slice(3)]);
    expect(drawing.length).toBeLessThan(500_000);
  });
});

describe("the style sheet", () => {
  /** Relative luminance, as WCAG 2 defines it. */
  const luminance = (color: string): number => {
    const [r, g, b] = [1, 3, 5]
      .map((at) => Number.parseInt(color.slice(at, at + 2), 16) / 255)
      .map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)) as [
      number,
      number,
      number,
    ];
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a: string, b: string): number => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
    return (light + 0.05) / (dark + 0.05);
  };

  it.each(["light", "dark"])("has enough contrast when it is %s", (scheme) => {
    const rules = STYLE_SHEET.split("@media screen and (prefers-color-scheme: dark)");
    const colors = new Map(
      [...(rules[scheme === "light" ? 0 : 1] as string).matchAll(/--([a-z-]+): (#[0-9a-f]{6})\b/g)].map(
        ([, name, color]) => [name as string, color as string],
      ),
    );
    const of = (name: string): string => colors.get(name) as string;
    for (const paper of ["paper", "raised", "tint", "bad-tint"]) {
      for (const ink of ["ink", "soft", "accent", "bad", "link"]) {
        expect(contrast(of(ink), of(paper)), `${ink} on ${paper}`).toBeGreaterThanOrEqual(4.5);
      }
    }
    for (const kind of ["vdso", "program", "library", "heap", "stack"]) {
      expect(contrast(of(kind), of("space")), `${kind} on space`).toBeGreaterThanOrEqual(3);
    }
  });
});
