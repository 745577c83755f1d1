import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { liveCpu, liveFiles } from "../../src/linux/ldso/live.js";
import { ldd } from "../../src/verbs/ldd.js";
import { boot } from "./boot.js";
import type { CpioEntry } from "./cpio.js";
import { downloadedDependency, unpackedKernel } from "./debian.js";

/** What a command printed, and how it ended. */
export interface CommandOutput {
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly status: number;
}

/** Debian's kernel for virtual machines, which runs i386 programs; `undefined` where it cannot be fetched. */
export async function debianKernel(): Promise<string | undefined> {
  const deb = await downloadedDependency("linux-image-cloud-amd64", { architecture: "amd64" });
  return deb && unpackedKernel(deb);
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
  const init = Buffer.from(initScript(commands, seconds));
  const { lines, said } = await boot({
    architecture: "amd64",
    cpu,
    memory: 1024,
    kernel,
    entries: [{ path: "init", mode: 0o100755, data: init }, fileEntry("/bin/busybox"), ...options.entries],
    append: `loglevel=4 random.trust_cpu=on ${append}`,
    lines: 2,
    seconds,
  });
  const [console = "", results = ""] = lines;
  return commands.map((command, i) => {
    const output = outputOf(results, i);
    if (output) return output;
    throw new Error(`the guest did not come to the end of: ${command}\n${said}${console.slice(-3000)}`);
  });
}

function outputOf(results: string, index: number): CommandOutput | undefined {
  const pattern = `@@${index} status\n([^@]*)@@${index} stdout\n([^@]*)@@${index} stderr\n([^@]*)@@${index} end\n`;
  const parts = new RegExp(pattern).exec(results)?.slice(1);
  if (!parts) return undefined;
  const [status, stdout, stderr] = parts.map((part) => Buffer.from(part, "base64")) as [Buffer, Buffer, Buffer];
  return { status: Number(status.toString()), stdout, stderr: stderr.toString() };
}
