import { auxv, ldd, maps, search } from "./finding.js";
import { entry, jump, onward, why } from "./gate.js";
import type { Step, Visit } from "./step.js";
import { dd, file, symbols } from "./taking.js";

/** All steps, in the article's order. */
export const STEPS: readonly Step[] = [ldd, search, maps, auxv, dd, file, symbols, why, entry, jump, onward];

/** A step that was gone, as plain data. */
export interface VisitedStep extends Omit<Step, "visit">, Visit {
  /** From 1. */
  readonly number: number;
}

/** A step with what was found on it. */
export function visited(index: number, found: Visit): VisitedStep {
  const { visit: _, ...known } = STEPS[index] as Step;
  return { number: index + 1, ...known, ...found };
}

/** The index of the step that a number from 1 or a name asks for. */
export function findStep(word: string): number | undefined {
  const index = /^\d+$/.test(word) ? Number(word) - 1 : STEPS.findIndex(({ name }) => name === word);
  return STEPS[index] ? index : undefined;
}
