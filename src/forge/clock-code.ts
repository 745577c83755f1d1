import type { RegisterName } from "../isa/x86/assembler.js";
import type { FunctionCode } from "./code.js";

/** A number of nanoseconds below 2^32, times this and without the lowest {@link MICROSECOND_SHIFT} bits: microseconds. */
export const MICROSECOND_FACTOR = 274_877_907;

/** See {@link MICROSECOND_FACTOR}, which is 2^38 / 1000 rounded up. */
export const MICROSECOND_SHIFT = 38;

/** Compares a register with the number of a clock. */
export function compareClock(code: FunctionCode, register: RegisterName, clock: number): FunctionCode {
  const short = clock >= -0x80 && clock < 0x80;
  return code.op(short ? "Cmp_rm32_imm8" : "Cmp_rm32_imm32", register, clock);
}
