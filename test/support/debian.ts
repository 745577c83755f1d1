import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** Where packages stay unpacked from one run to the next. */
const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "linux-gate-tests");

/** How often a download is tried: mirrors break off now and then. */
const TRIES = 3;
const DOWNLOAD_MS = 120_000;

/** Standard output of a command; `undefined` where it fails, and standard error says why. */
async function run(command: string, args: readonly string[], cwd = "/"): Promise<string | undefined> {
  try {
    return (await execute(command, args, { cwd, timeout: DOWNLOAD_MS, env: { ...process.env, LC_ALL: "C" } })).stdout;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    process.stderr.write(`${command} ${args.join(" ")}: ${stderr?.trim() || message}\n`);
    return undefined;
  }
}

/**
 * Fetches a Debian package by name, unpacks it beside others (nothing is installed) and returns the folder.
 *
 * Where it cannot be had in three tries, the result is `undefined` and standard error says so: the tests that need it
 * cannot be made then.
 */
export async function unpackedPackage(name: string): Promise<string | undefined> {
  const folder = join(cache, name);
  if (existsSync(folder)) return folder;
  const scratch = join(cache, `.${name}.${process.pid}`);
  try {
    for (let tries = 1; tries <= TRIES; tries++) {
      rmSync(scratch, { recursive: true, force: true });
      mkdirSync(scratch, { recursive: true });
      if (await fetchInto(scratch, name)) return settle(join(scratch, "root"), folder);
      // A list of packages that is missing or older than the mirror's names files that are no longer there.
      if (tries < TRIES) await run("apt-get", ["update", "-qq"]);
    }
    process.stderr.write(`NOT TESTED: the Debian package ${name} cannot be fetched (${TRIES} tries)\n`);
    return undefined;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function fetchInto(scratch: string, name: string): Promise<boolean> {
  // The signature of the mirror covers the file. Downloads by root need not be handed to another user.
  const options = ["-qq", "-o", "APT::Sandbox::User=root"];
  if ((await run("apt-get", [...options, "download", name], scratch)) === undefined) return false;
  const file = readdirSync(scratch).find((one) => one.endsWith(".deb"));
  return file !== undefined && (await run("dpkg-deb", ["-x", file, "root"], scratch)) !== undefined;
}

/** Gives a finished folder its name, unless another process was faster. */
function settle(made: string, folder: string): string {
  try {
    renameSync(made, folder);
  } catch (error) {
    if (!existsSync(folder)) throw error;
  }
  return folder;
}

/** The package that a metapackage stands for: its first dependency, `linux-image-6.1.0-50-cloud-amd64`. */
export async function firstDependency(metapackage: string): Promise<string | undefined> {
  for (let tries = 1; tries <= TRIES; tries++) {
    const text = await run("apt-cache", ["depends", metapackage]);
    const name = text && /Depends: (\S+)/.exec(text)?.[1];
    if (name) return name;
    if (tries < TRIES) await run("apt-get", ["update", "-qq"]);
  }
  process.stderr.write(`NOT TESTED: no Debian package ${metapackage} is known here (${TRIES} tries)\n`);
  return undefined;
}
