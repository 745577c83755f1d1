import { FormatError } from "../../bytes/error.js";
import { ProcessError } from "../../linux/process.js";
import { renderInForce, renderMatrix, renderPrediction, renderTimeline } from "../../render/predict.js";
import type { Style } from "../../render/style.js";
import { readHead } from "../../targets/read-head.js";
import { resolveTargets } from "../../targets/resolve.js";
import { type Target, TargetError } from "../../targets/target.js";
import { type Cpu, parseCpuinfo } from "../../vdso/boot/cpu.js";
import { CPU_MODELS, findCpu } from "../../vdso/boot/cpu-models.js";
import { isProcessorOf } from "../../vdso/boot/fit.js";
import { matrices, matrixCpus, timeline } from "../../verbs/matrix.js";
import { type BootQuestion, type InForceResult, inForce, type PredictResult, predict } from "../../verbs/predict.js";
import { type Command, type Invocation, UsageError } from "../command.js";
import { refuseTogether } from "../exclusive.js";
import { ABI_OPTION, onlyOne, withTargets } from "../with-target.js";
import { refuseTerminal, writeWhole } from "../write-file.js";

export const command: Command = {
  name: "predict",
  summary: "the image as the kernel will patch it at boot, for a processor and a command line",
  usage: "[TARGET] [--cpu NAME|--cpuinfo FILE|--here] [--cmdline TEXT] [-o FILE] | --matrix | --timeline KERNEL…",
  description:
    "A kernel file has its vDSO images unpatched. At boot the kernel puts instructions in place that its processor has:\n" +
    "the way into the kernel, a barrier before the counter, a faster getcpu. This tells the outcome byte for byte, with\n" +
    "the reason for each place; -o writes the image. Names of features are read from the code that stands for them, since\n" +
    "their numbers move between releases; what cannot be told is said, and then -o refuses.\n" +
    "Without a processor, a process or a mapped image is read for what its kernel put in place, and so saw.",
  options: {
    cpu: { type: "string", value: "NAME", help: "a processor by name: 486, pentium-pro, core2, epyc, hygon, …" },
    cpuinfo: {
      type: "string",
      value: "FILE",
      help: "the text of /proc/cpuinfo, or some of its lines; - for standard input",
    },
    here: { type: "boolean", help: "this machine's processor" },
    cmdline: {
      type: "string",
      value: "TEXT",
      help: "the kernel's command line: clearcpuid=, setcpuid=, vdso=, vdso32=, fred=",
    },
    width: { type: "string", value: "32|64", help: "of the kernel, where the image does not tell" },
    matrix: { type: "boolean", help: "the choices on a table of processors" },
    timeline: { type: "boolean", help: "the way in across kernels, and a table of processors" },
    output: { type: "string", short: "o", value: "FILE", help: "write the predicted image; - for standard output" },
    ...ABI_OPTION,
  },
  examples: [
    ["linux-gate predict /boot/vmlinuz-6.1.0-50-amd64 --cpu epyc", "what every process will see"],
    ["linux-gate predict vmlinuz --abi i386 --cpu core2 -o linux-gate.so", "the predicted image"],
    ["linux-gate predict vmlinuz --here --cmdline 'clearcpuid=rdtscp'", "on this machine, without a feature"],
    ["linux-gate predict vmlinuz --matrix", "the article's history, for one kernel"],
    ["linux-gate predict i386", "what this machine's kernel saw of the processor"],
  ],
  arity: [0, 100],
  run: (invocation) => {
    refuseTogether(invocation, "cpu", ["cpuinfo", "here"]);
    refuseTogether(invocation, "cpuinfo", ["here"]);
    refuseTogether(invocation, "matrix", ["timeline", "output", "cpu", "cpuinfo", "here"]);
    refuseTogether(invocation, "timeline", ["output", "abi"]);
    if (invocation.flag("timeline")) return runTimeline(invocation);
    if (invocation.positionals.length > 1) throw new UsageError("several targets go with --timeline only");
    return withTargets(
      invocation.positionals[0],
      { abi: invocation.text("abi"), output: invocation.output },
      (targets) => (invocation.flag("matrix") ? runMatrix(invocation, targets) : runPredict(invocation, targets)),
    );
  },
};

/** What is asked, but for the processor. */
function questionOf({ text }: Invocation): Omit<BootQuestion, "cpu"> {
  const width = text("width");
  if (width !== undefined && width !== "32" && width !== "64") {
    throw new UsageError(`--width is ${JSON.stringify(width)}; it is 32 or 64`);
  }
  return { cmdline: text("cmdline"), width: width === undefined ? undefined : width === "32" ? 32 : 64 };
}

/** The processor that was named; `undefined` where none was. */
function cpuOf({ text, flag }: Invocation): Cpu | undefined {
  const name = text("cpu");
  const file = text("cpuinfo");
  if (name !== undefined) {
    const cpu = findCpu(name);
    if (cpu) return cpu;
    const names = CPU_MODELS.map(({ names: [first] }) => first).join(", ");
    throw new UsageError(`--cpu is ${JSON.stringify(name)}, which has no entry here; there are ${names}`);
  }
  if (file !== undefined) return readCpuinfo(file);
  return flag("here") ? readCpuinfo("/proc/cpuinfo") : undefined;
}

/** The processor that a file (`-`: standard input) with the text of /proc/cpuinfo describes. */
function readCpuinfo(path: string): Cpu {
  const name = path === "-" ? "standard input" : path;
  try {
    // Of a machine with very many processors this is not all, but the first is in it.
    const head = readHead(path, name);
    head.close();
    return parseCpuinfo(new TextDecoder().decode(head.bytes));
  } catch (error) {
    if (error instanceof FormatError) {
      throw new TargetError(`${name} describes no processor: it has neither flags nor Features`, { cause: error });
    }
    if (!(error instanceof ProcessError)) throw error;
    throw new TargetError(`${name} cannot be read (${error.code})`, { cause: error });
  }
}

/** Throws {@link UsageError} where the processor is of another machine than an image. */
function checkMachine(cpu: Cpu, targets: readonly Target[]): void {
  const other = targets.find(({ image }) => !isProcessorOf(cpu, image));
  if (!other) return;
  const { abi } = other.image;
  const known = CPU_MODELS.some((model) => isProcessorOf(model.cpu, other.image));
  const rest = known ? "" : "; no processor of it is known here, so name none";
  throw new UsageError(`${other.name}: ${cpu.name} is no processor of ${abi}${rest}`);
}

function runPredict(invocation: Invocation, targets: readonly [Target, ...Target[]]): number {
  const { text } = invocation;
  const cpu = cpuOf(invocation);
  const file = text("output");
  const question = questionOf(invocation);
  if (!cpu) {
    if (file !== undefined) throw new UsageError("-o needs a processor: --cpu NAME, --cpuinfo FILE or --here");
    return runInForce(invocation, targets);
  }
  if (file !== undefined) {
    onlyOne(targets);
    refuseTerminal(file);
  }
  checkMachine(cpu, targets);
  const results = predict(targets, { ...question, cpu });
  for (const result of results) checkWidth(result, question.width);
  if (file !== undefined) writePrediction(results[0] as PredictResult, file, invocation);
  else showResults(invocation, { results, targets }, renderPrediction, plain);
  return results.every(({ bytes, notMapped }) => bytes !== undefined || notMapped !== undefined) ? 0 : 1;
}

/** Throws {@link UsageError} where the width of the kernel is not known, or is another than was named. */
function checkWidth(
  { target, width, identity }: Pick<PredictResult, "target" | "width" | "identity">,
  asked: 32 | 64 | undefined,
): void {
  if (width === undefined && identity.abi === "i386") {
    throw new UsageError(`${target} does not tell whether its kernel has 32 or 64 bits: name it with --width`);
  }
  if (asked !== undefined && width !== undefined && asked !== width) {
    throw new UsageError(`--width is ${asked}, but ${target} is of a ${width}-bit kernel`);
  }
}

/** Shows each result: as JSON, one alone as it is, several as `images`; as text, under the names of several targets. */
function showResults<T extends { readonly target: string }>(
  { json, output }: Invocation,
  { results, targets }: { readonly results: readonly T[]; readonly targets: readonly Target[] },
  render: (result: T, style: Style) => string,
  data: (result: T) => object = (result) => result,
): void {
  if (json) {
    output.json(results.length > 1 ? { images: results.map(data) } : data(results[0] as T));
    return;
  }
  const title = ({ target }: T) => (targets.length > 1 ? `${output.style.bold(`${target}:`)}\n` : "");
  output.text(results.map((result) => title(result) + render(result, output.style)).join("\n"));
}

/** Without the image itself, which -o writes. */
function plain({ bytes: _, ...result }: PredictResult): object {
  return result;
}

function writePrediction(result: PredictResult, file: string, { output, json }: Invocation): void {
  const { bytes, target, notMapped } = result;
  if (notMapped !== undefined) throw new TargetError(`${target}: ${notMapped}`);
  if (!bytes) {
    const sites = result.sites.filter(({ after }) => !after);
    const first = sites[0];
    throw new TargetError(
      `${target}: ${sites.length} of ${result.sites.length} sites are not determined, so that nothing is written` +
        `${first?.undetermined === undefined ? "" : ` (${first.undetermined})`}`,
    );
  }
  if (file === "-") {
    output.bytes(bytes);
    return;
  }
  writeWhole(file, bytes);
  if (json) output.json({ ...plain(result), file, size: bytes.length });
  else output.remark(`${file}: ${bytes.length} bytes`);
}

function runInForce(invocation: Invocation, targets: readonly [Target, ...Target[]]): number {
  const results = targets.map((target): InForceResult => {
    const read = inForce(target);
    if (read.pristine || (target.kind === "image" && target.kernel && read.sites.length > 0)) {
      throw new UsageError(
        `${target.name} is as the kernel's build made it: name a processor with --cpu NAME, --cpuinfo FILE or --here`,
      );
    }
    return read;
  });
  showResults(invocation, { results, targets }, renderInForce);
  return 0;
}

function runMatrix(invocation: Invocation, targets: readonly [Target, ...Target[]]): number {
  const question = questionOf(invocation);
  const results = matrices(targets, question);
  for (const result of results) if (result.rows.length > 0) checkWidth(result, question.width);
  showResults(invocation, { results, targets }, renderMatrix);
  return 0;
}

async function runTimeline(invocation: Invocation): Promise<number> {
  const { positionals, json, output } = invocation;
  if (positionals.length === 0) throw new UsageError("--timeline needs one kernel or more");
  const groups: Target[][] = [];
  try {
    for (const word of positionals) groups.push(await resolveTargets(word));
    const cpu = cpuOf(invocation);
    const images = groups.flat().filter(({ image }) => image.abi === "i386");
    if (cpu) checkMachine(cpu, images);
    const cpus = cpu ? [cpu] : images.slice(0, 1).flatMap(matrixCpus);
    const result = timeline(groups, cpus, questionOf(invocation));
    if (json) output.json(result);
    else output.text(renderTimeline(result, output.style));
    return 0;
  } finally {
    for (const target of groups.flat()) await target.close();
  }
}
