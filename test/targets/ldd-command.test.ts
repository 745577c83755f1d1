import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { agentImages } from "../../src/agent/images.js";
import { linuxGate } from "../support/cli.js";
import { needs } from "../support/referee.js";

const scratch = mkdtempSync(join(tmpdir(), "linux-gate-ldd-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const gcc = needs("gcc", "gcc");

describe("the exit status of ldd", () => {
  const statusOf = (...args: string[]) => linuxGate(["ldd", ...args]).status;
  const textFile = join(scratch, "text");
  writeFileSync(textFile, "no program");
  const staticProgram = join(scratch, "static");
  writeFileSync(staticProgram, Buffer.from(agentImages.x86_64, "base64"), { mode: 0o755 });

  it("is 0 where everything was found", () => {
    expect(statusOf("/bin/sh")).toBe(0);
    expect(statusOf("/bin/sh", process.execPath)).toBe(0);
  });

  it("is 0 for a static program, which lacks nothing", () => {
    const { stdout, status } = linuxGate(["ldd", staticProgram]);
    expect({ stdout, status }).toEqual({ stdout: "\tnot a dynamic executable\n", status: 0 });
  });

  it("is 2 where a program cannot be read as one, whatever the others are", () => {
    for (const bad of [join(scratch, "none"), scratch, textFile]) {
      expect(statusOf(bad)).toBe(2);
      expect(statusOf("/bin/sh", bad)).toBe(2);
      expect(linuxGate(["ldd", bad, "--json"]).status).toBe(2);
    }
  });

  it.skipIf(!gcc)("is 1 where a library is missing", () => {
    const cc = (...args: string[]) => expect(spawnSync("gcc", args, { cwd: scratch }).status).toBe(0);
    writeFileSync(join(scratch, "lib.c"), "int nowhere(void) { return 0; }\n");
    writeFileSync(join(scratch, "main.c"), "int nowhere(void); int main(void) { return nowhere(); }\n");
    cc("-shared", "-fPIC", "-o", "libnowhere.so", "lib.c");
    cc("-o", "main", "main.c", "-L.", "-lnowhere");
    rmSync(join(scratch, "libnowhere.so"));
    const { stdout, status } = linuxGate(["ldd", join(scratch, "main")]);
    expect(stdout).toContain("libnowhere.so => not found");
    expect(status).toBe(1);
    expect(statusOf(join(scratch, "main"), textFile)).toBe(2);
  });
});

describe("ldd --pid", () => {
  it("takes a process id or self", () => {
    expect(linuxGate(["ldd", "--pid", "self"])).toMatchObject({ status: 0, stdout: expect.stringMatching(/libc/) });
    expect(linuxGate(["ldd", "--pid", String(process.pid)]).status).toBe(0);
  });

  it.each(["/bin/sh", "x86_64", "-", "", "12x"])("takes no %j", (word) => {
    expect(linuxGate(["ldd", `--pid=${word}`])).toEqual({
      stdout: "",
      stderr: `linux-gate: --pid takes a process id or self, not ${JSON.stringify(word)} (linux-gate ldd --help)\n`,
      status: 2,
    });
  });
});
