// The figures of `linux-gate bench` beside those of a C program with the same calls, its own loops and the kernel's clock:
// by turns on one processor, the best median of each. To be within 5% or one nanosecond.
//
//   node bench/measure-calls.mjs [--quick]
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { has, ours, quick } from "./measure.mjs";

const SOURCE = fileURLToPath(new URL("measure-calls.c", import.meta.url));
const TURNS = quick ? 2 : 5;
const BATCHES = 401;
const [RATIO, NANOSECONDS] = [0.05, 1];

/** Standard output of a command. */
function output(command, ...args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: status ${status}: ${stderr}`);
  return stdout;
}

/** `call via` → nanoseconds, of one run of either. */
function oursOnce(abi, cpu) {
  const { rows, abis } = JSON.parse(
    output(
      process.execPath,
      ours,
      "bench",
      abi,
      "--json",
      "--time",
      "1.5",
      ...(cpu === undefined ? [] : ["--cpu", cpu]),
    ),
  );
  return { cpu: abis[0].cpu, figures: new Map(rows.map((row) => [`${row.call} ${row.via}`, row.nsMedian])) };
}

function theirsOnce(program, cpu) {
  const lines = output(program, String(cpu), String(BATCHES)).trim().split("\n");
  return new Map(lines.map((line) => line.match(/^(.*) (\S+)$/).slice(1)).map(([key, ns]) => [key, Number(ns)]));
}

/** Keeps of each row the lowest figure: what disturbs makes calls slower, never faster. */
function keepBest(best, figures) {
  for (const [key, ns] of figures) best.set(key, Math.min(ns, best.get(key) ?? Number.POSITIVE_INFINITY));
}

/** Prints both figures of every row of an ABI; the number of rows that are apart. */
function compareAbi(abi, program) {
  const [mine, theirs] = [new Map(), new Map()];
  let cpu;
  for (let turn = 0; turn < TURNS; turn++) {
    const run = oursOnce(abi, cpu === undefined ? undefined : String(cpu));
    cpu ??= run.cpu ?? 0;
    keepBest(mine, run.figures);
    keepBest(theirs, theirsOnce(program, cpu));
  }
  let apart = 0;
  for (const [key, ns] of theirs) {
    const own = mine.get(key);
    if (own === undefined) continue;
    const close = Math.abs(own - ns) <= Math.max(NANOSECONDS, RATIO * ns);
    if (!close) apart += 1;
    const ratio = ns > 0 ? (own / ns).toFixed(3) : "";
    console.log(
      `  ${key.padEnd(46)} ${own.toFixed(2).padStart(9)} ${ns.toFixed(2).padStart(9)} ${ratio.padStart(7)} ${close ? "" : "APART"}`,
    );
  }
  return apart;
}

/** Compares in each ABI whose programs gcc makes and this kernel runs. */
export function measuredCalls() {
  if (!has("gcc")) {
    console.log("\nno gcc: nothing to hold measured calls against");
    return 0;
  }
  const folder = mkdtempSync(join(tmpdir(), "linux-gate-bench-"));
  let apart = 0;
  try {
    for (const [abi, ...options] of [["x86_64"], ["i386", "-m32", "-no-pie"]]) {
      const program = join(folder, abi);
      const made = spawnSync("gcc", ["-O2", ...options, "-o", program, SOURCE, "-ldl"]).status === 0;
      if (!made || spawnSync(program, ["0", "1"]).status !== 0) {
        console.log(`\n${abi}: gcc makes no program of it, or it does not run here`);
        continue;
      }
      console.log(`\n${abi}: nanoseconds per call, the best of ${TURNS} medians: linux-gate, C, and their ratio`);
      apart += compareAbi(abi, program);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  console.log(apart === 0 ? "\nall within 5% or 1 ns" : `\n${apart} rows are further apart than 5% and 1 ns`);
  return apart;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) measuredCalls();
