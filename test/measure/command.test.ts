import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { parserOptions, UsageError } from "../../src/cli/command.js";
import { command } from "../../src/cli/commands/bench.js";
import { Output, toJson } from "../../src/cli/output.js";
import { plainStyle } from "../../src/render/style.js";
import type { BenchResult } from "../../src/verbs/bench.js";
import { runsHere } from "../support/native.js";
import { needs } from "../support/referee.js";

const scratch = mkdtempSync(join(tmpdir(), "bench-command-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
afterEach(() => vi.unstubAllEnvs());

/** What a call of the verb wrote. */
class Written extends Output {
  readonly remarks: string[] = [];
  readonly values: BenchResult[] = [];
  written = "";
  constructor() {
    super(plainStyle);
  }
  override remark(text: string): void {
    this.remarks.push(text);
  }
  override aside(): void {}
  override json(value: object): void {
    this.values.push(value as BenchResult);
  }
  override text(text: string): void {
    this.written += text;
  }
}

/** Calls the verb with words as the shell has them. */
async function call(...words: string[]): Promise<{ status: number; output: Written }> {
  const { values, positionals } = parseArgs({ args: words, options: parserOptions(command), allowPositionals: true });
  const output = new Written();
  const status = await command.run({
    positionals,
    flag: (name) => values[name] === true,
    text: (name) => (typeof values[name] === "string" ? (values[name] as string) : undefined),
    output,
    json: values.json === true,
  });
  return { status, output };
}

describe("linux-gate bench, written wrongly", () => {
  it.each([
    [["arm"], /"arm": bench measures a fresh process of i386 or x86_64/],
    [["--time", "0"], /--time is "0": it wants seconds, 0.1 to 3600/],
    [["--time=-1"], /--time is "-1"/],
    [["--cpu", "1.5"], /--cpu is "1.5"/],
    [["--width", "20"], /--width is "20"/],
    [["--calls", "gettimeofdy"], /names none of null, clock_gettime\(REALTIME\)/],
    [["--json", "--html", "-"], /exclude each other/],
    [["--compare", "/no/such/file"], /\/no\/such\/file: cannot be read \(ENOENT\)/],
  ] as const)("%j says what is wrong before anything is measured", async (words, message) => {
    const failure = call(...words);
    await expect(failure).rejects.toThrow(UsageError);
    await expect(failure).rejects.toThrow(message);
  });

  it("refuses to compare with what is no earlier run, and names the file", async () => {
    const file = join(scratch, "odd.json");
    writeFileSync(file, '{"schema": 1}');
    await expect(call("--compare", file)).rejects.toThrow(`${file}: Cannot read an earlier run: it has no rows`);
  });
});

describe.skipIf(!runsHere("x86_64"))("linux-gate bench x86_64", () => {
  const few = ["x86_64", "--time", "0.1", "--calls", "null,MONOTONIC"];
  let result: BenchResult;
  const earlier = join(scratch, "earlier.json");
  beforeAll(async () => {
    const { output, status } = await call(...few, "--json");
    expect(status).toBe(0);
    result = output.values[0] as BenchResult;
    writeFileSync(earlier, toJson({ schema: 1, ...result }));
  });

  it("--json has the rows, what was refused, the controls and the machine", () => {
    const { rows, refused, abis, host, missing } = result;
    const keys = rows.map(({ abi, call: name, via }) => `${abi} ${name} ${via}`);
    expect(keys).toContain("x86_64 null syscall");
    expect(keys).toContain("x86_64 clock_gettime(MONOTONIC) vdso");
    expect(
      rows.every(({ nsMedian, nsLow, nsHigh, batches }) => [nsMedian, nsLow, nsHigh, batches].every(Number.isFinite)),
    ).toBe(true);
    expect(rows.find(({ via }) => via === "vdso")?.ratio).toBeGreaterThan(0);
    expect(abis[0]).toMatchObject({ abi: "x86_64", controls: { emptyReturn: { nsMedian: expect.any(Number) } } });
    expect(host).toMatchObject({ system: expect.stringMatching(/^Linux /), processors: expect.any(Number) });
    expect([missing, refused.every(({ refused: why }) => why !== "")]).toEqual([[], true]);
  });

  it("prints a table that fits the width, in ASCII where the locale has no more", async () => {
    vi.stubEnv("LC_ALL", "C.UTF-8");
    const { output } = await call(...few, "--width", "80");
    expect(output.written.split("\n").filter((line) => line.length > 80)).toEqual([]);
    expect(output.written).toMatch(/^null +syscall .*[█▏▎▍▌▋▊▉]$/m);
    vi.stubEnv("LC_ALL", "C");
    const ascii = (await call(...few, "--width", "80")).output.written;
    expect(ascii).toMatch(/^[\n -~]+$/);
    expect(ascii).toMatch(/^null +syscall .*#$/m);
  });

  /** The earlier run with all times multiplied. */
  function scaled(factor: number, more: object = {}): string {
    const file = join(scratch, `scaled-${factor}.json`);
    const rows = result.rows.map((row) => ({
      ...row,
      ...Object.fromEntries(
        (["nsMedian", "nsLow", "nsHigh", "nsP5"] as const).map((name) => [name, row[name] * factor]),
      ),
    }));
    writeFileSync(file, toJson({ schema: 1, ...result, rows, ...more }));
    return file;
  }

  it("--compare ends with 1 where calls became slower, and with 0 where they became faster", async () => {
    const slower = await call(...few, "--compare", scaled(0.1), "--json");
    expect(slower.status).toBe(1);
    const changes = slower.output.values[0]?.compared ?? [];
    expect(changes.find(({ call: name, via }) => name === "null" && via === "syscall")?.change).toBe("slower");
    const faster = await call(...few, "--compare", scaled(10));
    expect(faster.status).toBe(0);
    expect(faster.output.written).toMatch(/Beside the earlier run: \d+ faster/);
  });

  it("--compare tells of another machine, and of a call that is gone", async () => {
    const lost = { ...result.rows[0], call: "clock_gettime(MONOTONIC)", via: "gate" };
    const host = { ...result.host, clocksource: "hpet" };
    const { status, output } = await call(
      ...few,
      "--compare",
      scaled(1, { rows: [...result.rows, lost], host }),
      "--json",
    );
    expect(output.remarks.join()).toMatch(/of another clocksource: hpet, now /);
    expect(output.values[0]?.compared?.at(-1)).toMatchObject({ via: "gate", change: "gone" });
    expect(status).toBe(1);
  });

  it.skipIf(!needs("chromium", "chromium"))(
    "--html is a page that asks for nothing, light and dark, wide and narrow",
    async () => {
      const file = join(scratch, "bench.html");
      const { output } = await call(...few, "--compare", earlier, "--html", file);
      expect(output.remarks.at(-1)).toBe(`${file}: the figures as a page`);
      expect(readFileSync(file, "utf8").startsWith("<!DOCTYPE html>")).toBe(true);
      const browser = await chromium.launch({
        executablePath: "/usr/bin/chromium",
        args: ["--no-sandbox", "--disable-gpu"],
      });
      try {
        const papers: string[] = [];
        for (const [width, colorScheme] of [
          [1100, "light"],
          [360, "dark"],
        ] as const) {
          const page = await browser.newPage({ viewport: { width, height: 800 }, colorScheme });
          const requests: string[] = [];
          page.on("request", (request) => requests.push(request.url()));
          await page.goto(pathToFileURL(file).href);
          expect(requests).toEqual([pathToFileURL(file).href]);
          expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(width);
          expect(await page.locator("svg .bar").count()).toBeGreaterThan(2);
          expect(await page.getByRole("table", { name: /Nanoseconds per call in x86_64/ }).textContent()).toContain(
            "null",
          );
          papers.push(String(await page.evaluate("getComputedStyle(document.body).backgroundColor")));
        }
        expect(new Set(papers).size).toBe(2);
      } finally {
        await browser.close();
      }
    },
  );
});
