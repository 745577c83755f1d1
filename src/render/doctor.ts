import type { AbiFacts, Figure, ProofRow } from "../measure/doctor/facts.js";
import type { DoctorResult, DocumentedFinding, Finding, Severity } from "../verbs/doctor.js";
import { wrap } from "./explain.js";
import { plainStyle, type Style } from "./style.js";
import { type Cell, table } from "./table.js";
import { visible } from "./visible.js";

const SEVERITY_STYLE: Readonly<Record<Severity, keyof Style>> = {
  bad: "warning",
  warn: "number",
  ok: "accent",
  info: "dim",
};

/** The verdict, the calls of each ABI, and the findings with their evidence and what to do. */
export function renderDoctor({ verdict, lost, findings, facts }: DoctorResult, style: Style = plainStyle): string {
  const lines = wrap(verdict).trimEnd().split("\n");
  const verdictText = lines.map((line) => (lost ? style.warning(line) : style.accent(line))).join("\n");
  const calls = facts.abis.flatMap((abi) => (abi.proof.length > 0 ? [callTable(abi, style)] : []));
  const told = new Set<string>();
  return [`${verdictText}\n`, ...calls, ...findings.map((one) => findingText(one, told, style))].join("\n");
}

const ANSWERS: Readonly<Record<ProofRow["answer"], string>> = {
  vdso: "the vDSO",
  kernel: "the kernel",
  error: "an error",
  absent: "no function",
};

/** Of what no vDSO answers, and of what this one has no function for, the findings tell. */
function isShown({ answer, need }: ProofRow): boolean {
  return need !== "kernel" && answer !== "absent";
}

function callTable({ abi, image, proof, figures }: AbiFacts, style: Style): string {
  const title = [abi, image?.soname, image?.maker, image?.kernelVersion].filter((word) => word !== undefined).join(" ");
  const rows = proof.filter(isShown).map((row): (Cell | string)[] => {
    const of = (...vias: readonly Figure["via"][]) =>
      vias.flatMap((via) => figures.find((one) => one.call === row.call && one.via === via) ?? [])[0];
    return [
      { text: row.call, style: "name" },
      { text: ANSWERS[row.answer] + detail(row), style: answerStyle(row) },
      nanoseconds(of("vdso")),
      nanoseconds(of("syscall", "gate")),
    ];
  });
  const measured = figures.length > 0;
  const shown = measured ? rows : rows.map((row) => row.slice(0, 2));
  const header = ["call", "answered by", ...(measured ? ["vDSO ns", "real call ns"] : [])];
  return `${style.bold(visible(title))}\n${table(shown, { header, right: [2, 3], indent: "  ", style })}`;
}

function detail({ answer, systemCall, call, errno }: ProofRow): string {
  if (answer === "error") return ` (${errno})`;
  const other = systemCall !== undefined && !call.startsWith(`${systemCall}(`) && call !== systemCall;
  return other ? ` (${systemCall})` : "";
}

function answerStyle({ answer }: ProofRow): keyof Style {
  return answer === "vdso" ? "accent" : "warning";
}

function nanoseconds(figure: Figure | undefined): Cell {
  const text = figure && (figure.nsMedian < 0.1 ? "<0.1" : figure.nsMedian.toFixed(1));
  return { text: text ?? "", style: "number" };
}

/** `told` has the remedies that stand further up, and gets this one. */
function findingText(
  { id, severity, abi, pid, what, evidence, remedy }: Finding,
  told: Set<string>,
  style: Style,
): string {
  const of = [...(abi === undefined ? [] : [abi]), ...(pid === undefined ? [] : [`process ${pid}`])];
  const place = of.length > 0 ? style.dim(` (${visible(of.join(", "))})`) : "";
  const quiet = severity === "ok" || severity === "info";
  const again = remedy !== undefined && told.has(remedy);
  if (remedy !== undefined) told.add(remedy);
  return [
    `${style[SEVERITY_STYLE[severity]](severity.padEnd(4))}  ${style.bold(id)}${place}\n`,
    wrap(what, "      "),
    ...evidence.map((line) => marked("·", line)),
    ...(remedy === undefined || quiet ? [] : [marked("→", again ? "as above" : remedy)]),
  ].join("");
}

/** A sentence behind a mark, its further lines below its first. */
function marked(mark: string, text: string): string {
  return wrap(text, "        ").replace(/^ {8}/, `      ${mark} `);
}

/** Every finding that there may be, with what it means and what to do. */
export function renderFindingList(entries: readonly DocumentedFinding[], style: Style = plainStyle): string {
  return entries
    .map(({ id, severity, meaning, remedy }) =>
      [
        `${style[SEVERITY_STYLE[severity]](severity.padEnd(4))}  ${style.bold(id)}\n`,
        wrap(meaning, "      "),
        ...(remedy === undefined ? [] : [marked("→", remedy)]),
      ].join(""),
    )
    .join("\n");
}
