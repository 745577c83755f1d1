import type { ImageTarget, Target } from "../targets/target.js";
import { unreadAlternatives } from "../vdso/boot/alternatives.js";
import type { Cpu } from "../vdso/boot/cpu.js";
import { type InForce, readInForce } from "../vdso/boot/in-force.js";
import { type BootDescription, type Prediction, predictImage } from "../vdso/boot/predict.js";
import { chooseSeparate } from "../vdso/boot/separate-images.js";
import type { VdsoImage } from "../vdso/image.js";
import { type Identity, identify } from "./identity.js";

/** The boot that is asked about. */
export interface BootQuestion {
  readonly cpu: Cpu;
  readonly cmdline?: string | undefined;
  /** Of the kernel, where neither its file nor the image tells. */
  readonly width?: 32 | 64 | undefined;
}

/** A processor, as results name it. */
export interface CpuIdentity {
  readonly name: string;
  readonly vendor?: string;
  readonly family?: number;
  readonly model?: number;
  readonly stepping?: number;
}

/** An image as it will be after boot. */
export interface PredictResult extends Prediction {
  readonly kind: "predicted";
  readonly target: string;
  readonly identity: Identity;
  readonly cpu: CpuIdentity;
  readonly cmdline: string;
  /** Of kernels with several images for 32-bit programs, that differ in their way in: whether this is the one. */
  readonly chosen?: { readonly is: boolean; readonly why: string };
  readonly notes: readonly string[];
}

/** A mapped image, read for what its kernel saw of the processor. */
export interface InForceResult extends InForce {
  readonly kind: "in force";
  readonly target: string;
  readonly identity: Identity;
  /** Why it is not known how the image is patched, in a sentence. */
  readonly unread?: string;
  readonly notes: readonly string[];
}

/** The identity of a processor, without its flags. */
export function identifyCpu({ name, vendor, family, model, stepping }: Cpu): CpuIdentity {
  return {
    name,
    ...(vendor !== undefined && { vendor }),
    ...(family !== undefined && { family }),
    ...(model !== undefined && { model }),
    ...(stepping !== undefined && { stepping }),
  };
}

/** Width of the kernel of a target: asked for, or that of the file it was found in. */
function widthOf(target: Target, asked: 32 | 64 | undefined): 32 | 64 | undefined {
  return asked ?? (target.kind === "image" ? target.kernel?.width : undefined);
}

/** What a kernel boots with, for one of its images. */
export function bootOf(target: Target, { cpu, cmdline, width }: BootQuestion): BootDescription {
  return { cpu, cmdline, width: widthOf(target, width) };
}

/** Predicts each image of a target: byte for byte what programs will see after boot. */
export function predict(targets: readonly Target[], question: BootQuestion): PredictResult[] {
  return targets.map((target) => {
    const boot = bootOf(target, question);
    const separate = chooseSeparate(siblings(target, targets), boot);
    return {
      kind: "predicted",
      target: target.name,
      identity: identify(target.image),
      cpu: identifyCpu(question.cpu),
      cmdline: question.cmdline ?? "",
      ...predictImage(target.image, boot),
      ...(separate && { chosen: { is: separate.image === target.image, why: separate.why } }),
      notes: target.notes,
    };
  });
}

/** The images for 32-bit programs in the same kernel, this one included. */
export function siblings(target: Target, targets: readonly Target[]): VdsoImage[] {
  if (target.kind !== "image" || target.image.abi !== "i386") return [];
  const same = (other: Target): other is ImageTarget => other.kind === "image" && other.kernel === target.kernel;
  return targets.filter(same).flatMap(({ image }) => (image.abi === "i386" ? [image] : []));
}

/** Reads from a mapped image alone what its kernel put in place. */
export function inForce(target: Target): InForceResult {
  const unread = unreadAlternatives(target.image);
  return {
    kind: "in force",
    target: target.name,
    identity: identify(target.image),
    ...(readInForce(target.image) ?? { sites: [], features: [], pristine: false }),
    ...(unread !== undefined && { unread }),
    notes: target.notes,
  };
}
