import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { needs, output } from "../support/referee.js";

const scratch = mkdtempSync(join(tmpdir(), "linux-gate-tour-test-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const tmux = needs("tmux", "tmux");

describe.skipIf(!tmux)("in a terminal", () => {
  const program = join(import.meta.dirname, "../../bin/linux-gate");
  /** A server for each start: one that ends would take a start with it that comes too soon. */
  let socket = "";
  const leave = (): void => {
    if (socket !== "") spawnSync("tmux", ["-S", socket, "kill-server"]);
  };
  const run = (...words: string[]): string => output("tmux", "-S", socket, ...words);
  const screen = (): string => run("capture-pane", "-p");
  const press = (...keys: string[]): string => run("send-keys", ...keys);
  /** `1 0`: the cursor is shown, and the screen is the usual one. */
  const terminal = (): string => run("display-message", "-p", "#{cursor_flag} #{alternate_on}").trim();

  async function until(what: string | RegExp): Promise<string> {
    let seen = "";
    for (let i = 0; i < 150; i++) {
      seen = screen();
      if (typeof what === "string" ? seen.includes(what) : what.test(seen)) return seen;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`${what} did not come:\n${seen}`);
  }

  function type(line: string): void {
    press("-l", line);
    press("Enter");
  }

  /** Waits for its end; resolves to its status as the shell tells it, and whether the terminal has lines again. */
  async function ended(): Promise<string> {
    for (let i = 0; i < 150 && terminal() !== "1 0"; i++) await new Promise((resolve) => setTimeout(resolve, 100));
    type(`echo "ended $? $(stty -a | grep -o -- '-*icanon')"`);
    const told = /ended (\d+ -*icanon)/;
    return told.exec(await until(told))?.[1] ?? "";
  }

  /** Starts it in a shell. */
  async function start(columns: number, rows: number): Promise<string> {
    const folder = mkdtempSync(join(scratch, "terminal-"));
    leave();
    socket = `${folder}.tmux`;
    run("-f", "/dev/null", "new-session", "-d", "-x", String(columns), "-y", String(rows), "sh");
    type(`TMPDIR=${folder} ${process.execPath} ${program} tour`);
    await until("space begin");
    return folder;
  }
  afterAll(leave);

  it("goes on with space, back, to a number, and leaves the terminal as it was", async () => {
    const folder = await start(100, 40);
    expect(terminal()).toBe("0 1");
    press("Space");
    await until(/1 · A library without a file[\s\S]*since then/);
    press("n");
    await until(/2 · The search that finds nothing[\s\S]*since then/);
    press("Right");
    await until(/3 · One page near[\s\S]*today/);
    press("b");
    await until("2 · The search");
    press("Left");
    await until("1 · A library");
    press("0");
    await until("10 · The jump");
    press("9");
    await until(/9 · The way in[\s\S]*▼ \d+ more lines/);
    press("Space");
    await until(/9 · The way in[\s\S]*historical\.dso/);
    press("?");
    await until(/keys and steps[\s\S]*11 {2}onward/);
    press("Space");
    await until("9 · The way in");
    press("End");
    await until("11 · Where to go on");
    press("q");
    expect(await ended()).toBe("0 icanon");
    expect(readdirSync(folder)).toEqual([]);
  });

  it("at its end, space leaves", async () => {
    await start(100, 40);
    press("End");
    await until("space leave");
    press("Space");
    expect(await ended()).toBe("0 icanon");
  });

  it("Ctrl-C while commands run leaves nothing and restores the terminal", async () => {
    const folder = await start(80, 24);
    press("3", "C-c");
    expect(await ended()).toBe("130 icanon");
    expect(readdirSync(folder)).toEqual([]);
  });

  it("a signal restores the terminal too", async () => {
    const folder = await start(80, 24);
    const shell = run("display-message", "-p", "#{pane_pid}").trim();
    const pid = readFileSync(`/proc/${shell}/task/${shell}/children`, "utf8").trim();
    process.kill(Number(pid), "SIGTERM");
    expect(await ended()).toBe("143 icanon");
    expect(readdirSync(folder)).toEqual([]);
  });

  it("follows the size of the window", async () => {
    await start(80, 24);
    press("1");
    await until(/2005 ─+\n/);
    run("resize-window", "-x", "150", "-y", "45");
    await until(/2005 ─+┬─+ today, on this machine/);
    run("resize-window", "-x", "30", "-y", "8");
    await until(/▼ \d+ more lines/);
    const lines = screen().trimEnd().split("\n");
    expect(lines).toHaveLength(8);
    expect(lines[0]).toMatch(/^1 · A library without a file/);
    press("q");
    expect(await ended()).toBe("0 icanon");
  });
});
