import { type SpawnOptions, type SpawnSyncOptions, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** A verb alone, with the words behind it as the program's main file reads them. */
const verbMain = (verb: string): string => `
  import { parseArgs } from "node:util";
  import { command } from "./src/cli/commands/${verb}.ts";
  import { isExpected, parserOptions } from "./src/cli/command.ts";
  import { chooseStyle, Output } from "./src/cli/output.ts";
  const { values, positionals } = parseArgs({
    args: process.argv.slice(2), options: parserOptions(command), allowPositionals: true,
  });
  const output = new Output(chooseStyle({ color: false, noColor: true }));
  command
    .run({
      positionals,
      flag: (name) => values[name] === true,
      text: (name) => (typeof values[name] === "string" ? values[name] : undefined),
      output,
      json: values.json === true,
    })
    .catch((error) => {
      output.remark(isExpected(error) ? error.message : error.stack);
      return 2;
    })
    .then((status) => { process.exitCode = status; });
`;

/** A program that starts the one behind `--`, and ends when nothing is left to be done for it. */
const starterMain = (request: string): string => `
  import { startProgram } from "./src/run/live.ts";
  const at = process.argv.indexOf("--");
  const bytes = (text) => new TextEncoder().encode(text);
  const say = (text) => process.stderr.write("linux-gate: " + text + "\\n");
  const requested = (${request})(process.argv.slice(2, at));
  process.on("SIGINT", () => {});
  startProgram({
    words: process.argv.slice(at + 1).map(bytes),
    environment: Object.entries(process.env).map(([name, value]) => bytes(name + "=" + value)),
    onRemark: say,
    ...requested,
  }).then(async (running) => {
    const { code, signal } = await running.exited;
    await running.settled;
    if (signal) process.kill(process.pid, signal);
    process.exitCode = code;
  }, (error) => { say(error.message); process.exitCode = error.status ?? 1; });
`;

/** What a program under exec wrote, and how it ended. */
export interface Executed {
  readonly stdout: Buffer;
  readonly text: string;
  readonly errors: string;
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A verb that starts programs, as one file that Node runs, made from the sources as they are; for other users too. */
export class ExecVerb {
  /** The file. */
  readonly path: string;
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.path = join(folder, "exec.cjs");
  }

  static async bundle(verb = "exec"): Promise<ExecVerb> {
    return ExecVerb.of(verbMain(verb));
  }

  /**
   * Bundles, in the verb's place, a program that makes the request `request(options)` for what stands behind `--`: a
   * function's source, which is given the words before.
   */
  static async starter(request: string): Promise<ExecVerb> {
    return ExecVerb.of(starterMain(request));
  }

  /** Bundles another main program, whose imports are relative to the project's folder. */
  static async of(contents: string): Promise<ExecVerb> {
    // Where the bundle finds the packages that it loads.
    const verb = new ExecVerb(mkdtempSync(join(root, "node_modules/.exec-test-")));
    chmodSync(verb.#folder, 0o755);
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

  /** Processes that run it now, or have not yet become the program that it starts. */
  processes(): string[] {
    return readdirSync("/proc").filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(this.path);
      } catch {
        // It has ended.
        return false;
      }
    });
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
