import type { Style } from "../../render/style.js";
import { coverLines, LEAST_WIDTH, stepHeading, stepLines, stepList, type TourLayout } from "../../render/tour.js";
import { visible } from "../../render/visible.js";
import type { Visit } from "../../verbs/tour/step.js";
import { STEPS } from "../../verbs/tour/steps.js";
import type { Workshop } from "../../verbs/tour/workshop.js";
import { type Key, keysIn } from "./keys.js";

/** What the walk needs of the outside. */
export interface WalkPlan {
  readonly style: Style;
  /** Facts of the machine, for the first screen. */
  readonly machine: readonly string[];
  readonly workshop: Workshop;
  /** Commands that run now. */
  readonly running: ReadonlySet<string>;
}

/** A walk in a terminal. */
export interface Walk {
  /** To be called when {@link WalkPlan.running} changes. */
  changed(): void;
  /** Resolves to the exit status, or the signal that ended it, once the terminal is as it was. */
  go(): Promise<number | NodeJS.Signals>;
}

const COVER = -1;

/** Another screen, its cursor hidden; and back. */
const ENTER = "\u001b[?1049h\u001b[?25l";
const LEAVE = "\u001b[?25h\u001b[?1049l";

/** Lines of a screen that are not the body's: heading, rule, and the line of keys. */
const FRAME = 3;

/** Signals that end the walk; the terminal is put in order first. */
const ENDING = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

const HELP: readonly (readonly [keys: string, meaning: string])[] = [
  ["space, Enter", "on: the rest of the step, then the next"],
  ["→, n", "the next step"],
  ["←, b", "the step before"],
  ["↓ ↑, Page Down, Page Up", "in a step that is longer than the screen"],
  ["1 … 9, 0", "the step of that number; 0 is the tenth"],
  ["r", "the step's commands once more"],
  ["q, Ctrl-C", "leave"],
];

/** A walk through the steps in the terminal that standard input and output are. */
export function createWalk({ style, machine, workshop, running }: WalkPlan): Walk {
  const found = new Map<number, Visit>();
  const underWay = new Set<number>();
  let at = COVER;
  let top = 0;
  let help = false;
  /** The terminal is not ours: before, after, and while suspended. */
  let away = true;
  let over = false;
  let end: (how: number | NodeJS.Signals | Error) => void = () => {};

  const layout = (): TourLayout => ({ width: Math.max(LEAST_WIDTH, process.stdout.columns || 80), style });
  const room = (): number => Math.max(1, (process.stdout.rows || 24) - FRAME);

  const visit = (index: number): void => {
    const step = STEPS[index];
    if (!step || found.has(index) || underWay.has(index)) return;
    underWay.add(index);
    step
      .visit(workshop)
      .then(
        (visit) => {
          found.set(index, visit);
        },
        (error) => end(error),
      )
      .finally(() => {
        underWay.delete(index);
        draw();
        ahead();
      });
  };
  /** The next step's commands run while this one is read. */
  const ahead = (): void => {
    if (!over && underWay.size === 0) visit(found.has(at) || at === COVER ? at + 1 : at);
  };

  const body = (): readonly string[] => {
    if (help) return [...helpLines(style), "", ...stepList(STEPS, layout())];
    const step = STEPS[at];
    if (!step) return coverLines(machine, layout());
    return stepLines(view(), layout());
  };
  const view = () => {
    const visit = found.get(at);
    const step = STEPS[at] as (typeof STEPS)[number];
    return {
      number: at + 1,
      total: STEPS.length,
      step,
      ...(visit && { found: visit }),
      running: underWay.has(at) ? [...running] : [],
    };
  };
  const heading = (): readonly string[] => {
    if (help || at === COVER) {
      const { width } = layout();
      return [style.bold(help ? "keys and steps" : "linux-gate tour"), style.dim("━".repeat(width))];
    }
    return stepHeading(view(), layout());
  };

  const draw = (): void => {
    if (away) return;
    const lines = body();
    const rows = room();
    top = Math.max(0, Math.min(top, lines.length - rows));
    const shown = lines.slice(top, top + rows);
    const below = lines.length - top - shown.length;
    const screen = [...heading(), ...shown, ...Array.from({ length: rows - shown.length }, () => ""), keyLine(below)];
    process.stdout.write(
      `\u001b[H${screen
        .slice(0, process.stdout.rows || 24)
        .map((line) => `\u001b[2K${line}`)
        .join("\r\n")}`,
    );
  };
  const keyLine = (below: number): string => {
    const last = at === STEPS.length - 1;
    const words = [
      [
        "space",
        help
          ? "back to the tour"
          : below > 0
            ? `▼ ${below} more line${below === 1 ? "" : "s"}`
            : last
              ? "leave"
              : at === COVER
                ? "begin"
                : "next",
      ],
      ...(help || at === COVER ? [] : [["←", "back"]]),
      ["1-9 0", "jump"],
      ...(help ? [] : [["?", "keys and steps"]]),
      ["q", "quit"],
    ] as const;
    const { width } = layout();
    let line = "";
    let length = 0;
    for (const [key, meaning] of words) {
      const gap = length === 0 ? 0 : 3;
      if (length + gap + key.length + 1 + meaning.length > width) break;
      length += gap + key.length + 1 + meaning.length;
      line += `${" ".repeat(gap)}${style.accent(key)} ${style.dim(meaning)}`;
    }
    return line;
  };

  const goTo = (index: number): void => {
    help = false;
    if (index >= STEPS.length) {
      end(0);
      return;
    }
    at = Math.max(COVER, index);
    top = 0;
    visit(at);
    ahead();
  };
  const on = (): void => {
    if (help) {
      help = false;
      top = 0;
    } else if (body().length > top + room()) top += Math.max(1, room() - 1);
    else goTo(at + 1);
  };
  const press = (key: Key): void => {
    if (typeof key === "number") goTo(key - 1);
    else if (key === "on") on();
    else if (key === "next") goTo(Math.min(at + 1, STEPS.length - 1));
    else if (key === "back") goTo(help ? at : at - 1);
    else if (key === "down") top += 1;
    else if (key === "up") top -= 1;
    else if (key === "page down") top += room() - 1;
    else if (key === "page up") top -= room() - 1;
    else if (key === "first") goTo(COVER);
    else if (key === "last") goTo(STEPS.length - 1);
    else if (key === "again" && at !== COVER && !underWay.has(at)) {
      found.delete(at);
      goTo(at);
    } else if (key === "help") {
      help = !help;
      top = 0;
    } else if (key === "quit") end(0);
    else if (key === "interrupt") end("SIGINT");
    else if (key === "suspend") {
      // It draws once it goes on, on a screen of its own again.
      suspend();
      return;
    }
    draw();
  };

  const { stdin, stdout } = process;
  const enter = (): void => {
    stdin.setRawMode(true);
    stdout.write(ENTER);
    away = false;
  };
  const leave = (): void => {
    away = true;
    stdout.write(LEAVE);
    stdin.setRawMode(false);
  };
  const suspend = (): void => {
    leave();
    process.once("SIGCONT", () => {
      if (over) return;
      enter();
      draw();
    });
    process.kill(process.pid, "SIGSTOP");
  };

  return {
    changed: () => {
      if (at !== COVER && !help && !found.has(at)) draw();
    },
    go: async () => {
      const ended = new Promise<number | NodeJS.Signals | Error>((resolve) => {
        end = resolve;
      });
      const onKeys = (bytes: Buffer): void => {
        for (const key of keysIn(bytes.toString("latin1"))) {
          if (!over) press(key);
        }
      };
      const gone = (): void => end("SIGHUP");
      enter();
      stdin.on("data", onKeys);
      stdin.on("end", gone);
      stdin.on("error", gone);
      stdout.on("error", gone);
      stdout.on("resize", draw);
      for (const signal of ENDING) process.on(signal, end);
      ahead();
      draw();
      const how = await ended;
      over = true;
      for (const signal of ENDING) process.off(signal, end);
      stdout.off("resize", draw);
      stdin.off("data", onKeys);
      stdin.pause();
      leave();
      if (how instanceof Error) throw how;
      return how;
    },
  };
}

function helpLines(style: Style): string[] {
  const width = Math.max(...HELP.map(([keys]) => keys.length));
  return HELP.map(([keys, meaning]) => `${style.accent(keys.padEnd(width))}  ${visible(meaning)}`);
}
