import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../../bin/linux-gate", import.meta.url));
const bundle = fileURLToPath(new URL("../../dist/bin/main.cjs", import.meta.url));

/** What a run of the program gave. */
export interface Run {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
}

/** How the program is run. */
export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: Uint8Array;
  readonly cwd?: string;
}

/** Runs the built program as a user does. */
export function linuxGate(args: readonly string[], options: RunOptions = {}): Run {
  const { stdout, stderr, status } = linuxGateBytes(args, options);
  return { stdout: stdout.toString("utf8"), stderr: stderr.toString("utf8"), status };
}

/** As {@link linuxGate}, with the bytes that it wrote. */
export function linuxGateBytes(args: readonly string[], options: RunOptions = {}) {
  if (!existsSync(bundle)) throw new Error("dist/ is missing: run npm test, which builds it, or npm run build");
  const { NO_COLOR: _, ...inherited } = process.env;
  const { stdout, stderr, status, error } = spawnSync(process.execPath, [program, ...args], {
    env: { ...inherited, ...options.env },
    maxBuffer: 1 << 28,
    timeout: 50_000,
    ...(options.input && { input: options.input }),
    ...(options.cwd !== undefined && { cwd: options.cwd }),
  });
  if (error) throw error;
  return { stdout, stderr, status };
}
