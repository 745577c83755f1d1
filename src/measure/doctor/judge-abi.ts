import type { AbiFacts, Figure, MachineFacts, ProofRow } from "./facts.js";
import { type Finding, finding, listed } from "./finding.js";
import { parameterValue } from "./machine/parse.js";
import { clocksourceRemedy } from "./remedy.js";

/** Rows that were asked, by their outcome. */
function rowsOf(proof: readonly ProofRow[], answer: ProofRow["answer"], ...needs: ProofRow["need"][]): ProofRow[] {
  return proof.filter((row) => row.answer === answer && (needs.length === 0 || needs.includes(row.need)));
}

/** Calls shortened where several are of one function: `clock_gettime(REALTIME, MONOTONIC) and gettimeofday`. */
export function callNames(calls: readonly string[]): string {
  const groups = new Map<string, string[]>();
  for (const call of calls) {
    const [, name, clock] = /^([^(]+)(?:\((.*)\))?$/.exec(call) ?? [];
    const group = groups.get(name ?? call) ?? [];
    if (clock !== undefined) group.push(clock);
    groups.set(name ?? call, group);
  }
  return listed([...groups].map(([name, clocks]) => (clocks.length === 0 ? name : `${name}(${clocks.join(", ")})`)));
}

const names = (rows: readonly ProofRow[]): string => callNames(rows.map(({ call }) => call));

/** Whether calls that need the counter fall back: by proof, or else by the figures; `undefined` where neither tells. */
export function lostCounter({ proof, figures }: AbiFacts): boolean | undefined {
  if (rowsOf(proof, "kernel", "counter").length > 0) return true;
  if (rowsOf(proof, "vdso", "counter").length > 0) return false;
  const { vdso, real } = pairOf(figures);
  return vdso && real && !hasGain(vdso, real);
}

/** What is to be said of an ABI. */
export function judgeAbi(facts: AbiFacts, machine: MachineFacts): Finding[] {
  const { abi, image, proof } = facts;
  if (facts.notRun !== undefined) return [finding("abi-not-run", facts.notRun, [], { abi })];
  if (!image && facts.unproved === undefined) return [noVdso(facts, machine)];
  if (facts.unproved !== undefined) {
    const unproved = finding("unproved", `nothing could be proved of ${abi}`, [facts.unproved], { abi });
    return [unproved, ...judgeMeasured(facts, machine), ...ofImage(facts)];
  }
  return [...judgeProof(facts, machine), ...ofImage(facts), ...judgeFigures(abi, proof, facts.figures)];
}

function noVdso({ abi }: AbiFacts, { parameters, vsyscall32 }: MachineFacts): Finding {
  const switches = abi === "i386" ? ["vdso32", "vdso"] : ["vdso"];
  const off = switches.flatMap((name) => (parameterValue(parameters, name) === "0" ? [`${name}=0`] : []));
  const sysctl = abi === "i386" && vsyscall32 === 0;
  const remedies = [
    ...off.map((word) => `remove ${word} from the kernel's command line`),
    ...(sysctl && off.length === 0 ? ["sysctl -w abi.vsyscall32=1"] : []),
  ];
  return finding(
    "no-vdso",
    `a fresh ${abi} process has no vDSO: every clock call of programs of this ABI enters the kernel`,
    [
      "its auxiliary vector has no AT_SYSINFO_EHDR and no mapping is named [vdso]",
      ...off.map((word) => `the kernel's command line has ${word}`),
      ...(sysctl ? ["the sysctl abi.vsyscall32 is 0"] : []),
    ],
    { abi, ...(remedies.length > 0 && { remedy: listed(remedies) }) },
  );
}

function judgeProof({ abi, image, proof }: AbiFacts, machine: MachineFacts): Finding[] {
  const found: Finding[] = [];
  const seen = (rows: readonly ProofRow[]) => {
    const made = listed([...new Set(rows.map(({ systemCall }) => systemCall ?? ""))]);
    return [
      `a seccomp filter in a fresh process answered the real calls (${made}), and these functions gave its answer`,
    ];
  };
  const absent = rowsOf(proof, "absent");
  const clock = proof.filter(({ function: name }) => /^__vdso_clock_gettime(64)?$/.test(name));
  if (clock.every(({ answer }) => answer === "absent")) {
    found.push(finding("clock-not-exported", `the vDSO of ${abi} has no clock_gettime`, exported(image), { abi }));
  }
  const counter = rowsOf(proof, "kernel", "counter");
  const newer = rowsOf(proof, "kernel", "newer counter");
  const clocks = counter.length > 0 ? [...counter, ...newer] : [];
  if (clocks.length > 0) {
    const current = machine.clocksource ? [`the clocksource in force is ${machine.clocksource.current}`] : [];
    found.push(
      finding("clock-falls-back", `${names(clocks)} of ${abi} enter the kernel`, [...seen(clocks), ...current], {
        abi,
        remedy: clocksourceRemedy(machine),
      }),
    );
  } else if (newer.length > 0) {
    found.push(
      finding("clock-not-served", `the vDSO of ${abi} leaves ${names(newer)} to the kernel`, seen(newer), { abi }),
    );
  }
  const free = rowsOf(proof, "kernel", "data page", "processor");
  if (free.length > 0) {
    found.push(
      finding("function-falls-back", `${names(free)} of ${abi} enter the kernel and need not`, seen(free), { abi }),
    );
  }
  const random = rowsOf(proof, "kernel", "random state");
  if (random.length > 0) {
    found.push(finding("random-falls-back", `getrandom of ${abi} enters the kernel`, seen(random), { abi }));
  }
  if (found.every(({ severity }) => severity !== "bad")) {
    const fast = proof.filter(({ answer, need }) => answer === "vdso" && need !== "kernel");
    found.unshift(
      finding(
        "fast-path",
        `${abi}: clock calls are answered without entering the kernel`,
        [`${names(fast)}: answered while a seccomp filter waited for the real calls`],
        { abi },
      ),
    );
  }
  const design = rowsOf(proof, "kernel", "kernel");
  if (design.length > 0) {
    found.push(
      finding("kernel-by-design", `${names(design)} of ${abi} enter the kernel, as with every vDSO`, [], { abi }),
    );
  }
  if (absent.length > 0) {
    const missing = listed([...new Set(absent.map(({ function: name }) => name))]);
    found.push(finding("function-not-exported", `the vDSO of ${abi} has no ${missing}`, exported(image), { abi }));
  }
  return found;
}

function exported(image: AbiFacts["image"]): string[] {
  return image ? [`it exports ${listed(image.functions)}`] : [];
}

function ofImage({ abi, image }: AbiFacts): Finding[] {
  const found: Finding[] = [];
  if (image?.maker !== undefined && image.maker !== "Linux") {
    found.push(finding("emulated", `the vDSO of ${abi} was made by ${image.maker}, not by Linux`, [], { abi }));
  }
  if (abi === "i386" && image?.gate === "int $0x80") {
    found.push(
      finding(
        "gate-int80",
        "32-bit programs enter the kernel by int $0x80",
        ["__kernel_vsyscall of a fresh i386 process has int $0x80"],
        { abi },
      ),
    );
  }
  return found;
}

/** The call that stands for all clocks. */
const TYPICAL = "clock_gettime(MONOTONIC)";

/** The figures of a call: through the vDSO, and as the real call in the fastest way that was measured. */
export function pairOf(figures: readonly Figure[], call = TYPICAL): { readonly vdso?: Figure; readonly real?: Figure } {
  const of = (via: Figure["via"]) => figures.find((one) => one.call === call && one.via === via);
  const [vdso, real] = [of("vdso"), of("syscall") ?? of("gate") ?? of("sysenter") ?? of("int80")];
  return { ...(vdso && { vdso }), ...(real && { real }) };
}

/** A part of a processor that a million calls a second take: `2.3%`. */
export function share(ns: number): string {
  const percent = ns / 10;
  return `${percent < 10 ? percent.toFixed(1) : percent.toFixed(0)}%`;
}

/** From here on a fast read is no longer one: slower than this, and than this part of the real call. */
const SLOW_NS = 100;
const SLOW_PART = 0.7;

function hasGain(vdso: Figure, real: Figure): boolean {
  return vdso.nsMedian <= SLOW_NS || vdso.nsMedian <= SLOW_PART * real.nsMedian;
}

function judgeFigures(abi: AbiFacts["abi"], proof: readonly ProofRow[], figures: readonly Figure[]): Finding[] {
  const { vdso, real } = pairOf(figures);
  if (!vdso || !real) return [];
  const fast = proof.some(({ call, answer }) => call === TYPICAL && answer === "vdso");
  const found = [costOf(abi, vdso, real, fast)];
  if (fast && !hasGain(vdso, real)) {
    const evidence = [figuresText(vdso, real)];
    found.push(finding("vdso-no-gain", `the vDSO of ${abi} answers hardly faster than the kernel`, evidence, { abi }));
  }
  return found;
}

/** What figures say where nothing was proved. */
function judgeMeasured(facts: AbiFacts, machine: MachineFacts): Finding[] {
  const { abi, figures } = facts;
  const { vdso, real } = pairOf(figures);
  if (!vdso || !real) return [];
  const evidence = [figuresText(vdso, real)];
  const isLost = lostCounter(facts) === true;
  const verdict = isLost
    ? finding("measured-slow", `the vDSO of ${abi} was measured to be as slow as the kernel`, evidence, {
        abi,
        remedy: clocksourceRemedy(machine),
      })
    : finding("measured-fast", `the vDSO of ${abi} was measured to be fast`, evidence, { abi });
  return [verdict, costOf(abi, vdso, real, !isLost)];
}

function costOf(abi: AbiFacts["abi"], vdso: Figure, real: Figure, fast: boolean): Finding {
  const takes = `a million ${TYPICAL} a second take ${share(vdso.nsMedian)} of a processor`;
  const rest = fast ? `; as real calls they would take ${share(real.nsMedian)}` : ", for each enters the kernel";
  return finding("cost", `${abi}: ${takes}${rest}`, [figuresText(vdso, real)], { abi });
}

function figuresText(vdso: Figure, real: Figure): string {
  return `${TYPICAL}: ${ns(vdso)} through the vDSO, ${ns(real)} as a real system call`;
}

/** `23.1 ns (22.9 to 23.4)`. */
function ns({ nsMedian, nsLow, nsHigh }: Figure): string {
  return `${nsMedian.toFixed(1)} ns (${nsLow.toFixed(1)} to ${nsHigh.toFixed(1)})`;
}
