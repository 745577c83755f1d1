import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { linuxGate } from "../support/cli.js";
import { imagePath } from "../support/images.js";
import { needs } from "../support/referee.js";

const scratch = mkdtempSync(join(tmpdir(), "linux-gate-surroundings-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const program = join(import.meta.dirname, "../../bin/linux-gate");
const image = imagePath("host618__native__i386");

function run(command: string, ...args: string[]) {
  const { stdout, stderr, status } = spawnSync(command, args, { encoding: "utf8" });
  return { stdout, stderr, status };
}

describe("in a working folder that was removed", () => {
  const gone = (...args: string[]) => {
    const folder = join(scratch, "gone");
    mkdirSync(folder);
    return run(
      "sh",
      "-c",
      'cd "$1" && rmdir "$1" && shift && exec "$@"',
      "sh",
      folder,
      process.execPath,
      program,
      ...args,
    );
  };

  it("ldd finds what it finds elsewhere", () => {
    expect(gone("ldd", "/bin/sh")).toEqual(linuxGate(["ldd", "/bin/sh"]));
  });

  it("ldd finds no program by a relative name", () => {
    expect(gone("ldd", "bin/sh")).toMatchObject({
      stderr: "linux-gate: bin/sh: No such file or directory\n",
      status: 2,
    });
  });

  it("a fresh process is started", () => {
    expect(gone("file", "x86_64")).toEqual(linuxGate(["file", "x86_64"]));
  });
});

const unshare = process.getuid?.() === 0 ? ["-m"] : ["-rm"];
const mayMount = needs("unshare", "util-linux") && spawnSync("unshare", [...unshare, "true"]).status === 0;

describe.skipIf(!mayMount)("without /proc", () => {
  const bare = (...args: string[]) =>
    run(
      "unshare",
      ...unshare,
      "sh",
      "-c",
      'mount -t tmpfs none /proc && exec "$@"',
      "sh",
      process.execPath,
      program,
      ...args,
    );

  it("ldd lists what it lists with it", () => {
    expect(bare("ldd", "/bin/sh")).toEqual(linuxGate(["ldd", "/bin/sh"]));
  });

  it("a file is read", () => {
    expect(bare("file", image)).toEqual(linuxGate(["file", image]));
  });

  it.each([[["file"]], [["maps"]], [["maps", "1"]], [["ldd", "--pid", "1"]]])(
    "%j says that /proc is missing",
    (args) => {
      const { stdout, stderr, status } = bare(...args);
      expect({ stdout, status }).toEqual({ stdout: "", status: 2 });
      expect(stderr).toMatch(/^linux-gate: \/proc\/\d+\/\w+: \/proc is not mounted \(ENOENT\)\n$/);
    },
  );

  it("a fresh process cannot be started, which is no folder's fault", () => {
    expect(bare("file", "x86_64")).toEqual({
      stdout: "",
      stderr: "linux-gate: the x86_64 agent cannot be started: /proc is not mounted\n",
      status: 2,
    });
  });
});
