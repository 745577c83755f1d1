import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type CpioEntry, cpio } from "./cpio.js";
import { needs } from "./referee.js";

/** What kernels are booted for, as Debian names it. */
export type BootArchitecture = "i386" | "amd64" | "arm64";

/**
 * The emulator of a machine, the arguments that make it one, what its processors are to do without, and its serial lines
 * as Linux names them.
 */
const EMULATORS = {
  i386: { command: "qemu-system-i386", package: "qemu-system-x86", machine: [], without: "", line: "ttyS" },
  // After cmpxchg16b, which the kernel's allocator uses, this emulator's flags are wrong now and then, and it panics.
  amd64: { command: "qemu-system-x86_64", package: "qemu-system-x86", machine: [], without: ",-cx16", line: "ttyS" },
  arm64: {
    command: "qemu-system-aarch64",
    package: "qemu-system-arm",
    machine: ["-M", "virt"],
    without: "",
    line: "ttyAMA",
  },
} as const;

/** Whether the emulator of an architecture is installed, as {@link needs}. */
export function boots(architecture: BootArchitecture): boolean {
  const { command, package: name } = EMULATORS[architecture];
  return needs(command, name);
}

/** An emulated machine of one processor, and what it boots. */
export interface Machine {
  readonly architecture: BootArchitecture;
  /** As for qemu's `-cpu`. */
  readonly cpu: string;
  /** MiB. */
  readonly memory: number;
  /** Path of the kernel. */
  readonly kernel: string;
  /** What lies in its memory file system; `/init` runs first. */
  readonly entries: readonly CpioEntry[];
  /** The kernel's parameters, to which the console and the end after a panic are added. */
  readonly append: string;
  /** How many serial lines it has; the first is the console. */
  readonly lines: number;
  readonly seconds: number;
}

/** What became of a machine. */
export interface BootOutput {
  /** What came over each serial line; empty where the machine did not start. */
  readonly lines: readonly string[];
  /** What the emulator said. */
  readonly said: string;
}

/** Boots a machine and waits for its end, which comes in `seconds` at the latest. */
export async function boot(machine: Machine): Promise<BootOutput> {
  const { command, machine: kind, without, line } = EMULATORS[machine.architecture];
  const scratch = mkdtempSync(join(tmpdir(), "linux-gate-guest-"));
  const initrd = join(scratch, "initrd");
  const lines = Array.from({ length: machine.lines }, (_, i) => join(scratch, `line${i}`));
  try {
    writeParts(initrd, [
      { path: "dev/console", mode: 0o020600, device: [5, 1] },
      { path: "dev/null", mode: 0o020666, device: [1, 3] },
      ...machine.entries,
    ]);
    // On several emulated processors, V8's code that changes while it runs crashes about one time in ten.
    const hardware = ["-accel", "tcg", "-cpu", `${machine.cpu}${without}`, "-smp", "1", "-m", String(machine.memory)];
    const serial = ["-nodefaults", "-display", "none", ...lines.flatMap((path) => ["-serial", `file:${path}`])];
    const parameters = `console=${line}0 panic=-1 ${machine.append}`.trimEnd();
    const system = ["-no-reboot", "-kernel", machine.kernel, "-initrd", initrd, "-append", parameters];
    const said = await finished(command, [...kind, ...hardware, ...serial, ...system], machine.seconds);
    return { lines: lines.map(textOf), said };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
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

function textOf(path: string): string {
  return existsSync(path) ? readFileSync(path, "latin1").replaceAll("\r", "") : "";
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
