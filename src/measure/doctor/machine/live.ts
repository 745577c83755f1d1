import { closeSync, constants, openSync, readFileSync, readSync } from "node:fs";
import { machine, release } from "node:os";
import type { MachineFacts, Unread } from "../facts.js";
import { clockFlags, clockMessage, clockParameters } from "./parse.js";

const CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0";
const KERNEL_LOG = "/dev/kmsg";

/** Most records of the kernel's log that are read: more than its largest buffer holds. */
const MAX_RECORDS = 500_000;

/** Bytes of /proc/cpuinfo that hold the first processor: a machine may have hundreds. */
const FIRST_PROCESSOR = 16_384;

/** What this machine shows of its clocks. What cannot be read is in `unread`. */
export function machineFacts(): MachineFacts {
  const unread: Unread[] = [];
  const attempt = <T>(what: string, read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (typeof code !== "string") throw error;
      unread.push({ what, why: code });
      return undefined;
    }
  };
  const current = attempt(`${CLOCKSOURCE}/current_clocksource`, () => line(`${CLOCKSOURCE}/current_clocksource`));
  const available = attempt(`${CLOCKSOURCE}/available_clocksource`, () => line(`${CLOCKSOURCE}/available_clocksource`));
  const cpuFlags = clockFlags(attempt("/proc/cpuinfo", () => head("/proc/cpuinfo", FIRST_PROCESSOR)) ?? "");
  const parameters = clockParameters(attempt("/proc/cmdline", () => line("/proc/cmdline")) ?? "");
  const log = attempt(KERNEL_LOG, kernelLog);
  return {
    release: release(),
    architecture: machine(),
    ...(current !== undefined && {
      clocksource: { current, available: (available ?? current).split(/\s+/).filter((name) => name !== "") },
    }),
    ...(cpuFlags && { cpuFlags }),
    parameters,
    ...(log && { log }),
    ...vsyscall32(),
    unread,
  };
}

function line(path: string): string {
  return readFileSync(path, "utf8").trim();
}

/** The sysctl is there only where the kernel runs 32-bit programs. */
function vsyscall32(): Pick<MachineFacts, "vsyscall32"> {
  try {
    return { vsyscall32: Number(line("/proc/sys/abi/vsyscall32")) };
  } catch {
    return {};
  }
}

function head(path: string, size: number): string {
  const bytes = Buffer.alloc(size);
  const file = openSync(path, "r");
  try {
    let done = 0;
    for (let got = -1; got !== 0 && done < size; done += got) got = readSync(file, bytes, done, size - done, null);
    return bytes.toString("utf8", 0, done);
  } finally {
    closeSync(file);
  }
}

/** The messages of the kernel's log that matter here, oldest first, as far as its buffer still has them. */
function kernelLog(): string[] {
  const file = openSync(KERNEL_LOG, constants.O_RDONLY | constants.O_NONBLOCK);
  const record = Buffer.alloc(8192);
  const messages: string[] = [];
  try {
    for (let i = 0; i < MAX_RECORDS; i++) {
      let size: number;
      try {
        size = readSync(file, record);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === "EAGAIN") break;
        // Overwritten while it was read: the next one is there.
        if (code === "EPIPE") continue;
        throw error;
      }
      if (size === 0) break;
      const message = clockMessage(record.toString("utf8", 0, size));
      if (message !== undefined) messages.push(message);
    }
    return messages;
  } finally {
    closeSync(file);
  }
}
