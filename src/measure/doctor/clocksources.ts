/** Whether the vDSO can read a clocksource by itself, and why that is so. */
export interface ClocksourceMode {
  /** `sometimes`: whether it can is decided when the kernel starts; only the proof tells. */
  readonly vdso: "yes" | "no" | "sometimes";
  readonly why: string;
}

/**
 * The clocksources that kernels have, by the name that they register, and what `vdso_clock_mode` (`archdata.vclock_mode`
 * before Linux 5.7) they are given. What sets none has VDSO_CLOCKMODE_NONE.
 *
 * Sources: arch/x86/kernel/{tsc,kvmclock,hpet}.c, arch/x86/xen/time.c, drivers/clocksource/{hyperv_timer,acpi_pm,
 * arm_arch_timer,timer-riscv,mips-gic-timer,i8253}.c, arch/powerpc/kernel/time.c, arch/s390/kernel/time.c,
 * arch/loongarch/kernel/time.c, arch/mips/kernel/csrc-r4k.c, arch/sparc/kernel/time_64.c, kernel/time/jiffies.c.
 */
const MODES: Readonly<Record<string, ClocksourceMode>> = {
  tsc: { vdso: "yes", why: "the processor's time-stamp counter, which any program may read" },
  "tsc-early": { vdso: "yes", why: "the processor's time-stamp counter, while its frequency is still being refined" },
  "kvm-clock": {
    vdso: "sometimes",
    why: "the hypervisor's page beside the time-stamp counter, where it vouches that the counters of all processors agree",
  },
  xen: {
    vdso: "sometimes",
    why: "Xen's page beside the time-stamp counter, where it vouches that the counters agree; never on old kernels",
  },
  hyperv_clocksource_tsc_page: { vdso: "yes", why: "the hypervisor's page beside the time-stamp counter" },
  hyperv_clocksource_msr: { vdso: "no", why: "a register of the hypervisor that only the kernel may read" },
  hpet: { vdso: "no", why: "a timer on the mainboard, no longer mapped into programs" },
  acpi_pm: { vdso: "no", why: "a timer behind an input/output port" },
  pit: { vdso: "no", why: "a timer behind input/output ports" },
  jiffies: { vdso: "no", why: "the kernel's tick, counted" },
  "refined-jiffies": { vdso: "no", why: "the kernel's tick, counted" },
  arch_sys_counter: {
    vdso: "sometimes",
    why: "the generic timer of ARM, unless an erratum forbids programs to read it",
  },
  arch_mem_counter: { vdso: "no", why: "the generic timer of ARM, as a device in memory" },
  riscv_clocksource: { vdso: "yes", why: "the time register of RISC-V" },
  timebase: { vdso: "yes", why: "the time base register of POWER" },
  tod: { vdso: "yes", why: "the time-of-day clock of s390" },
  Constant: { vdso: "yes", why: "the constant counter of LoongArch" },
  MIPS: { vdso: "sometimes", why: "the count register of MIPS, where programs may read it" },
  GIC: { vdso: "sometimes", why: "the counter of MIPS's interrupt controller, mapped into programs on one cluster" },
  tick: { vdso: "yes", why: "the tick register of SPARC" },
  stick: { vdso: "yes", why: "the system tick register of SPARC" },
};

/** What is known of a clocksource; `undefined` for one that the table does not have. */
export function clocksourceMode(name: string): ClocksourceMode | undefined {
  return Object.hasOwn(MODES, name) ? MODES[name] : undefined;
}

/** In this order clocksources with a mode of the vDSO are to be preferred, of those that are available. */
export function fastAlternatives(available: readonly string[], current: string | undefined): string[] {
  return available.filter((name) => name !== current && (clocksourceMode(name)?.vdso ?? "no") !== "no");
}
