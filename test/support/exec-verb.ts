import { type SpawnOptions, type SpawnSyncOptions, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The verb alone, with the words behind it as the program's main file reads them. */
const VERB = `
  import { parseArgs } from "node:util";
  import { command } from "./src/cli/commands/exec.ts";
  import { isExpected, parserOptions } from "./src/cli/command.ts";
  const { values, positionals } = parseArgs({
    args: process.argv.slice(2), options: parserOptions(command), allowPositionals: true,
  });
  const remark = (text) => process.stderr.write("linux-gate: " + text + "\\n");
  command
    .run({
      positionals,
      flag: (name) => values[name] === true,
      text: (name) => (typeof values[name] === "string" ? values[name] : undefined),
      output: { remark },
      json: false,
    })
    .catch((error) => {
      remark(isExpected(error) || error.name === "RunError" ? error.message : error.stack);
      return 2;
    })
    .then((status) => { process.exitCode = status; });
`;

/** What a program under exec wrote, and how it ended. */
export interface Executed {
  readonly stdout: Buffer;
  readonly text: string;
  readonly errors: string;
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** The exec verb as one file that Node runs, made from the sources as they are. */
export class ExecVerb {
  /** The file. */
  readonly path: string;
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.path = join(folder, "exec.cjs");
  }

  static async bundle(): Promise<ExecVerb> {
    return ExecVerb.of(VERB);
  }

  /** Bundles another main program, whose imports are relative to the project's folder. */
  static async of(contents: string): Promise<ExecVerb> {
    // Where the bundle finds the packages that it loads.
    const verb = new ExecVerb(mkdtempSync(join(root, "node_modules/.exec-test-")));
    await build({
      stdin: { contents, resolveDir: root, loader: "ts" },
      outfile: verb.path,
      bundle: true,
      platform: "node",
      format: "cjs",
      external: ["iced-x86"],
      define: { "import.meta.url": "moduleUrl" },
      banner: { js: 'const moduleUrl = require("node:url").pathToFileURL(__filename).href;' },
      logLevel: "error",
    });
    return verb;
  }

  /** Runs it to its end. */
  run(...args: readonly string[]): Executed {
    return this.runWith({}, ...args);
  }

  runWith(options: SpawnSyncOptions, ...args: readonly string[]): Executed {
    return this.runBy([], options, ...args);
  }

  /** Runs it by another program: `runBy(["strace", "-f"], {}, "--no-vdso", "--", "true")`. */
  runBy(by: readonly string[], options: SpawnSyncOptions, ...args: readonly string[]): Executed {
    const [command, ...rest] = [...by, process.execPath, this.path, ...args];
    const run = spawnSync(command as string, rest, { timeout: 20_000, killSignal: "SIGKILL", ...options });
    if (run.error) throw run.error;
    return {
      stdout: Buffer.from(run.stdout),
      text: String(run.stdout),
      errors: String(run.stderr),
      status: run.status,
      signal: run.signal,
    };
  }

  /** Starts it. */
  start(options: SpawnOptions, ...args: readonly string[]) {
    return spawn(process.execPath, [this.path, ...args], options);
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
