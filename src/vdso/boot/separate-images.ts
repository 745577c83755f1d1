import type { Mechanism } from "../gate.js";
import type { VdsoImage } from "../image.js";
import { alternativesOf } from "./alternatives.js";
import { parseCmdline } from "./cmdline.js";
import { wayIn } from "./entry.js";
import { BootFeatures } from "./features.js";
import type { BootDescription } from "./predict.js";
import { releaseOf } from "./rules.js";

/** Which of several images for one ABI a kernel maps. */
export interface SeparateChoice {
  readonly image: VdsoImage;
  readonly mechanism: Mechanism;
  /** Why, in a clause. */
  readonly why: string;
}

/** Numbers as of the kernels that had separate images. */
const SEP = { number: 11, name: "SEP" };
const SYSCALL32 = { number: 3 * 32 + 14, name: "SYSCALL32" };
const SYSENTER32 = { number: 3 * 32 + 15, name: "SYSENTER32" };

/**
 * The image that a kernel up to 4.3 maps for 32-bit programs, of the two or three in its file that differ in their way
 * in: `syscall` before `sysenter` before `int $0x80`. `undefined` where the images are not of that kind: there is only
 * one, an entry has alternatives, or two take the same way.
 *
 * Source: vdso32_syscall and vdso32_sysenter in arch/x86/vdso/vdso32-setup.c of Linux 2.6.25 to 4.3.
 */
export function chooseSeparate(
  images: readonly VdsoImage[],
  { cpu, width, cmdline }: BootDescription,
): SeparateChoice | undefined {
  if (images.length < 2) return undefined;
  const byWay = new Map<Mechanism, VdsoImage>();
  for (const image of images) {
    const way = image.abi === "i386" && !entryHasSites(image) ? wayIn(image, image.bytes) : undefined;
    if (!way || byWay.has(way)) return undefined;
    byWay.set(way, image);
  }
  const kernel = width ?? (byWay.has("syscall") ? 64 : 32);
  const release = releaseOf(images[0]?.kernelVersion);
  const boot = { width: kernel, cpu, options: parseCmdline(cmdline ?? "", release ?? 3000), release: release ?? 3000 };
  const features = new BootFeatures(boot);
  const ways: readonly (readonly [Mechanism, ReturnType<BootFeatures["presence"]> | undefined])[] = [
    ["syscall", kernel === 64 ? features.presence(SYSCALL32) : undefined],
    ["sysenter", features.presence(kernel === 64 ? SYSENTER32 : SEP)],
  ];
  for (const [mechanism, presence] of ways) {
    const image = byWay.get(mechanism);
    if (image && presence?.present) return { image, mechanism, why: presence.why };
  }
  const slow = byWay.get("int $0x80");
  if (slow) return { image: slow, mechanism: "int $0x80", why: "there is no faster way" };
  // Before 2.6.25, 64-bit kernels had two images: whoever is not Intel got the other one.
  const rest = byWay.get("syscall");
  return rest && { image: rest, mechanism: "syscall", why: "the kernel has no other image for this processor" };
}

function entryHasSites(image: VdsoImage): boolean {
  return alternativesOf(image)?.sites.some(({ functionName }) => functionName === image.entry?.name) ?? false;
}
