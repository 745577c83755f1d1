import { AgentError } from "../../agent/live.js";
import type { AgentAbi } from "../../agent/protocol.js";
import type { Via } from "../calls.js";
import { measureCalls } from "../live.js";
import type { AbiFacts, DoctorFacts, Figure, ProcessFacts, TimeNamespaceFacts } from "./facts.js";
import { machineFacts } from "./machine/live.js";
import { lookAt } from "./process/live.js";
import { prove } from "./proof/live.js";

/** What facts are gathered of. */
export interface GatherOptions {
  /** A process; without one, a fresh process of each ABI is all that is looked at. */
  readonly pid?: number;
  /** Milliseconds of measuring in each ABI; 0 for none. {@link MEASURE_MS} unless said. */
  readonly milliseconds?: number;
}

/** Milliseconds of measuring in each ABI: a dozen calls need no more for a figure that is good to a few hundredths. */
const MEASURE_MS = 200;

/** The calls that are measured. */
const MEASURED: ReadonlySet<string> = new Set([
  "clock_gettime(REALTIME)",
  "clock_gettime(MONOTONIC)",
  "clock_gettime(MONOTONIC_COARSE)",
  "gettimeofday",
  "time",
  "getcpu",
]);

/**
 * Gathers what the doctor judges. Throws `ProcessError` where there is no such process; what else cannot be had is said
 * in the facts.
 */
export async function gather(options: GatherOptions = {}): Promise<DoctorFacts> {
  const look = options.pid === undefined ? undefined : lookAt(options.pid);
  const machine = machineFacts();
  const own = look?.facts.abi;
  const wanted: readonly AgentAbi[] = own === "x86_64" || own === "i386" ? [own] : ["x86_64", "i386"];
  const namespaceOf = look?.facts.timeNamespace?.other ? look.facts.pid : undefined;
  const abis: AbiFacts[] = [];
  let process: ProcessFacts | undefined = look?.facts;
  for (const abi of wanted) {
    const { facts, imageBytes, outsideNamespace } = await prove(abi, namespaceOf === undefined ? {} : { namespaceOf });
    abis.push({ ...facts, figures: await figuresOf(facts, options.milliseconds ?? MEASURE_MS) });
    if (look && abi === own) {
      process = { ...look.facts, ...look.against(imageBytes), ...namespaceFacts(look.facts, outsideNamespace) };
    }
  }
  return { machine, abis, ...(process && { process }) };
}

function namespaceFacts(
  { timeNamespace }: Pick<ProcessFacts, "timeNamespace">,
  unproved: string | undefined,
): { readonly timeNamespace?: TimeNamespaceFacts } {
  return timeNamespace && unproved !== undefined ? { timeNamespace: { ...timeNamespace, unproved } } : {};
}

async function figuresOf({ abi, notRun }: AbiFacts, milliseconds: number): Promise<Figure[]> {
  if (notRun !== undefined || milliseconds === 0) return [];
  const calls = (call: string, via: Via) =>
    MEASURED.has(call) && (via === "vdso" || via === "syscall" || via === "gate");
  try {
    const { rows } = await measureCalls(abi, { calls, milliseconds });
    return rows.map(({ call, via, nsMedian, nsLow, nsHigh }) => ({ call, via, nsMedian, nsLow, nsHigh }));
  } catch (error) {
    // Figures are evidence beside the proof: without them, nothing of it is less true.
    if (error instanceof AgentError) return [];
    throw error;
  }
}
