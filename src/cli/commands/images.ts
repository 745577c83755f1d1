import { mkdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { renderImages } from "../../render/images.js";
import { humanSize } from "../../render/table.js";
import { TargetError } from "../../targets/error.js";
import { isFolder, kernelFilesIn, nothingFound, type ReadOptions, readKernelFile } from "../../targets/kernel-file.js";
import { fileNames, images, type SearchedFile } from "../../verbs/images.js";
import { type Command, isExpected, UsageError } from "../command.js";
import { isTerminal, type Output, writeError } from "../output.js";
import { writeWhole } from "../write-file.js";

/** Status of a search that damage or a limit ended, whatever was found before. */
const DAMAGED = 2;

export const command: Command = {
  name: "images",
  summary: "the images inside a kernel file, or a package or folder of kernels",
  usage: "PATH [-o DIR] [--whole] [--max-size SIZE]",
  description:
    "Finds every vDSO image in a kernel (bzImage, zImage, Image, zboot, vmlinux, compressed or not), in a Debian package\n" +
    "of one, in a folder (/boot, /lib/modules/VERSION), or in standard input (-). Reads and decompresses no more than it\n" +
    "needs: images lie side by side, so it stops a little behind the last one. These images are as the kernel's build\n" +
    "made them: those of a process have been patched at boot.",
  options: {
    output: { type: "string", short: "o", value: "DIR", help: "write the images there, named by ABI and build-id" },
    whole: { type: "boolean", help: "search to the end" },
    "max-size": {
      type: "string",
      value: "SIZE",
      help: "read, and decompress, at most so much of a file: 1G; 512M unless given",
    },
  },
  examples: [
    ["linux-gate images /boot", "of the kernels installed"],
    ["linux-gate images linux-image-6.1.0-50-686_6.1.176-1_i386.deb -o images", "out of a package, not unpacked"],
    ["curl -s URL | linux-gate images -", "of a kernel somewhere else"],
  ],
  arity: [1, 1],
  run: async ({ positionals, flag, text, json, output }) => {
    const [path = "-"] = positionals;
    const maxSize = text("max-size");
    const options: ReadOptions = {
      whole: flag("whole"),
      ...(maxSize !== undefined && { maxSize: parseSize(maxSize) }),
    };
    const files = await searchAll(path, options, output);
    const found = files.flatMap((file) => file.found.images);
    const folder = text("output");
    const result = images(files, folder === undefined ? undefined : writeImages(folder, found));
    if (json) output.json(result);
    else output.text(renderImages(result, output.style));
    for (const { file, problems } of result.files) for (const problem of problems) output.remark(`${file}: ${problem}`);
    return result.files.some(({ problems }) => problems.length > 0) ? DAMAGED : 0;
  },
};

/** Searches a file, or all kernel files of a folder. Throws `TargetError` where there is no image. */
async function searchAll(path: string, options: ReadOptions, output: Output): Promise<SearchedFile[]> {
  if (!(await isFolder(path))) {
    const file = path === "-" ? "standard input" : path;
    const found = await readKernelFile(path, withProgress(file, options, output));
    if (found.images.length === 0) throw nothingFound(path, found);
    return [{ file, found }];
  }
  const paths = await kernelFilesIn(path);
  if (paths.length === 0) throw new TargetError(`${path} is a folder without kernel files`);
  const files: SearchedFile[] = [];
  for (const file of paths) {
    try {
      const found = await readKernelFile(file, withProgress(file, options, output));
      files.push({ file, found });
      if (found.images.length === 0 && found.problems.length === 0) output.remark(nothingFound(file, found).message);
    } catch (error) {
      // One file that is not for us to read does not hide the others.
      if (!isExpected(error)) throw error;
      files.push({ file, found: unreadable(error.message.replace(`${file}: `, "")) });
    }
  }
  if (files.every(({ found }) => found.images.length === 0)) {
    for (const { file, found } of files) for (const { message } of found.problems) output.remark(`${file}: ${message}`);
    throw new TargetError(`${path} has no vDSO image in its ${files.length} kernel files`);
  }
  return files;
}

function unreadable(message: string): SearchedFile["found"] {
  return { kernels: [], images: [], problems: [{ message, path: [] }], read: 0, whole: false, met: [] };
}

/** Writes images into a folder, which is made if need be; gives the path of each. */
function writeImages(folder: string, found: readonly SearchedFile["found"]["images"][number][]) {
  try {
    makeFolder(folder);
  } catch (error) {
    throw writeError(`${folder}: cannot be made`, error);
  }
  const written = new Map<(typeof found)[number], string>();
  const done = new Set<string>();
  for (const [image, name] of fileNames(found)) {
    const path = join(folder, name);
    if (!done.has(path)) writeWhole(path, image.image.bytes);
    done.add(path);
    written.set(image, path);
  }
  return written;
}

/** Makes a folder and those above it. Not by mkdirSync's `recursive`, which never returns for one in /proc. */
function makeFolder(folder: string): void {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return;
  const above = dirname(folder);
  if (above !== folder) makeFolder(above);
  mkdirSync(folder);
}

/** Milliseconds after which, and between which, a user at a terminal is told how far it is. */
const PROGRESS_MS = 1000;

function withProgress(file: string, options: ReadOptions, output: Output): ReadOptions {
  if (!isTerminal(2)) return options;
  let last = performance.now();
  const progress = (read: number, size: number | undefined): void => {
    const now = performance.now();
    if (now - last < PROGRESS_MS) return;
    last = now;
    output.remark(`${file}: ${humanSize(read)}${size === undefined ? "" : ` of ${humanSize(size)}`} read`);
  };
  return { ...options, progress };
}

const UNITS = "KMGT";

/** A size as users write it: 512M, 1G, 1000000; letters are powers of 1024. */
function parseSize(text: string): number {
  const [, digits = "", unit = ""] = /^(\d+)([KMGT]?)(?:iB|B)?$/i.exec(text) ?? [];
  const size = Number(digits) * 1024 ** (UNITS.indexOf(unit.toUpperCase()) + (unit === "" ? 0 : 1));
  if (digits === "" || size < 1 || !Number.isSafeInteger(size)) {
    throw new UsageError(`--max-size is ${JSON.stringify(text)}, no size such as 512M or 1G`);
  }
  return size;
}
