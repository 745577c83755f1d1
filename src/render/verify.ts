import { hex, hexBytes } from "../bytes/hex.js";
import type { Finding, FindingId, Mark } from "../vdso/tamper/finding.js";
import type { ImageSeen, ProcessVerdict, Verdict, VerifySummary } from "../verbs/verify/result.js";
import { isFinding } from "../verbs/verify/result.js";
import { plainStyle, type Style } from "./style.js";
import { type Cell, table } from "./table.js";
import { list } from "./words.js";

const FINDINGS: Readonly<Record<FindingId, string>> = {
  "bytes-changed": "the bytes are not the kernel's",
  "function-hooked": "the function was made a jump to elsewhere",
  "site-changed": "what lies at a place that is patched at boot is none of its alternatives",
  "site-differs": "another alternative than in other processes lies here",
  "breakpoint-without-tracer": "a breakpoint, and nobody traces the process",
  "other-image": "another image is mapped",
  "not-an-image": "what is mapped is no vDSO image",
  writable: "the process may write to its vDSO",
  "protection-changed": "the protection is not the kernel's r-xp",
  "private-page": "the process has a copy of its own of this page",
  "second-vdso": "a further mapping is named [vdso]",
  "vdso-copy": "executable memory that the kernel did not map as a vDSO holds an image of one",
  "stack-vector-differs": "the vector on the program's stack tells of another vDSO",
  "sysinfo-ehdr-elsewhere": "AT_SYSINFO_EHDR does not point to the vDSO",
  "vdso-unmapped": "the vDSO, or a part of it, was unmapped",
  "sysinfo-ehdr-missing": "the auxiliary vector does not tell of the vDSO",
  "sysinfo-elsewhere": "AT_SYSINFO is not __kernel_vsyscall",
  "data-missing": "the data that the vDSO reads is not where it belongs",
  "data-protection": "the data that the vDSO reads has another protection than the kernel gives it",
};

/** A finding in a sentence. */
export function findingWords(finding: Finding): string {
  const { id, leadsTo, detail, size } = finding;
  return [
    FINDINGS[id],
    ...(leadsTo === undefined ? [] : [`which leads to ${hex(leadsTo)}`]),
    ...(size !== undefined && size > 1 ? [`${size} bytes`] : []),
    ...(detail === undefined ? [] : [detail]),
  ].join(", ");
}

const MARKS: Readonly<Record<Mark["kind"], string>> = {
  breakpoint: "a debugger's breakpoint",
  criu: "an image of another kernel, as CRIU leaves it",
  rr: "made a system call by rr",
  valgrind: "the vDSO was unmapped by valgrind",
  "traced-copy": "a page written to by whoever traces the process",
  "traced-vector": "the vDSO is hidden from the program by whoever traces it",
  "criu-copy": "a page written to when the process was restored",
};

const VERDICTS: Readonly<Record<Verdict, string>> = {
  ok: "as the kernel made them",
  tampered: "tampered with",
  suspicious: "suspicious",
  breakpoint: "with a debugger's breakpoint",
  criu: "restored by CRIU",
  rr: "recorded by rr",
  valgrind: "run by valgrind",
  "traced-copy": "changed by whoever traces them",
  emulated: "as the emulator made them",
  "no-vdso": "without a vDSO",
  "kernel-thread": "kernel threads",
  zombie: "zombies",
  vanished: "ended meanwhile",
  refused: "refused (EACCES)",
  unreadable: "unreadable",
};

/** Processes that are said in one word each; the rest of the order of the table above. */
const ORDER = Object.keys(VERDICTS) as Verdict[];

/** `1014 processes: 1009 as the kernel made them, 3 kernel threads, 2 tampered with`. */
function countsLine({ processes, counts }: VerifySummary): string {
  const parts = ORDER.flatMap((verdict) => {
    const count = counts[verdict];
    return count === undefined ? [] : [`${thousands(count)} ${singular(verdict, count)}`];
  });
  const what = `${thousands(processes)} process${processes === 1 ? "" : "es"}`;
  return parts.length === 0 ? what : `${what}: ${parts.join(", ")}`;
}

function singular(verdict: Verdict, count: number): string {
  const words = VERDICTS[verdict];
  if (count !== 1) return words;
  if (verdict === "kernel-thread" || verdict === "zombie") return words.replace(/s$/, "");
  return words.replace(/\bthem\b/, "it");
}

function thousands(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** The findings and marks of processes, one a line; empty where there are none. */
function renderVerdicts(verdicts: readonly ProcessVerdict[], style: Style = plainStyle): string {
  const rows = verdicts.flatMap((verdict) => [
    ...verdict.findings.map((finding) => findingRow(verdict, finding)),
    ...(verdict.more > 0 ? [[...who(verdict), "", "", "", `${verdict.more} more findings`]] : []),
    ...verdict.marks.map((mark) => markRow(verdict, mark)),
  ]);
  if (rows.length === 0) return "";
  return table(rows, { header: ["pid", "program", "finding", "address", "where", "what"], right: [0], style });
}

function who({ pid, name }: ProcessVerdict): Cell[] {
  return [
    { text: String(pid), style: "number" },
    { text: name ?? "", style: "name" },
  ];
}

function findingRow(verdict: ProcessVerdict, finding: Finding): (Cell | string)[] {
  return [
    ...who(verdict),
    { text: finding.id, style: "warning" },
    { text: finding.address === undefined ? "" : hex(finding.address), style: "number" },
    { text: finding.function ?? finding.part ?? "", style: "name" },
    { text: findingWords(finding) + bytesWords(finding) },
  ];
}

/** `: e9 01 02 for 55 48 89`, shortened where it is long. */
function bytesWords({ expected, found }: Finding): string {
  if (!expected || !found) return "";
  const few = (bytes: Uint8Array) => hexBytes(bytes.subarray(0, 8), " ") + (bytes.length > 8 ? " …" : "");
  return `: ${few(found)} in place of ${few(expected)}`;
}

function markRow(verdict: ProcessVerdict, mark: Mark): (Cell | string)[] {
  return [
    ...who(verdict),
    { text: mark.kind, style: "dim" },
    { text: mark.address === undefined ? "" : hex(mark.address), style: "number" },
    { text: mark.function ?? "", style: "name" },
    { text: [MARKS[mark.kind], ...(mark.detail === undefined ? [] : [mark.detail])].join(", ") },
  ];
}

/** The whole of one look: what was found, what it was held against, and how many of each. */
export function renderVerify(
  verdicts: readonly ProcessVerdict[],
  summary: VerifySummary,
  style: Style = plainStyle,
): string {
  const rows = renderVerdicts(verdicts, style);
  const single = verdicts.length === 1 && verdicts[0] ? fullText(verdicts[0]) : [];
  const lines = [
    ...single,
    ...summary.images.map((image) => `${imageWords(image)}`),
    ...summary.notes,
    ...(summary.counts.refused ? [REFUSED] : []),
    countsText(summary, verdicts, style),
  ];
  return `${rows}${rows === "" ? "" : "\n"}${lines.join("\n")}\n`;
}

const REFUSED =
  "some processes may not be looked at: that takes their owner or CAP_SYS_PTRACE, and no security module that refuses";

/** For one process: what it is, and what it was looked at for. */
function fullText({ pid, name, verdict, why }: ProcessVerdict): string[] {
  const title = `process ${pid}${name === undefined ? "" : ` (${name})`}`;
  if (why !== undefined) return [`${title}: ${why}`];
  if (verdict === "vanished") return [`${title}: there is no such process, or it has just ended`];
  if (verdict !== "ok") return [];
  return [
    `${title}: each byte of its vDSO is the kernel's, in pages that all processes share; it is mapped once, where the ` +
      "auxiliary vector says, not writable, with its data before it",
  ];
}

function imageWords({ abi, soname, buildId, kernelVersion, maker, references }: ImageSeen): string {
  const from = kernelVersion === undefined ? maker : `Linux ${kernelVersion}`;
  const parts = [soname ?? "an image without a name", ...(from === undefined ? [] : [from])];
  const id = buildId === undefined ? "" : `, build-id ${buildId}`;
  return `${abi}: ${parts.join(", ")}${id}; held against ${list(references)}`;
}

function countsText(summary: VerifySummary, verdicts: readonly ProcessVerdict[], style: Style): string {
  const bad = verdicts.some(({ verdict }) => isFinding(verdict));
  const line = countsLine(summary);
  const found = `${thousands(summary.findings)} finding${summary.findings === 1 ? "" : "s"} (T1055.014)`;
  return bad ? `${line}; ${style.warning(found)}` : style.accent(line);
}

/** A change that `--watch` tells of, in a line. */
export function renderChange(verdict: ProcessVerdict, time: string, style: Style = plainStyle): string {
  const rows = renderVerdicts([verdict], style);
  const line = `${time} process ${verdict.pid}${verdict.name === undefined ? "" : ` (${verdict.name})`}: ${verdict.verdict}\n`;
  return line + rows;
}
