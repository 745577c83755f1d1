// Runs this program beside its peers, in turn, and prints the ratios. Figures of one run compare; those of two machines,
// or of two moments of a shared one, do not.
import { rmSync } from "node:fs";
import { cpus, release } from "node:os";
import { allPrograms, library, onAFile, onAProcess, wholeProcesses } from "./article.mjs";
import { kernelFiles, predictions, verification } from "./choice.mjs";
import { gates } from "./gates.mjs";
import { missed, RUNS, scratch } from "./measure.mjs";
import { measuredCalls } from "./measure-calls.mjs";

console.log(
  `${cpus()[0]?.model.trim()}, ${cpus().length} processors, Linux ${release()}, Node ${process.version}; medians of ${RUNS}\n`,
);
try {
  wholeProcesses();
  onAFile();
  await onAProcess();
  allPrograms();
  await library();
  await kernelFiles();
  predictions();
  await verification();
  gates();
  measuredCalls();
} finally {
  for (const file of [scratch, `${scratch}.gdb`]) rmSync(file, { force: true });
}
console.log(missed === 0 ? "\nevery ratio is as wanted" : `\n${missed} ratios are not as wanted`);
