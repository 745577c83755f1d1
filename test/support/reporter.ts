import type { Reporter, TestModule } from "vitest/node";

/**
 * Closes a run with one plain line, and fails it in CI where a test was skipped: there every referee is installed, so a
 * skip means that something was not tested; unless a package could not be fetched (.ci/run), which is said.
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
    if (process.env.CI && skipped.length > 0) {
      const unfetched = process.env.LINUX_GATE_UNFETCHED;
      if (!unfetched) process.exitCode = 1;
      const why = unfetched ? `NOT TESTED, ${unfetched} could not be fetched` : "skipped, which in CI is a failure";
      for (const name of skipped) process.stdout.write(`${why}: ${name}\n`);
    }
    process.stdout.write(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`);
  }
}
