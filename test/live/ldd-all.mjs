// Compares `ldd` with glibc's over every program of this machine: the same objects, the same paths, the same order, the
// same verdict on files that are no dynamic programs. As a script it prints the count and each difference:
//   node test/live/ldd-all.mjs [FOLDER…]
import { execFile } from "node:child_process";
import { readdirSync, realpathSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { loadSources } from "../support/loaded.mjs";

const run = promisify(execFile);
const FOLDERS = ["/bin", "/usr/bin", "/usr/sbin"];

/** The ELF files and, of the rest, every file that ldd has an opinion on, each folder once under whatever name. */
export function programs(folders = FOLDERS) {
  const seen = new Set();
  return folders.flatMap((folder) => {
    const real = realpathSync(folder);
    if (seen.has(real)) return [];
    seen.add(real);
    return readdirSync(folder)
      .sort()
      .map((name) => join(folder, name))
      .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile());
  });
}

/** What ldd prints without what differs from run to run: the addresses. */
export function withoutAddresses(text) {
  return text.replaceAll(/ \(0x[0-9a-f]+\)$/gm, "");
}

/** Standard output, standard error and status of glibc's ldd; `environment` is added to the usual one. */
export async function glibcLdd(path, environment = {}, cwd = undefined) {
  const options = { env: { ...process.env, LC_ALL: "C", ...environment }, cwd, maxBuffer: 1 << 24 };
  try {
    const { stdout, stderr } = await run("ldd", [path], options);
    return { stdout: withoutAddresses(stdout), stderr, status: 0 };
  } catch (error) {
    if (typeof error.code !== "number") throw error;
    return { stdout: withoutAddresses(error.stdout), stderr: error.stderr, status: error.code };
  }
}

/** What ours prints, in the same words. */
export function ours(text) {
  return text.replaceAll(/ \(virtual: mapped by the kernel, no file\)$/gm, "");
}

/** Compares all programs; each difference is a block of text. */
export async function compareAll({ lddAll, lddText, liveFiles, liveCpu }, paths = programs()) {
  const options = {
    files: liveFiles(),
    cwd: process.cwd(),
    cpu: liveCpu(),
    virtual: { soname: "linux-vdso.so.1" },
    ...(process.env.LD_LIBRARY_PATH !== undefined && { libraryPath: process.env.LD_LIBRARY_PATH }),
  };
  const start = performance.now();
  const results = lddAll(paths, options);
  const milliseconds = performance.now() - start;
  const differences = [];
  const counts = { programs: paths.length, dynamic: 0, objects: 0 };
  const reference = performance.now();
  let next = 0;
  const worker = async () => {
    while (next < paths.length) {
      const index = next++;
      const path = paths[index];
      const result = results[index];
      const theirs = await glibcLdd(path);
      const text = ours(lddText([result]));
      if (result.kind === "dynamic") counts.dynamic += 1;
      counts.objects += result.objects.length;
      const lines = theirs.stderr.includes("not a dynamic executable") ? theirs.stderr : theirs.stdout;
      if (lines !== text || theirs.status !== result.status) {
        differences.push(`${path}: status ${theirs.status}, ours ${result.status}\n${lines}--- ours:\n${text}`);
      }
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return { ...counts, milliseconds, referenceMilliseconds: performance.now() - reference, differences };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const sources = await loadSources("verbs/ldd.ts", "render/ldd.ts", "linux/ldso/live.ts");
  const folders = process.argv.slice(2);
  const result = await compareAll(sources, programs(folders.length > 0 ? folders : undefined));
  for (const difference of result.differences) process.stdout.write(`${difference}\n`);
  const { programs: count, dynamic, objects, milliseconds, referenceMilliseconds, differences } = result;
  process.stdout.write(
    `${count} programs, ${dynamic} of them dynamic, ${objects} objects: ${differences.length} differ; ` +
      `${milliseconds.toFixed(0)} ms, glibc's ldd ${referenceMilliseconds.toFixed(0)} ms\n`,
  );
  process.exitCode = differences.length > 0 ? 1 : 0;
}
