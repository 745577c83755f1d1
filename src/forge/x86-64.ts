import type { FunctionPlan } from "./code.js";

/** Numbers of the system calls that are made. Source: arch/x86/entry/syscalls/syscall_64.tbl. */
const NUMBERS = { gettimeofday: 96, time: 201, clock_gettime: 228, clock_getres: 229, getcpu: 309 } as const;

/** The functions of an x86-64 image, each of which makes the system call of its name. */
export function x86_64Functions(): FunctionPlan[] {
  return Object.entries(NUMBERS).map(([name, number]) => ({
    name: `__vdso_${name}`,
    aliases: [name],
    version: "LINUX_2.6",
    signal: false,
    // System calls take their first three arguments in the registers in which functions do, and overwrite only
    // registers that a function may.
    write: (code) => code.op("Mov_r32_imm32", "eax", number).op("Syscall").op("Retnq"),
  }));
}
