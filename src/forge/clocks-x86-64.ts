import { BIAS_SECONDS, type ClockAction, type ClockGroup, type ClockPlan, kernelAddress, SECOND } from "./clock.js";
import { changedFunctions, dispatchClock, MICROSECOND_FACTOR, MICROSECOND_SHIFT } from "./clock-code.js";
import type { FunctionCode, FunctionPlan } from "./code.js";

/** Nanoseconds of a second, as an operand. */
const BILLION = Number(SECOND);

/**
 * A 64-bit number divided by 10^9 without a division: without its last nine bits (10^9 is 2^9 * 1953125) it is
 * multiplied by 2^75 / 1953125, rounded up, and loses 75 bits.
 */
const BY_SECOND = (1n << 75n) / (SECOND >> 9n) + 1n;

/** Where a function has put the kernel's timespec. */
type At = "rbx" | "rsp";

/** The functions of an x86-64 image that changes clocks: all that the kernel's image has. */
export function changedFunctions64(plan: ClockPlan): FunctionPlan[] {
  const reads = (): bigint => kernelAddress(plan.kernel, "__vdso_clock_gettime", "clock_gettime");
  return changedFunctions(plan, {
    clockGettime: writeClockGettime,
    gettimeofday: (code, kernel, action) => writeGettimeofday(code, kernel, reads(), action),
    time: (code, clock, action) => writeTime(code, reads(), clock, action),
  });
}

/** `int clock_gettime(clockid_t, struct timespec *)` */
function writeClockGettime(code: FunctionCode, kernel: bigint, groups: readonly ClockGroup[]): void {
  dispatchClock(code, "edi", { kernel, groups }, (action, i) => {
    if (action.kind === "freeze") {
      writeFrozen(code, action);
      code
        .op("Mov_rm64_r64", { base: "rsi" }, "rdx")
        .op("Mov_rm64_r64", { base: "rsi", displacement: 8 }, "rcx")
        .op("Xor_r32_rm32", "eax", "eax")
        .op("Retnq");
      return;
    }
    const failed = code.local(`failed ${i}`);
    code.push("rbx").op("Mov_r64_rm64", "rbx", "rsi").callTo(kernel);
    code.op("Test_rm32_r32", "eax", "eax").branch("jne", failed);
    writeChange(code, action, "rbx", `${i}`);
    code
      .op("Mov_rm64_r64", { base: "rbx" }, "rdx")
      .op("Mov_rm64_r64", { base: "rbx", displacement: 8 }, "rcx")
      .op("Xor_r32_rm32", "eax", "eax")
      .label(failed)
      .pop("rbx")
      .op("Retnq");
  });
}

/** `int gettimeofday(struct timeval *, struct timezone *)`, either of which may be absent. */
function writeGettimeofday(code: FunctionCode, kernel: bigint, reads: bigint, action: ClockAction): void {
  const [noZone, noTime, end] = [code.local("no zone"), code.local("no time"), code.local("end")];
  code.push("rbx").reserve(16).op("Mov_r64_rm64", "rbx", "rdi");
  code.op("Test_rm64_r64", "rsi", "rsi").branch("je", noZone);
  code.op("Xor_r32_rm32", "edi", "edi").callTo(kernel).op("Test_rm32_r32", "eax", "eax").branch("jne", end);
  code.label(noZone).op("Test_rm64_r64", "rbx", "rbx").branch("je", noTime);
  writeReading(code, reads, 0, action, end);
  code
    .op("Imul_r64_rm64_imm32", "rcx", "rcx", MICROSECOND_FACTOR)
    .op("Shr_rm64_imm8", "rcx", MICROSECOND_SHIFT)
    .op("Mov_rm64_r64", { base: "rbx" }, "rdx")
    .op("Mov_rm64_r64", { base: "rbx", displacement: 8 }, "rcx");
  code.label(noTime).op("Xor_r32_rm32", "eax", "eax").label(end).release(16).pop("rbx").op("Retnq");
}

/** `time_t time(time_t *)`, whose argument may be absent. */
function writeTime(code: FunctionCode, reads: bigint, clock: number, action: ClockAction): void {
  const [failed, end] = [code.local("failed"), code.local("end")];
  code.push("rbx").reserve(16).op("Mov_r64_rm64", "rbx", "rdi");
  writeReading(code, reads, clock, action, failed);
  code.op("Mov_r64_rm64", "rax", "rdx").op("Test_rm64_r64", "rbx", "rbx").branch("je", end);
  code.op("Mov_rm64_r64", { base: "rbx" }, "rdx").branch("jmp", end);
  code.label(failed).op("Cdqe").label(end).release(16).pop("rbx").op("Retnq");
}

/** What a clock shows: seconds in %rdx, nanoseconds in %rcx; or a jump with the kernel's error in %eax. */
function writeReading(code: FunctionCode, reads: bigint, clock: number, action: ClockAction, failed: string): void {
  if (action.kind === "freeze") {
    writeFrozen(code, action);
    return;
  }
  code.op("Mov_r32_imm32", "edi", clock).op("Mov_r64_rm64", "rsi", "rsp").callTo(reads);
  code.op("Test_rm32_r32", "eax", "eax").branch("jne", failed);
  writeChange(code, action, "rsp", "");
}

function writeFrozen(code: FunctionCode, { seconds, nanoseconds }: ClockAction & { kind: "freeze" }): void {
  code.op("Mov_r64_imm64", "rdx", seconds).op("Mov_r32_imm32", "ecx", nanoseconds);
}

/** From the kernel's timespec `at` to seconds in %rdx and nanoseconds in %rcx. */
function writeChange(
  code: FunctionCode,
  action: Exclude<ClockAction, { kind: "freeze" }>,
  at: At,
  suffix: string,
): void {
  if (action.kind === "shift") writeShift(code, action, at, code.local(`shifted ${suffix}`));
  else writeRate(code, action, at, suffix);
}

function writeShift(code: FunctionCode, action: ClockAction & { kind: "shift" }, at: At, done: string): void {
  code.op("Mov_r64_imm64", "rdx", action.seconds).op("Add_r64_rm64", "rdx", { base: at });
  code.op("Mov_r64_rm64", "rcx", { base: at, displacement: 8 }).op("Add_rm64_imm32", "rcx", action.nanoseconds);
  code.op("Cmp_rm64_imm32", "rcx", BILLION).branch("jl", done);
  code.op("Sub_rm64_imm32", "rcx", BILLION).op("Inc_rm64", "rdx").label(done);
}

function writeRate(code: FunctionCode, { rate, offset }: ClockAction & { kind: "rate" }, at: At, suffix: string): void {
  const [large, done] = [code.local(`large ${suffix}`), code.local(`divided ${suffix}`)];
  code
    .op("Imul_r64_rm64_imm32", "rax", { base: at }, BILLION)
    .op("Add_r64_rm64", "rax", { base: at, displacement: 8 })
    .op("Mov_r64_imm64", "rcx", rate)
    .op("Imul_rm64", "rcx");
  writeAdd128(code, offset);
  code.op("Shrd_rm64_r64_imm8", "rax", "rdx", 32).op("Sar_rm64_imm8", "rdx", 32);
  code.op("Test_rm64_r64", "rdx", "rdx").branch("jne", large);
  code
    .op("Mov_r64_rm64", "rcx", "rax")
    .op("Shr_rm64_imm8", "rax", 9)
    .op("Mov_r64_imm64", "rdx", BY_SECOND)
    .op("Mul_rm64", "rdx")
    .op("Shr_rm64_imm8", "rdx", 11)
    .op("Imul_r64_rm64_imm32", "rax", "rdx", BILLION)
    .op("Sub_r64_rm64", "rcx", "rax")
    .branch("jmp", done);
  // Before 1970, or beyond the year 2554: seldom enough for a true division.
  code.label(large);
  writeAdd128(code, BIAS_SECONDS * SECOND);
  code
    .op("Mov_r32_imm32", "ecx", BILLION)
    .op("Div_rm64", "rcx")
    .op("Mov_r64_rm64", "rcx", "rdx")
    .op("Mov_r64_imm64", "rdx", -BIAS_SECONDS)
    .op("Add_r64_rm64", "rdx", "rax");
  code.label(done);
}

/** Adds to %rdx:%rax. */
function writeAdd128(code: FunctionCode, value: bigint): void {
  code.op("Mov_r64_imm64", "rcx", BigInt.asUintN(64, value)).op("Add_r64_rm64", "rax", "rcx");
  code.op("Mov_r64_imm64", "rcx", BigInt.asIntN(64, value >> 64n)).op("Adc_r64_rm64", "rdx", "rcx");
}
