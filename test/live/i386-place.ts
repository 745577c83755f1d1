import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type BuildOptions, build } from "esbuild";
import type { CpioEntry } from "../support/cpio.js";
import { unpackedPackage } from "../support/debian.js";
import { type CommandOutput, fileEntry, folderEntries, programEntries, runInGuest } from "../support/guest.js";

const project = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** A machine that runs i386 programs. */
export interface Place {
  /** Folder of what {@link buildTree} builds. */
  readonly root: string;
  /** Folder of the 32-bit C library. */
  readonly lib32: string;
  /** Node, as a shell command. */
  readonly node: string;
  /** Runs shell commands one after the other. */
  run(commands: readonly string[]): Promise<CommandOutput[]>;
}

/** How programs that run elsewhere are bundled from the sources. */
export const BUNDLE: BuildOptions = {
  absWorkingDir: project,
  bundle: true,
  platform: "node",
  target: "node20.19",
  external: ["iced-x86"],
  logLevel: "warning",
};

/** Copies the decoder, which bundles leave out, to where those in a folder find it. */
export function copyDecoder(folder: string): void {
  const iced = "node_modules/iced-x86";
  mkdirSync(join(folder, iced), { recursive: true });
  for (const name of ["package.json", "iced_x86.js", "iced_x86_bg.wasm"]) {
    cpSync(join(project, iced, name), join(folder, iced, name));
  }
}

/** Builds the command line program and the checks from the sources into a folder that can be carried elsewhere. */
export async function buildTree(folder: string): Promise<void> {
  await build({
    ...BUNDLE,
    entryPoints: ["src/cli/main.ts"],
    outfile: join(folder, "dist/bin/main.cjs"),
    format: "cjs",
    define: { "import.meta.url": "moduleUrl" },
    banner: { js: 'const moduleUrl = require("node:url").pathToFileURL(__filename).href;' },
  });
  await build({
    ...BUNDLE,
    entryPoints: ["test/live/i386-runner.ts"],
    outfile: join(folder, "checks.mjs"),
    format: "esm",
  });
  cpSync(join(project, "bin"), join(folder, "bin"), { recursive: true });
  cpSync(join(project, "package.json"), join(folder, "package.json"));
  copyDecoder(folder);
}

/** Folder of the 32-bit C library: the installed one's, or that of Debian's package; `undefined` without either. */
export async function findLib32(): Promise<string | undefined> {
  if (existsSync("/lib32/ld-linux.so.2")) return "/lib32";
  const folder = await unpackedPackage("libc6-i386");
  return folder && join(folder, "lib32");
}

/** This machine itself. */
export function here(tree: string, lib32: string): Place {
  return {
    root: tree,
    lib32,
    node: "node",
    async run(commands) {
      const outputs: CommandOutput[] = [];
      for (const command of commands) outputs.push(await runInShell(command));
      return outputs;
    },
  };
}

function runInShell(command: string): Promise<CommandOutput> {
  const path = `${dirname(process.execPath)}:${process.env.PATH}`;
  const child = spawn("sh", ["-c", command], { cwd: "/", env: { ...process.env, PATH: path, LC_ALL: "C" } });
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
  child.stdin.end();
  child.stdout.on("data", (chunk) => stdout.push(chunk));
  child.stderr.on("data", (chunk) => stderr.push(chunk));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      resolve({ stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString(), status: code ?? 1 });
    });
  });
}

/**
 * Node for an emulated processor, where it costs much to compile and little of what is compiled is run twice: with the
 * simplest of its compilers, and only for what is called.
 */
export const GUEST_NODE = "node --no-opt --wasm-lazy-compilation --liftoff-only";

let nodeEntries: readonly CpioEntry[] | undefined;

/** A guest with a kernel of Debian's, on an emulated processor. `gdb` and `lib32` are paths on this machine. */
export function guest(
  kernel: string,
  tree: string,
  options: { readonly cpu: string; readonly append?: string; readonly gdb?: string; readonly lib32?: string },
): Place {
  const { cpu, append, gdb } = options;
  const [root, lib32] = ["/linux-gate", "/lib32"];
  // The same for every guest, and large: read once.
  nodeEntries ??= programEntries(process.execPath, "usr/bin/node");
  // Its own file, under the name that distributions give it.
  const entries = [...nodeEntries, ...folderEntries(tree, root), fileEntry(kernel, join("boot", basename(kernel)))];
  if (gdb !== undefined) entries.push(...programEntries(gdb, "usr/bin/gdb"));
  for (const name of options.lib32 === undefined ? [] : ["ld-linux.so.2", "libc.so.6"]) {
    entries.push(fileEntry(join(options.lib32 as string, name), join(lib32, name)));
  }
  const boot = { cpu, entries, ...(append !== undefined && { append }) };
  return { root, lib32, node: GUEST_NODE, run: (commands) => runInGuest(kernel, { ...boot, commands }) };
}
