import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** A temporary folder in which small programs are built. */
export class Workshop {
  readonly folder: string;

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), "linux-gate-test-"));
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
