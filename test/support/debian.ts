import { execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** An architecture of Debian 12, as Debian names it. */
export type Architecture = "amd64" | "i386" | "arm64" | "armhf" | "ppc64el" | "s390x" | "mips64el" | "mipsel";

/** What a package is looked for in. */
export interface Source {
  /** Debian 12 of an architecture; unless given, what this machine itself installs from. */
  readonly architecture?: Architecture;
  /** The release whose version is meant where several have one; `bookworm` unless given. */
  readonly release?: "bookworm" | "bookworm-backports";
}

/** Where packages stay from one run to the next. */
const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "linux-gate-tests");

/** How often a download is tried: mirrors break off now and then. */
const TRIES = 3;

/** The largest package has 70 MB. */
const DOWNLOAD_MS = 300_000;

/** Seconds to wait until another process has fetched what it fetches. */
const LOCK_SECONDS = 900;

/** Standard output of a command; `undefined` where it fails, and standard error says why. */
async function run(command: string, args: readonly string[], cwd = "/"): Promise<string | undefined> {
  try {
    return (await execute(command, args, { cwd, timeout: DOWNLOAD_MS, env: { ...process.env, LC_ALL: "C" } })).stdout;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    const words = [command, ...args].join(" ").replaceAll(/ -o \S+/g, "");
    process.stderr.write(`${words}: ${stderr?.trim() || message}\n`);
    return undefined;
  }
}

function findOnPath(command: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => existsSync(join(folder, command)));
}

/** A state of apt: what it fetches is kept in its folder. */
interface Apt {
  readonly folder: string;
  readonly options: readonly string[];
  /** Whether lists of packages have to be fetched before the first look. */
  readonly listless: boolean;
}

/**
 * This machine's own state for packages of its own; for others one of their own for each architecture, so that nothing
 * is configured here, nobody needs to be root, and few lists are read at a time.
 */
function aptOf({ architecture }: Source): Apt {
  const folder = join(cache, architecture ?? "own");
  mkdirSync(folder, { recursive: true });
  // The signature of the mirror covers the files. Downloads by root need not be handed to another user.
  const options = ["-qq", "-o", "APT::Sandbox::User=root"];
  if (architecture === undefined) return { folder, options, listless: false };
  const lists = join(folder, "lists");
  mkdirSync(join(lists, "partial"), { recursive: true });
  const sources = join(folder, "sources.list");
  if (!existsSync(sources)) writeFileSync(sources, ["bookworm", "bookworm-backports"].map(sourceLine).join(""));
  const settings = [
    `APT::Architecture=${architecture}`,
    `APT::Architectures=${architecture}`,
    `Dir::State=${folder}`,
    `Dir::State::lists=${lists}`,
    "Dir::State::status=/dev/null",
    `Dir::Cache=${folder}`,
    "Dir::Cache::pkgcache=pkgcache.bin",
    "Dir::Cache::srcpkgcache=",
    `Dir::Etc::sourcelist=${sources}`,
    "Dir::Etc::sourceparts=-",
    "Acquire::Languages=none",
    // A list that did not come is an error, not a warning.
    "APT::Update::Error-Mode=any",
  ];
  return {
    folder,
    options: [...options, ...settings.flatMap((setting) => ["-o", setting])],
    listless: !readdirSync(lists).some((name) => name.includes("_Packages")),
  };
}

function sourceLine(release: string): string {
  const keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
  return `deb [signed-by=${keys}] http://deb.debian.org/debian ${release} main\n`;
}

/**
 * Does what needs a folder for itself while no other process does. The lock is the kernel's (flock): it ends with this
 * process, however that ends.
 */
async function alone<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const command = ["-w", String(LOCK_SECONDS), join(folder, ".lock"), "sh", "-c", "echo; exec cat"];
  const holder = spawn("flock", command, { stdio: ["pipe", "pipe", "inherit"] });
  try {
    await new Promise<void>((resolve, reject) => {
      holder.once("error", reject);
      holder.once("exit", () => reject(new Error(`${folder} stays locked by another process`)));
      holder.stdout.once("data", () => resolve());
    });
    return await work();
  } finally {
    holder.stdin.end();
  }
}

/** Tries with new lists of packages: those that are older than the mirror's name files that are no longer there. */
async function thrice<T>(source: Source, work: (apt: Apt) => Promise<T | undefined>): Promise<T | undefined> {
  // Not Debian: nothing is to be had, and nothing to be tried.
  if (!["apt-get", "flock"].every((command) => findOnPath(command))) return undefined;
  const apt = aptOf(source);
  return alone(apt.folder, async () => {
    // Another process may have fetched the lists by now.
    if (aptOf(source).listless) await run("apt-get", [...apt.options, "update"]);
    for (let tries = 1; tries <= TRIES; tries++) {
      const result = await work(apt);
      if (result !== undefined) return result;
      if (tries < TRIES) await run("apt-get", [...apt.options, "update"]);
    }
    return undefined;
  });
}

/**
 * Fetches a Debian package by name, without installing it, and returns the path of its file, which is kept.
 *
 * Where it cannot be had in three tries, the result is `undefined` and standard error says so: the tests that need it
 * cannot be made then (test/support/unfetched.ts).
 */
export async function downloadedPackage(name: string, architecture?: Architecture): Promise<string | undefined> {
  const source = architecture === undefined ? {} : { architecture };
  const kept = keptFile(aptOf(source), name);
  return kept ?? (await thrice(source, (apt) => fetched(apt, name))) ?? missing(name, source);
}

/**
 * Fetches the package that a metapackage stands for, as {@link downloadedPackage} does: `linux-image-6.1.0-50-686` for
 * `linux-image-686`, whose number changes with each update.
 */
export async function downloadedDependency(metapackage: string, source: Source): Promise<string | undefined> {
  const deb = await thrice(source, async (apt) => {
    const name = await dependency(apt, metapackage, source);
    return name && (await fetched(apt, name));
  });
  return deb ?? missing(metapackage, source);
}

/**
 * Fetches a Debian package by name, unpacks it beside others (nothing is installed) and returns the folder; `undefined`
 * as for {@link downloadedPackage}.
 */
export async function unpackedPackage(name: string, architecture?: Architecture): Promise<string | undefined> {
  const deb = await downloadedPackage(name, architecture);
  return deb && (await kept(deb, "unpacked", (scratch) => run("dpkg-deb", ["-x", deb, scratch])));
}

/** The kernel that a package of one boots, unpacked; `undefined` where the package has none. */
export async function unpackedKernel(deb: string): Promise<string | undefined> {
  // tar ends with the kernel, and does not wait for the modules.
  const script =
    'dpkg-deb --fsys-tarfile "$0" 2>/dev/null | tar -x -C "$1" --wildcards --occurrence=1 "./boot/vmlinu*"';
  const folder = await kept(deb, "kernel", (scratch) => run("sh", ["-c", script, deb, scratch]));
  const boot = folder && join(folder, "boot");
  const name = boot && readdirSync(boot).find((one) => one.startsWith("vmlinu"));
  return name && join(boot, name);
}

function missing(name: string, { architecture }: Source): undefined {
  const what = architecture === undefined ? name : `${name}:${architecture}`;
  process.stderr.write(`NOT TESTED: the Debian package ${what} cannot be fetched (${TRIES} tries)\n`);
  return undefined;
}

function keptFile({ folder }: Apt, name: string): string | undefined {
  const place = join(folder, "debs", name);
  const file = existsSync(place) && readdirSync(place).find((one) => one.endsWith(".deb"));
  return file ? join(place, file) : undefined;
}

async function fetched(apt: Apt, name: string): Promise<string | undefined> {
  const already = keptFile(apt, name);
  if (already !== undefined) return already;
  const place = join(apt.folder, "debs", name);
  const made = await settled(place, (scratch) => run("apt-get", [...apt.options, "download", name], scratch));
  return made && keptFile(apt, name);
}

async function dependency(apt: Apt, metapackage: string, { release }: Source): Promise<string | undefined> {
  const preferred = release === undefined ? [] : ["-o", `APT::Default-Release=${release}`];
  // apt-cache is quiet only about what it was asked for.
  const [, ...options] = apt.options;
  const text = await run("apt-cache", [...options, ...preferred, "depends", metapackage]);
  return text && /Depends: (\S+)/.exec(text)?.[1];
}

/** A folder made of a package's file, kept beside it. */
async function kept(
  deb: string,
  kind: string,
  make: (scratch: string) => Promise<string | undefined>,
): Promise<string | undefined> {
  const place = join(dirname(deb), kind);
  return existsSync(place) ? place : settled(place, make);
}

/** Makes a folder under another name, and gives it its own once it is whole, unless another process was faster. */
async function settled(
  place: string,
  make: (scratch: string) => Promise<string | undefined>,
): Promise<string | undefined> {
  mkdirSync(dirname(place), { recursive: true });
  const scratch = mkdtempSync(`${place}.`);
  try {
    if ((await make(scratch)) === undefined) return undefined;
    renameSync(scratch, place);
  } catch (error) {
    if (!existsSync(place)) throw error;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return place;
}
