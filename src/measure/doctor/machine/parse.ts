import { parseCpu } from "../../../linux/ldso/cpu.js";

/** Flags of /proc/cpuinfo that tell of the time-stamp counter, and of how a processor's number is read. */
const FLAGS = new Set([
  "tsc",
  "constant_tsc",
  "nonstop_tsc",
  "nonstop_tsc_s3",
  "tsc_known_freq",
  "tsc_reliable",
  "tsc_adjust",
  "rdtscp",
  "rdpid",
  "hypervisor",
]);

/** The flags of the first processor that matter here; `undefined` where the text has none (no x86). */
export function clockFlags(cpuinfo: string): string[] | undefined {
  const { flags } = parseCpu(cpuinfo);
  return flags.size === 0 ? undefined : [...flags].filter((flag) => FLAGS.has(flag));
}

/** Parameters that touch clocks, the vDSO or the processor's features. `nosep` and `notsc` are of 32-bit kernels. */
const PARAMETERS =
  /^(vdso|vdso32|vsyscall|clocksource|clock|tsc|hpet|clearcpuid)=|^(notsc|nohpet|nosep|nopvspin|no-kvmclock|no-kvmclock-vsyscall|acpi_pm_good)$/;

/**
 * The parameters of a kernel's command line that matter here, as written. What stands behind `--` is for the first
 * program.
 */
export function clockParameters(cmdline: string): string[] {
  const words = cmdline.trim().split(/\s+/);
  const end = words.indexOf("--");
  return words.slice(0, end < 0 ? words.length : end).filter((word) => PARAMETERS.test(word));
}

/** The value of the last parameter of a name, which is the one that counts; empty where it is written without one. */
export function parameterValue(parameters: readonly string[], name: string): string | undefined {
  const found = parameters.findLast((word) => word === name || word.startsWith(`${name}=`));
  return found?.slice(name.length + 1);
}

/** Messages by which the kernel chooses a clocksource, or gives one up. */
const LOG =
  /Marking (TSC|clocksource)|(Switched to|Override|Unable to (select|use)|Selecting) clocksource|clocksource.*(unstable|skew|instead)|TSC.*(unstable|warp|halts|P0 frequency|calibration failed)|hpet.*disabled/i;

// 6,339,480755,-;clocksource: Switched to clocksource tsc
//  SUBSYSTEM=…
/** The text of a record of /dev/kmsg where it matters here. */
export function clockMessage(record: string): string | undefined {
  const text = /^\d+,\d+,\d+,[^;]*;([^\n]*)/.exec(record)?.[1];
  return text !== undefined && LOG.test(text) ? text : undefined;
}

/** Whether a message of the kernel's says that it gave the time-stamp counter up. */
export function marksUnstable(message: string): boolean {
  return /Marking (TSC|clocksource '?tsc'?).* unstable/i.test(message);
}
