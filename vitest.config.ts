import { defineConfig } from "vitest/config";
import { PlainReporter } from "./test/support/reporter.js";

/** What looks at every process of the machine: other tests start some whose vDSO is not the kernel's. */
const ALONE = ["test/live/verify.test.ts", "test/docs/*.test.ts"];

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Two workers at the most: live tests start many processes of their own.
    maxWorkers: 2,
    reporters: ["default", new PlainReporter()],
    projects: [
      {
        extends: true,
        test: { name: "all", include: ["test/**/*.test.ts"], exclude: ALONE, sequence: { groupOrder: 1 } },
      },
      { extends: true, test: { name: "alone", include: ALONE, maxWorkers: 1, sequence: { groupOrder: 0 } } },
    ],
  },
});
