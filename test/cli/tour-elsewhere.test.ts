import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { plainStyle } from "../../src/render/style.js";
import { renderStep, stepLines } from "../../src/render/tour.js";
import { type CommandRun, shellWords } from "../../src/verbs/tour/exhibit.js";
import { STEPS, type VisitedStep, visited } from "../../src/verbs/tour/steps.js";
import { createWorkshop, type Run, type Workshop } from "../../src/verbs/tour/workshop.js";
import { linuxGate } from "../support/cli.js";
import { imagePath } from "../support/images.js";

const scratch = mkdtempSync(join(tmpdir(), "linux-gate-tour-test-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const ran = (words: readonly string[], status: number, stdout: string, stderr = ""): CommandRun => ({
  command: shellWords(words),
  output: stdout + stderr,
  stdout,
  status,
});

/** The program itself for its own verbs; nothing else is installed. */
const ourVerbs: Run = async (words) => {
  const [name, ...rest] = words;
  if (name !== "linux-gate") return { command: shellWords(words), output: "", stdout: "", trouble: `no ${name}` };
  const { stdout, stderr, status } = linuxGate(rest, { cwd: scratch });
  return ran(words, status ?? 1, stdout, stderr);
};

async function walk(name: string, workshop: Workshop): Promise<VisitedStep> {
  const index = STEPS.findIndex((step) => step.name === name);
  const step = STEPS[index];
  if (!step) throw new Error(`no step ${name}`);
  return visited(index, await step.visit(workshop));
}

const text = (step: VisitedStep): string =>
  renderStep({ number: step.number, total: STEPS.length, step, found: step }, { width: 100, style: plainStyle });

describe("on a machine that runs i386 programs", () => {
  /** The machine's own image is that of a real one; what is asked of its processes is asked of the image. */
  const run: Run = async (words, environment) => {
    const [, verb, target, ...rest] = words;
    if (target !== "i386") return ourVerbs(words, environment);
    const image = imagePath("host618__native__i386");
    if (verb === "dump") {
      copyFileSync(image, join(scratch, rest[1] ?? ""));
      return ran(words, 0, "");
    }
    const row = " 32  AT_SYSINFO            0xf7f1a5e0      entry\n 33  AT_SYSINFO_EHDR       0xf7f1a000      header\n";
    if (verb === "auxv") return ran(words, 0, `tag  name                  value           what it is\n${row}${row}`);
    return ran(words, 0, linuxGate([verb ?? "", image]).stdout);
  };
  const workshop = createWorkshop(run, { fresh: "x86_64" });

  it("AT_SYSINFO is asked of an i386 process", async () => {
    const step = await walk("auxv", workshop);
    expect(step.now.map(({ command }) => command)).toContain("linux-gate auxv i386");
    expect(text(step)).toMatch(/^▸ +32 +AT_SYSINFO /m);
    expect(step.since.join()).toContain("still given to i386 programs");
  });

  it("the choice, the entry and the jump are those of its linux-gate.so.1", async () => {
    const [why, entry, jump] = [
      await walk("why", workshop),
      await walk("entry", workshop),
      await walk("jump", workshop),
    ];
    expect(text(why)).toMatch(/__kernel_vsyscall .*syscall/);
    expect(text(entry)).toMatch(/linux-gate disasm linux-gate-i386\.dso __kernel_vsyscall\n[\s\S]*▸ .*0f 05 +syscall/);
    expect(text(jump)).toMatch(/linux-gate explain linux-gate-i386\.dso\n[\s\S]*▸ .*int +\$0x80 +restart:/);
    expect(text(jump)).not.toContain("--entry");
  });

  it("the symbols are those of its linux-gate.so.1", async () => {
    const step = await walk("symbols", workshop);
    expect(text(step)).toContain("this machine's linux-gate.so.1");
    expect(step.now.at(-1)?.output).toContain("__kernel_rt_sigreturn");
  });
});

describe("where programs may not be traced", () => {
  const refusal = "linux-gate: ptrace is not permitted (EPERM); see /proc/sys/kernel/yama/ptrace_scope";
  const run: Run = async (words, environment) =>
    words[1] === "exec" ? ran(words, 125, "", `${refusal}\n`) : ourVerbs(words, environment);
  const workshop = createWorkshop(run, { fresh: "x86_64" });

  it.each(["ldd", "maps", "auxv", "dd", "file"])("%s shows what exec says, and claims nothing", async (name) => {
    const shown = text(await walk(name, workshop)).replace(/\s+/g, " ");
    expect(shown).toContain(refusal);
    expect(shown).toContain("exit status 125");
    expect(shown).not.toMatch(
      /it works as it did|has a gate at the article's|what it copied is|here, where the article/,
    );
  });
});

describe("a step", () => {
  const [, , maps] = STEPS;

  it("shows what is known of it while its commands run", () => {
    if (!maps) throw new Error("no step 3");
    const lines = stepLines(
      { number: 3, total: STEPS.length, step: maps, running: ["cat /proc/self/maps", `linux-gate ${"x".repeat(100)}`] },
      { width: 60, style: plainStyle },
    );
    expect(lines.join("\n")).toContain("[vdso]");
    expect(lines).toContain("  … cat /proc/self/maps");
    expect(lines.at(-1)).toMatch(/^ {2}… linux-gate x+…$/);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(60);
  });

  it("shows what a terminal would obey instead of sending it", () => {
    const now = [{ command: "cat x", output: "a\tb\u001b[2J\nlong \u009b31m", status: 0, marks: [] }];
    const step = visited(2, { now, since: [] });
    const shown = text(step);
    for (const obeyed of ["\u001b", "\u009b", "\t"]) expect(shown).not.toContain(obeyed);
    expect(shown).toContain("  a       b\\x1b[2J\n  long \\x9b31m");
  });
});
