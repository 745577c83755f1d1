import { Writer } from "../../../bytes/writer.js";

/** Codes of classic BPF (include/uapi/linux/bpf_common.h). */
const LOAD_WORD = 0x20;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;

const RET_ERRNO = 0x0005_0000;
const RET_ALLOW = 0x7fff_0000;

/**
 * The first of the error numbers that stand for system calls. The kernel gives none of them: its own end at 133 for
 * programs and at 531 inside, and what a program can tell from an address ends at 4095.
 */
export const FIRST_ERRNO = 3800;

/**
 * A seccomp filter by which each of some system calls fails with an error number of its own, {@link FIRST_ERRNO} and
 * up; all others pass. Gives `struct sock_filter` after `struct sock_filter`, eight bytes each.
 *
 * It does not look at the ABI of a call: it is for a process that makes calls of one alone.
 */
export function errnoFilter(numbers: readonly number[]): Uint8Array {
  const out = new Writer({ littleEndian: true });
  const put = (code: number, onOther: number, operand: number) => out.u16(code).u8(0).u8(onOther).u32(operand);
  // `nr` is the first word of struct seccomp_data.
  put(LOAD_WORD, 0, 0);
  numbers.forEach((number, i) => {
    put(JUMP_IF_EQUAL, 1, number);
    put(RETURN, 0, RET_ERRNO | (FIRST_ERRNO + i));
  });
  put(RETURN, 0, RET_ALLOW);
  return out.finish();
}
