import type { Abi } from "../vdso/abi.js";
import type { VdsoImage } from "../vdso/image.js";

/** What kind of file an image is, and which kernel it belongs to. */
export interface Identity {
  readonly abi: Abi;
  readonly class: 32 | 64;
  readonly littleEndian: boolean;
  readonly machine: number;
  readonly soname?: string;
  /** Lower-case hex. */
  readonly buildId?: string;
  /** From the `Linux` note. */
  readonly kernelVersion?: string;
  /** Bytes fetched: all that is mapped, or the file. */
  readonly size: number;
  /** Bytes that the loadable segment says. */
  readonly loadSize: bigint;
  /** Names of the symbol versions that the image defines. */
  readonly versions: readonly string[];
}

/** The identity of an image. */
export function identify(image: VdsoImage): Identity {
  const { header } = image.elf;
  return {
    abi: image.abi,
    class: header.class,
    littleEndian: header.littleEndian,
    machine: header.e_machine,
    ...(image.soname !== undefined && { soname: image.soname }),
    ...(image.buildId !== undefined && { buildId: image.buildId }),
    ...(image.kernelVersion && { kernelVersion: image.kernelVersion.text }),
    size: image.bytes.length,
    loadSize: image.loadSize,
    versions: image.elf.versionDefinitions.filter(({ vd_flags }) => (vd_flags & 1) === 0).map(({ name }) => name),
  };
}
