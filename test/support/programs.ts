import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { needs } from "./referee.js";

/** A program that was built. */
export interface BuiltProgram {
  readonly name: string;
  readonly path: string;
}

/** How C programs of x86-64 are built: with either C library, dynamic and static. */
const C_WAYS = [
  { name: "dynamic C", compiler: "gcc", debianPackage: "gcc", flags: [] },
  { name: "static C", compiler: "gcc", debianPackage: "gcc", flags: ["-static"] },
  {
    name: "static C with musl",
    compiler: "musl-gcc",
    debianPackage: "musl-tools",
    // The wrapper leaves out the kernel's headers.
    flags: ["-static", "-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"],
  },
] as const;

/** A temporary folder in which small programs are built, which other users may run too. */
export class Workshop {
  readonly folder: string;

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), "linux-gate-test-"));
    chmodSync(this.folder, 0o755);
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  write(name: string, content: string | Uint8Array): string {
    const path = this.path(name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    return path;
  }

  /** Compiles C from standard input, in the folder: `compile("int main(){}", "-o", "main")`. Throws where it fails. */
  compile(source: string, ...args: readonly string[]): void {
    this.compileWith("gcc", source, ...args);
  }

  compileWith(compiler: string, source: string, ...args: readonly string[]): void {
    const at = args.indexOf("-o");
    const output = at < 0 ? undefined : args[at + 1];
    if (output !== undefined) mkdirSync(dirname(this.path(output)), { recursive: true });
    // What follows the source is linked in the order given.
    const all = ["-x", "c", "-", "-x", "none", ...args];
    const { status, stderr } = spawnSync(compiler, all, { cwd: this.folder, input: source, encoding: "utf8" });
    if (status !== 0) throw new Error(`${compiler} ${all.join(" ")}: ${stderr}`);
  }

  /** A C program in each of the ways to build one for which there is a compiler. Throws where it does not compile. */
  cPrograms(source: string, ...flags: readonly string[]): BuiltProgram[] {
    return C_WAYS.flatMap(({ name, compiler, debianPackage, flags: own }) => {
      if (!needs(compiler, debianPackage)) return [];
      const file = name.replaceAll(" ", "-");
      this.compileWith(compiler, source, "-o", file, ...own, ...flags);
      return [{ name, path: this.path(file) }];
    });
  }

  /** A static program of Go, which has to be installed; gives its path. Throws where it does not compile. */
  goProgram(name: string, source: string, environment: NodeJS.ProcessEnv = {}): string {
    const path = this.path(name);
    const env = { ...process.env, GO111MODULE: "off", GOFLAGS: "-ldflags=-s", CGO_ENABLED: "0", ...environment };
    const args = ["build", "-o", path, this.write(`${name}.go`, source)];
    const { status, stderr } = spawnSync("go", args, { env, encoding: "utf8" });
    if (status !== 0) throw new Error(`go ${args.join(" ")}: ${stderr}`);
    return path;
  }

  /** A library with one function. */
  library(name: string, ...args: readonly string[]): void {
    const symbol = name.replaceAll(/\W/g, "_");
    this.compile(`int ${symbol}(void) { return 1; }`, "-shared", "-fPIC", "-o", name, "-Wl,--no-as-needed", ...args);
  }

  /** A program that needs the libraries among the arguments. */
  program(name: string, ...args: readonly string[]): void {
    this.compile(
      "int main(void) { return 0; }",
      "-o",
      name,
      "-Wl,--no-as-needed",
      "-Wl,--allow-shlib-undefined",
      ...args,
    );
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Whether this machine runs 32-bit x86 programs, and gcc makes them. */
export function runs32(workshop: Workshop): { readonly builds: boolean; readonly runs: boolean } {
  try {
    workshop.compile("int main(void) { return 7; }", "-m32", "-static", "-o", "probe32");
  } catch {
    return { builds: false, runs: false };
  }
  return { builds: true, runs: spawnSync(workshop.path("probe32")).status === 7 };
}
