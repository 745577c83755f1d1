import { hex, hexBytes } from "../bytes/hex.js";
import type { ExplainedGate, ExplainResult } from "../verbs/explain.js";
import { plainStyle, type Style } from "./style.js";
import { type Cell, table } from "./table.js";
import { visible } from "./visible.js";
import { functionWords, gateAnswer, noEntryWords, notDecodedWords, pageWords, stepWords } from "./words.js";

/** Width to which prose is wrapped. */
const PROSE_WIDTH = 100;

/** Breaks prose into lines of at most `width` characters, each behind `indent`, and makes visible what a terminal would obey. */
export function wrap(text: string, indent = "", width = PROSE_WIDTH): string {
  const lines: string[] = [];
  let line = "";
  for (const word of visible(text).split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > width) {
      lines.push(line);
      line = "";
    }
    line = line === "" ? word : `${line} ${word}`;
  }
  if (line !== "") lines.push(line);
  return lines.map((one) => `${indent}${one}\n`).join("");
}

/** The instructions of the gate, each with what it is for. `bias` turns addresses as linked into those of a process. */
export function gateTable(gate: ExplainedGate, bias: bigint, style: Style, indent: string): string {
  return table(
    gate.steps.map((step): Cell[] => [
      { text: (step.instruction.address + bias).toString(16), style: "number" },
      { text: hexBytes(step.instruction.bytes, " "), style: "dim" },
      { text: step.text, style: step.purpose.kind === "enter" ? "accent" : "bold" },
      { text: stepWords(step, gate) },
    ]),
    { indent, style },
  );
}

/** The gate and each function in words. */
export function renderExplain(result: ExplainResult, style: Style = plainStyle): string {
  const { identity, functions, gate } = result;
  const bias = result.bias ?? 0n;
  const of = [
    identity.soname ?? "an image without a name",
    `for ${identity.abi}`,
    ...(identity.kernelVersion ? [`of Linux ${identity.kernelVersion}`] : []),
  ];
  let text = `${style.bold(visible(of.join(" ")))} (${visible(result.target)})\n`;
  if (!result.decoded) {
    return `${text}\n${wrap(`${notDecodedWords(identity.abi)} Its symbols and identity are shown by the other verbs.`)}`;
  }
  if (gate) {
    text += `\n${style.accent(visible(gate.entry.name))}\n`;
    text += gateTable(gate, bias, style, "  ");
    text += gateAnswer(gate)
      .map((sentence) => wrap(sentence, "  "))
      .join("");
  } else {
    const words = noEntryWords(functions);
    if (words) text += `\n${wrap(words)}`;
  }
  for (const facts of functions) {
    const { function: target } = facts;
    if (target.role === "entry") continue;
    const names = [...(target.aliases.length > 0 ? [`also ${target.aliases.join(", ")}`] : [])];
    const where = `${hex(target.address + bias)}, ${target.size} bytes, ${facts.instructionCount} instructions followed`;
    text += `\n${style.accent(visible(target.name))}  ${style.dim(visible([where, ...names].join("; ")))}\n`;
    text += wrap(functionWords(facts, result.dataPages).join(" "), "  ");
  }
  if (result.dataPages.length > 0) {
    text += `\n${style.bold("data that the code reads")}\n`;
    text += table(
      result.dataPages.map((page): Cell[] => [
        { text: hex(page.offset + result.base), style: "number" },
        { text: page.mapping ?? "", style: "name" },
        { text: pageWords(page) },
      ]),
      { indent: "  ", style },
    );
  }
  return text;
}
