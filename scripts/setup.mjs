// Makes a checkout ready, as far as it is not: installs the dependencies and builds. `npm start`, `npm test` and
// `npm run bench` begin with it, so that each works on a fresh clone.
import { spawnSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Whether node_modules holds what package-lock.json says; npm writes its own copy of the lock file there. */
function installed() {
  const time = (path) => statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs;
  const done = time("node_modules/.package-lock.json");
  return done !== undefined && done >= (time("package-lock.json") ?? 0);
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2] });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

const { engines } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const least = engines.node
  .replace(/[^\d.]/g, "")
  .split(".")
  .map(Number);
const have = process.versions.node.split(".").map(Number);
if (have[0] < least[0] || (have[0] === least[0] && have[1] < least[1])) {
  process.stderr.write(`linux-gate needs Node ${engines.node}; this is ${process.version}\n`);
  process.exit(1);
}
// Not `npm ci`: it refuses a lock file that lacks the optional packages of other platforms, which a registry may not have.
if (!installed())
  run("npm", [
    "install",
    "--no-save",
    "--include=dev",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
  ]);
run(process.execPath, [join(root, "scripts/build.mjs")]);
