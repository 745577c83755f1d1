import { paddedHex } from "../bytes/hex.js";
import type { SymbolsResult } from "../verbs/symbols.js";
import { plainStyle, type Style } from "./style.js";
import { type Cell, table } from "./table.js";

/** The dynamic symbols as a table: what nm -D, readelf --dyn-syms and objdump -T say, and the address in the process. */
export function renderSymbols(result: SymbolsResult, style: Style = plainStyle): string {
  if (result.symbols.length === 0) return "no dynamic symbols\n";
  const width = result.identity.class / 4;
  const inProcess = result.base !== undefined;
  const sorted = [...result.symbols].sort((a, b) =>
    a.value === b.value ? a.index - b.index : a.value < b.value ? -1 : 1,
  );
  return table(
    sorted.map((symbol): Cell[] => [
      { text: paddedHex(symbol.value, width), style: "number" },
      ...(inProcess
        ? [{ text: symbol.address === undefined ? "" : paddedHex(symbol.address, width), style: "number" as const }]
        : []),
      { text: String(symbol.size) },
      { text: symbol.letter },
      { text: symbol.type },
      { text: symbol.bind },
      { text: symbol.section },
      { text: symbol.version === undefined ? "" : symbol.hidden ? `(${symbol.version})` : symbol.version },
      { text: symbol.name, style: symbol.type === "FUNC" ? "accent" : "name" },
    ]),
    {
      header: ["value", ...(inProcess ? ["address"] : []), "size", "nm", "type", "bind", "section", "version", "name"],
      right: [inProcess ? 2 : 1],
      style,
    },
  );
}
