import { table } from "./table.js";

/** Calls as `strace -c` lists them, without times: name, number, how often, and the sum. */
export function renderCallCounts(
  counts: readonly { readonly number?: number; readonly name?: string; readonly calls: number }[],
): string {
  const total = counts.reduce((sum, { calls }) => sum + calls, 0);
  const rows = counts.map(({ number, name, calls }) => [
    String(calls),
    number === undefined ? "others" : String(number),
    name ?? "",
  ]);
  return table([...rows, [String(total), "", "through the gate in all"]], {
    header: ["calls", "number", "system call"],
    right: [0, 1],
  });
}
