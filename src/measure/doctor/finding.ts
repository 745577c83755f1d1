import type { Abi } from "../../vdso/abi.js";
import { catalogEntry, type FindingId, type Severity } from "./catalog.js";

/** One thing that was found. */
export interface Finding {
  readonly id: FindingId;
  readonly severity: Severity;
  /** The ABI that it is of; absent where it is of the machine. */
  readonly abi?: Abi;
  /** The process that it is of. */
  readonly pid?: number;
  /** In a sentence. */
  readonly what: string;
  /** Facts from which it was concluded, as they can be seen again. */
  readonly evidence: readonly string[];
  /** Absent where there is nothing to do. */
  readonly remedy?: string;
}

/** Makes a finding, with the severity of the catalog, and its remedy unless another is given. */
export function finding(
  id: FindingId,
  what: string,
  evidence: readonly string[],
  more: Partial<Pick<Finding, "abi" | "pid" | "remedy">> = {},
): Finding {
  const { severity, remedy } = catalogEntry(id);
  return { id, severity, what, evidence, ...(remedy !== undefined && { remedy }), ...more };
}

/** `a`, `a and b`, `a, b and c`. */
export function listed(items: readonly string[]): string {
  return items.length < 2 ? (items[0] ?? "") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;
}
