import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { unpackedPackage } from "../support/debian.js";
import { type CommandOutput, debianKernel } from "../support/guest.js";
import { runsHere } from "../support/native.js";
import { needs, output } from "../support/referee.js";
import { checks, dumps } from "./i386-checks.js";
import { buildTree, findLib32, guest, here, type Place } from "./i386-place.js";
import type { CheckResult } from "./i386-runner.js";

/** Time for a boot and what is done then, on a machine that is busy. */
const BOOT_MS = 180_000;

const scratch = mkdtempSync(join(tmpdir(), "linux-gate-i386-"));
const tree = join(scratch, "tree");
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
await buildTree(tree);

const runsI386 = runsHere("i386");
const installed = [
  needs("gdb", "gdb"),
  needs("busybox", "busybox-static"),
  needs("qemu-system-x86_64", "qemu-system-x86"),
].every(Boolean);
const kernel = installed ? await debianKernel() : undefined;
const place = await findPlace();

/** Where the checks are made: here, or else in a guest. Without either, standard error has said why. */
async function findPlace(): Promise<Place | undefined> {
  const lib32 = await findLib32();
  if (lib32 === undefined) return undefined;
  if (runsI386) return needs("gdb", "gdb") ? here(tree, lib32) : undefined;
  const minimal = kernel && (await unpackedPackage("gdb-minimal"));
  if (!kernel || !minimal) return undefined;
  return guest(kernel, tree, { cpu: "EPYC", gdb: join(minimal, "usr/bin/gdb"), lib32 });
}

/** Runs the program here. */
function linuxGate(...words: readonly string[]) {
  return spawnSync(process.execPath, [join(tree, "bin/linux-gate"), ...words], { cwd: scratch, encoding: "utf8" });
}

if (!runsI386) {
  describe("where the kernel runs no 32-bit programs", () => {
    it.each(["maps", "auxv", "explain", "report"])("%s i386 ends with status 2 and one line that says so", (verb) => {
      const { status, stdout, stderr } = linuxGate(verb, "i386");
      expect(stderr).toMatch(/^linux-gate: .*this kernel does not run i386 programs.*\n$/);
      expect(stdout).toBe("");
      expect(status).toBe(2);
    });
  });
}

if (place) {
  describe(`a kernel that runs i386 programs (${runsI386 ? "this one" : "Debian's, in a guest"})`, () => {
    const PAGE = `${place.root}/out/report.html`;
    let outputs: readonly CommandOutput[] = [];
    const results = new Map<string, CheckResult>();

    beforeAll(async () => {
      outputs = await place.run([
        `${place.node} ${place.root}/checks.mjs ${place.lib32}`,
        ...Object.values(dumps).map((file) => `cat ${place.root}/out/${file}`),
        `${place.node} ${place.root}/bin/linux-gate report i386 --html ${PAGE} && cat ${PAGE}`,
      ]);
      for (const line of outputs[0]?.stdout.toString().split("\n") ?? []) {
        if (line === "") continue;
        const result = JSON.parse(line) as CheckResult;
        results.set(result.name, result);
      }
    }, BOOT_MS);

    it.each(checks.map(({ name }) => name))("%s", (name) => {
      const result = results.get(name);
      if (!result) throw new Error(`this check was not made:\n${outputs[0]?.stderr}`);
      if (result.problem !== undefined) throw new Error(result.problem);
    });

    it.skipIf(!needs("chromium", "chromium"))(
      "its report is a page that a browser shows, and that fetches nothing",
      async () => {
        const { stdout, status, stderr } = outputs.at(-1) as CommandOutput;
        expect(status, stderr).toBe(0);
        const path = join(scratch, "report.html");
        writeFileSync(path, stdout);
        const browser = await chromium.launch({
          executablePath: "/usr/bin/chromium",
          args: ["--no-sandbox", "--disable-gpu"],
        });
        try {
          const page = await browser.newPage();
          const requests: string[] = [];
          page.on("request", (request) => requests.push(request.url()));
          await page.goto(pathToFileURL(path).href);
          expect(await page.locator("#part-1 h2").textContent()).toBe("linux-gate.so.1 i386");
          expect(await page.getByRole("table", { name: /__kernel_vsyscall/ }).textContent()).toMatch(
            /syscall.*ENTERS THE KERNEL/,
          );
          expect(await page.locator(".bar-zoom .region.vdso rect").count()).toBe(1);
          expect(requests).toEqual([pathToFileURL(path).href]);
        } finally {
          await browser.close();
        }
      },
    );

    describe.each(Object.keys(dumps) as (keyof typeof dumps)[])("its %s image, dumped", (abi) => {
      // The name under which the program itself would show an image that lies in no file.
      const name = "linux-gate.dso";
      const ours = (...words: readonly string[]): string => {
        const { status, stdout, stderr } = linuxGate(words[0] as string, name, ...words.slice(1));
        expect(stderr).toBe("");
        expect(status).toBe(0);
        return stdout;
      };
      const theirs = (command: string, ...words: readonly string[]): string =>
        output("env", "-C", scratch, command, ...words, name);

      beforeAll(() => {
        const { status, stdout, stderr } = outputs[1 + Object.keys(dumps).indexOf(abi)] as CommandOutput;
        expect(status, stderr).toBe(0);
        writeFileSync(join(scratch, name), stdout);
      });

      it("has for symbols --gnu the text of objdump -T", () => {
        expect(ours("symbols", "--gnu")).toBe(theirs("objdump", "-T"));
      });

      it("is for file what it is for file -b", () => {
        expect(ours("file")).toBe(theirs("file", "-b"));
      });

      it("has for disasm --gnu the text of objdump -d, the entry exactly", () => {
        const [lines, wanted] = [ours("disasm", "--gnu").split("\n"), theirs("objdump", "-d").split("\n")];
        expect(lines).toHaveLength(wanted.length);
        const differing = wanted.flatMap((line, i) => (line === lines[i] ? [] : [`${line}\n${lines[i]}`]));
        expect(differing.length / wanted.length, differing.join("\n")).toBeLessThanOrEqual(0.01);
        if (abi === "i386") expect(entryLines(lines)).toEqual(entryLines(wanted));
      });
    });
  });
}

/** The lines of `__kernel_vsyscall`. */
function entryLines(lines: readonly string[]): readonly string[] {
  const start = lines.findIndex((line) => /<__kernel_vsyscall(@@\S+)?>:$/.test(line));
  expect(start).toBeGreaterThan(0);
  return lines.slice(start, lines.indexOf("", start));
}

if (kernel) {
  describe("explain i386 finds the way into the kernel that Debian's takes", () => {
    it.each([
      ["on a processor of AMD", "syscall", { cpu: "EPYC" }],
      ["on a processor of Intel", "sysenter", { cpu: "Nehalem" }],
      // Linux's own number of the feature that says so.
      ["where it is told not to take syscall", "int $0x80", { cpu: "EPYC", append: "clearcpuid=110" }],
    ] as const)(
      "%s: %s",
      async (_where, mechanism, machine) => {
        const { root, node, run } = guest(kernel, tree, machine);
        const [result] = await run([`${node} ${root}/bin/linux-gate explain i386 --json`]);
        expect(result?.stderr).toBe("");
        expect(result?.status).toBe(0);
        const { gate } = JSON.parse(result?.stdout.toString() as string) as { gate: { mechanism: string } };
        expect(gate.mechanism).toBe(mechanism);
      },
      BOOT_MS,
    );
  });

  it(
    "on a kernel that was told to give none, processes have no vDSO, and each verb says so or does without",
    async () => {
      const { root, node, run } = guest(kernel, tree, { cpu: "EPYC", append: "vdso=0 vdso32=0" });
      const program = `${node} ${root}/bin/linux-gate`;
      const [report, image, auxv, ldd] = await run([
        `${program} report`,
        `${program} file i386`,
        `${program} auxv i386`,
        `${program} ldd /usr/bin/node`,
      ]);
      expect(report?.status).toBe(2);
      expect(report?.stdout.toString().match(/has no vDSO: no AT_SYSINFO_EHDR and no mapping \[vdso\]/g)).toHaveLength(
        2,
      );
      expect(image?.status).toBe(2);
      expect(image?.stderr).toMatch(/^linux-gate: a fresh i386 process has no vDSO: .*\n$/);
      expect(auxv?.status).toBe(0);
      expect(auxv?.stdout.toString()).not.toMatch(/AT_SYSINFO/);
      // The names of the bits come from the program's own header, then.
      expect(auxv?.stdout.toString()).toMatch(/AT_HWCAP .* fpu .* sse2/);
      expect(ldd?.status).toBe(0);
      expect(ldd?.stdout.toString()).not.toMatch(/virtual/);
      expect(ldd?.stdout.toString()).toMatch(/libc\.so\.6 => /);
    },
    BOOT_MS,
  );
}
