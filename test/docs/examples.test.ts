import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { linuxGate } from "../support/cli.js";
import { imagePath } from "../support/images.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const documents = ["README.md", ...readdirSync(join(root, "docs")).map((name) => `docs/${name}`)].filter((name) =>
  name.endsWith(".md"),
);

/** The examples speak of files in the working folder: dumps of two machines. */
const scratch = mkdtempSync(join(tmpdir(), "linux-gate-docs-"));
copyFileSync(imagePath("host618__native__i386"), join(scratch, "linux-gate.dso"));
copyFileSync(imagePath("host618__native__amd64"), join(scratch, "linux-vdso.dso"));
copyFileSync(imagePath("686__pentium3__i386"), join(scratch, "pentium3.dso"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Example {
  readonly words: readonly string[];
  readonly output: string;
  /** The output is of one machine: only that the command works is checked. */
  readonly live: boolean;
}

/** Commands in blocks marked `console` (output compared, `…` for any lines) or `console live`. */
function examplesOf(text: string): Example[] {
  return [...text.matchAll(/^```console( live)?\n([\s\S]*?)^```$/gm)].flatMap(([, live, block]) =>
    (block as string)
      .split(/^\$ /m)
      .slice(1)
      .map((part) => {
        const [command = "", ...lines] = part.split("\n");
        const [program, ...words] = command.split(/\s+#/)[0]?.trim().split(/\s+/) ?? [];
        expect(program).toBe("linux-gate");
        return { words, output: lines.join("\n"), live: live !== undefined };
      }),
  );
}

/** A pattern for output in which a line `…` stands for any lines. */
function patternOf(output: string): RegExp {
  const parts = output.trimEnd().split(/^…\n?/m);
  const literal = (part: string) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${parts.map(literal).join("[\\s\\S]*")}\\s*$`);
}

describe.each(documents)("%s", (name) => {
  const text = readFileSync(join(root, name), "utf8");
  const examples = examplesOf(text);
  if (examples.length > 0) {
    it.each(examples.map((example) => [example.words.join(" "), example] as const))("linux-gate %s", (_, example) => {
      const { stdout, stderr, status } = linuxGate(example.words, { cwd: scratch });
      expect([status, stderr.includes("rror")]).toEqual([0, false]);
      if (!example.live) expect(stdout.trimEnd()).toMatch(patternOf(example.output));
      else expect(stdout + stderr).not.toBe("");
    });
  }

  it("links to files that are there", () => {
    const links = [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map(([, link]) => link as string);
    const base = name.startsWith("docs/") ? "docs/" : "";
    for (const link of links) expect(() => readFileSync(join(root, base, link))).not.toThrow(/ENOENT/);
  });
});
