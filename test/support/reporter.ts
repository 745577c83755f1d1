import type { Reporter, TestModule } from "vitest/node";

/** How the name of a test begins that stands for others whose package could not be fetched (unfetched.ts). */
export const NOT_TESTED = "NOT TESTED:";

/**
 * Closes a run with one plain line, and fails it in CI where a test was skipped: there every referee is installed, so a
 * skip means that something was not tested; unless a package could not be fetched (.ci/run, unfetched.ts), which is
 * said.
 */
export class PlainReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const counts = { passed: 0, failed: 0, skipped: 0 };
    const skipped: string[] = [];
    for (const module of modules) {
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === "pending") continue;
        counts[state] += 1;
        if (state === "skipped") skipped.push(`${module.relativeModuleId}: ${test.fullName}`);
      }
    }
    if (process.env.CI) {
      const unfetched = process.env.LINUX_GATE_UNFETCHED;
      const why = unfetched ? `NOT TESTED, ${unfetched} could not be fetched` : "skipped, which in CI is a failure";
      for (const name of skipped) {
        const saysWhy = name.includes(NOT_TESTED);
        if (!unfetched && !saysWhy) process.exitCode = 1;
        process.stdout.write(`${saysWhy ? "skipped" : why}: ${name}\n`);
      }
    }
    process.stdout.write(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`);
  }
}
