import { paddedHex } from "../bytes/hex.js";
import type { MapsResult } from "../verbs/maps.js";
import { plainStyle, type Style } from "./style.js";
import { type Cell, humanSize, table } from "./table.js";

/** Names of mappings that belong to the vDSO. */
const OURS = /^\[(vdso|vvar|vvar_vclock|vsyscall)\]$/;

/** The mappings as a table that explains the special ones. */
export function renderMaps(result: MapsResult, style: Style = plainStyle): string {
  if (result.mappings.length === 0) return "no mappings\n";
  // [vsyscall] alone lies in the kernel's half, at twice the digits of all others.
  const ends = result.mappings.filter(({ name }) => name !== "[vsyscall]").map(({ end }) => end.toString(16).length);
  const width = Math.max(8, ...ends);
  return table(
    result.mappings.map(({ start, end, perms, name, meaning }): Cell[] => [
      { text: `${paddedHex(start, width)}-${paddedHex(end, width)}`, style: "number" },
      { text: humanSize(end - start) },
      { text: perms },
      { text: name || "(anonymous)", style: OURS.test(name) ? "accent" : name === "" ? "dim" : "name" },
      { text: meaning ?? "", style: "dim" },
    ]),
    { header: ["address", "size", "perms", "name", "what it is"], right: [1], style },
  );
}
