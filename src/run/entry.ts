import { readFileSync } from "node:fs";
import { parseCmdline } from "../vdso/boot/cmdline.js";
import { type Cpu, parseCpuinfo } from "../vdso/boot/cpu.js";
import { wayIn } from "../vdso/boot/entry.js";
import { BootFeatures, type Feature } from "../vdso/boot/features.js";
import type { Mechanism } from "../vdso/gate.js";
import type { VdsoImage } from "../vdso/image.js";
import { CANNOT_EXECUTE, RunError } from "./error.js";

/** By these a 64-bit kernel knows whether code of i386 may enter it so (arch/x86/include/asm/cpufeatures.h). */
const FEATURES: Readonly<Record<Exclude<Mechanism, "int $0x80">, Feature>> = {
  syscall: { number: 3 * 32 + 14, name: "SYSCALL32" },
  sysenter: { number: 3 * 32 + 15, name: "SYSENTER32" },
};

/** The machine that is to execute an entry. */
export interface EntryMachine {
  readonly cpu: Cpu;
  /** The kernel's own command line. */
  readonly cmdline: string;
}

function thisMachine(): EntryMachine {
  return {
    cpu: parseCpuinfo(readFileSync("/proc/cpuinfo", "latin1"), "this processor"),
    cmdline: readFileSync("/proc/cmdline", "latin1"),
  };
}

/**
 * Refuses an image of i386 whose entry takes a way into the kernel that such code cannot take on this machine under a
 * 64-bit kernel: the program would end by a signal at its first system call. Throws {@link RunError}.
 *
 * `own` is the kernel's image as programs have it. What that takes can be taken; where it takes none of the fast ways,
 * though processors of this vendor have one and nothing on the command line keeps it from that, the kernel has taken them
 * out of use (FRED). An entry in which no way in is recognised is let pass.
 */
export function refuseEntry(image: VdsoImage, own: VdsoImage, { cpu, cmdline } = thisMachine()): void {
  const wanted = wayIn(image, image.bytes);
  const kernels = wayIn(own, own.bytes);
  if (wanted === undefined || wanted === "int $0x80" || wanted === kernels) return;
  const boot = { width: 64, cpu, options: parseCmdline("", undefined) } as const;
  const { present, why } = new BootFeatures(boot).presence(FEATURES[wanted]);
  const withheld = kernels === "int $0x80" && !/\b(clearcpuid|setcpuid)=/.test(cmdline);
  if (present === true && !withheld) return;
  const reason = present === true ? "the kernel does not take it itself, as with FRED" : why;
  throw new RunError(
    `programs of i386 cannot enter this kernel by ${wanted}: ${reason}; ${kernels ?? "int $0x80"} works here`,
    CANNOT_EXECUTE,
  );
}
