import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { imagePath } from "../support/images.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "linux-gate-package-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function run(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8", timeout: 110_000 });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: status ${status}\n${stdout}${stderr}`);
  return stdout;
}

describe("the package, installed in an empty folder", () => {
  beforeAll(() => {
    // dist/ is built already, and building it anew would take it from under the tests beside this one.
    run("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", scratch], root);
    const tarball = readdirSync(scratch).find((name) => name.endsWith(".tgz")) as string;
    writeFileSync(join(scratch, "package.json"), '{ "private": true, "type": "module" }');
    run("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", "--silent", `./${tarball}`], scratch);
  });

  it("has the program linux-gate, with the decoder that it needs", () => {
    const program = join(scratch, "node_modules/.bin/linux-gate");
    const text = run(program, ["explain", imagePath("host618__native__i386")], scratch);
    expect(text).toMatch(/5e5 +0f 05 +syscall +ENTERS THE KERNEL/);
    expect(run(program, ["ldd", "/bin/sh"], scratch)).toMatch(/libc/);
  });

  it("pulls in one package, and runs no script to install it", () => {
    expect(readdirSync(join(scratch, "node_modules")).filter((name) => !name.startsWith("."))).toEqual([
      "iced-x86",
      "linux-gate",
    ]);
    const { scripts } = JSON.parse(readFileSync(join(scratch, "node_modules/linux-gate/package.json"), "utf8"));
    expect(Object.keys(scripts).filter((name) => /^(pre|post)?install$/.test(name))).toEqual([]);
  });

  it("contains neither tests nor the kernel's images", () => {
    const files = readdirSync(join(scratch, "node_modules/linux-gate"), { recursive: true }) as string[];
    expect(files.filter((name) => /(^|\/)(test|src|bench)\/|\.so$/.test(name))).toEqual([]);
    expect(files).toContain("LICENSE");
  });

  const program = `
import { readFileSync } from "node:fs";
import {
  type Abi, decoderFor, ElfFile, explain, type ExplainResult, imageTarget, renderExplain, resolveTarget, symbols,
} from "linux-gate";

const bytes = new Uint8Array(readFileSync(process.argv[2] as string));
const target = imageTarget("linux-gate.dso", bytes);
const abi: Abi = target.image.abi;
const result: ExplainResult = explain(target, await decoderFor(abi));
const entry: bigint | undefined = new ElfFile(bytes).lookup("__kernel_vsyscall", "LINUX_2.5")?.st_value;
const self = await resolveTarget("self");
console.log(JSON.stringify({
  abi,
  mechanism: result.gate?.mechanism,
  entry: entry?.toString(16),
  count: symbols(target).symbols.length,
  words: renderExplain(result).length > 1000,
  self: self.image.soname,
}));
await self.close();
`;

  it("is a typed library: a strict program compiles against it, its own types checked, and runs", () => {
    writeFileSync(join(scratch, "program.ts"), program);
    writeFileSync(
      join(scratch, "tsconfig.json"),
      JSON.stringify({
        compilerOptions: {
          strict: true,
          skipLibCheck: false,
          module: "nodenext",
          target: "es2023",
          lib: ["es2023"],
          types: ["node"],
          typeRoots: [join(root, "node_modules/@types")],
        },
        files: ["program.ts"],
      }),
    );
    run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", scratch], scratch);
    const printed = run(process.execPath, ["program.js", imagePath("host618__native__i386")], scratch);
    expect(JSON.parse(printed)).toEqual({
      abi: "i386",
      mechanism: "syscall",
      entry: "5e0",
      count: 11,
      words: true,
      self: "linux-vdso.so.1",
    });
  });
});
