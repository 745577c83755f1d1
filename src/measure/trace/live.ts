import { readFileSync, statSync } from "node:fs";
import { FormatError } from "../../bytes/error.js";
import { ElfFile } from "../../elf/file.js";
import { realVia } from "../calls.js";
import { measureAbis } from "../live.js";
import type { TracedCall } from "./calls.js";
import type { Cost } from "./costs.js";
import { functionAt } from "./names.js";
import type { Place } from "./tally.js";

/** Files beyond this size are not looked through for names. */
const MAX_FILE = 1 << 26;

/**
 * Finds the functions of places, in the files that they were in; `root` is where the process has its root folder, `/` or
 * `/proc/PID/root`. A file that is gone, or was replaced, tells nothing.
 */
export function symbolFinder(root: string): (place: Place) => string | undefined {
  const files = new Map<string, ElfFile | undefined>();
  return ({ name, inode, offset }) => {
    const key = `${inode} ${name}`;
    const file = files.has(key) ? files.get(key) : openElf(`${root.replace(/\/$/, "")}${name}`, inode);
    files.set(key, file);
    try {
      return file && functionAt(file, Number(offset));
    } catch (error) {
      if (error instanceof FormatError) return undefined;
      throw error;
    }
  };
}

function openElf(path: string, inode: bigint): ElfFile | undefined {
  try {
    const status = statSync(path, { bigint: true });
    if (!status.isFile() || status.ino !== inode || status.size > MAX_FILE) return undefined;
    return new ElfFile(readFileSync(path));
  } catch {
    return undefined;
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
