// Runs the checks where there is no test runner, and prints one line of JSON for each, in no particular order. Bundled
// to a file beside bin/, which is given the folder of the 32-bit C library.
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { checks } from "./i386-checks.js";
import { Subjects } from "./i386-subjects.js";

/** How a check ended. */
export interface CheckResult {
  readonly name: string;
  /** What it threw; absent where it holds. */
  readonly problem?: string;
  readonly milliseconds: number;
}

const root = dirname(fileURLToPath(import.meta.url));
const subjects = await Subjects.start({
  folder: join(root, "out"),
  program: join(root, "bin/linux-gate"),
  lib32: process.argv[2] as string,
});
const waiting = [...checks];
const worker = async () => {
  for (let check = waiting.shift(); check; check = waiting.shift()) {
    const start = performance.now();
    const problem = await check.run(subjects).then(
      () => undefined,
      (error: Error) => error.stack ?? String(error),
    );
    const milliseconds = Math.round(performance.now() - start);
    const result: CheckResult = { name: check.name, milliseconds, ...(problem !== undefined && { problem }) };
    process.stdout.write(`${JSON.stringify(result)}\n`);
  }
};
try {
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
} finally {
  await subjects.stop();
}
