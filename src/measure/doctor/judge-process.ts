import type { AbiFacts, ObjectFacts, ProcessFacts } from "./facts.js";
import { type Finding, finding, listed } from "./finding.js";
import { lostCounter, pairOf, share } from "./judge-abi.js";

/** Whether the clock calls of a process are known to be real system calls; by what was found of it. */
function isLost(found: readonly Finding[], abi: AbiFacts | undefined): boolean {
  const bad = found.some(({ severity }) => severity === "bad");
  return bad || (abi !== undefined && (lostCounter(abi) === true || hasNoVdso(abi)));
}

/** Whether no process of an ABI has a vDSO, as far as is known. */
function hasNoVdso({ image, notRun, unproved }: AbiFacts): boolean {
  return !image && notRun === undefined && unproved === undefined;
}

/** What is to be said of a process. `abi` is what a fresh process of the same ABI shows. */
export function judgeProcess(facts: ProcessFacts, abi: AbiFacts | undefined): Finding[] {
  const { pid } = facts;
  const found: Finding[] = [...judgeVdso(facts, abi), ...judgeLookup(facts)];
  const of = facts.abi === undefined ? { pid } : { pid, abi: facts.abi };
  if (facts.runner !== undefined) {
    found.push(finding("run-by-tool", `the process is run by ${facts.runner}`, [], of));
  }
  found.push(...judgeNamespace(facts));
  if (facts.seccomp === 2) {
    const count = facts.seccompFilters === undefined ? "filters" : `${facts.seccompFilters} filters`;
    const evidence = [
      `/proc/${pid}/status: Seccomp 2${facts.seccompFilters === undefined ? "" : `, Seccomp_filters ${facts.seccompFilters}`}`,
    ];
    found.push(
      isLost(found, abi)
        ? finding("fallback-filtered", `each clock call of the process goes through ${count}`, evidence, of)
        : finding(
            "seccomp-filters",
            `the process has seccomp ${count}; the vDSO's answers do not go through them`,
            evidence,
            of,
          ),
    );
  }
  found.push(...judgeImports(facts, abi, isLost(found, abi)));
  if (facts.unread.length > 0) {
    const evidence = facts.unread.map(({ what, why }) => `${what}: ${why}`);
    found.push(finding("process-unread", "not all of the process could be read", evidence, of));
  }
  return found;
}

function judgeVdso(
  { pid, abi, announced, mapped, sameImage, maker, tracer }: ProcessFacts,
  fresh: AbiFacts | undefined,
): Finding[] {
  const of = abi === undefined ? { pid } : { pid, abi };
  // Where no process of its ABI has one, that is what is to be said.
  if (announced === false && fresh && hasNoVdso(fresh)) return [];
  if (announced === false) {
    const evidence = [
      "its auxiliary vector has no AT_SYSINFO_EHDR",
      ...(mapped === undefined
        ? []
        : [mapped ? "a mapping [vdso] is there, of which it does not know" : "no mapping is named [vdso]"]),
      ...(fresh?.image ? [`a fresh ${fresh.abi} process has one`] : []),
      ...(tracer
        ? [`it is traced by process ${tracer.pid}${tracer.name === undefined ? "" : ` (${tracer.name})`}`]
        : []),
    ];
    return [
      finding(
        "process-no-vdso",
        "no vDSO was announced to the process: its clock calls enter the kernel",
        evidence,
        of,
      ),
    ];
  }
  if (sameImage === false) {
    const evidence = [`it was made by ${maker ?? "somebody who left no mark"}`];
    return [finding("image-differs", "the vDSO of the process is not that of a fresh process", evidence, of)];
  }
  return [];
}

/** What looks for the vDSO in the process. */
function judgeLookup({ pid, abi, objects, runtime, static: isStatic, filesRead }: ProcessFacts): Finding[] {
  if (filesRead === 0) return [];
  const of = abi === undefined ? { pid } : { pid, abi };
  const kind = runtime ?? (isStatic ? "a static program" : "a dynamic program");
  const looking = objects.filter(({ looksFor }) => looksFor.length > 0);
  if (looking.length > 0) {
    const evidence = looking.map(({ path, looksFor }) => `${path} has the names ${listed(looksFor)}`);
    return [finding("looks-at-vdso", `the process looks for the vDSO's functions (${kind})`, evidence, of)];
  }
  const calling = objects.filter(({ defines, systemCalls }) => defines.length > 0 || systemCalls.length > 0);
  const evidence = [
    `none of ${filesRead} mapped file${filesRead === 1 ? "" : "s"} that could look has the name of a vDSO function`,
    ...calling.map(({ path, defines, systemCalls }) => `${path}: ${ownCalls(defines, systemCalls)}`),
  ];
  return calling.length > 0
    ? [finding("never-looks", `the process makes its clock calls without looking for the vDSO (${kind})`, evidence, of)]
    : [finding("may-not-look", `nothing in the process looks for the vDSO (${kind})`, evidence, of)];
}

function ownCalls(defines: ObjectFacts["defines"], systemCalls: ObjectFacts["systemCalls"]): string {
  const parts = [
    ...(defines.length > 0 ? [`it defines ${listed(defines)}`] : []),
    ...(systemCalls.length > 0
      ? [`its code makes the system call${systemCalls.length > 1 ? "s" : ""} ${listed(systemCalls)}`]
      : []),
  ];
  return parts.join("; ");
}

function judgeNamespace({ pid, timeNamespace }: ProcessFacts): Finding[] {
  if (!timeNamespace) return [];
  const { other, offsets, unproved } = timeNamespace;
  const where = other ? "another time namespace than this program" : "a time namespace with offsets";
  const evidence = [
    ...(other ? [`/proc/${pid}/ns/time is not /proc/self/ns/time`] : []),
    ...offsets.map((offset) => `/proc/${pid}/timens_offsets: ${offset}`),
    ...(other && unproved === undefined ? ["the proof was made in it"] : []),
  ];
  const found = [finding("time-namespace", `the process is in ${where}`, evidence, { pid })];
  if (unproved !== undefined) {
    found.push(finding("namespace-unproved", "its time namespace was not joined for the proof", [unproved], { pid }));
  }
  return found;
}

function judgeImports({ pid, objects }: ProcessFacts, abi: AbiFacts | undefined, lost: boolean): Finding[] {
  const importing = objects.filter(({ imports }) => imports.length > 0);
  if (importing.length === 0) return [];
  const { vdso, real } = pairOf(abi?.figures ?? []);
  const figure = lost ? real : vdso;
  const price = figure
    ? `; a million calls a second would cost ${share(figure.nsMedian)} of a processor${lost ? ", all in the kernel" : ""}`
    : "";
  const all = [...new Set(importing.flatMap(({ imports }) => imports))].sort();
  return [
    finding(
      "clock-imports",
      `${importing.length} file${importing.length === 1 ? "" : "s"} of the process import${importing.length === 1 ? "s" : ""} ${listed(all)}${price}`,
      importing.map(({ path, imports }) => `${path}: ${listed(imports)}`),
      { pid },
    ),
  ];
}
