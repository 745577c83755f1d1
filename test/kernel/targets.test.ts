import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { resolveTarget } from "../../src/targets/resolve.js";
import { articleImage } from "../support/article-image.js";
import { linuxGate } from "../support/cli.js";
import { imageBytes } from "../support/images.js";
import { bzImage, vmlinux } from "../support/kernels.js";

const narrow = imageBytes("amd64__i386__embedded");
const folder = mkdtempSync(join(tmpdir(), "linux-gate-targets-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("a target", () => {
  it("that is an image linked to where kernels lie is that image, and no kernel", async () => {
    const path = join(folder, "linux-gate.dso");
    writeFileSync(path, articleImage());
    const target = await resolveTarget(path);
    expect(target.image.linkBase).toBeGreaterThan(1n << 31n);
    expect(target).not.toHaveProperty("kernel");
    await target.close();
  });

  it("that is a kernel in a pipe is read from its first byte, as the same in a file is", () => {
    const path = join(folder, "vmlinuz");
    // Not compressed, and longer than what tells a kernel from others.
    writeFileSync(path, bzImage(vmlinux({ size: 0x300000, images: [[0x200000, narrow]] }), "6.1.0"));
    const program = fileURLToPath(new URL("../../bin/linux-gate", import.meta.url));
    const script = '"$0" "$1" symbols <(cat "$2")';
    const piped = spawnSync("bash", ["-c", script, process.execPath, program, path], { encoding: "utf8" });
    expect(piped.stderr).toBe("");
    expect(piped.stdout).toContain("__kernel_vsyscall");
    expect(piped.stdout).toBe(linuxGate(["symbols", path]).stdout);
  });
});
