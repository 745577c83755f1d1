import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, it } from "vitest";
import { expectAsReadelf } from "../support/as-readelf.js";
import { imageNames, imagePath } from "../support/images.js";
import { needs } from "../support/referee.js";

const hasReadelf = needs("readelf", "binutils");
const hasGcc = needs("gcc", "gcc");

/** Files of this machine, with the Debian package of those that are not on every one. */
const systemFiles: readonly (readonly [path: string, debianPackage: string])[] = [
  ["/bin/ls", "coreutils"],
  ["/lib/x86_64-linux-gnu/libc.so.6", "libc6"],
  ["/lib/x86_64-linux-gnu/libm.so.6", "libc6"],
  ["/lib64/ld-linux-x86-64.so.2", "libc6"],
  ["/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "libstdc++6"],
  ["/usr/lib/x86_64-linux-gnu/crt1.o", "libc6-dev"],
  ["/lib32/libc.so.6", "libc6-i386"],
  ["/lib/ld-linux.so.2", "libc6-i386"],
];

function hasFile(path: string, debianPackage: string): boolean {
  if (existsSync(path)) return true;
  if (process.env.CI) throw new Error(`${path} is missing: install the Debian package ${debianPackage}`);
  return false;
}

describe("a file is read as readelf reads it", () => {
  it.skipIf(!hasReadelf).each(imageNames)("image %s", (name) => expectAsReadelf(imagePath(name)));

  for (const [path, debianPackage] of systemFiles) {
    it.skipIf(!hasReadelf || !hasFile(path, debianPackage))(path, () => expectAsReadelf(path));
  }
});

describe("what gcc writes is read as readelf reads it", () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "linux-gate-elf-"));
    writeFileSync(
      join(folder, "a.c"),
      `__thread int thread_local = 3;
       int common_candidate;
       __attribute__((visibility("protected"))) int kept(void) { return thread_local; }
       __attribute__((weak)) int weak_function(void) { return kept(); }
       static int (*resolve(void))(void) { return weak_function; }
       int chosen(void) __attribute__((ifunc("resolve")));
       int main(void) { return chosen() + common_candidate; }
      `,
    );
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.skipIf(!hasReadelf || !hasGcc).each([
    ["an object with debugging information", ["-g", "-c"]],
    ["an object with a common symbol", ["-fcommon", "-c"]],
    ["an object with a section for each function", ["-ffunction-sections", "-fdata-sections", "-c"]],
    ["a shared library with both hash tables", ["-shared", "-fPIC", "-Wl,--hash-style=both"]],
    ["a shared library with DT_HASH alone", ["-shared", "-fPIC", "-Wl,--hash-style=sysv", "-nostdlib"]],
    ["a program at a fixed address", ["-no-pie"]],
    ["a static program", ["-static"]],
    ["an x32 object", ["-mx32", "-c"]],
    ["an i386 object", ["-m32", "-c"]],
  ])("%s", (_, flags) => {
    const out = join(folder, "out");
    execFileSync("gcc", [...flags, "-o", out, join(folder, "a.c")], { stdio: "pipe" });
    expectAsReadelf(out);
  });
});
