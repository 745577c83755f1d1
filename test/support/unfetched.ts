import { it } from "vitest";
import { NOT_TESTED } from "./reporter.js";

/**
 * Registers, in place of tests that need a package that could not be fetched, one that is skipped and says so. Unlike
 * other skips it does not fail a run in CI: what a mirror does not give is no fault of the project's.
 */
export function unfetched(what: string): void {
  it.skip(`${NOT_TESTED} ${what} could not be fetched`, () => {});
}
