import { sameBytes } from "../bytes/equal.js";
import type { FoundImage, FoundKernel, KernelFile, Layer } from "../kernel/find.js";
import type { Abi } from "../vdso/abi.js";
import { type Identity, identify } from "./identity.js";

/** One image, and where it lies. */
export interface ImageRow {
  readonly identity: Identity;
  /** Offset in the innermost layer of `path`. */
  readonly offset: number;
  readonly path: readonly Layer[];
  /** Where it was written, if it was. */
  readonly file?: string;
}

/** One kernel with its images. */
export interface KernelRow {
  readonly format: string;
  /** Its name in the package. */
  readonly name?: string;
  readonly abi?: Abi;
  readonly width?: 32 | 64;
  readonly release?: string;
  /** Bytes searched, once decompressed, and whether that is all of it. */
  readonly searched: number;
  readonly whole: boolean;
  readonly images: readonly ImageRow[];
}

/** What one file holds. */
export interface FileRow {
  readonly file: string;
  readonly kernels: readonly KernelRow[];
  /** Damage and limits, in sentences; what lies behind was not searched. */
  readonly problems: readonly string[];
  /** Bytes read of the file, and whether it was searched to its end. */
  readonly read: number;
  readonly whole: boolean;
}

/** The images of one file, or of those in a folder. */
export interface ImagesResult {
  readonly files: readonly FileRow[];
}

/** A file with what was found in it, or why it could not be read. */
export interface SearchedFile {
  readonly file: string;
  readonly found: KernelFile;
}

/** The images of kernel files; `written` tells where an image was written. */
export function images(
  files: readonly SearchedFile[],
  written: ReadonlyMap<FoundImage, string> = new Map(),
): ImagesResult {
  return {
    files: files.map(({ file, found }) => ({
      file,
      kernels: found.kernels.map((kernel) => kernelRow(kernel, written)),
      problems: found.problems.map(({ message }) => message),
      read: found.read,
      whole: found.whole,
    })),
  };
}

function kernelRow(kernel: FoundKernel, written: ReadonlyMap<FoundImage, string>): KernelRow {
  return {
    ...kernel,
    images: kernel.images.map((found) => {
      const file = written.get(found);
      return {
        identity: identify(found.image),
        offset: found.offset,
        path: found.path,
        ...(file !== undefined && { file }),
      };
    }),
  };
}

/** Digits of a build-id in a file name: as many as nobody makes twice. */
const BUILD_ID_DIGITS = 40;

/**
 * Names of files for images: of the ABI and the build-id, never of anything that an archive says. Images with the same
 * bytes get the same name, others different ones.
 */
export function fileNames(found: readonly FoundImage[]): Map<FoundImage, string> {
  const names = new Map<FoundImage, string>();
  const owners = new Map<string, FoundImage>();
  for (const one of found) {
    const { abi, buildId } = one.image;
    const stem = `${abi}-${buildId?.slice(0, BUILD_ID_DIGITS) ?? `at-${one.offset.toString(16)}`}`;
    for (let count = 1; ; count++) {
      const name = count === 1 ? `${stem}.so` : `${stem}-${count}.so`;
      const owner = owners.get(name);
      if (owner && !sameBytes(owner.image.bytes, one.image.bytes)) continue;
      owners.set(name, owner ?? one);
      names.set(one, name);
      break;
    }
  }
  return names;
}
