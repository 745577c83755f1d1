import { spawnSync } from "node:child_process";

/** Whether tests run in CI, where a missing referee is a failure. */
const inCI = Boolean(process.env.CI);

/** Debian packages that CI could not fetch after three tries: what needs them says so, and the run goes on. */
const unfetched = new Set((process.env.LINUX_GATE_UNFETCHED ?? "").split(" ").filter((name) => name !== ""));

const known = new Map<string, boolean>();

/**
 * Whether a program that referees our output is installed.
 *
 * Where it is missing, the tests that ask are to be skipped (the message says which Debian package has it). In CI this
 * throws, unless the package is one that could not be fetched.
 */
export function needs(command: string, debianPackage: string): boolean {
  const there = known.get(command) ?? spawnSync("sh", ["-c", `command -v ${command}`]).status === 0;
  if (!known.has(command) && !there) {
    const message = `${command} is missing: install the Debian package ${debianPackage}`;
    if (inCI && !unfetched.has(debianPackage)) throw new Error(message);
    process.stderr.write(`skipping tests: ${message}\n`);
  }
  known.set(command, there);
  return there;
}

/** Standard output of a referee; throws where it ends with another status than 0 or cannot be run. */
export function output(command: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: "utf8",
    maxBuffer: 1 << 28,
    env: { ...process.env, LC_ALL: "C", LANG: "C" },
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: status ${status}: ${stderr}`);
  return stdout;
}
