import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ExecVerb } from "../support/exec-verb.js";
import { runsHere } from "../support/native.js";
import { Workshop } from "../support/programs.js";
import { needs } from "../support/referee.js";
import { type Act, atTerminal } from "../support/terminal.js";

const SHELL = ["bash", "--norc", "--noprofile", "-i"];
const PROMPT: Act = { see: "ready> " };
/** A shell that writes nothing but its prompts. */
const QUIET: readonly Act[] = [PROMPT, { type: "bind 'set enable-bracketed-paste off'; ulimit -c 0\n" }, PROMPT];
const ENDED = (status: number): Act[] => [PROMPT, { type: "echo =$?=\n" }, { see: `^=${status}=` }, PROMPT];
const [INTERRUPT, QUIT, SUSPEND, END_OF_FILE] = ["\x03", "\x1c", "\x1a", "\x04"];
const there = needs("bash", "bash") && needs("python3", "python3") && needs("gcc", "gcc");

/** Says that it is there, does what its one word says, and lives on. */
const SOURCE = `
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
static void got(int signal) { write(1, "got\\n", 4); }
static void out(int signal) { write(1, "out\\n", 4); _exit(7); }
static void window(int signal) {
  struct winsize size;
  ioctl(1, TIOCGWINSZ, &size);
  printf("%d %d\\n", size.ws_row, size.ws_col);
}
int main(int count, char **words) {
  const char *mode = count > 1 ? words[1] : "";
  setvbuf(stdout, 0, _IONBF, 0);
  if (!strcmp(mode, "catch")) signal(SIGINT, got), signal(SIGQUIT, out);
  if (!strcmp(mode, "ignore")) signal(SIGTSTP, SIG_IGN);
  signal(SIGWINCH, window);
  puts("in");
  if (!strcmp(mode, "suspend")) return raise(SIGSTOP), puts("again"), 5;
  for (;;) usleep(50000), puts("tick");
}
`;

describe.skipIf(!runsHere("x86_64") || !there)("at a terminal", () => {
  const workshop = new Workshop();
  const ticker = workshop.path("ticker");
  let verb: ExecVerb;
  beforeAll(async () => {
    workshop.compile(SOURCE, "-o", "ticker");
    verb = await ExecVerb.bundle();
  });
  afterAll(() => {
    verb.remove();
    workshop.remove();
  });

  /** What is typed before a program, so that it is started bare or by exec. */
  const starters = [
    { name: "a bare program", before: () => "" },
    { name: "a program under exec", before: () => `${process.execPath} ${verb.path} --no-vdso -- ` },
  ];

  describe.each(starters)("$name", ({ before }) => {
    /** Has a shell start a program, and acts when its first line, `in`, is there; gives what is written from then on. */
    const at = (program: string, ...acts: Act[]): string => {
      const typed = `${before()}${program}\n`;
      const text = atTerminal(SHELL, [...QUIET, { type: typed }, { see: "in\r" }, ...acts]).replaceAll("\r", "");
      return text.slice(text.indexOf("in\n"));
    };

    it("is ended by the keys that end programs, and the shell is told by which", () => {
      at("sh -c 'echo in; exec sleep 30'", { type: INTERRUPT as string }, ...ENDED(130));
      expect(at("sh -c 'echo in; exec sleep 30'", { type: QUIT as string }, ...ENDED(131))).toMatch(/Quit$/m);
    });

    it("gets one signal for one key, which it may catch", () => {
      const pressed: Act[] = [{ type: INTERRUPT as string }, { see: "got" }, { wait: 300 }];
      const text = at(
        `${ticker} catch`,
        { wait: 300 },
        ...pressed,
        ...pressed,
        { type: QUIT as string },
        { see: "out" },
        ...ENDED(7),
      );
      expect(text.match(/got/g)?.length).toBe(2);
    });

    it("stops as a job does, and goes on in the foreground", () => {
      const text = at(
        ticker,
        { see: "^tick" },
        { type: SUSPEND as string },
        { see: "Stopped" },
        PROMPT,
        { wait: 300 },
        { type: "echo mark; fg\n" },
        { see: "mark\r" },
        { see: "^tick" },
        { type: INTERRUPT as string },
        ...ENDED(130),
      );
      expect(text).not.toMatch(/Stopped(.*\n)*tick\n(.*\n)*mark\n/);
    });

    it("keeps the terminal when it ignores the key that stops programs", () => {
      const text = at(
        `${ticker} ignore`,
        { type: SUSPEND as string },
        { wait: 300 },
        { type: INTERRUPT as string },
        ...ENDED(130),
      );
      expect(text).not.toMatch(/Stopped/);
      expect(text).toMatch(/\^Z(.*\n)+tick/);
    });

    it("is a stopped job when it stops itself", () => {
      at(`${ticker} suspend`, { see: "Stopped" }, PROMPT, { type: "fg\n" }, { see: "again" }, ...ENDED(5));
    });

    it("is stopped when it reads in the background, and reads when it is in the foreground", () => {
      at(
        "sh -c 'echo in; exec cat' &",
        { wait: 300 },
        { type: "\n" },
        { see: "Stopped" },
        PROMPT,
        { type: "fg\n" },
        { wait: 100 },
        { type: "line\n" },
        { see: "line\r\nline\r" },
        { type: END_OF_FILE as string },
        ...ENDED(0),
      );
    });

    it("learns of another size of the window", () => {
      at(ticker, { rows: 33, columns: 77 }, { see: "^33 77" }, { type: INTERRUPT as string }, ...ENDED(130));
    });

    it("leaves the modes of the terminal that it has set, for those of others are not its own", () => {
      const modes: Act[] = [PROMPT, { type: "stty -a\n" }];
      at("sh -c 'echo in; exec stty -echo'", ...modes, { see: "[ ;]-echo\\b" }, PROMPT);
      // One that ends while another has the terminal.
      const wait = "while kill -0 $0 2>/dev/null; do sleep 0.05; done";
      const other = `bash --norc -c 'stty -icanon; ${wait}; stty -a; stty icanon' $!\n`;
      at("sh -c 'echo in; sleep 0.4' &", { type: other }, { see: "[ ;]-icanon\\b" }, PROMPT);
    });

    it.skipIf(!needs("less", "less"))(
      "has a pager's screen: keys come one by one, it is suspended and comes back",
      () => {
        const lines = workshop.write("lines", Array.from({ length: 1000 }, (_, i) => `${i + 1}\n`).join(""));
        at(
          `sh -c 'echo in; exec less ${lines}'`,
          { see: "^23\\b" },
          // Until it waits for keys.
          { wait: 200 },
          { type: " " },
          { see: "^46\\b" },
          { wait: 200 },
          { type: SUSPEND as string },
          { see: "Stopped" },
          PROMPT,
          { type: "fg\n" },
          { see: "^46\\b" },
          { wait: 200 },
          { type: "q" },
          ...ENDED(0),
        );
      },
    );
  });

  it("ends by a key that is pressed while it starts, and leaves nothing", () => {
    const starts = [40, 80, 100, 120, 160].flatMap((delay): Act[] => [
      { type: `${process.execPath} ${verb.path} --no-vdso -- sleep 1\n` },
      { see: "sleep 1\r" },
      { wait: delay },
      { type: INTERRUPT as string },
      ...ENDED(130),
    ]);
    atTerminal(SHELL, [...QUIET, ...starts]);
    expect(spawnSync("pgrep", ["-f", verb.path]).status).toBe(1);
  });

  it("stops by a key that is pressed while it starts, and goes on", () => {
    const starts = [40, 90, 140].flatMap((delay): Act[] => [
      { type: `${process.execPath} ${verb.path} --no-vdso -- sh -c 'sleep 0.4; exit 9'\n` },
      { see: "exit 9'\r" },
      { wait: delay },
      { type: SUSPEND as string },
      { see: "Stopped" },
      PROMPT,
      { type: "fg\n" },
      ...ENDED(9),
    ]);
    atTerminal(SHELL, [...QUIET, ...starts]);
  });
});
