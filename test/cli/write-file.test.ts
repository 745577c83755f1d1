import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { linuxGate } from "../support/cli.js";
import { imageBytes, imagePath } from "../support/images.js";
import { needs } from "../support/referee.js";

const image = imagePath("host618__native__i386");
const whole = Buffer.from(imageBytes("host618__native__i386"));
const program = join(import.meta.dirname, "../../bin/linux-gate");

const top = mkdtempSync(join(tmpdir(), "linux-gate-write-"));
afterAll(() => rmSync(top, { recursive: true, force: true }));

let count = 0;
let folder = "";
const at = (name: string) => join(folder, name);
beforeEach(() => {
  folder = join(top, `${count++}`);
  mkdirSync(folder);
});

const dumpTo = (path: string, cwd = folder) => linuxGate(["dump", image, "-o", path], { cwd });
const permissions = (path: string) => (statSync(path).mode & 0o7777).toString(8);

/** What a shell does in the folder; `$GATE` is the program, `$IMAGE` an image. */
const shell = (script: string) =>
  spawnSync("sh", ["-c", script], {
    cwd: folder,
    encoding: "utf8",
    env: { ...process.env, GATE: `${process.execPath} ${program}`, IMAGE: image },
  });

/** Runs the program as a user who is not root, who owns what is in the folder. */
function asUser(args: readonly string[]) {
  const isRoot = process.getuid?.() === 0;
  if (isRoot) chmodSync(top, 0o711);
  const words = [process.execPath, program, ...args];
  const [command, ...rest] = isRoot ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ...words] : words;
  return spawnSync(command as string, rest, { encoding: "utf8" });
}

function ownedByUser(path: string): void {
  if (process.getuid?.() === 0) chownSync(path, 65534, 65534);
}

describe("a file that is not there", () => {
  it("is written with the permissions that a shell's > would give, and nothing is left beside it", () => {
    const { status } = shell("umask 027; $GATE dump $IMAGE -o new");
    expect(status).toBe(0);
    expect(readFileSync(at("new")).equals(whole)).toBe(true);
    expect(permissions(at("new"))).toBe("640");
    expect(readdirSync(folder)).toEqual(["new"]);
  });

  it("may have a name as long as names can be", () => {
    const name = "n".repeat(255);
    expect(dumpTo(name).status).toBe(0);
    expect(readFileSync(at(name)).equals(whole)).toBe(true);
  });

  it("is made where a symbolic link leads, by whatever folders", () => {
    mkdirSync(at("real/deep"), { recursive: true });
    symlinkSync("real/deep", at("folder"));
    symlinkSync("../made", at("real/deep/link"));
    symlinkSync("folder/link", at("first"));
    expect(dumpTo("first").status).toBe(0);
    expect(readFileSync(at("real/made")).equals(whole)).toBe(true);
    expect(readlinkSync(at("first"))).toBe("folder/link");
    expect(readlinkSync(at("real/deep/link"))).toBe("../made");
  });

  it("is not there afterwards either where it does not fit", () => {
    const { stderr, status } = shell("ulimit -f 1; trap '' XFSZ; $GATE dump $IMAGE -o new");
    expect(stderr).toBe("linux-gate: new: cannot be written: file too large (EFBIG)\n");
    expect(status).toBe(2);
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("a file that is there", () => {
  it("keeps its permissions and owner, and the links that lead to it", () => {
    writeFileSync(at("secret"), "before");
    chmodSync(at("secret"), 0o600);
    ownedByUser(at("secret"));
    const { uid, gid } = statSync(at("secret"));
    symlinkSync("secret", at("link"));
    expect(dumpTo("link").status).toBe(0);
    expect(readlinkSync(at("link"))).toBe("secret");
    expect(readFileSync(at("secret")).equals(whole)).toBe(true);
    expect(permissions(at("secret"))).toBe("600");
    expect(statSync(at("secret"))).toMatchObject({ uid, gid });
    expect(readdirSync(folder).sort()).toEqual(["link", "secret"]);
  });

  it("is as it was where the new one does not fit", () => {
    writeFileSync(at("out"), "before");
    const { status } = shell("ulimit -f 1; trap '' XFSZ; $GATE dump $IMAGE -o out");
    expect(status).toBe(2);
    expect(readFileSync(at("out"), "utf8")).toBe("before");
    expect(readdirSync(folder)).toEqual(["out"]);
  });

  it("keeps its other names, and none of what was longer", () => {
    writeFileSync(at("one"), Buffer.alloc(10_000));
    linkSync(at("one"), at("two"));
    expect(dumpTo("one").status).toBe(0);
    expect(readFileSync(at("two")).equals(whole)).toBe(true);
    expect(statSync(at("one")).nlink).toBe(2);
  });

  it("is not set-user-ID for what it did not hold", () => {
    writeFileSync(at("out"), "before");
    chmodSync(at("out"), 0o4755);
    expect(dumpTo("out").status).toBe(0);
    expect(permissions(at("out"))).toBe("755");
  });

  const setpriv = process.getuid?.() !== 0 || needs("setpriv", "util-linux");

  it.skipIf(!setpriv)("is written in a folder that takes no new one", () => {
    writeFileSync(at("mine"), "before");
    ownedByUser(at("mine"));
    chmodSync(folder, 0o555);
    const { status, stderr } = asUser(["dump", image, "-o", at("mine")]);
    chmodSync(folder, 0o755);
    expect(stderr).toMatch(/8192 bytes/);
    expect(status).toBe(0);
    expect(readFileSync(at("mine")).equals(whole)).toBe(true);
  });

  it.skipIf(!setpriv)("is not replaced where it may not be written", () => {
    writeFileSync(at("kept"), "before");
    chmodSync(at("kept"), 0o444);
    ownedByUser(at("kept"));
    ownedByUser(folder);
    const { status, stderr } = asUser(["dump", image, "-o", at("kept")]);
    expect(stderr).toBe(`linux-gate: ${at("kept")}: cannot be written: permission denied (EACCES)\n`);
    expect(status).toBe(2);
    expect(readFileSync(at("kept"), "utf8")).toBe("before");
  });
});

describe("what is no plain file stays what it is", () => {
  it.each(["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])("%s, redirected to a file", (path) => {
    const { status } = shell(`$GATE dump $IMAGE -o ${path} > out`);
    expect(status).toBe(0);
    expect(readFileSync(at("out")).equals(whole)).toBe(true);
    expect(lstatSync("/dev/stdout").isSymbolicLink()).toBe(true);
  });

  it("a link to standard output, whether that is a file, a pipe or a file without a name", () => {
    symlinkSync("/proc/self/fd/1", at("so"));
    expect(shell("$GATE dump $IMAGE -o so > out").status).toBe(0);
    expect(readFileSync(at("out")).equals(whole)).toBe(true);
    expect(shell("$GATE dump $IMAGE -o so 2>note | cat > piped").status).toBe(0);
    expect(readFileSync(at("piped")).equals(whole)).toBe(true);
    expect(shell("exec 3<>gone; rm gone; $GATE dump $IMAGE -o so >&3; cat <&3 >copied").status).toBe(0);
    expect(readFileSync(at("copied")).equals(whole)).toBe(true);
    expect(readlinkSync(at("so"))).toBe("/proc/self/fd/1");
    expect(readdirSync(folder).sort()).toEqual(["copied", "note", "out", "piped", "so"]);
  });

  it("a FIFO with a reader", () => {
    const { status } = shell("mkfifo fifo; cat fifo > read & $GATE dump $IMAGE -o fifo; wait");
    expect(status).toBe(0);
    expect(readFileSync(at("read")).equals(whole)).toBe(true);
    expect(lstatSync(at("fifo")).isFIFO()).toBe(true);
  });

  it("a device, by a link too", () => {
    symlinkSync("/dev/null", at("null"));
    expect(dumpTo("null").status).toBe(0);
    expect(readlinkSync(at("null"))).toBe("/dev/null");
    expect(statSync("/dev/null").isCharacterDevice()).toBe(true);
    expect(dumpTo("/dev/full").stderr).toBe(
      "linux-gate: /dev/full: cannot be written: no space left on device (ENOSPC)\n",
    );
  });

  it("a folder, and links that lead in a circle", () => {
    symlinkSync("circle", at("circle"));
    expect(dumpTo(folder).stderr).toMatch(/cannot be written: illegal operation on a directory \(EISDIR\)\n$/);
    expect(dumpTo("circle").stderr).toMatch(/^linux-gate: circle: cannot be written: .* \(ELOOP\)\n$/);
    expect(readdirSync(folder)).toEqual(["circle"]);
  });
});

it("report --html - writes the page to standard output", () => {
  const { stdout, stderr, status } = linuxGate(["report", image, "--html", "-"], { cwd: folder });
  expect(status).toBe(0);
  expect(stderr).toBe("");
  expect(stdout).toMatch(/^<!DOCTYPE html>.*<\/html>\s*$/s);
  expect(readdirSync(folder)).toEqual([]);
});
