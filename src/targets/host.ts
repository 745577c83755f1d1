import { readFileSync } from "node:fs";
import { cpus, machine, release, type } from "node:os";

/** The machine that a report was made on. */
export interface Host {
  /** `Linux 6.18.44`. */
  readonly system: string;
  /** `x86_64`, as uname -m says. */
  readonly architecture: string;
  /** Name of the processor; absent where the system does not tell. */
  readonly processor?: string;
  /** What the kernel's clock runs on: decides whether the vDSO's clock functions can do without the kernel. */
  readonly clocksource?: string;
}

/** What this machine is. */
export function host(): Host {
  const processor = cpus()[0]?.model.trim();
  const clocksource = firstLine("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  return {
    system: `${type()} ${release()}`,
    architecture: machine(),
    ...(processor && { processor }),
    ...(clocksource !== undefined && { clocksource }),
  };
}

function firstLine(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").split("\n")[0];
  } catch {
    return undefined;
  }
}
