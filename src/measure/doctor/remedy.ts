import { clocksourceMode, fastAlternatives } from "./clocksources.js";
import type { MachineFacts } from "./facts.js";
import { listed } from "./finding.js";
import { parameterValue } from "./machine/parse.js";

const SWITCH = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/** Parameters that keep fast clocksources away. */
const BLOCKING = ["tsc=unstable", "notsc", "no-kvmclock", "no-kvmclock-vsyscall"];

/** What to do for a clocksource that the vDSO reads, by what stands in the way. */
export function clocksourceRemedy({ clocksource, parameters, cpuFlags }: MachineFacts): string {
  const chosen = parameterValue(parameters, "clocksource");
  const forced = chosen !== undefined && clocksourceMode(chosen)?.vdso === "no" ? [`clocksource=${chosen}`] : [];
  const blocking = [...forced, ...BLOCKING.filter((word) => parameters.includes(word))];
  const [fast] = clocksource ? fastAlternatives(clocksource.available, clocksource.current) : [];
  const steps = [
    ...(fast === undefined ? [] : [`at once: echo ${fast} > ${SWITCH}`]),
    ...(blocking.length > 0 ? [`for good: remove ${listed(blocking)} from the kernel's command line`] : []),
    ...(fast !== undefined && blocking.length === 0 ? [`for good: boot with clocksource=${fast}`] : []),
  ];
  if (steps.length > 0) return steps.join("; ");
  if (cpuFlags?.includes("hypervisor")) {
    return "have the hypervisor offer a clock that programs can read: kvm-clock or an invariant TSC (KVM), a native TSC (Xen), the reference TSC page (Hyper-V)";
  }
  return "find out from the kernel's log why the time-stamp counter was given up; update the firmware";
}
