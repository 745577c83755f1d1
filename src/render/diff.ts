import { hex, hexBytes } from "../bytes/hex.js";
import * as C from "../elf/constants.js";
import type { AbiComparison, AspectChange, ExportedSymbol, SymbolChange } from "../vdso/compare/abi.js";
import type { CodeComparison, CodeLine, CodeRow, FunctionComparison } from "../vdso/compare/code.js";
import type { SiteChange, SiteSummary, SitesComparison } from "../vdso/compare/sites.js";
import type { ContentComparison } from "../vdso/compare.js";
import type { CodeCount, DiffResult, DiffSide, DiffSummary, ImageDiff } from "../verbs/diff.js";
import { wrap } from "./explain.js";
import { plainStyle, type Style } from "./style.js";
import { type Cell, table } from "./table.js";
import { visible } from "./visible.js";
import { list } from "./words.js";

/** Narrowest terminal on which two columns of code can be read; below it, one stands under the other. */
const TWO_COLUMNS = 100;

/** Unchanged lines that are shown around a change. */
const CONTEXT = 3;

/** Most runs of differing bytes that are listed. */
const MAX_RANGES = 40;

/** How a comparison is laid out. */
export interface DiffLayout {
  readonly style?: Style;
  /** Characters in a line. */
  readonly width?: number;
}

/** A comparison: the answer, then what it rests on. */
export function renderDiff(result: DiffResult, { style = plainStyle, width = 130 }: DiffLayout = {}): string {
  return result.images.map((image) => renderImage(image, result.abiOnly, style, width)).join("\n");
}

function renderImage({ a, b, summary, comparison }: ImageDiff, abiOnly: boolean, style: Style, width: number): string {
  const sides = table(
    [sideCells("A", a, style), sideCells("B", b, style)].filter((cells) => cells !== undefined),
    { style },
  );
  if (!summary || !comparison) {
    const only = (a ?? b) as DiffSide;
    const sentence = `Only ${a ? "the first" : "the second"} has an image of ${only.identity.abi}.`;
    return sides + style.warning(wrap(sentence).trimEnd()).concat("\n");
  }
  const { abi, content } = comparison;
  const emphasis = summary.outside > 0 ? style.warning : style.bold;
  let text = sides + wrap(answer(summary, abi, abiOnly, content)).replace(/.+/g, emphasis);
  text += abiSection(abi, style, abiOnly);
  if (!content || content.bytes.identical) return text;
  text += bytesSection(content, style);
  if (content.sites) text += sitesSection(content.sites, style);
  if (content.code) text += codeSection(content.code, style, width);
  text += dataSection(content, style);
  return text;
}

function sideCells(letter: string, side: DiffSide | undefined, style: Style): Cell[] | undefined {
  if (!side) return undefined;
  const { abi, soname, kernelVersion, buildId, size } = side.identity;
  return [
    { text: letter, style: style === plainStyle ? "bold" : letter === "A" ? "warning" : "accent" },
    { text: side.target, style: "name" },
    { text: abi },
    { text: soname ?? "no SONAME" },
    { text: kernelVersion ? `Linux ${kernelVersion}` : "no kernel version" },
    { text: `${size} bytes` },
    { text: buildId ? `build-id ${buildId}` : "no build-id", style: "dim" },
  ];
}

function counted(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

function isAre(n: number, what: string): string {
  return `${n} ${n === 1 ? "is" : "are"} ${what}`;
}

/** The answer to "did the update change the vDSO?". */
function answer(summary: DiffSummary, abi: AbiComparison, abiOnly: boolean, content?: ContentComparison): string {
  if (abiOnly) return `A C library would notice ${noticed(abi)}.`;
  if (summary.identical) return "Both are the same image, byte for byte.";
  if (summary.outside > 0) {
    return (
      `WARNING: both say that they are the same build, but ${counted(summary.outside, "byte")} ` +
      `${summary.outside === 1 ? "differs" : "differ"} in another way than by what boot puts there: one of the two was changed after it was linked.`
    );
  }
  if (!summary.different) {
    const choices =
      summary.choices > 0
        ? `only what boot put in ${counted(summary.choices, "place")} differs`
        : `only ${notLoaded(content)} differs`;
    return `Both are the same image: ${choices}.`;
  }
  const { functions, local } = summary;
  if (!functions || !local) {
    const abis = abi.aspects.filter(({ aspect }) => aspect === "ABI").map(({ value }) => value);
    return `The images are of different ABIs, ${list(abis)}: no program could use one in place of the other, and their code has nothing in common.`;
  }
  return `${changedWords(functions, local, content)}; a C library would notice ${noticed(abi)}.`;
}

function notLoaded(content: ContentComparison | undefined): string {
  const ranges = content?.bytes.ranges ?? [];
  return ranges.some(({ where }) => where === "site") ? "what boot put in its places" : "what is not loaded";
}

function changedWords(functions: CodeCount, local: CodeCount, content: ContentComparison | undefined): string {
  const decoded = content?.code?.decoded ?? true;
  const affected =
    functions.affected > 0
      ? [`${functions.affected} more ${functions.affected === 1 ? "leads" : "lead"} to code that changed`]
      : [];
  const parts = [
    ...(functions.changed > 0 ? [changedFunctions(functions, decoded)] : []),
    ...(functions.removed > 0 ? [isAre(functions.removed, "gone")] : []),
    ...(functions.added > 0 ? [isAre(functions.added, "new")] : []),
    ...affected,
  ];
  if (parts.length > 0) return capital(list(parts));
  if (local.changed + local.added + local.removed > 0) {
    return decoded ? "Only code that no function leads to changed" : "Of the code only what has no name differs";
  }
  if (content?.sites && !content.sites.same) return "The code is the same, but it is patched otherwise at boot";
  const code = `The code is the same${functions.moved + local.moved > 0 ? " but for where it lies" : ""}`;
  const changed =
    content?.data.filter(({ change }) => change !== "same" && change !== "moved").map(({ name }) => name) ?? [];
  // Notes differ between any two builds.
  const data = changed.filter((name) => !name.startsWith(".note"));
  if (data.length > 0) return `${code}; the data in ${list(data)} differs`;
  return changed.length > 0 ? `${code}, and beside it only notes differ, as the build-id` : code;
}

function changedFunctions({ changed, total, added }: CodeCount, decoded: boolean): string {
  const of = `${changed} of ${counted(total - added, "function")}`;
  return decoded ? `the code of ${of} changed` : `the bytes of ${of} differ, which may only be where things lie`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** What a C library would notice, in a clause. */
function noticed({ same, symbols, aspects }: AbiComparison): string {
  if (same) return "nothing";
  const names = (change: SymbolChange["change"]) =>
    symbols.filter((one) => one.change === change).map(({ name }) => name);
  const parts = [
    ...naming(names("added"), "new"),
    ...naming(names("removed"), "gone"),
    ...naming(names("changed"), "changed"),
    ...naming(aspects.filter(({ change }) => change === "removed").map(aspectName), "gone"),
    ...naming(aspects.filter(({ change }) => change === "added").map(aspectName), "new"),
  ];
  return `that ${list(parts)}`;
}

function naming(names: readonly string[], what: string): string[] {
  if (names.length === 0) return [];
  return [`${few(names)} ${names.length === 1 ? "is" : "are"} ${what}`];
}

/** Names in a sentence; of many, some. */
function few(names: readonly string[]): string {
  return list(names.length > 4 ? [...names.slice(0, 3), `${names.length - 3} others`] : names);
}

function aspectName({ aspect, value }: AspectChange): string {
  switch (aspect) {
    case "ELF flags":
      return `e_flags ${value}`;
    case "hash table":
    case "dynamic entry":
    case "program header":
      return value;
    default:
      return `${aspect} ${value}`;
  }
}

function heading(text: string, style: Style): string {
  return `\n${style.bold(text)}\n`;
}

const TYPES: Readonly<Record<number, string>> = {
  [C.STT_NOTYPE]: "NOTYPE",
  [C.STT_OBJECT]: "OBJECT",
  [C.STT_FUNC]: "FUNC",
};

const BINDS: Readonly<Record<number, string>> = { [C.STB_GLOBAL]: "GLOBAL", [C.STB_WEAK]: "WEAK" };

function symbolWords(symbol: ExportedSymbol | undefined): string {
  if (!symbol) return "-";
  const { version, hidden, type, bind, visibility, aliasOf } = symbol;
  return [
    version === undefined ? "no version" : hidden ? `(${version})` : version,
    TYPES[type] ?? `type ${type}`,
    BINDS[bind] ?? `bind ${bind}`,
    ...(visibility === 0 ? [] : [`visibility ${visibility}`]),
    ...(aliasOf === undefined ? [] : [`= ${aliasOf}`]),
  ].join(" ");
}

function changeStyle(change: string): keyof Style {
  switch (change) {
    case "added":
      return "accent";
    case "removed":
    case "changed":
      return "warning";
    case "boot":
      return "number";
    default:
      return "dim";
  }
}

function abiSection(abi: AbiComparison, style: Style, abiOnly: boolean): string {
  let text = heading("what a C library sees", style);
  text += `  ${style.dim(`${counted(abi.unchanged, "exported name")} the same`)}\n`;
  text += table(
    abi.symbols.map((one): Cell[] => [
      { text: one.change, style: changeStyle(one.change) },
      { text: one.name, style: "name" },
      { text: symbolWords(one.a) },
      { text: symbolWords(one.b) },
      { text: one.fields.join(", "), style: "dim" },
    ]),
    { header: abi.symbols.length > 0 ? ["change", "name", "A", "B", ""] : [], indent: "  ", style },
  ).replace(/^ *\n/, "");
  text += table(
    abi.aspects.map((one): Cell[] => [
      { text: one.change, style: changeStyle(one.change) },
      { text: one.aspect },
      { text: one.value, style: "name" },
    ]),
    { indent: "  ", style },
  );
  for (const sentence of consequences(abi)) text += wrap(sentence, "  ");
  if (abi.sizes.length > 0 && abiOnly) {
    const sizes = abi.sizes.map(({ name, a, b }) => `${name} ${a} → ${b}`);
    text += wrap(`Sizes, which nothing relies on: ${sizes.join(", ")}.`, "  ");
  }
  return text;
}

/** What it means for programs that something is gone; nothing for those of another ABI, which never had it. */
function consequences({ symbols, aspects }: AbiComparison): string[] {
  if (aspects.some(({ aspect }) => aspect === "ABI")) return [];
  const gone = (value: string) => aspects.some((one) => one.change === "removed" && one.value === value);
  const lost = symbols.filter(({ change }) => change === "removed").map(({ name }) => name);
  const sentences: string[] = [];
  if (gone("DT_HASH")) {
    sentences.push(
      "Without DT_HASH, programs that look names up through it alone (some C libraries, older Go) find no function and make system calls.",
    );
  }
  if (gone("DT_GNU_HASH")) {
    sentences.push("Without DT_GNU_HASH, names are looked up through DT_HASH by those that know it.");
  }
  if (gone("PT_GNU_EH_FRAME")) sentences.push("Without PT_GNU_EH_FRAME, unwinders find no rules for this image.");
  if (lost.includes("__kernel_vsyscall")) {
    sentences.push("Without __kernel_vsyscall, C libraries of i386 enter the kernel by int $0x80.");
  }
  const returns = lost.filter((name) => name.includes("sigreturn"));
  if (returns.length > 0) {
    sentences.push(`Without ${list(returns)}, signal handlers return through the C library's own code.`);
  }
  const others = lost.filter((name) => /time|clock|getcpu|getrandom/.test(name));
  if (others.length > 0) sentences.push(`Without ${list(others)}, callers make the system call.`);
  return sentences;
}

function bytesSection({ bytes }: ContentComparison, style: Style): string {
  if (!bytes.sameBuild) return "";
  const of = (where: string) => bytes.ranges.filter((range) => range.where === where);
  const total = (where: string) => of(where).reduce((sum, { length }) => sum + length, 0);
  let text = heading("bytes of this build that differ", style);
  const outside = of("outside");
  text += table(
    outside
      .slice(0, MAX_RANGES)
      .map(({ offset, length }): Cell[] => [
        { text: `${hex(offset)}-${hex(offset + length)}`, style: "warning" },
        { text: counted(length, "byte") },
        { text: "not what boot puts there", style: "warning" },
      ]),
    { indent: "  ", style },
  );
  if (outside.length > MAX_RANGES) text += `  … and ${outside.length - MAX_RANGES} more such ranges\n`;
  for (const [where, words] of [
    ["site", "in places that boot patches"],
    ["not loaded", "in what is not loaded: section headers, and what lies behind the loaded part"],
  ] as const) {
    if (total(where) > 0) text += `  ${counted(total(where), "byte")} ${words}\n`;
  }
  return text;
}

function siteWords(site: SiteSummary | undefined): string {
  if (!site) return "-";
  const alternatives = site.alternatives.map(
    ({ feature, inverted, replacement }) =>
      `${inverted ? "not " : ""}feature ${feature}: ${replacement.trim() || "nothing"}`,
  );
  return `${counted(site.length, "byte")} at ${hex(site.address)}; ${alternatives.join("; ")}`;
}

function sitesSection(sites: SitesComparison, style: Style): string {
  const [a, b] = sites.counts;
  if (a === 0 && b === 0) return "";
  let text = heading("places that boot patches", style);
  const sizes = sites.recordSizes;
  const facts = [
    a === b ? counted(a, "place") : `${counted(a, "place")} in A, ${b} in B`,
    sizes.a === sizes.b
      ? `records of ${sizes.a} bytes`
      : `records of ${sizes.a ?? "no"} bytes in A, ${sizes.b ?? "no"} in B`,
    ...(sites.same ? ["patched by the same rules"] : []),
  ];
  text += `  ${facts.join("; ")}\n`;
  if (sites.features === "renumbered") {
    const pairs = sites.renumbered.map(([from, to]) => `${from} → ${to}`);
    text += wrap(`The kernels number features differently: ${pairs.join(", ")}.`, "  ");
  }
  text += table(
    sites.changes.flatMap((one: SiteChange): Cell[][] => [
      [
        { text: one.change, style: changeStyle(one.change) },
        { text: one.function ?? "", style: "name" },
        { text: one.a ? `A: ${siteWords(one.a)}` : `B: ${siteWords(one.b)}` },
      ],
      ...(one.a && one.b
        ? [[{ text: "" }, { text: one.fields.join(", "), style: "dim" as const }, { text: `B: ${siteWords(one.b)}` }]]
        : []),
    ]),
    { indent: "  ", style },
  );
  return text;
}

const CHANGE_WORDS: Readonly<Record<FunctionComparison["change"], string>> = {
  same: "the same",
  moved: "the same, elsewhere",
  boot: "the same, patched differently at boot",
  changed: "changed",
  added: "new",
  removed: "gone",
};

function codeSection(code: CodeComparison, style: Style, width: number): string {
  let text = heading("code", style);
  if (!code.decoded) {
    text += wrap(
      "The instructions are not decoded: bytes are compared, and code that only moved counts as changed.",
      "  ",
    );
  }
  text += table(
    code.functions.map((one): Cell[] => [
      { text: one.name, style: one.change === "same" ? "dim" : "name" },
      { text: one.a ? hex(one.a.address) : "-", style: "number" },
      { text: one.a ? String(one.a.size) : "-" },
      { text: one.b ? hex(one.b.address) : "-", style: "number" },
      { text: one.b ? String(one.b.size) : "-" },
      { text: CHANGE_WORDS[one.change], style: changeStyle(one.change) },
      { text: remark(one, code.decoded), style: "dim" },
    ]),
    { header: ["function", "A", "size", "B", "size", "", ""], right: [1, 2, 3, 4], indent: "  ", style },
  );
  const choices = code.contents.filter(({ kind }) => kind === "choice");
  if (choices.length > 0) {
    text += heading("what boot chose", style);
    text += table(
      choices.map((one): Cell[] => [
        { text: one.function, style: "name" },
        { text: hex(one.a.address), style: "number" },
        { text: stateWords(one.a) },
        { text: hex(one.b.address), style: "number" },
        { text: stateWords(one.b) },
      ]),
      { header: ["function", "A", "", "B", ""], indent: "  ", style },
    );
  }
  for (const one of code.functions) {
    if (one.change === "changed" && one.rows.length > 0) text += functionText(one, style, width);
  }
  return text;
}

function stateWords({ text, bytes }: { readonly text: string; readonly bytes: Uint8Array }): string {
  return text === "" ? hexBytes(bytes, " ") : text;
}

function remark({ local, calledBy, reaches, aligned, change }: FunctionComparison, decoded: boolean): string {
  const unchanged = change === "same" || change === "moved" || change === "boot";
  return [
    ...(local && decoded ? [calledBy.length > 0 ? `used by ${few(calledBy)}` : "no function leads to it"] : []),
    ...(unchanged && reaches.length > 0 ? [`leads to ${few(reaches)}`] : []),
    ...(aligned ? [] : ["too different to be aligned"]),
  ].join("; ");
}

function functionText(one: FunctionComparison, style: Style, width: number): string {
  const names = one.aliases.length > 0 ? ` (${one.aliases.join(", ")})` : "";
  const rows = folded(one.rows);
  const addressWidth = one.rows.reduce(
    (widest, { a, b }) => Math.max(widest, ...[a, b].map((line) => line?.address.toString(16).length ?? 0)),
    4,
  );
  const lines =
    width >= TWO_COLUMNS ? sideBySide(rows, addressWidth, width, style) : unified(rows, addressWidth, style);
  return `\n${style.accent(visible(one.name))}${style.dim(visible(names))}\n${lines}`;
}

/** A row, or how many unchanged ones were left out. */
type Folded = CodeRow | number;

function folded(rows: readonly CodeRow[]): Folded[] {
  // How far the nearest changed row is, in either direction.
  const near = new Array<boolean>(rows.length).fill(false);
  for (const direction of [1, -1]) {
    let left = 0;
    for (let n = 0; n < rows.length; n++) {
      const i = direction === 1 ? n : rows.length - 1 - n;
      if ((rows[i] as CodeRow).change !== "same") left = CONTEXT + 1;
      if (left > 0) near[i] = true;
      left -= 1;
    }
  }
  const result: Folded[] = [];
  for (const [i, row] of rows.entries()) {
    const last = result.at(-1);
    if (near[i]) result.push(row);
    else if (typeof last === "number") result[result.length - 1] = last + 1;
    else result.push(1);
  }
  return result;
}

const MARKS: Readonly<Record<CodeRow["change"], string>> = {
  same: " ",
  boot: "*",
  changed: "|",
  added: ">",
  removed: "<",
};

function lineText(line: CodeLine | undefined, addressWidth: number): string {
  return line ? `${line.address.toString(16).padStart(addressWidth)}  ${visible(line.text)}` : "";
}

function foldText(count: number, style: Style): string {
  return `${style.dim(`  … ${counted(count, "instruction")} the same`)}\n`;
}

function sideBySide(rows: readonly Folded[], addressWidth: number, width: number, style: Style): string {
  const half = Math.floor((width - 5) / 2);
  const cut = (text: string) => (text.length > half ? `${text.slice(0, half - 1)}…` : text);
  return rows
    .map((row) => {
      if (typeof row === "number") return foldText(row, style);
      const left = cut(lineText(row.a, addressWidth));
      const right = cut(lineText(row.b, addressWidth));
      const [one, other] = sideStyles(row.change, style);
      return `  ${one(left)}${" ".repeat(half - left.length)} ${MARKS[row.change]} ${other(right)}`
        .trimEnd()
        .concat("\n");
    })
    .join("");
}

function sideStyles(
  change: CodeRow["change"],
  style: Style,
): [a: (text: string) => string, b: (text: string) => string] {
  if (change === "same") return [style.dim, style.dim];
  return change === "boot" ? [style.number, style.number] : [style.warning, style.accent];
}

/** As `diff -u` has it: what only the first has, then what only the second has. */
function unified(rows: readonly Folded[], addressWidth: number, style: Style): string {
  let text = "";
  let waiting: CodeLine[] = [];
  let mark = "+";
  const flush = () => {
    const emphasis = mark === "*" ? style.number : style.accent;
    for (const line of waiting) text += `${emphasis(`${mark} ${lineText(line, addressWidth)}`)}\n`;
    waiting = [];
  };
  for (const row of rows) {
    if (typeof row === "number" || row.change === "same") {
      flush();
      text += typeof row === "number" ? foldText(row, style) : `${style.dim(`  ${lineText(row.a, addressWidth)}`)}\n`;
      continue;
    }
    if ((row.change === "boot") !== (mark === "*")) flush();
    mark = row.change === "boot" ? "*" : "+";
    const emphasis = row.change === "boot" ? style.number : style.warning;
    if (row.a) text += `${emphasis(`${mark === "*" ? "*" : "-"} ${lineText(row.a, addressWidth)}`)}\n`;
    if (row.b) waiting.push(row.b);
  }
  flush();
  return text;
}

function dataSection({ data }: ContentComparison, style: Style): string {
  if (data.length === 0) return "";
  const size = (bytes: number | undefined) => (bytes === undefined ? "-" : String(bytes));
  return (
    heading("data", style) +
    table(
      data.map(({ name, change, a, b }): Cell[] => [
        { text: name, style: "name" },
        { text: size(a) },
        { text: size(b) },
        { text: change === "same" ? "the same" : CHANGE_WORDS[change], style: changeStyle(change) },
      ]),
      { header: ["section", "A", "B", ""], right: [1, 2], indent: "  ", style },
    )
  );
}
