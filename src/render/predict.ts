import { hex, hexBytes } from "../bytes/hex.js";
import { siteCode } from "../vdso/boot/code-words.js";
import type { EntryChoice, Feature, PredictedSite } from "../vdso/boot/predict.js";
import type { Identity } from "../verbs/identity.js";
import type { MatrixResult, NoMechanism, TimelineResult } from "../verbs/matrix.js";
import type { CpuIdentity, InForceResult, PredictResult } from "../verbs/predict.js";
import { plainStyle, type Style } from "./style.js";
import { type Cell, table } from "./table.js";
import { visible } from "./visible.js";
import { list } from "./words.js";

/** `i386 image of Linux 6.1.176, 64-bit kernel`. */
function imageWords({ abi, kernelVersion }: Identity, width: 32 | 64 | undefined): string {
  const kernel = kernelVersion === undefined ? "" : ` of Linux ${kernelVersion}`;
  return `${abi} image${kernel}${width === undefined ? "" : `, ${width}-bit kernel`}`;
}

/** `SYSENTER32 (0x6f)`, or the number alone. */
function featureWords({ name, number }: Feature): string {
  return name === undefined ? `feature ${hex(number)}` : `${name} (${hex(number)})`;
}

function shortName({ name, number }: Feature): string {
  return name ?? `feature ${hex(number)}`;
}

function cpuWords({ name, vendor, family, model, stepping }: CpuIdentity): string {
  const numbers = [family, model, stepping].filter((number) => number !== undefined);
  const id = [...(vendor === undefined ? [] : [vendor.trim()]), ...(numbers.length > 0 ? [numbers.join("/")] : [])];
  return id.length > 0 ? `${name} (${id.join(" ")})` : name;
}

/** Whose NOPs fill what is left of a site. */
function nopWords(nops: string): string {
  const owners: Readonly<Record<string, string>> = {
    "32-bit": "as 32-bit kernels write them",
    "64-bit": "as 64-bit kernels write them",
    "64-bit, long": "as 64-bit kernels write them",
    k8: "as for AMD's K8",
    k7: "as for AMD's K7",
    p6: "as for Intel's P6",
    generic: "as for any processor",
  };
  return owners[nops] ?? nops;
}

/** Why a site becomes what it becomes: the feature that decides. */
function reason({ alternatives, winner, undetermined }: PredictedSite): string {
  if (undetermined !== undefined) return `undetermined: ${undetermined}`;
  const won = alternatives.find(({ alternative }) => alternative === winner);
  if (won) return `${won.alternative.inverted ? "no " : ""}${shortName(won.presence.feature)}`;
  const lost = alternatives.map(({ alternative, presence }) =>
    alternative.inverted ? shortName(presence.feature) : `no ${shortName(presence.feature)}`,
  );
  return list(lost);
}

function entryWords({ mechanism, others }: EntryChoice, style: Style): string {
  const ways = others.map(({ mechanism: way, needs }) => {
    const conditions = needs.map(({ feature, present }) => `${present ? "with" : "without"} ${shortName(feature)}`);
    return `${way}${conditions.length > 0 ? ` (${list(conditions)})` : ""}`;
  });
  const rest = ways.length > 0 ? `; could be ${ways.join(" or ")}` : "";
  return `entry: ${style.accent(mechanism)}${rest}\n`;
}

function siteRows(result: PredictResult): Cell[][] {
  return result.sites.map((site) => [
    { text: hex(site.offset), style: "number" },
    { text: site.functionName ?? "", style: "name" },
    { text: hexBytes(site.before, " ") },
    { text: site.after ? hexBytes(site.after, " ") : "?", style: site.after ? "accent" : "warning" },
    { text: site.after ? siteCode(site.after, result.identity.abi) : "" },
    { text: reason(site) },
  ]);
}

const NOT_PATCHED = "no place in it is patched at boot\n";

/** A prediction as text: the way in, the features that decide, and every site with what it becomes. */
export function renderPrediction(result: PredictResult, style: Style = plainStyle): string {
  const { identity, width, features, sites, chosen } = result;
  const lines = [`${imageWords(identity, width)}, on ${visible(cpuWords(result.cpu))}\n`];
  if (result.cmdline !== "") lines.push(`command line: ${visible(result.cmdline)}\n`);
  for (const remark of result.remarks) lines.push(`${style.warning(visible(remark))}\n`);
  if (result.cannotRun !== undefined) lines.push(`${style.warning(visible(result.cannotRun))}\n`);
  if (result.notMapped !== undefined) lines.push(`${style.warning(result.notMapped)}\n`);
  if (chosen) {
    lines.push(
      `${chosen.is ? style.accent("the image that is mapped") : "not the image that is mapped"}: ${visible(chosen.why)}\n`,
    );
  }
  if (result.entry) lines.push(entryWords(result.entry, style));
  if (sites.length === 0) {
    if (result.bytes) lines.push(NOT_PATCHED);
    return lines.join("");
  }
  const open = sites.filter(({ after }) => !after).length;
  if (open > 0) {
    lines.push(style.warning(`undetermined: ${open} of ${sites.length} places, so that there is no image to write\n`));
  }
  if (result.nops !== undefined) lines.push(`padding: NOPs ${nopWords(result.nops)}\n`);
  lines.push(
    "\n",
    table(
      features.map(({ feature, present, why }): Cell[] => [
        { text: featureWords(feature), style: "name" },
        {
          text: present === undefined ? "unknown" : present ? "present" : "absent",
          ...(present === undefined && { style: "warning" }),
        },
        { text: why },
      ]),
      { header: ["feature", "", "why"], style },
    ),
    "\n",
    table(siteRows(result), { header: ["offset", "function", "before", "after", "code", "decided by"], style }),
  );
  return lines.join("");
}

const HIDDEN = "where it would show, something later was put";

/** A mapped image, read for what its kernel put in place. */
export function renderInForce(result: InForceResult, style: Style = plainStyle): string {
  const { identity, features, sites, mechanism, unread } = result;
  if (sites.length === 0) return `${imageWords(identity, undefined)}\n${unread ? `${visible(unread)}\n` : NOT_PATCHED}`;
  const lines = [`${imageWords(identity, undefined)}, as mapped\n`];
  if (mechanism) lines.push(`entry: ${style.accent(mechanism)}\n`);
  const seen = features.map(({ feature, present, contradicted }): Cell[] => [
    { text: featureWords(feature), style: "name" },
    { text: present === undefined ? "hidden" : present ? "present" : "absent" },
    { text: contradicted ? "the sites contradict one another" : present === undefined ? HIDDEN : "", style: "dim" },
  ]);
  const styles = [...new Set(sites.map(paddingWords))].filter((words) => words !== "");
  // Most images have one style throughout; a column is for those that have more.
  const apart = styles.length > 1;
  if (styles.length === 1) lines.push(`padding: ${styles[0]}\n`);
  const rows = sites.map((site): Cell[] => [
    { text: hex(site.offset), style: "number" },
    { text: site.functionName ?? "", style: "name" },
    { text: hexBytes(site.bytes, " ") },
    { text: siteCode(site.bytes, identity.abi) },
    { text: stateWords(site) },
    ...(apart ? [{ text: paddingWords(site) }] : []),
  ]);
  const header = ["offset", "function", "bytes", "code", "in force", ...(apart ? ["padding"] : [])];
  lines.push(
    "\n",
    table(seen, { header: ["feature", "the kernel saw it", ""], style }),
    "\n",
    table(rows, { header, style }),
  );
  return lines.join("");
}

/** Whose NOPs stand at a site; empty where none do, or where it is not known. */
function paddingWords({ nops }: InForceResult["sites"][number]): string {
  if (nops === undefined || nops === "none") return "";
  return `NOPs ${list([...new Set(nops.split(/, (?!long)/).map(nopWords))])}`;
}

function stateWords({ alternatives, alternative }: InForceResult["sites"][number]): string {
  const at = alternatives.find((one) => one.alternative === alternative);
  if (!alternative || !at) return "what was there before";
  return `that for ${alternative.inverted ? "no " : ""}${shortName(at.feature)}`;
}

/** The choices on a table of processors. */
export function renderMatrix(result: MatrixResult, style: Style = plainStyle): string {
  const titles = result.columns.map(({ title, sites }) =>
    sites > 1 && title !== "entry" ? `${title} (${sites})` : title,
  );
  const rows = result.rows.map(({ cpu, cells, cannotRun }): Cell[] => [
    { text: cpu.name, style: "name" },
    ...(cannotRun === undefined
      ? cells.map((text, i): Cell => ({ text, ...(result.columns[i]?.title === "entry" && { style: "accent" }) }))
      : cells.map((): Cell => ({ text: "–", style: "dim" }))),
  ]);
  const head = `${imageWords(result.identity, result.width)}\n\n`;
  if (result.unread !== undefined) return `${head}${visible(result.unread)}\n`;
  if (result.columns.length === 0) return `${head}${NOT_PATCHED}`;
  const legend = legendOf(new Set(rows.flatMap((row) => row.slice(1).map((cell) => (cell as Cell).text))), style);
  return head + table(rows, { header: ["processor", ...titles], style }) + legend;
}

/** What the marks in a table stand for that says neither the way in nor an instruction. */
const MARKS = [
  ["–", "it cannot run this kernel"],
  ["?", "undetermined"],
] as const;

function legendOf(cells: ReadonlySet<string>, style: Style): string {
  const used = MARKS.filter(([mark]) => cells.has(mark)).map(([mark, meaning]) => `${mark} ${meaning}`);
  return used.length === 0 ? "" : `\n${style.dim(used.join("; "))}\n`;
}

const MISSING: Readonly<Record<NoMechanism, string>> = {
  "cannot run": "–",
  "no vDSO": "no vDSO",
  undetermined: "?",
};

/** Most kernels whose version and width stand side by side in a line of some hundred characters. */
const MAX_WIDE = 3;

/** The way into the kernel, one row a processor and one column a kernel. */
export function renderTimeline(result: TimelineResult, style: Style = plainStyle): string {
  const { kernels, cpus } = result;
  const versions = kernels.map(({ version }) => version ?? "?");
  const widths = kernels.map(({ width }) => (width === undefined ? "" : `${width}-bit`));
  const wide = kernels.length <= MAX_WIDE;
  const titles = wide ? versions.map((version, i) => `${version} ${widths[i]}`.trimEnd()) : versions;
  const cells = cpus.map((_, i) =>
    kernels.map(({ mechanisms, missing }): Cell => {
      const mechanism = mechanisms[i];
      if (mechanism !== undefined) return { text: mechanism, style: "accent" };
      return { text: MISSING[missing[i] ?? "undetermined"], style: "dim" };
    }),
  );
  const rows = cpus.map(({ name }, i): Cell[] => [{ text: name, style: "name" }, ...(cells[i] as Cell[])]);
  if (!wide) rows.unshift(["", ...widths].map((text): Cell => ({ text, style: "dim" })));
  const legend = legendOf(new Set(cells.flat().map(({ text }) => text)), style);
  const without = result.without
    .map((name) => `${visible(name)}: no i386 image, whose way in this is about\n`)
    .join("");
  if (kernels.length === 0) return without;
  return table(rows, { header: ["processor", ...titles], style }) + legend + (without && `\n${without}`);
}
