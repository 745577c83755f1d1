// How the benchmarks measure: whole commands in turn, medians, ratios.
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const ours = join(root, "bin/linux-gate");
export const quick = process.argv.includes("--quick");
export const RUNS = quick ? 7 : 21;
export const scratch = join(tmpdir(), `linux-gate-bench-${process.pid}`);

export const has = (command) => spawnSync("sh", ["-c", `command -v ${command}`]).status === 0;
export const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** Milliseconds that one run of a command takes. */
export function time([command, ...args]) {
  const start = process.hrtime.bigint();
  const { status, error } = spawnSync(command, args, { stdio: ["ignore", "ignore", "ignore"] });
  const taken = Number(process.hrtime.bigint() - start) / 1e6;
  if (error) throw error;
  if (status !== 0) throw new Error(`${[command, ...args].join(" ")} ended with status ${status}`);
  return taken;
}

/** Median milliseconds of each command, run in turn so that a slow moment hits all alike. */
export function race(commands, runs = RUNS) {
  const times = commands.map(() => []);
  for (const command of commands) time(command);
  for (let i = 0; i < runs; i++) {
    for (const [j, command] of commands.entries()) times[j].push(time(command));
  }
  return times.map(median);
}

export let missed = 0;

/** Prints a ratio beside the one that is wanted. */
export function row(name, figure, ratio, wanted, atLeast = false) {
  const good = wanted === undefined || (atLeast ? ratio >= wanted : ratio <= wanted);
  if (!good) missed += 1;
  const want = wanted === undefined ? "" : `${atLeast ? "at least" : "at most"} ${wanted}`;
  console.log(
    `  ${name.padEnd(44)} ${figure.padStart(12)}  ${ratio.toFixed(2).padStart(7)}x  ${want.padEnd(14)} ${good ? "" : "MISSED"}`,
  );
}

export const ms = (value) => `${value.toFixed(1)} ms`;
