import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { STEPS } from "../../src/verbs/tour/steps.js";
import { linuxGate } from "../support/cli.js";
import { needs } from "../support/referee.js";

const document = readFileSync(new URL("../../docs/tour.md", import.meta.url), "utf8");

/** The screens of docs/tour.md, captured from a terminal; the last line is the keys. */
const screens = [...document.matchAll(/^```text\n([\s\S]*?)^```$/gm)].map(([, screen]) =>
  (screen as string).split("\n"),
);

const TODAY = "── today";

/** What does not depend on the machine: all that is before today's part, and which commands are in that. */
const steady = (lines: readonly string[]): readonly string[] => {
  const today = lines.findIndex((line) => line.startsWith(TODAY));
  return today < 0 ? lines : lines.slice(0, today);
};

const commands = (lines: readonly string[]): readonly string[] =>
  lines.slice(lines.findIndex((line) => line.startsWith(TODAY))).filter((line) => /^ {2}[$#] /.test(line));

const tools = ["objdump", "file"].every((name) => needs(name, name === "objdump" ? "binutils" : "file"));
/** Where these run, steps have other commands than in the captures. */
const runsI386 = linuxGate(["auxv", "i386"]).status === 0;

describe("the screens in docs/tour.md", () => {
  it.each(STEPS.map(({ name }, i) => [i + 1, name] as const))("%i, %s, are what the program prints", (number) => {
    const screen = screens.find(([heading]) => heading?.startsWith(`${number} · `) && heading.length === 100);
    if (!screen) throw new Error(`no screen of step ${number}`);
    const keys = screen.findLastIndex((line) => line.startsWith("space "));
    const printed = linuxGate(["tour", "--step", String(number), "--width", "100"])
      .stdout.trimEnd()
      .split("\n");
    const trimmed = (lines: readonly string[]): string => lines.join("\n").trimEnd();
    expect(trimmed(steady(screen.slice(0, keys)))).toBe(trimmed(steady(printed)));
    if (process.arch === "x64" && tools && !runsI386) expect(commands(screen)).toEqual(commands(printed));
  });

  it("are whole: no step goes on below its screen", () => {
    for (const screen of screens.filter(([heading]) => heading?.length === 100)) {
      expect(screen.join("\n")).not.toMatch(/^space ▼/m);
    }
  });
});
