import type { Severity } from "./catalog.js";
import type { AbiFacts, DoctorFacts, ProcessFacts } from "./facts.js";
import { type Finding, listed } from "./finding.js";
import { judgeAbi } from "./judge-abi.js";
import { judgeMachine } from "./judge-machine.js";
import { judgeProcess } from "./judge-process.js";

/** What the facts come to. */
export interface Diagnosis {
  /** Whether a clock is slow that should be fast. */
  readonly lost: boolean;
  /** In a sentence. */
  readonly verdict: string;
  /** The worst first. */
  readonly findings: readonly Finding[];
}

const ORDER: Readonly<Record<Severity, number>> = { bad: 0, warn: 1, ok: 2, info: 3 };

/** Judges facts. Reads and asks nothing. */
export function diagnose(facts: DoctorFacts): Diagnosis {
  const { machine, abis, process } = facts;
  const own = process && abis.find(({ abi }) => abi === process.abi);
  const findings = [
    ...abis.flatMap((abi) => judgeAbi(abi, machine)),
    ...(process ? judgeProcess(process, own) : []),
    ...judgeMachine(machine, abis),
  ].sort((a, b) => ORDER[a.severity] - ORDER[b.severity]);
  const lost = findings.some(({ severity }) => severity === "bad");
  return { lost, verdict: verdictOf(facts, findings, lost), findings };
}

function verdictOf({ abis, process }: DoctorFacts, findings: readonly Finding[], lost: boolean): string {
  const has = (id: Finding["id"], abi?: AbiFacts["abi"]) =>
    findings.some((one) => one.id === id && (abi === undefined || one.abi === abi));
  const who = process ? `process ${process.pid} (${process.name})` : "";
  if (has("process-no-vdso")) return `the fast path is lost: ${who} has no vDSO, and its clock calls enter the kernel`;
  if (has("never-looks"))
    return `the fast path is lost: ${who} never looks at its vDSO, and its clock calls enter the kernel`;
  const fast = abis.filter(({ abi }) => has("fast-path", abi) || has("measured-fast", abi)).map(({ abi }) => abi);
  if (lost) return `the fast path is lost: ${lostWords(abis, findings, fast)}`;
  if (fast.length === 0) return "nothing is proved: no finding says that the fast path is lost";
  const remarks = findings.some(({ severity }) => severity === "warn") ? ", with remarks" : "";
  if (!process) return `the fast path is there: clock calls of ${listed(fast)} programs go through the vDSO${remarks}`;
  const doubt = doubtOf(process, findings);
  return doubt === undefined
    ? `the fast path is there: clock calls of ${who} go through the vDSO${remarks}`
    : `the fast path is there for ${listed(fast)} programs; whether ${who} takes it is not known: ${doubt}`;
}

function lostWords(abis: readonly AbiFacts[], findings: readonly Finding[], fast: readonly string[]): string {
  const slow = abis.filter(({ abi }) =>
    findings.some((one) => one.abi === abi && one.severity === "bad" && one.pid === undefined),
  );
  const without = slow.filter((one) => !one.image).map(({ abi }) => abi);
  const falling = slow.filter(({ image }) => image).map(({ abi }) => abi);
  return [
    ...(without.length > 0 ? [`programs of ${listed(without)} have no vDSO`] : []),
    ...(falling.length > 0 ? [`clock calls of ${listed(falling)} programs enter the kernel`] : []),
    ...(slow.length === 0 ? ["the clocksource in force is slow"] : []),
    ...(fast.length > 0 ? [`${listed(fast)} programs keep theirs`] : []),
  ].join("; ");
}

/** Why what holds for a fresh process need not hold for this one. */
function doubtOf({ announced, sameImage, runner }: ProcessFacts, findings: readonly Finding[]): string | undefined {
  if (announced === undefined) return "its auxiliary vector may not be read";
  if (runner !== undefined) return `it is run by ${runner}`;
  if (sameImage === false) return "its vDSO is another one";
  if (findings.some(({ id }) => id === "may-not-look")) return "nothing in it is seen to look for the vDSO";
  return undefined;
}
