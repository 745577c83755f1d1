import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import fc from "fast-check";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { hexBytes } from "../../src/bytes/hex.js";
import { parserOptions, UsageError } from "../../src/cli/command.js";
import { command } from "../../src/cli/commands/forge.js";
import { Output } from "../../src/cli/output.js";
import { kernelVersionCode } from "../../src/forge/kernel-version.js";
import { isVdso, parseImage, type VdsoImage } from "../../src/vdso/image.js";
import { ARTICLE_ENTRY } from "../support/article-image.js";

const scratch = mkdtempSync(join(tmpdir(), "forge-command-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const file = join(scratch, "image");
beforeEach(() => rmSync(file, { force: true }));

/** What a call of the verb wrote. */
class Written extends Output {
  readonly remarks: string[] = [];
  readonly values: object[] = [];
  readonly parts: Uint8Array[] = [];
  override remark(text: string): void {
    this.remarks.push(text);
  }
  override json(value: object): void {
    this.values.push(value);
  }
  override bytes(bytes: Uint8Array): void {
    this.parts.push(bytes);
  }
}

/** Calls the verb with words as the shell has them. */
async function call(...words: string[]): Promise<Written> {
  const { values } = parseArgs({ args: words, options: parserOptions(command), strict: true });
  const output = new Written({ color: false } as unknown as ConstructorParameters<typeof Output>[0]);
  const status = await command.run({
    positionals: [],
    flag: (name) => values[name] === true,
    text: (name) => (typeof values[name] === "string" ? (values[name] as string) : undefined),
    output,
    json: values.json === true,
  });
  expect(status).toBe(0);
  return output;
}

const written = (): VdsoImage => parseImage(new Uint8Array(readFileSync(file)));

describe("linux-gate forge", () => {
  it("makes an image of x86_64 for the running kernel, and says so in a line", async () => {
    const { remarks } = await call("-o", file);
    const image = written();
    expect(image.abi).toBe("x86_64");
    expect(image.kernelVersion?.code).toBe(kernelVersionCode(release()));
    expect(remarks).toEqual([`${file}: ${image.bytes.length} bytes, linux-vdso.so.1 for x86_64 at 0x0`]);
  });

  it("makes one of i386 with each entry", async () => {
    const ways = { int80: "int $0x80", sysenter: "sysenter", syscall: "syscall" };
    for (const [way, mechanism] of Object.entries(ways)) {
      const { remarks } = await call("--entry", way, "--base", "0xF7ff0000", "--kernel-version", "6.1.300", "-o", file);
      const image = written();
      expect([image.abi, image.linkBase, image.kernelVersion?.text]).toEqual(["i386", 0xf7ff0000n, "6.1.255"]);
      expect(remarks[0]).toMatch(
        new RegExp(` bytes, linux-gate\\.so\\.1 for i386 at 0xf7ff0000, enters by ${mechanism.replace("$", "\\$")}$`),
      );
    }
    await call("--abi", "i386", "-o", file);
    const byDefault = written();
    await call("--entry", "int80", "-o", file);
    expect(byDefault.bytes).toEqual(written().bytes);
  });

  it("makes the image of the article", async () => {
    await call("--historical", "-o", file);
    const image = written();
    expect(image.entry?.address).toBe(0xffffe400n);
    expect(hexBytes(image.bytes.subarray(0x400, 0x414))).toBe(hexBytes(ARTICLE_ENTRY));
    await call("--historical", "--entry", "sysenter", "--abi", "i686", "--base", "0xffffd000", "-o", file);
    expect(written().entry?.address).toBe(0xffffd400n);
  });

  it("tells identity and symbols as JSON", async () => {
    const { values } = await call("--historical", "--json", "-o", file);
    const image = written();
    expect(values).toMatchObject([
      {
        base: 0xffffe000n,
        file,
        size: image.bytes.length,
        identity: { abi: "i386", soname: "linux-gate.so.1", buildId: image.buildId, versions: ["LINUX_2.5"] },
      },
    ]);
    const [{ symbols }] = values as [{ symbols: { name: string; value: bigint; version?: string }[] }];
    expect(symbols.map(({ name }) => name).slice(4)).toEqual([
      ...["__kernel_vsyscall", "LINUX_2.5", "__kernel_rt_sigreturn", "__kernel_sigreturn"],
    ]);
    expect(values[0]).not.toHaveProperty("bytes");
  });

  it("writes to standard output what it writes to a file", async () => {
    await call("-o", file);
    const { parts, values } = await call("-o", "-", "--json");
    expect(parts).toEqual([]);
    expect(values).toMatchObject([{ bytes: written().bytes }]);
  });

  it.each([
    [["--abi", "x86_64", "--entry", "int80", "-o", file], /--entry is of i386/],
    [["--abi", "amd64", "--historical", "-o", file], /--historical is of i386/],
    [["--abi", "aarch64", "-o", file], /"aarch64": images are made for i386 and x86_64/],
    [["--abi", "pdp11", "-o", file], /"pdp11"/],
    [["--entry", "int21", "-o", file], /--entry is "int21", not one of int80, sysenter, syscall/],
    [["--entry", "", "-o", file], /--entry is ""/],
    [["--historical", "--entry", "int80", "-o", file], /enters by sysenter/],
    [["--base", "4096", "-o", file], /--base is "4096", no address/],
    [["--base", "0x10", "-o", file], /no multiple of 0x1000/],
    [["--entry", "int80", "--base", "0xfffff000", "-o", file], /beyond the memory/],
    [["--base", "0xffffffffff600000", "-o", file], /beyond the memory/],
    [["--kernel-version", "six", "-o", file], /--kernel-version is "six"/],
    [[], /name a file with -o FILE/],
    [["-o", "/dev/ptmx"], /the image is binary/],
  ] as const)("refuses %j", async (words, message) => {
    await expect(call(...words)).rejects.toThrow(UsageError);
    await expect(call(...words)).rejects.toThrow(message);
    expect(existsSync(file)).toBe(false);
  });

  it("makes a sound image or refuses, whatever it is asked for", async () => {
    const word = (known: readonly string[]) =>
      fc.option(fc.oneof(fc.constantFrom(...known), fc.string()), { nil: undefined });
    const options = fc.record({
      abi: word(["i386", "x86_64", "x32"]),
      entry: word(["int80", "sysenter", "syscall"]),
      base: word(["0x0", "0x1000", "0xffffe000", "0xfffff000", "0x7ffff0000000"]),
      "kernel-version": word(["2.6.12", "6.18", "255.255.255"]),
    });
    let made = 0;
    await fc.assert(
      fc.asyncProperty(options, fc.boolean(), async (given, historical) => {
        const words = Object.entries(given).flatMap(([name, value]) =>
          value === undefined ? [] : [`--${name}=${value}`],
        );
        rmSync(file, { force: true });
        try {
          await call(...words, ...(historical ? ["--historical"] : []), "-o", file);
        } catch (error) {
          expect(error).toBeInstanceOf(UsageError);
          expect(existsSync(file)).toBe(false);
          return;
        }
        expect(isVdso(written().elf)).toBe(true);
        made += 1;
      }),
      { numRuns: 150 },
    );
    expect(made).toBeGreaterThan(0);
  });
});
