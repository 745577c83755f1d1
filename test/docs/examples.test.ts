import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { linuxGate } from "../support/cli.js";
import { downloadedDependency, type Source, unpackedKernel } from "../support/debian.js";
import { imagePath } from "../support/images.js";
import { unfetched } from "../support/unfetched.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const documents = ["README.md", ...readdirSync(join(root, "docs")).map((name) => `docs/${name}`)].filter((name) =>
  name.endsWith(".md"),
);

/** The examples speak of files in the working folder: dumps of machines, images of kernel files, and kernels. */
const scratch = mkdtempSync(join(tmpdir(), "linux-gate-docs-"));
copyFileSync(imagePath("host618__native__i386"), join(scratch, "linux-gate.dso"));
copyFileSync(imagePath("host618__native__amd64"), join(scratch, "linux-vdso.dso"));
copyFileSync(imagePath("686__pentium3__i386"), join(scratch, "pentium3.dso"));
copyFileSync(imagePath("686__i386__embedded"), join(scratch, "unpatched-686.dso"));
copyFileSync(imagePath("amd64__i386__embedded"), join(scratch, "unpatched.dso"));
for (const [name, kernel] of await Promise.all([
  kernelOf("vmlinuz-686", "linux-image-686", { architecture: "i386" }),
  kernelOf("vmlinuz-amd64", "linux-image-cloud-amd64", { architecture: "amd64" }),
  kernelOf("vmlinuz-6.12", "linux-image-cloud-amd64", { architecture: "amd64", release: "bookworm-backports" }),
])) {
  if (kernel !== undefined) symlinkSync(kernel, join(scratch, name));
}
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

async function kernelOf(name: string, metapackage: string, source: Source): Promise<[string, string | undefined]> {
  const deb = await downloadedDependency(metapackage, source);
  return [name, deb && (await unpackedKernel(deb))];
}

interface Example {
  readonly words: readonly string[];
  readonly output: string;
  /** The output is of one machine, or of a kernel that gets updates: only that the command works is checked. */
  readonly live: boolean;
  readonly status: number;
}

/**
 * Commands in blocks marked `console` (output compared, `…` for any lines), `console live` or `console kernels`; with
 * `exits 1` where another status than 0 is right.
 */
function examplesOf(text: string): Example[] {
  const blocks = text.matchAll(/^```console( live| kernels)?(?: exits (\d))?\n([\s\S]*?)^```$/gm);
  return [...blocks].flatMap(([, live, status = "0", block]) =>
    (block as string)
      .split(/^\$ /m)
      .slice(1)
      .map((part) => {
        const [command = "", ...lines] = part.split("\n");
        const [program, ...words] = command.split(/\s+#/)[0]?.trim().split(/\s+/) ?? [];
        expect(program).toBe("linux-gate");
        return { words, output: lines.join("\n"), live: live !== undefined, status: Number(status) };
      }),
  );
}

const here = (name: string): boolean => existsSync(join(scratch, name));

/** A pattern for output in which a line `…` stands for any lines. */
function patternOf(output: string): RegExp {
  const parts = output.trimEnd().split(/^…\n?/m);
  const literal = (part: string) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${parts.map(literal).join("[\\s\\S]*")}\\s*$`);
}

describe.each(documents)("%s", (name) => {
  const text = readFileSync(join(root, name), "utf8");
  const examples = examplesOf(text);
  // What a kernel is needed for that could not be fetched is left out, and said.
  const made = examples.filter(({ words }) => words.every((word) => !word.startsWith("vmlinuz-") || here(word)));
  if (made.length < examples.length) unfetched(`kernels for the examples of ${name}`);
  if (made.length > 0) {
    it.each(made.map((example) => [example.words.join(" "), example] as const))("linux-gate %s", (_, example) => {
      const { stdout, stderr, status } = linuxGate(example.words, { cwd: scratch });
      expect([status, stderr.includes("rror")]).toEqual([example.status, false]);
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
