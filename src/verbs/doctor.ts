import { CATALOG, type CatalogEntry, type FindingId, type Severity } from "../measure/doctor/catalog.js";
import type { DoctorFacts } from "../measure/doctor/facts.js";
import type { Finding } from "../measure/doctor/finding.js";
import { type Diagnosis, diagnose } from "../measure/doctor/judge.js";

export type { FindingId, Severity } from "../measure/doctor/catalog.js";
export type { DoctorFacts } from "../measure/doctor/facts.js";
export type { Finding } from "../measure/doctor/finding.js";

/** What the doctor says, with the facts that it was concluded from. */
export interface DoctorResult extends Diagnosis {
  readonly facts: DoctorFacts;
}

/** Whether clock calls go through the vDSO, and if not, why: from facts that were gathered. */
export function doctor(facts: DoctorFacts): DoctorResult {
  return { ...diagnose(facts), facts };
}

/** A finding that there may be. */
export interface DocumentedFinding extends CatalogEntry {
  readonly id: FindingId;
}

/** Every finding that there may be. */
export function documentedFindings(): DocumentedFinding[] {
  return (Object.entries(CATALOG) as [FindingId, CatalogEntry][]).map(([id, entry]) => ({ id, ...entry }));
}

/** How many findings there are of each severity. */
export function countsOf(findings: readonly Finding[]): Readonly<Record<Severity, number>> {
  const counts = { bad: 0, warn: 0, ok: 0, info: 0 };
  for (const { severity } of findings) counts[severity]++;
  return counts;
}
