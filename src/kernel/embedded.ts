import { FormatError } from "../bytes/error.js";
import * as C from "../elf/constants.js";
import { RECORD_SIZE, readHeader } from "../elf/header.js";
import { abiOf } from "../vdso/abi.js";
import { isVdso, parseImage, type VdsoImage } from "../vdso/image.js";
import { copied } from "./pull.js";

/** No vDSO image is larger; the largest seen, of ppc64le, has 28 KiB, and debugging information adds some hundred. */
const MAX_IMAGE = 1024 * 1024;

/** Images are padded to pages when they are put into a kernel; to 4 KiB at least. */
export const PAGE = 4096;

/** Bytes of the larger ELF header. */
export const ELF_HEADER_SIZE = RECORD_SIZE[64].header;

/** What an ELF header says of a file that may be a vDSO image. */
export interface Candidate {
  /** The bytes that its headers span. */
  readonly size: number;
  /** The same, rounded up to a page. */
  readonly paddedSize: number;
  /** There are no section headers: the size is the most that it may be. */
  readonly open: boolean;
}

/** Whether an ELF header may be that of a vDSO image, and where the file ends: with its section headers. */
export function candidate(bytes: Uint8Array): Candidate | undefined {
  const header = attempt(() => readHeader(bytes).header);
  if (!header || header.e_type !== C.ET_DYN || header.e_phnum === 0 || abiOf(header) === undefined) return undefined;
  const records = RECORD_SIZE[header.class];
  const size = header.e_shoff > 0 ? header.e_shoff + header.e_shnum * records.section : MAX_IMAGE;
  if (size < records.header || size > MAX_IMAGE) return undefined;
  return { size, paddedSize: Math.ceil(size / PAGE) * PAGE, open: header.e_shoff === 0 };
}

/**
 * The image that these bytes are; `undefined` for another file. One without section headers ends with its last
 * segment.
 */
export function embeddedImage(bytes: Uint8Array): VdsoImage | undefined {
  return attempt(() => {
    const { elf } = parseImage(bytes, { mapped: true });
    if (!isVdso(elf)) return undefined;
    if (elf.header.e_shoff > 0) return parseImage(copied(bytes), { mapped: true });
    const ends = elf.segments.filter(({ p_type }) => p_type === C.PT_LOAD).map((load) => load.p_offset + load.p_filesz);
    const size = Math.ceil(Math.max(0, ...ends) / PAGE) * PAGE;
    return parseImage(copied(bytes.subarray(0, size)), { mapped: true });
  });
}

/** What most bytes that look like the start of an ELF file lead to is an error: they are none. */
function attempt<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}
