import type { VdsoImage } from "./image.js";

/** Who made a vDSO image: the kernel, or a program that stands in for one. */
export type Maker = "Linux" | "gVisor" | "qemu-user";

/** Where gVisor links its image for x86-64; Linux did so too until 3.16, with a note in it. */
const GVISOR_BASE = 0xffff_ffff_ff70_0000n;

/** What qemu-user's functions are: the system call that they stand for, and nothing else. */
const QEMU_CODE: Readonly<Record<string, readonly [functionName: string, code: readonly number[]]>> = {
  // int $0x80; ret
  i386: ["__kernel_vsyscall", [0xcd, 0x80, 0xc3]],
  // mov $228,%eax; syscall; ret
  x86_64: ["__vdso_clock_gettime", [0xb8, 228, 0, 0, 0, 0x0f, 0x05, 0xc3]],
};

/**
 * Who made an image, told from its bytes: every Linux since 2.6.23 puts a note with its version into its own. `undefined`
 * where nothing tells.
 *
 * Sources: arch/ARCH/entry/vdso/note.S; gVisor's vdso/vdso_amd64.lds; QEMU's linux-user/{i386,x86_64}/vdso.S.
 */
export function makerOf(image: VdsoImage): Maker | undefined {
  if (image.kernelVersion) return "Linux";
  if (image.abi === "x86_64" && image.linkBase === GVISOR_BASE) return "gVisor";
  const [name, code] = QEMU_CODE[image.abi] ?? [];
  const start = image.functions.find((one) => one.name === name);
  if (!start || !code) return undefined;
  const offset = Number(start.address - image.linkBase);
  return code.every((byte, i) => image.bytes[offset + i] === byte) ? "qemu-user" : undefined;
}
