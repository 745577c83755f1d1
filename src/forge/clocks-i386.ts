import { BIAS_SECONDS, type ClockAction, type ClockGroup, type ClockPlan, kernelAddress, SECOND } from "./clock.js";
import { changedFunctions, dispatchClock, MICROSECOND_FACTOR, MICROSECOND_SHIFT } from "./clock-code.js";
import type { FunctionCode, FunctionPlan } from "./code.js";
import type { I386Register } from "./dwarf.js";

/** Nanoseconds of a second, as an operand. */
const BILLION = Number(SECOND);

/** Where a function has the timespec of 64-bit seconds that the kernel fills. */
interface At {
  readonly base: "ebx" | "esp";
  readonly displacement: number;
}

/** How the kernel's clock is read. */
interface Reads {
  readonly address: bigint;
  /** Whether it tells 64-bit seconds: not before Linux 5.3. */
  readonly wide: boolean;
}

/** The functions of an i386 image that changes clocks: all that the kernel's image has but the entry and the returns. */
export function changedFunctions32(plan: ClockPlan): FunctionPlan[] {
  const reads = readsBy(plan.kernel);
  return changedFunctions(plan, {
    clockGettime: (code, kernel, groups) => writeClockGettime(code, kernel, groups, reads()),
    clockGettime64: (code, kernel, groups) => writeClockGettime(code, kernel, groups, undefined),
    gettimeofday: (code, kernel, action) => writeGettimeofday(code, kernel, reads(), action),
    time: (code, clock, action) => writeTime(code, reads(), clock, action),
  });
}

function readsBy(kernel: ReadonlyMap<string, bigint>): () => Reads {
  const address = kernel.get("__vdso_clock_gettime64");
  if (address !== undefined) return () => ({ address, wide: true });
  return () => ({ address: kernelAddress(kernel, "__vdso_clock_gettime64", "__vdso_clock_gettime"), wide: false });
}

/** Bytes below the saved registers: two arguments of a call, a timespec, and what keeps calls at a multiple of 16. */
const ROOM = { 1: 24, 4: 28 } as const;

/** Where the timespec lies in there. */
const LOCAL: At = { base: "esp", displacement: 8 };

/** A function's frame: saved registers and room. */
class Frame {
  readonly #code: FunctionCode;
  readonly #saved: readonly I386Register[];
  readonly #room: number;

  /** Saves the registers that an action needs, and makes the room. */
  constructor(code: FunctionCode, action: ClockAction) {
    this.#code = code;
    this.#saved = action.kind === "rate" ? ["ebx", "esi", "edi", "ebp"] : ["ebx"];
    this.#room = action.kind === "rate" ? ROOM[4] : ROOM[1];
    for (const register of this.#saved) code.push(register);
    code.reserve(this.#room);
  }

  /** An argument of the function. */
  argument(index: 0 | 1): At {
    return { base: "esp", displacement: this.#room + (this.#saved.length + 1 + index) * 4 };
  }

  /** Takes the registers back, and returns. */
  leave(): void {
    this.#code.release(this.#room);
    for (const register of [...this.#saved].reverse()) this.#code.pop(register);
    this.#code.op("Retnd");
  }
}

/** `int clock_gettime(clockid_t, struct timespec *)`: of 64-bit seconds unless it `reads` by another function. */
function writeClockGettime(
  code: FunctionCode,
  kernel: bigint,
  groups: readonly ClockGroup[],
  reads: Reads | undefined,
): void {
  code.op("Mov_r32_rm32", "eax", { base: "esp", displacement: 4 });
  dispatchClock(code, "eax", { kernel, groups }, (action, i) => {
    if (action.kind === "freeze") {
      writeFrozen(code, action);
      // As in a frame, which this needs none of, the register for the address is the function's own to save.
      code.push("ebx").op("Mov_r32_rm32", "ebx", { base: "esp", displacement: 12 });
      writeTimespec(code, reads === undefined);
      code.op("Xor_r32_rm32", "eax", "eax").pop("ebx").op("Retnd");
      return;
    }
    const failed = code.local(`failed ${i}`);
    const frame = new Frame(code, action);
    code.op("Mov_rm32_r32", { base: "esp" }, "eax");
    if (reads === undefined) {
      code.op("Mov_r32_rm32", "ebx", frame.argument(1)).op("Mov_rm32_r32", { base: "esp", displacement: 4 }, "ebx");
      code.callTo(kernel).op("Test_rm32_r32", "eax", "eax").branch("jne", failed);
      writeChange(code, action, { base: "ebx", displacement: 0 }, `${i}`);
    } else {
      writeCall(code, reads, failed);
      writeChange(code, action, LOCAL, `${i}`);
    }
    code.op("Mov_r32_rm32", "ebx", frame.argument(1));
    writeTimespec(code, reads === undefined);
    code.op("Xor_r32_rm32", "eax", "eax").label(failed);
    frame.leave();
  });
}

/** Writes %ecx:%eax seconds and %edx nanoseconds to where %ebx points. */
function writeTimespec(code: FunctionCode, wide: boolean): void {
  code.op("Mov_rm32_r32", { base: "ebx" }, "eax");
  if (!wide) {
    code.op("Mov_rm32_r32", { base: "ebx", displacement: 4 }, "edx");
    return;
  }
  code
    .op("Mov_rm32_r32", { base: "ebx", displacement: 4 }, "ecx")
    .op("Mov_rm32_r32", { base: "ebx", displacement: 8 }, "edx")
    .op("Mov_rm32_imm32", { base: "ebx", displacement: 12 }, 0);
}

/** `int gettimeofday(struct timeval *, struct timezone *)`, either of which may be absent. */
function writeGettimeofday(code: FunctionCode, kernel: bigint, reads: Reads, action: ClockAction): void {
  const [noZone, noTime, end] = [code.local("no zone"), code.local("no time"), code.local("end")];
  const frame = new Frame(code, action);
  code.op("Mov_r32_rm32", "eax", frame.argument(1)).op("Test_rm32_r32", "eax", "eax").branch("je", noZone);
  code
    .op("Mov_rm32_imm32", { base: "esp" }, 0)
    .op("Mov_rm32_r32", { base: "esp", displacement: 4 }, "eax")
    .callTo(kernel)
    .op("Test_rm32_r32", "eax", "eax")
    .branch("jne", end);
  code.label(noZone).op("Cmp_rm32_imm8", frame.argument(0), 0).branch("je", noTime);
  writeReading(code, reads, 0, action, end);
  code
    .op("Mov_r32_rm32", "ebx", frame.argument(0))
    .op("Mov_rm32_r32", { base: "ebx" }, "eax")
    .op("Mov_r32_imm32", "eax", MICROSECOND_FACTOR)
    .op("Mul_rm32", "edx")
    .op("Shr_rm32_imm8", "edx", MICROSECOND_SHIFT - 32)
    .op("Mov_rm32_r32", { base: "ebx", displacement: 4 }, "edx");
  code.label(noTime).op("Xor_r32_rm32", "eax", "eax").label(end);
  frame.leave();
}

/** `time_t time(time_t *)`, whose argument may be absent. */
function writeTime(code: FunctionCode, reads: Reads, clock: number, action: ClockAction): void {
  const end = code.local("end");
  const frame = new Frame(code, action);
  writeReading(code, reads, clock, action, end);
  code.op("Mov_r32_rm32", "ebx", frame.argument(0)).op("Test_rm32_r32", "ebx", "ebx").branch("je", end);
  code.op("Mov_rm32_r32", { base: "ebx" }, "eax").label(end);
  frame.leave();
}

/** What a clock shows: seconds in %ecx:%eax, nanoseconds in %edx; or a jump with the kernel's error in %eax. */
function writeReading(code: FunctionCode, reads: Reads, clock: number, action: ClockAction, failed: string): void {
  if (action.kind === "freeze") {
    writeFrozen(code, action);
    return;
  }
  code.op("Mov_rm32_imm32", { base: "esp" }, clock);
  writeCall(code, reads, failed);
  writeChange(code, action, LOCAL, "");
}

/** Reads the clock whose number is the call's first argument already into the timespec in the frame. */
function writeCall(code: FunctionCode, { address, wide }: Reads, failed: string): void {
  code.op("Lea_r32_m", "eax", LOCAL).op("Mov_rm32_r32", { base: "esp", displacement: 4 }, "eax");
  code.callTo(address).op("Test_rm32_r32", "eax", "eax").branch("jne", failed);
  if (wide) return;
  code
    .op("Mov_r32_rm32", "eax", field(LOCAL, 4))
    .op("Mov_rm32_r32", field(LOCAL, 8), "eax")
    .op("Mov_r32_rm32", "eax", LOCAL)
    .op("Cdq")
    .op("Mov_rm32_r32", field(LOCAL, 4), "edx");
}

function field({ base, displacement }: At, offset: number): At {
  return { base, displacement: displacement + offset };
}

function writeFrozen(code: FunctionCode, { seconds, nanoseconds }: ClockAction & { kind: "freeze" }): void {
  const [low, high] = words(seconds, 2) as [number, number];
  code.op("Mov_r32_imm32", "eax", low).op("Mov_r32_imm32", "ecx", high).op("Mov_r32_imm32", "edx", nanoseconds);
}

/** From the timespec `at` to seconds in %ecx:%eax and nanoseconds in %edx. */
function writeChange(
  code: FunctionCode,
  action: Exclude<ClockAction, { kind: "freeze" }>,
  at: At,
  suffix: string,
): void {
  if (action.kind === "shift") writeShift(code, action, at, code.local(`shifted ${suffix}`));
  else writeRate(code, action, at);
}

function writeShift(
  code: FunctionCode,
  { seconds, nanoseconds }: ClockAction & { kind: "shift" },
  at: At,
  done: string,
): void {
  const [low, high] = words(seconds, 2) as [number, number];
  code
    .op("Mov_r32_rm32", "eax", at)
    .op("Mov_r32_rm32", "ecx", field(at, 4))
    .op("Mov_r32_rm32", "edx", field(at, 8))
    .op("Add_rm32_imm32", "eax", low)
    .op("Adc_rm32_imm32", "ecx", high)
    .op("Add_rm32_imm32", "edx", nanoseconds)
    .op("Cmp_rm32_imm32", "edx", BILLION)
    .branch("jl", done)
    .op("Sub_rm32_imm32", "edx", BILLION)
    .op("Add_rm32_imm8", "eax", 1)
    .op("Adc_rm32_imm8", "ecx", 0)
    .label(done);
}

/**
 * The reading of 64 bits times the rate plus the offset, in 128 bits; all but the lowest 32 of them divided by 10^9,
 * word by word. Two biases keep all of it free of signs: 2^63 on the reading, and on the result as many seconds as make
 * it positive.
 */
function writeRate(code: FunctionCode, { rate, offset }: ClockAction & { kind: "rate" }, at: At): void {
  const [rateLow, rateHigh] = words(rate, 2) as [number, number];
  const constant = words(offset + ((BIAS_SECONDS * SECOND) << 32n) - (rate << 63n), 4) as Four;
  const [biasLow, biasHigh] = words(BIAS_SECONDS, 2) as [number, number];
  // The reading: nanoseconds in %esi:%ebx.
  code
    .op("Mov_r32_imm32", "eax", BILLION)
    .op("Mul_rm32", at)
    .op("Imul_r32_rm32_imm32", "ecx", field(at, 4), BILLION)
    .op("Add_r32_rm32", "edx", "ecx")
    .op("Add_r32_rm32", "eax", field(at, 8))
    .op("Adc_rm32_imm32", "edx", 0x8000_0000)
    .op("Mov_r32_rm32", "ebx", "eax")
    .op("Mov_r32_rm32", "esi", "edx");
  // The sum: %ebp:%edi:%ecx, and a lowest word of which only the carry matters.
  code
    .op("Mov_r32_imm32", "eax", rateLow)
    .op("Mul_rm32", "ebx")
    .op("Mov_r32_imm32", "edi", constant[2])
    .op("Mov_r32_imm32", "ebp", constant[3])
    .op("Mov_r32_rm32", "ecx", "edx")
    .op("Add_rm32_imm32", "eax", constant[0])
    .op("Adc_rm32_imm32", "ecx", constant[1])
    .op("Adc_rm32_imm8", "edi", 0)
    .op("Adc_rm32_imm8", "ebp", 0);
  writeProduct(code, rateLow, "esi");
  if (rateHigh !== 0) {
    writeProduct(code, rateHigh, "ebx");
    code.op("Mov_r32_imm32", "eax", rateHigh).op("Mul_rm32", "esi");
    code.op("Add_r32_rm32", "edi", "eax").op("Adc_r32_rm32", "ebp", "edx");
  }
  // The highest word is less than 10^9: the first of three quotients would be zero.
  code
    .op("Mov_r32_imm32", "ebx", BILLION)
    .op("Mov_r32_rm32", "edx", "ebp")
    .op("Mov_r32_rm32", "eax", "edi")
    .op("Div_rm32", "ebx")
    .op("Mov_r32_rm32", "edi", "eax")
    .op("Mov_r32_rm32", "eax", "ecx")
    .op("Div_rm32", "ebx")
    .op("Mov_r32_rm32", "ecx", "edi")
    .op("Sub_rm32_imm32", "eax", biasLow)
    .op("Sbb_rm32_imm32", "ecx", biasHigh);
}

/** Adds a word of the rate times a word of the reading to the sum, one word up from the lowest. */
function writeProduct(code: FunctionCode, factor: number, register: I386Register): void {
  code.op("Mov_r32_imm32", "eax", factor).op("Mul_rm32", register);
  code.op("Add_r32_rm32", "ecx", "eax").op("Adc_r32_rm32", "edi", "edx").op("Adc_rm32_imm8", "ebp", 0);
}

type Four = [number, number, number, number];

/** The lowest words of a number, lowest first. */
function words(value: bigint, count: number): number[] {
  return Array.from({ length: count }, (_, i) => Number(BigInt.asUintN(32, value >> BigInt(32 * i))));
}
