import type { Exhibit } from "./exhibit.js";
import type { Workshop } from "./workshop.js";

/** A step of the tour: what is known before anything runs, and how to find out the rest. */
export interface Step {
  /** A word, by which it is asked for. */
  readonly name: string;
  readonly title: string;
  /** Paragraphs: what the article does here, and why. */
  readonly about: readonly string[];
  /** What was printed in 2005. */
  readonly original: readonly Exhibit[];
  /** What is to be said of 2005 where nothing was printed. */
  readonly originalWords: readonly string[];
  /** Runs the step's commands. Rejects only where the tour itself is at fault: commands that fail are shown. */
  visit(workshop: Workshop): Promise<Visit>;
}

/** What a step found on this machine. */
export interface Visit {
  readonly now: readonly Exhibit[];
  /** Paragraphs: what changed since 2005, as far as it was seen. */
  readonly since: readonly string[];
  /** Commands for later, each with what it is for. */
  readonly onward?: readonly (readonly [command: string, meaning: string])[];
}
