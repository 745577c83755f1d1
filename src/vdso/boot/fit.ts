import type { VdsoImage } from "../image.js";
import type { KernelOptions } from "./cmdline.js";
import type { Cpu } from "./cpu.js";

/** Up to this release 2 put the image at a fixed address; from it on any number but 1 means that there is none. */
const VDSO32_COMPAT_UNTIL = 3015;

/** Why the kernel maps no such image, by its command line. */
export function notMapped(
  image: VdsoImage,
  { vdso, vdso32, vdsoIsLast }: KernelOptions,
  width: 32 | 64 | undefined,
  release: number | undefined,
): { readonly notMapped: string } | undefined {
  if (image.abi === "x86_64" || image.abi === "x32") {
    return vdso === 0 ? { notMapped: "vdso=0: 64-bit programs see no vDSO" } : undefined;
  }
  if (image.abi !== "i386" || width === undefined) return undefined;
  // A 32-bit kernel takes both for the same option; a 64-bit one has one for each kind of program.
  const both = width === 32 && (vdsoIsLast || vdso32 === undefined);
  const [value, name] = both ? [vdso, "vdso"] : [vdso32, "vdso32"];
  if (value === undefined || value === 1) return undefined;
  if (value === 0) return { notMapped: `${name}=0: 32-bit programs see no vDSO` };
  if (release !== undefined && release < VDSO32_COMPAT_UNTIL) return undefined;
  return { notMapped: `${name}=${value}: the kernel knows 0 and 1 alone, warns, and maps no vDSO for 32-bit programs` };
}

/** Whether a processor is of the machine that an image is for. */
export function isProcessorOf(cpu: Cpu, { abi }: VdsoImage): boolean {
  return (cpu.machine === "arm" ? /^(aarch64|arm)/ : /^(i386|x86_64|x32)$/).test(abi);
}

/** Why a processor cannot run the kernel of an image. */
export function cannotRun(
  image: VdsoImage,
  cpu: Cpu,
  width: 32 | 64 | undefined,
): { readonly cannotRun: string } | undefined {
  if (!isProcessorOf(cpu, image)) return { cannotRun: `${cpu.name} is no processor of ${image.abi}` };
  const long = cpu.flags.has("lm") || cpu.machine === "arm";
  return width === 64 && !long ? { cannotRun: `${cpu.name} has no 64-bit mode, which this kernel needs` } : undefined;
}
