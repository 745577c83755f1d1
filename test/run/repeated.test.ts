import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { startProgram } from "../../src/run/live.js";
import { runsHere } from "../support/native.js";

const request = {
  words: [Buffer.from("sh"), Buffer.from("-c"), Buffer.from("exit 3")],
  environment: [Buffer.from("PATH=/bin:/usr/bin")],
  gate: { kind: "none" },
} as const;

/** Open descriptors, and children, of this process. */
function held(): { readonly descriptors: number; readonly children: number } {
  const children = readdirSync("/proc/self/task").flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, "latin1").trim().split(" "),
  );
  return { descriptors: readdirSync("/proc/self/fd").length, children: children.filter((one) => one !== "").length };
}

async function run(): Promise<void> {
  const running = await startProgram(request);
  expect(await running.exited).toEqual({ code: 3, signal: undefined });
}

describe.skipIf(!runsHere("x86_64"))("startProgram()", () => {
  it("leaves nothing open and no child when it is called again and again", async () => {
    await run();
    const before = held();
    for (let i = 0; i < 20; i++) await run();
    expect(held()).toEqual(before);
  });

  it("starts twenty programs at once, and refuses some between them", async () => {
    await run();
    const before = held();
    const missing = { ...request, words: [Buffer.from("no-such-program")] } as const;
    await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        if (i % 5 === 4) await expect(startProgram(missing)).rejects.toMatchObject({ status: 127 });
        else await run();
      }),
    );
    expect(held()).toEqual(before);
  });
});
