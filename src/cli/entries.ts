import type { Mechanism } from "../vdso/gate.js";

/** Ways into the kernel of programs of i386, as the command line writes them. */
export const ENTRIES: ReadonlyMap<string, Mechanism> = new Map<string, Mechanism>([
  ["int80", "int $0x80"],
  ["sysenter", "sysenter"],
  ["syscall", "syscall"],
]);
