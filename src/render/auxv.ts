import { hex, hexBytes } from "../bytes/hex.js";
import type { AuxvResult, DecodedAuxv } from "../verbs/auxv.js";
import { plainStyle, type Style } from "./style.js";
import { type Cell, table } from "./table.js";

const OURS = /^AT_SYSINFO(_EHDR)?$/;

/** The value as its kind is read: addresses and flags in hex, counts in decimal. */
function valueText({ kind, value }: DecodedAuxv): string {
  return kind === "decimal" || kind === "yes-no" ? value.toString() : hex(value);
}

function pointeeText(entry: DecodedAuxv): string {
  if (entry.text !== undefined) return JSON.stringify(entry.text);
  if (entry.bytes) return hexBytes(entry.bytes, " ");
  if (entry.features) return entry.features.join(" ");
  if (entry.unreadable !== undefined) return `(unreadable: ${entry.unreadable})`;
  if (entry.kind === "yes-no") return entry.value === 0n ? "no" : "yes";
  return "";
}

/** The auxiliary vector as a table. */
export function renderAuxv(result: AuxvResult, style: Style = plainStyle): string {
  return table(
    result.entries.map((entry): Cell[] => {
      const pointee = pointeeText(entry);
      return [
        { text: String(entry.tag) },
        { text: entry.name, style: OURS.test(entry.name) ? "accent" : "name" },
        { text: valueText(entry), style: "number" },
        { text: pointee === "" ? entry.meaning : `${entry.meaning}: ${pointee}`, style: "dim" },
      ];
    }),
    { header: ["tag", "name", "value", "what it is"], right: [0], style },
  );
}
