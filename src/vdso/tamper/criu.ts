import { Reader } from "../../bytes/reader.js";
import type { VdsoImage } from "../image.js";

/**
 * What CRIU writes over the start of the running kernel's vDSO in a process that it restored from another kernel: the
 * ELF header is of no use there, for only the jumps in the process's old image lead to it.
 *
 * 8 bytes of signature (`criuvdso`, `criuvDSO`, `CRIUvDSO` in versions 1 to 3), then words of 8 bytes: the address of
 * the process's own image, the version, the address of its data, that of the running kernel's data.
 *
 * Source: criu/include/parasite-vdso.h.
 */
const SIGNATURES = ["criuvdso", "criuvDSO", "CRIUvDSO"];
/** Bytes of the mark. */
export const CRIU_MARK_SIZE = 40;

/** The address of the image that CRIU's mark speaks of; `undefined` where there is no mark. */
export function criuMark(bytes: Uint8Array): bigint | undefined {
  if (bytes.length < CRIU_MARK_SIZE) return undefined;
  const reader = new Reader(bytes, { what: "CRIU's mark" });
  const signature = new TextDecoder("latin1").decode(reader.bytesAt(0, 8));
  return SIGNATURES.includes(signature) ? reader.u64At(8) : undefined;
}

/** Bytes of a jump of CRIU's: `movabs $address,%rax; jmp *%rax; int3; int3; int3; int3`. */
export const CRIU_JUMP_SIZE = 16;

/** The functions that CRIU makes jumps where both images have them: none of them is left as it was. */
const REDIRECTED = ["__vdso_clock_gettime", "__vdso_getcpu", "__vdso_gettimeofday", "__vdso_time"];

/** Whether jumps are all that CRIU makes between an old image and the running kernel's. */
export function isComplete(jumps: readonly CriuJump[], old: VdsoImage, running: VdsoImage): boolean {
  const has = ({ functions }: VdsoImage, name: string) => functions.some((one) => one.name === name);
  return REDIRECTED.every((name) => !has(old, name) || !has(running, name) || jumps.some((jump) => jump.name === name));
}

/** A jump that CRIU put at the start of a function. */
export interface CriuJump {
  /** In the image's bytes. */
  readonly offset: number;
  readonly name: string;
  readonly leadsTo: bigint;
}

/**
 * The functions of a 64-bit image that CRIU made jumps.
 *
 * Source: criu/arch/x86/vdso-pie.c.
 */
export function criuJumps(image: VdsoImage): CriuJump[] {
  if (image.abi !== "x86_64") return [];
  const reader = new Reader(image.bytes, { what: "vDSO image" });
  return image.functions.flatMap(({ address, name }) => {
    const offset = Number(address - image.linkBase);
    if (!(offset >= 0 && offset + CRIU_JUMP_SIZE <= reader.length)) return [];
    const isJump =
      reader.u16At(offset) === 0xb848 &&
      reader.u16At(offset + 10) === 0xe0ff &&
      reader.u32At(offset + 12) === 0xcccccccc;
    return isJump ? [{ offset, name, leadsTo: reader.u64At(offset + 2) }] : [];
  });
}
