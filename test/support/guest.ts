import { spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { liveCpu, liveFiles } from "../../src/linux/ldso/live.js";
import { ldd } from "../../src/verbs/ldd.js";
import { type CpioEntry, cpio } from "./cpio.js";
import { firstDependency, unpackedPackage } from "./debian.js";

/** What a command printed, and how it ended. */
export interface CommandOutput {
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly status: number;
}

/** Debian's kernel for virtual machines, which runs i386 programs; `undefined` where it cannot be fetched. */
export async function debianKernel(metapackage = "linux-image-cloud-amd64"): Promise<string | undefined> {
  const name = await firstDependency(metapackage);
  const folder = name && (await unpackedPackage(name));
  if (!folder) return undefined;
  const boot = join(folder, "boot");
  const image = readdirSync(boot).find((one) => one.startsWith("vmlinuz"));
  return image && join(boot, image);
}

/** A program of this machine with the libraries that it needs; throws where one of them is not installed. */
export function programEntries(path: string, place = path): CpioEntry[] {
  const { objects } = ldd(path, { files: liveFiles(), cwd: "/", cpu: liveCpu() });
  const missing = objects.filter((object) => object.kind === "missing").map(({ name }) => name);
  if (missing.length > 0) throw new Error(`${path} needs libraries that are not installed: ${missing.join(", ")}`);
  const libraries = objects.flatMap((object) => (object.path === undefined ? [] : [fileEntry(object.path)]));
  // Where libraries lie in other folders than the usual ones, the dynamic linker finds them by its cache.
  const linkerCache = ["/etc/ld.so.cache"].filter((file) => existsSync(file)).map((file) => fileEntry(file));
  return [fileEntry(path, place), ...libraries, ...linkerCache];
}

/** A file of this machine, at the same place unless another is given. */
export function fileEntry(path: string, place = path): CpioEntry {
  return { path: place.replace(/^\//, ""), mode: 0o100755, data: readFileSync(realpathSync(path)) };
}

/** All files below a folder. */
export function folderEntries(path: string, place = path): CpioEntry[] {
  return readdirSync(path, { withFileTypes: true }).flatMap((entry) => {
    const [from, to] = [join(path, entry.name), join(place, entry.name)];
    return entry.isDirectory() ? folderEntries(from, to) : [fileEntry(from, to)];
  });
}

/** Each path once, and before it the folders that it lies in: the kernel makes none by itself. */
function withFolders(entries: readonly CpioEntry[]): CpioEntry[] {
  const all = new Map<string, CpioEntry>();
  for (const entry of entries) {
    const parts = dirname(entry.path).split("/");
    for (let i = 1; i <= parts.length; i++) {
      const path = parts.slice(0, i).join("/");
      if (path !== "." && !all.has(path)) all.set(path, { path, mode: 0o040755 });
    }
    all.set(entry.path, entry);
  }
  return [...all.values()];
}

/**
 * The first program of the guest: runs each command and writes what it printed, in base64 between marks, to the second
 * serial line, where no message of the kernel's comes between. However its commands hang, the guest ends in time.
 */
function initScript(commands: readonly string[], seconds: number): string {
  const run = commands.map(
    (command, i) => `
echo "command ${i}" >/dev/console
( cd /; ${command} ) >/tmp/.out 2>/tmp/.err </dev/null
echo "$?" >/tmp/.status
{
  echo "@@${i} status"; busybox base64 /tmp/.status
  echo "@@${i} stdout"; busybox base64 /tmp/.out
  echo "@@${i} stderr"; busybox base64 /tmp/.err
  echo "@@${i} end"
} >/dev/ttyS1`,
  );
  return `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin HOME=/tmp LC_ALL=C
( sleep ${seconds}; poweroff -f ) >/dev/null 2>&1 &
${run.join("\n")}
poweroff -f
`;
}

/** Seconds that a guest may take unless said. */
const SECONDS = 150;

/**
 * Boots a kernel on an emulated processor and runs shell commands in it, one after the other, as root.
 *
 * Throws where the guest does not come to the end of its commands in `seconds`; the error has the end of its console.
 */
export async function runInGuest(
  kernel: string,
  options: {
    /** As for qemu's `-cpu`. */
    readonly cpu: string;
    readonly entries: readonly CpioEntry[];
    readonly commands: readonly string[];
    /** More of the kernel's parameters. */
    readonly append?: string;
    readonly seconds?: number;
  },
): Promise<CommandOutput[]> {
  const { cpu, commands, append = "", seconds = SECONDS } = options;
  const scratch = mkdtempSync(join(tmpdir(), "linux-gate-guest-"));
  const [initrd, console, results] = ["initrd", "console", "results"].map((name) => join(scratch, name)) as [
    string,
    string,
    string,
  ];
  try {
    const init = Buffer.from(initScript(commands, seconds));
    writeParts(initrd, [
      { path: "init", mode: 0o100755, data: init },
      { path: "dev/console", mode: 0o020600, device: [5, 1] },
      fileEntry("/bin/busybox"),
      ...options.entries,
    ]);
    // On several emulated processors, V8's code that changes while it runs crashes about one time in ten.
    const machine = ["-accel", "tcg", "-cpu", cpu, "-smp", "1", "-m", "1024", "-nodefaults", "-display", "none"];
    const serial = ["-serial", `file:${console}`, "-serial", `file:${results}`];
    const boot = ["-no-reboot", "-kernel", kernel, "-initrd", initrd];
    const parameters = `console=ttyS0 loglevel=4 panic=-1 random.trust_cpu=on ${append}`;
    const qemu = [...machine, ...serial, ...boot, "-append", parameters];
    const said = await finished("qemu-system-x86_64", qemu, seconds);
    const text = textOf(results);
    return commands.map((command, i) => {
      const output = outputOf(text, i);
      if (output) return output;
      throw new Error(`the guest did not come to the end of: ${command}\n${said}${textOf(console).slice(-3000)}`);
    });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function writeParts(path: string, entries: readonly CpioEntry[]): void {
  const file = openSync(path, "w");
  try {
    for (const part of cpio(withFolders(entries))) {
      for (let done = 0; done < part.length; ) done += writeSync(file, part, done);
    }
  } finally {
    closeSync(file);
  }
}

/** What was written to a serial line; empty where the machine did not start. */
function textOf(path: string): string {
  return existsSync(path) ? readFileSync(path, "latin1").replaceAll("\r", "") : "";
}

function outputOf(results: string, index: number): CommandOutput | undefined {
  const pattern = `@@${index} status\n([^@]*)@@${index} stdout\n([^@]*)@@${index} stderr\n([^@]*)@@${index} end\n`;
  const parts = new RegExp(pattern).exec(results)?.slice(1);
  if (!parts) return undefined;
  const [status, stdout, stderr] = parts.map((part) => Buffer.from(part, "base64")) as [Buffer, Buffer, Buffer];
  return { status: Number(status.toString()), stdout, stderr: stderr.toString() };
}

/** Runs the emulator to its end, or ends it; resolves to what it said. */
function finished(command: string, args: readonly string[], seconds: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
    const errors: Buffer[] = [];
    child.stderr.on("data", (chunk) => errors.push(chunk));
    const timer = setTimeout(() => child.kill("SIGKILL"), seconds * 1000);
    child.on("error", reject);
    child.on("close", (_code, signal) => {
      clearTimeout(timer);
      // What a processor has and the emulator has not is of no account here.
      const said = Buffer.concat(errors)
        .toString()
        .replaceAll(/^.* TCG doesn't support requested feature: .*\n/gm, "");
      resolve(signal ? `${said}${command}: ended after ${seconds} seconds\n` : said);
    });
  });
}
