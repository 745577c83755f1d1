import type { Abi } from "../vdso/abi.js";
import type { VdsoImage } from "../vdso/image.js";

/** One container on the way to an image, from the outside in. */
export interface Layer {
  /** `deb`, `tar`, `bzImage`, `xz`, `vmlinux`, … */
  readonly format: string;
  /** Where it lies in the layer before. */
  readonly offset: number;
  /** As an archive names it, which may be anything. */
  readonly name?: string;
}

/** A vDSO image in a kernel file. */
export interface FoundImage {
  /** Exactly as embedded: up to the end of its section headers, rounded up to 4096 bytes where there are so many. */
  readonly image: VdsoImage;
  /** Offset in the innermost layer. */
  readonly offset: number;
  readonly path: readonly Layer[];
}

/** One kernel, or one image that is a file of its own. */
export interface FoundKernel {
  /** `bzImage`, `arm64 Image`, `vmlinux`, …; `vDSO image` for a file that is one. */
  readonly format: string;
  /** Its name in the package. */
  readonly name?: string;
  /** As far as its header, or that of what is in it, tells. */
  readonly abi?: Abi;
  /** Of the kernel itself, which decides how it patches its images. */
  readonly width?: 32 | 64;
  /** `6.1.0-50-686`: of its header or its banner. Absent where neither was seen. */
  readonly release?: string;
  readonly images: readonly FoundImage[];
  /** Bytes of it that were searched, once decompressed. */
  readonly searched: number;
  /** Whether that is all of it. */
  readonly whole: boolean;
}

/** Damage, or a limit: what comes behind it was not searched. */
export interface Problem {
  readonly message: string;
  readonly path: readonly Layer[];
}

/** What a file holds. */
export interface KernelFile {
  readonly kernels: readonly FoundKernel[];
  /** Those of all kernels, in order. */
  readonly images: readonly FoundImage[];
  readonly problems: readonly Problem[];
  /** Bytes read of the file. */
  readonly read: number;
  /** Whether it was searched to its end. */
  readonly whole: boolean;
  /** What was met, as a user would name it: `Debian package`, `xz stream`; for the message that nothing was found. */
  readonly met: readonly string[];
}

/** A kernel that is being searched. */
export type Draft = { -readonly [K in keyof FoundKernel]: FoundKernel[K] } & { images: FoundImage[] };
