import type { DoctorResult } from "../../src/verbs/doctor.js";
import { type CommandOutput, debianKernel } from "../support/guest.js";
import { needs } from "../support/referee.js";
import { guest } from "./i386-place.js";

/** What `doctor --json` printed in a guest, and how it ended. */
export interface Visit {
  readonly status: number;
  readonly stderr: string;
  readonly result: DoctorResult;
  /** The clocksource in force, as the guest's shell reads it. */
  readonly clocksource: string;
  /** Whether the guest's shell, a 64-bit program, has a mapping [vdso]. */
  readonly shellHasVdso: boolean;
}

/** Debian's kernel, where it can be had and booted. */
export async function doctorKernel(): Promise<string | undefined> {
  const installed = [needs("busybox", "busybox-static"), needs("qemu-system-x86_64", "qemu-system-x86")].every(Boolean);
  return installed ? debianKernel() : undefined;
}

const CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/** One run of the doctor in a guest. */
export interface Look {
  /** A shell command that is run first. */
  readonly before?: string;
  /** Words behind the verb, for the shell. */
  readonly words?: string;
}

/** Boots a kernel, runs the doctor in it once for each of `looks`, and gives what it said each time. */
export async function visits(
  kernel: string,
  tree: string,
  { looks = [{}], ...machine }: { readonly cpu: string; readonly append?: string; readonly looks?: readonly Look[] },
): Promise<Visit[]> {
  const { root, node, run } = guest(kernel, tree, machine);
  // Before the time-stamp counter's frequency is refined, another clocksource may be in force.
  const settle = "sleep 1";
  const commands = looks.flatMap(({ before = "true", words = "" }) => [
    `${settle}; ${before}; ${node} ${root}/bin/linux-gate doctor --json ${words}`,
    `cat ${CLOCKSOURCE}; grep vdso /proc/self/maps || true`,
  ]);
  const outputs = await run(commands);
  return looks.map((_, i) => {
    const [said, seen] = outputs.slice(2 * i) as [CommandOutput, CommandOutput];
    const text = said.stdout.toString();
    if (text === "") throw new Error(`the doctor printed nothing: ${said.stderr}`);
    const [clocksource = "", vdso = ""] = seen.stdout.toString().split("\n");
    return {
      status: said.status,
      stderr: said.stderr,
      result: JSON.parse(text) as DoctorResult,
      clocksource,
      shellHasVdso: vdso !== "",
    };
  });
}
