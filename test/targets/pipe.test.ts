import { spawn, spawnSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readHead } from "../../src/targets/read-head.js";
import { linuxGate } from "../support/cli.js";
import { imageBytes, imagePath } from "../support/images.js";

const scratch = mkdtempSync(join(tmpdir(), "linux-gate-pipe-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const image = imagePath("host618__native__i386");
const program = join(import.meta.dirname, "../../bin/linux-gate");
const fifo = join(scratch, "fifo");
beforeAll(() => {
  expect(spawnSync("mkfifo", [fifo]).status).toBe(0);
});

/** Runs a line of bash with the program as `$1` and the image as `$2`. */
function bash(line: string) {
  const args = ["-c", line, "bash", program, image];
  const { stdout, stderr, status } = spawnSync("bash", args, { encoding: "utf8", timeout: 50_000 });
  return { stdout, stderr, status };
}

describe("an image that comes through a pipe", () => {
  const expected = { ...linuxGate(["file", image]), stderr: "" };

  it("is waited for where its writer is slow", () => {
    expect(bash('"$1" file <(sleep 0.3; cat "$2")')).toEqual(expected);
  });

  it("is waited for where it comes in pieces", () => {
    expect(bash('"$1" file <(head -c 100 "$2"; sleep 0.2; tail -c +101 "$2")')).toEqual(expected);
  });

  it("is read from standard input", () => {
    expect(bash('(sleep 0.3; cat "$2") | "$1" file -')).toEqual(expected);
  });

  it("is waited for where standard input does not block", async () => {
    // Open for reading and writing, so that the writer below can be opened at any time.
    const keep = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    const input = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
    const child = spawn(process.execPath, [program, "file", "-"], { stdio: [input, "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk;
    });
    const closed = new Promise<number | null>((resolve) => child.once("close", resolve));
    await new Promise((resolve) => setTimeout(resolve, 400));
    writeSync(keep, imageBytes("host618__native__i386"));
    closeSync(keep);
    const status = await closed;
    closeSync(input);
    expect({ stdout, stderr, status }).toEqual(expected);
  });
});

describe("readHead()", () => {
  it("finds a FIFO that nobody writes to empty, at once", () => {
    const start = performance.now();
    const head = readHead(fifo, "it");
    head.close();
    expect(head.bytes).toHaveLength(0);
    expect(performance.now() - start).toBeLessThan(1000);
  });

  it("gives up, and says so, where a writer writes nothing", () => {
    const writer = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    try {
      const start = performance.now();
      expect(() => readHead(fifo, "it", { patience: 200 })).toThrow(
        "it: nothing came for 0.2 seconds, though a writer has it open (EAGAIN)",
      );
      expect(performance.now() - start).toBeGreaterThanOrEqual(200);
    } finally {
      closeSync(writer);
    }
  });

  it("tells whether a file has more than it read", () => {
    const file = join(scratch, "large");
    writeFileSync(file, new Uint8Array(1 << 20));
    const whole = readHead(file, file);
    whole.close();
    expect(whole.complete).toBe(true);
    writeFileSync(file, new Uint8Array((1 << 20) + 2));
    const part = readHead(file, file);
    part.close();
    // All that was read, so that who reads on misses nothing.
    expect(part.bytes).toHaveLength((1 << 20) + 1);
    expect(part.complete).toBe(false);
  });
});
