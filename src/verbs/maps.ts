import { explainMapping, type Mapping } from "../linux/maps.js";
import type { ProcessTarget } from "../targets/target.js";

/** A mapping and, where the kernel made it for a purpose of its own, what that is. */
export interface ExplainedMapping extends Mapping {
  readonly meaning?: string;
}

/** The mappings of a process. */
export interface MapsResult {
  readonly target: string;
  readonly pid: number;
  readonly mappings: readonly ExplainedMapping[];
  readonly notes: readonly string[];
}

/** The mappings of a process: `cat /proc/PID/maps`, with the special ones explained. */
export function maps(target: ProcessTarget): MapsResult {
  return {
    target: target.name,
    pid: target.process.pid,
    mappings: target.mappings.map((mapping) => {
      const meaning = explainMapping(mapping.name);
      return { ...mapping, ...(meaning && { meaning }) };
    }),
    notes: target.notes,
  };
}
