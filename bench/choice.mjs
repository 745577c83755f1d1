// Kernel files, prediction and verification: beside the commands that do a part of each, and against fixed goals.
import { spawn } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { findCpu, parseImage, predictImage, Verifier } from "../dist/index.js";
import { kernels } from "./kernels.mjs";
import { has, median, ms, ours, RUNS, race, root, row, scratch } from "./measure.mjs";

/** What decompresses a stream, by its name. */
const DECOMPRESSORS = { xz: "xz", lz4: "lz4", zstd: "zstd" };

/** The images of compressed kernels. */
export async function kernelFiles() {
  console.log(
    "\nThe images of a compressed kernel: bare node's start taken off, beside the decompressor writing to a pipe;",
  );
  console.log(
    "whole, beside the usual way: find the payload, decompress it to a file, scan, cut out (bench/usual-way.sh)",
  );
  for (const { compression, file, payload } of await kernels()) {
    if (!has(DECOMPRESSORS[compression])) continue;
    const folder = `${scratch}.images`;
    const [bare, mine, theirs, usual] = race(
      [
        [process.execPath, "-e", "0"],
        [process.execPath, ours, "images", file],
        ["sh", "-c", `${DECOMPRESSORS[compression]} -dc ${payload} | cat >/dev/null`],
        [join(root, "bench/usual-way.sh"), file, folder],
      ],
      Math.ceil(RUNS / 2),
    );
    rmSync(folder, { recursive: true, force: true });
    rmSync(payload, { force: true });
    const own = mine - bare;
    row(`images of ${compression} / ${compression} -dc`, `${own.toFixed(0)}/${theirs.toFixed(0)}`, own / theirs, 1);
    row(`the usual way / images, ${compression}`, `${usual.toFixed(0)}/${mine.toFixed(0)}`, usual / mine, 3, true);
  }
}

/** One prediction, warm. */
export function predictions() {
  console.log("\nPrediction, warm");
  const path = join(root, "test/fixtures/images/amd64__i386__embedded.so");
  const image = parseImage(readFileSync(path), { mapped: true });
  const cpu = findCpu("epyc");
  const rounds = 1000;
  for (let i = 0; i < rounds; i++) predictImage(image, { cpu, width: 64 });
  const start = process.hrtime.bigint();
  for (let i = 0; i < rounds; i++) predictImage(image, { cpu, width: 64 });
  const each = Number(process.hrtime.bigint() - start) / 1e6 / rounds;
  row("predict an image, of 5 ms", ms(each), each / 5, 1);
}

/** Verification of a thousand processes. */
export async function verification() {
  const sleepers = Array.from({ length: 1000 }, () => spawn("sleep", ["1000"], { stdio: "ignore", env: {} }));
  const verifier = new Verifier({ again: true });
  try {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const rates = [];
    let processes = 0;
    for (let i = 0; i < RUNS + 3; i++) {
      const start = process.hrtime.bigint();
      const { summary } = await verifier.pass();
      processes = summary.processes;
      rates.push(processes / (Number(process.hrtime.bigint() - start) / 1e9));
      if (summary.findings > 0) throw new Error("a process of this machine is not as it should be: verify --all");
    }
    console.log(`\nVerification of ${processes} processes`);
    const [first, , , ...warm] = rates;
    row("processes a second, first pass", first.toFixed(0), first / 20_000);
    row("processes a second, warm, of 20,000", median(warm).toFixed(0), median(warm) / 20_000, 1, true);
    const whole = race([[process.execPath, ours, "verify", "--all"]], 5)[0];
    row("verify --all, the whole command", ms(whole), 1);
  } finally {
    verifier.close();
    for (const sleeper of sleepers) sleeper.kill();
  }
}
