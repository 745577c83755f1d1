import type { TracedAbi, TracedCall } from "./calls.js";

/** What one call costs on this machine, in nanoseconds. */
export interface Cost {
  readonly abi: TracedAbi;
  readonly call: string;
  /** As a system call, the way programs of the ABI make it. */
  readonly realNs: number;
  /** Through the vDSO's function; absent where there is none. */
  readonly vdsoNs?: number;
}

/** A vDSO's function that takes more than this part of the system call's time makes it. */
const ENTERS = 0.7;

/** The cost of a call; `undefined` where it was not measured. */
export function costOf(costs: readonly Cost[], { abi, measuredAs }: TracedCall): Cost | undefined {
  return costs.find((one) => one.abi === abi && one.call === measuredAs);
}

/**
 * The nanoseconds that a system call takes more than the vDSO's function. `undefined` where the vDSO of this machine does
 * not answer the call: what one that does would take is not known here.
 */
export function lostNs({ realNs, vdsoNs }: Cost): number | undefined {
  return vdsoNs === undefined || vdsoNs > ENTERS * realNs ? undefined : realNs - vdsoNs;
}
