import { accessSync, constants } from "node:fs";
import { release } from "node:os";
import { machineWords } from "../../render/report-facts.js";
import { coverLines, renderStep, stepList, type TourLayout } from "../../render/tour.js";
import { host } from "../../targets/host.js";
import { findStep, STEPS, visited } from "../../verbs/tour/steps.js";
import { createWorkshop, type Surroundings, type Workshop } from "../../verbs/tour/workshop.js";
import { type Command, type Invocation, UsageError } from "../command.js";
import { refuseTogether } from "../exclusive.js";
import { isTerminal } from "../output.js";
import { endBySignal } from "../signals.js";
import { createRunner } from "../tour/commands.js";
import { createWalk } from "../tour/walk.js";

/** Columns where nothing tells how many there are. */
const WIDTH = 100;

/** Signals that end the tour; its folder goes first. */
const ENDING = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

export const command: Command = {
  name: "tour",
  summary: "the article, step by step, its commands run here",
  usage: "[--step STEP | --all | --list]",
  description:
    'Walks through "What is linux-gate.so.1?" (Johan Petersson, 2005) from the first line to the last: each command is run\n' +
    "on this machine, beside what it printed then, with what has changed since. Where the article's command fails today, it\n" +
    "is run again under a forged gate at the article's address (linux-gate exec), where it works.\n" +
    "\n" +
    "In a terminal it goes step by step: space for the next, b or the left arrow for the one before, digits to jump, q to\n" +
    "leave, ? for all keys. Elsewhere, and with --all, the steps are printed one after another. Commands run in a folder of\n" +
    "their own, which is removed; nothing of the system is changed. A program that is not installed is said, and missed.",
  options: {
    step: { type: "string", value: "STEP", help: "this one alone: its number or name" },
    all: { type: "boolean", help: "all steps, one after another, in a terminal too" },
    list: { type: "boolean", help: "what steps there are" },
    width: { type: "string", value: "COLUMNS", help: "for the text; from 140 on, 2005 and today stand side by side" },
  },
  examples: [
    ["linux-gate tour", "from the start"],
    ["linux-gate tour --step dd", "the page is copied once more, with the article's own command"],
    ["linux-gate tour --all | less -R", "everything"],
    ["linux-gate tour --list", "the steps"],
  ],
  arity: [0, 0],
  run: async (invocation) => {
    const { flag, text, output, json } = invocation;
    refuseTogether(invocation, "list", ["step", "all"]);
    refuseTogether(invocation, "step", ["all"]);
    const layout: TourLayout = { width: widthOf(text("width")), style: output.style };
    if (flag("list")) {
      if (json) output.json({ steps: STEPS.map(({ name, title }, i) => ({ number: i + 1, name, title })) });
      else for (const line of stepList(STEPS, layout)) output.text(`${line}\n`);
      return 0;
    }
    const word = text("step");
    const only = word === undefined ? undefined : findStep(word);
    if (word !== undefined && only === undefined) {
      throw new UsageError(`there is no step ${JSON.stringify(word)}; there are ${namesOfSteps()}`);
    }
    const live = only === undefined && !flag("all") && !json && text("width") === undefined;
    if (live && isTerminal(0) && isTerminal(1) && process.env.TERM !== "dumb") return walk(invocation);
    return print(invocation, only, layout);
  },
};

const namesOfSteps = (): string => `1 to ${STEPS.length}, or ${STEPS.map(({ name }) => name).join(", ")}`;

function widthOf(word: string | undefined): number {
  if (word === undefined) return isTerminal(1) ? process.stdout.columns || WIDTH : WIDTH;
  const width = /^\d{1,4}$/.test(word) ? Number(word) : 0;
  if (width < 40) throw new UsageError(`--width is ${JSON.stringify(word)}, no number of columns from 40 on`);
  return width;
}

const machine = (): readonly string[] => machineWords(host());

function surroundings(): Surroundings {
  // Of other machines no process can be started that is not a program.
  const fresh = process.arch === "x64" ? "x86_64" : "self";
  const kernelFile = `/boot/vmlinuz-${release()}`;
  try {
    accessSync(kernelFile, constants.R_OK);
    return { fresh, kernelFile };
  } catch {
    return { fresh };
  }
}

/** Step by step, in the terminal. */
async function walk({ output }: Invocation): Promise<number> {
  let changed = (): void => {};
  const runner = createRunner(() => changed());
  let how: number | NodeJS.Signals;
  // The walk listens to these as long as it has the terminal; the folder has to go after that.
  const nothing = (): void => {};
  for (const name of ENDING) process.on(name, nothing);
  try {
    const workshop = createWorkshop(runner.run, surroundings());
    const tour = createWalk({ style: output.style, machine: machine(), workshop, running: runner.running });
    ({ changed } = tour);
    how = await tour.go();
  } finally {
    await runner.close();
    for (const name of ENDING) process.off(name, nothing);
  }
  return typeof how === "number" ? how : endBySignal(how);
}

/** All steps, or one, as text or as data. */
async function print({ output, json }: Invocation, only: number | undefined, layout: TourLayout): Promise<number> {
  const runner = createRunner();
  let signal: NodeJS.Signals | undefined;
  const stop = (received: NodeJS.Signals): void => {
    signal = received;
    void runner.close();
  };
  for (const name of ENDING) process.on(name, stop);
  try {
    const workshop = createWorkshop(runner.run, surroundings());
    const indexes = only === undefined ? STEPS.map((_, i) => i) : [only];
    if (json) output.json({ steps: await data(indexes, workshop) });
    else {
      if (only === undefined) output.text(`${coverLines(machine(), layout).join("\n")}\n\n`);
      for (const index of indexes) {
        const step = visited(index, await visit(index, workshop));
        if (signal !== undefined) break;
        if (index !== indexes[0]) output.text("\n");
        output.text(renderStep({ number: index + 1, total: STEPS.length, step, found: step }, layout));
      }
    }
  } finally {
    await runner.close();
    for (const name of ENDING) process.off(name, stop);
  }
  return signal === undefined ? 0 : endBySignal(signal);
}

async function data(indexes: readonly number[], workshop: Workshop) {
  const steps = [];
  for (const index of indexes) steps.push(visited(index, await visit(index, workshop)));
  return steps;
}

async function visit(index: number, workshop: Workshop) {
  const step = STEPS[index];
  if (!step) throw new RangeError(`no step ${index}`);
  return step.visit(workshop);
}
