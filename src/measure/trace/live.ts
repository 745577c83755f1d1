import { closeSync, fstatSync, readFileSync } from "node:fs";
import { FormatError } from "../../bytes/error.js";
import { realVia } from "../calls.js";
import { boundedElf } from "../file/bounds.js";
import { openPlain } from "../file/live.js";
import { measureAbis } from "../live.js";
import type { TracedCall } from "./calls.js";
import type { Cost } from "./costs.js";
import { functionFinder } from "./names.js";
import type { Place } from "./tally.js";

/** Files beyond this size are not looked through for names, nor any once this much has been read. */
const MAX_FILE = 1 << 26;
const MAX_BYTES = 1 << 28;

type Finder = ReturnType<typeof functionFinder>;

/**
 * Finds the functions of places, in the files that they were in; `root` is where the process has its root folder, `/` or
 * `/proc/PID/root`. A file that is gone, or was replaced, tells nothing.
 */
export function symbolFinder(root: string): (place: Place) => string | undefined {
  const finders = new Map<string, Finder | undefined>();
  let left = MAX_BYTES;
  const finderOf = (name: string, inode: bigint): Finder | undefined => {
    try {
      const bytes = fileBytes(`${root.replace(/\/$/, "")}${name}`, inode, Math.min(MAX_FILE, left));
      left -= bytes?.length ?? 0;
      return bytes && functionFinder(boundedElf(bytes));
    } catch (error) {
      if (error instanceof FormatError) return undefined;
      throw error;
    }
  };
  return ({ name, inode, offset }) => {
    const key = `${inode} ${name}`;
    const finder = finders.has(key) ? finders.get(key) : finderOf(name, inode);
    finders.set(key, finder);
    return finder?.(Number(offset));
  };
}

function fileBytes(path: string, inode: bigint, most: number): Uint8Array | undefined {
  let file: number | undefined;
  try {
    file = openPlain(path);
    const status = fstatSync(file, { bigint: true });
    return status.ino === inode && status.size <= most ? readFileSync(file) : undefined;
  } catch (error) {
    if (typeof (error as NodeJS.ErrnoException).code === "string") return undefined;
    throw error;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** How long each ABI is measured. */
const MEASURE_MS = 300;

/**
 * Measures what calls cost on this machine, in a fresh process: as system calls, and through the vDSO's functions. A call
 * that is not measured has no cost in the result; where no process of an ABI can be had, none of its calls has.
 */
export async function measureCosts(calls: readonly TracedCall[]): Promise<Cost[]> {
  const abis = [...new Set(calls.map(({ abi }) => abi))];
  const wanted = new Set(calls.map(({ measuredAs }) => measuredAs));
  if (abis.length === 0) return [];
  const { measured } = await measureAbis(abis, { calls: (call) => wanted.has(call), milliseconds: MEASURE_MS });
  return measured.flatMap(({ abi, rows }) =>
    [...wanted].flatMap((call): Cost[] => {
      const same = rows.filter((row) => row.call === call);
      const via = realVia(
        abi,
        same.map((row) => row.via),
      );
      const real = same.find((row) => row.via === via);
      const vdso = same.find((row) => row.via === "vdso");
      if (!real) return [];
      return [{ abi, call, realNs: real.nsMedian, ...(vdso && { vdsoNs: vdso.nsMedian }) }];
    }),
  );
}
