import { defineConfig } from "vitest/config";
import { PlainReporter } from "./test/support/reporter.js";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Two workers at the most: live tests start many processes of their own.
    maxWorkers: 2,
    reporters: ["default", new PlainReporter()],
  },
});
