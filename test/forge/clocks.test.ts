import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { afterAll, describe, expect, it } from "vitest";
import type { ClockChange } from "../../src/forge/clock.js";
import { forgeImage } from "../../src/forge/forge.js";
import { forgeTools } from "../support/forged.js";
import { Workshop } from "../support/programs.js";
import { needs, output } from "../support/referee.js";
import { CLOCK_PROGRAM, clockPlan, clockScript, stubs } from "./clock-program.js";
import { KERNEL_CLOCK_PROGRAM } from "./kernel-clock-program.js";

const workshop = new Workshop();
afterAll(() => workshop.remove());

const gcc = needs("gcc", "gcc") && needs("nm", "binutils") && process.arch === "x64";

describe.skipIf(!gcc)("the changed clocks of x86_64", () => {
  it("show what the arithmetic says, to the nanosecond, whatever the kernel's functions say", () => {
    workshop.compile(CLOCK_PROGRAM, "-O1", "-fno-omit-frame-pointer", "-no-pie", "-fno-pie", "-o", "clocks", "-ldl");
    const kernel = stubs(output("nm", workshop.path("clocks")));
    expect(kernel.size).toBe(6);
    const { changes, commands, expected } = clockScript("x86_64", 80, 60);
    const input = changes.flatMap((change, i) => {
      const path = workshop.path(`${i}.so`);
      writeFileSync(path, forgeImage(clockPlan("x86_64", change, kernel), forgeTools));
      return [`i ${path}`, ...(commands[i] as string[])];
    });
    const { stdout, stderr, status, signal } = spawnSync(workshop.path("clocks"), {
      input: `${input.join("\n")}\n`,
      encoding: "utf8",
      timeout: 10_000,
    });
    expect({ stderr, status, signal }).toEqual({ stderr: "", status: 0, signal: null });
    const lines = stdout.split("\n");
    changes.forEach((change, i) => {
      const wanted = expected[i] as string[];
      expect({ change, commands: commands[i], lines: lines.splice(0, wanted.length) }).toEqual({
        change,
        commands: commands[i],
        lines: wanted,
      });
    });
  });

  /** Starts the program, makes the image for it, and gives the lines that it wrote then. */
  const onKernel = async (change: ClockChange): Promise<string[]> => {
    const program = spawn(workshop.path("kernel-clocks"), { stdio: ["pipe", "pipe", "inherit"] });
    const ended = once(program, "close");
    const kernel = new Map<string, bigint>();
    const lines: string[] = [];
    let made = false;
    for await (const line of createInterface({ input: program.stdout })) {
      if (made) lines.push(line);
      else if (line !== "") {
        const [name, address] = line.split(" ") as [string, string];
        kernel.set(name, BigInt(`0x${address}`));
      } else {
        const path = workshop.path(`kernel-${change.rate}.so`);
        writeFileSync(path, forgeImage(clockPlan("x86_64", change, kernel), forgeTools));
        const halves = (value: bigint) => `${BigInt.asUintN(64, value >> 64n)} ${BigInt.asUintN(64, value)}`;
        const clocks = [...change.clocks].map(
          ([clock, { real, shown }]) => `${clock} ${halves(real)} ${halves(shown)}`,
        );
        program.stdin.end(`${path} ${change.rate}\n${clocks.join("\n")}\n`);
        made = true;
      }
    }
    expect(await ended).toEqual([0, null]);
    return lines;
  };
  const now = BigInt(Date.now()) * 1_000_000n;
  const ofDate = (shown: bigint, ...clocks: readonly number[]) =>
    new Map(clocks.map((clock) => [clock, { real: now, shown }] as const));

  it.each([
    ["shifted", { rate: 1n << 32n, clocks: ofDate(now + 86_400_123_456_789n, 0, 5, 8, 11) }],
    ["shifted back beyond 1970", { rate: 1n << 32n, clocks: ofDate(-1n, 0, 5) }],
    ["of another rate", { rate: 7n << 31n, clocks: ofDate(0n, 0, 5, 11) }],
    ["of another rate, before 1970", { rate: 1n << 31n, clocks: ofDate(-(10n ** 18n), 0, 5) }],
    ["frozen", { rate: 0n, clocks: ofDate(2_147_483_647_999_999_999n, 0, 5, 1) }],
  ])("agree on the kernel's own functions, in threads and in signal handlers: %s", async (_, change) => {
    const path = workshop.path("kernel-clocks");
    if (!existsSync(path)) workshop.compile(KERNEL_CLOCK_PROGRAM, "-O2", "-o", path, "-ldl", "-lpthread");
    expect(await onKernel(change)).toEqual(["good 1, bad 0, handled 1"]);
  });
});
