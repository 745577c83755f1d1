import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { addressBars } from "../../src/render/address-map.js";
import { visible } from "../../src/render/html/markup.js";
import { renderReportHtml } from "../../src/render/html/page.js";
import { host } from "../../src/targets/host.js";
import { resolveTarget } from "../../src/targets/resolve.js";
import { imageTarget, type Target } from "../../src/targets/target.js";
import type { VdsoLocation } from "../../src/vdso/locate.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { type ReportPart, report } from "../../src/verbs/report.js";
import { imageBytes } from "../support/images.js";
import { runsHere } from "../support/native.js";
import { needs } from "../support/referee.js";
import { i386Maps, stillProcess } from "../support/still-process.js";

const CHROMIUM = "/usr/bin/chromium";
const WIDTHS = [400, 800, 1600];
const EVIL = `<script>document.title = "taken"</script><img src="http://127.0.0.1:9/x" onerror="document.title = 1">\u202e\n`;

async function partOf(target: Target): Promise<ReportPart> {
  try {
    return await report(target, ({ abi }) => decoderFor(abi));
  } finally {
    await target.close();
  }
}

/** A page in the browser, and what it did that a page which stands alone does not do. */
interface Opened {
  readonly page: Page;
  readonly deeds: string[];
}

describe.skipIf(!needs("chromium", "chromium"))("the report in a browser", () => {
  const scratch = mkdtempSync(join(tmpdir(), "html-report-"));
  let browser: Browser;
  beforeAll(async () => {
    browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: [
        ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
        ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
      ],
    });
  });
  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
  });
  afterAll(async () => {
    await browser?.close();
    rmSync(scratch, { recursive: true, force: true });
  });

  async function open(parts: readonly ReportPart[], colorScheme: "light" | "dark" = "light"): Promise<Opened> {
    const path = join(scratch, "report.html");
    writeFileSync(path, renderReportHtml({ host: host(), parts }));
    const url = pathToFileURL(path).href;
    const context = await browser.newContext({ colorScheme });
    const page = await context.newPage();
    const deeds: string[] = [];
    page.on("console", (message) => deeds.push(`console: ${message.text()}`));
    page.on("pageerror", (error) => deeds.push(`error: ${error.message}`));
    page.on("dialog", (dialog) => deeds.push(`dialog: ${dialog.message()}`));
    context.on("request", (request) => {
      if (request.url() !== url) deeds.push(`request: ${request.url().slice(0, 100)}`);
    });
    await page.goto(url);
    return { page, deeds };
  }

  async function expectDrawing(page: Page, mappings: Parameters<typeof addressBars>[0], location: VdsoLocation) {
    const zoom = addressBars(mappings, location)[1];
    if (!zoom) throw new Error("no drawing of what is around the vDSO");
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      const drawing = page.locator("svg.map").first();
      const scale = await drawing.locator(".bar-zoom .space").evaluate((box) => box.getBBox().width);
      expect(scale).toBeGreaterThan(width * 0.5);
      const boxes = drawing.locator(".bar-zoom .region.vdso rect");
      expect(await boxes.count()).toBe(location.mappings.length);
      const drawn = await boxes.evaluateAll((all) => all.map((box) => [box.getBBox().x, box.getBBox().width]));
      location.mappings.forEach(({ start, end }, i) => {
        const [x, breadth] = drawn[i] as [number, number];
        const span = Number(zoom.end - zoom.start);
        expect(x).toBeCloseTo((Number(start - zoom.start) / span) * scale, 1);
        expect(breadth).toBeCloseTo((Number(end - start) / span) * scale, 1);
      });
      const labels = await drawing.locator("text.label").evaluateAll((all) =>
        all.map((label) => {
          const { x, y, width: breadth, height } = label.getBBox();
          return { text: label.textContent, left: x, right: x + breadth, top: y, bottom: y + height };
        }),
      );
      for (const [i, one] of labels.entries()) {
        expect(one.left, `${one.text} at ${width}`).toBeGreaterThanOrEqual(0);
        expect(one.right, `${one.text} at ${width}`).toBeLessThanOrEqual(scale + 1);
        for (const other of labels.slice(i + 1)) {
          const apart =
            one.right <= other.left ||
            other.right <= one.left ||
            one.bottom <= other.top + 2 ||
            other.bottom <= one.top + 2;
          expect(apart, `${one.text} and ${other.text} at ${width}`).toBe(true);
        }
      }
    }
  }

  async function expectNoOverflow(page: Page) {
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      expect(await page.evaluate(() => document.documentElement.scrollWidth), `at ${width}`).toBe(width);
    }
  }

  it("shows a live process, an i386 one and files, and does nothing else", async () => {
    const live = await partOf(await resolveTarget("self"));
    const still = await partOf(stillProcess());
    const files = ["686__pentium3__i386", "arm64__max__arm64"].map((name) => imageTarget(name, imageBytes(name)));
    const { page, deeds } = await open([live, still, ...(await Promise.all(files.map(partOf)))]);
    await expectNoOverflow(page);
    expect(await page.locator("section.part").count()).toBe(4);
    expect(await page.locator("#part-2 h2").textContent()).toBe("linux-gate.so.1 i386");
    expect(await page.getByRole("table", { name: /__kernel_vsyscall/ }).count()).toBe(2);
    expect(await page.getByRole("img", { name: "Where the vDSO lies in the address space" }).count()).toBe(2);
    // Laid out as blocks on a narrow page, it has to stay a table for those who hear it.
    await page.setViewportSize({ width: 400, height: 900 });
    expect(await page.getByRole("columnheader", { name: "version" }).count()).toBe(4);
    expect(deeds).toEqual([]);
  });

  it("draws a live process to scale, with labels that do not overlap", async () => {
    const part = await partOf(await resolveTarget("self"));
    const { page, deeds } = await open([part]);
    const { mappings, location } = part.process ?? {};
    if (!mappings || !location) throw new Error("this process has no vDSO");
    await expectDrawing(page, mappings, location);
    expect(deeds).toEqual([]);
  });

  it("draws an i386 process whose vDSO is in two pieces to scale", async () => {
    const maps = i386Maps.flatMap((line) =>
      line.includes("[vdso]")
        ? ["f7f72000-f7f73000 r-xp 00000000 00:00 0 [vdso]", "f7f73000-f7f74000 r--p 00000000 00:00 0 [vdso]"]
        : [line],
    );
    const part = await partOf(stillProcess({ maps }));
    const { page } = await open([part]);
    const { mappings, location } = part.process ?? {};
    if (!mappings || !location) throw new Error("no vDSO");
    expect(location.mappings).toHaveLength(2);
    await expectDrawing(page, mappings, location);
  });

  // Where the kernel runs none, that page is made in a guest (i386.test.ts).
  if (runsHere("i386")) {
    it("shows a fresh i386 process to scale", async () => {
      const part = await partOf(await resolveTarget("i386"));
      const { page, deeds } = await open([part]);
      const { mappings, location } = part.process ?? {};
      if (!mappings || !location) throw new Error("the fresh process has no vDSO");
      await expectDrawing(page, mappings, location);
      await expectNoOverflow(page);
      expect(await page.locator("#part-1 h2").textContent()).toBe("linux-gate.so.1 i386");
      expect(deeds).toEqual([]);
    });
  }

  it("shows hostile names as text", async () => {
    const name = EVIL.replace(/\n/g, "\\012");
    const maps = [
      ...i386Maps.slice(0, 5),
      `f7f60000-f7f61000 r-xp 00000000 00:00 1 /tmp/${name}`,
      `f7f62000-f7f63000 r-xp 00000000 00:00 1 /${"x".repeat(4000)}`,
      ...i386Maps.slice(6),
    ];
    const notes = [EVIL, "y".repeat(4000)];
    const { page, deeds } = await open([await partOf(stillProcess({ name: `process 1 (${EVIL})`, maps, notes }))]);
    expect(await page.locator("p.target").textContent()).toBe(visible(`process 1 (${EVIL})`));
    expect(await page.title()).toBe("linux-gate.so.1 · linux-gate");
    expect(await page.locator("script, img, iframe").count()).toBe(0);
    await expectNoOverflow(page);
    expect(deeds).toEqual([]);
  });

  it("follows the colours that the reader prefers, and is light on paper", async () => {
    const parts = [await partOf(stillProcess())];
    const lightness = async (page: Page) => {
      const color = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      return Math.min(...(color.match(/\d+/g) ?? []).map(Number));
    };
    const { page: light } = await open(parts, "light");
    expect(await lightness(light)).toBe(255);
    const { page: dark } = await open(parts, "dark");
    expect(await lightness(dark)).toBeLessThan(40);
    await dark.emulateMedia({ media: "print" });
    expect(await lightness(dark)).toBe(255);
  });
});
