import type { Mechanism } from "../vdso/gate.js";
import type { FunctionCode, FunctionPlan } from "./code.js";
import { type FrameInstructions, I386_REGISTERS } from "./dwarf.js";
import { ForgeError } from "./error.js";

const ENTRY = "__kernel_vsyscall";

/** The functions to which signal handlers return. */
export const SIGNAL_RETURNS = { sigreturn: "__kernel_sigreturn", rt_sigreturn: "__kernel_rt_sigreturn" } as const;

/** Numbers of the system calls that are made. Source: arch/x86/entry/syscalls/syscall_32.tbl. */
const NUMBERS = {
  time: 13,
  gettimeofday: 78,
  sigreturn: 119,
  rt_sigreturn: 173,
  clock_gettime: 265,
  clock_getres: 266,
  clock_gettime64: 403,
} as const;

/**
 * Offsets of the registers in what the kernel saves of interrupted code. Source: `struct sigcontext_32`, which is also
 * `uc_mcontext` (arch/x86/include/uapi/asm/sigcontext.h).
 */
const SIGCONTEXT = { edi: 16, esi: 20, ebp: 24, esp: 28, ebx: 32, edx: 36, ecx: 40, eax: 44, eip: 56 } as const;

/**
 * Where the saved registers lie from the stack pointer on when a handler has returned: behind the signal's number, or
 * behind that, two pointers, the siginfo of 128 bytes, and flags, link and stack of the ucontext (arch/x86/include/
 * asm/sigframe.h).
 */
const CONTEXT_AT = { sigreturn: 4, rt_sigreturn: 160 } as const;

/** How the entry of an image is made. */
export interface EntryPlan {
  /** `historical`: as in the image of "What is linux-gate.so.1?". */
  readonly way: Mechanism | "historical";
  /** Whether there is to be a landing pad, as the kernel's images have it, whatever the way in. */
  readonly pad: boolean;
  readonly counters?: CounterPlan;
}

/** Where calls are counted by their numbers. */
export interface CounterPlan {
  /** Address of the first counter: 64 bits each, little-endian. */
  readonly table: bigint;
  /** How many numbers have a counter of their own; one more counter behind these is for all other numbers. */
  readonly length: number;
}

/** The entry, and the returns from signals. */
export function gateFunctions(entry: EntryPlan): FunctionPlan[] {
  const { counters } = entry;
  if (counters) checkCounters(counters);
  return [
    kernel(ENTRY, (code) => {
      if (counters) writeCount(code, counters);
      if (entry.way === "historical") writeHistoricalEntry(code);
      else writeEntry(code, entry.way, entry.pad);
    }),
    ...signalReturns(),
  ];
}

/** The label of the entry's landing pad. */
export const LANDING = "landing";

/** The functions of time, each of which makes the system call of its name. */
export function callFunctions(): FunctionPlan[] {
  return [
    throughEntry("gettimeofday", 2),
    throughEntry("time", 1),
    throughEntry("clock_gettime", 2),
    throughEntry("clock_gettime64", 2),
    throughEntry("clock_getres", 2),
  ];
}

/** Bytes to which the functions of the historical image are aligned. */
export const HISTORICAL_ALIGNMENT = 32;

function kernel(name: string, write: (code: FunctionCode) => void): FunctionPlan {
  return { name, aliases: [], version: "LINUX_2.5", signal: false, write };
}

/**
 * The fast instructions lose the place that they were called from, so the kernel returns to the landing pad of its own
 * image, which takes back %ebp, %edx and %ecx: an entry of any image must have pushed these, in this order. Behind the
 * instruction stands what an interrupted system call is started again with: the kernel goes back two bytes from there.
 */
function writeEntry(code: FunctionCode, mechanism: Mechanism, pad: boolean): void {
  if (mechanism === "int $0x80" && !pad) {
    code.op("Int_imm8", 0x80).op("Retnd");
    return;
  }
  code.push("ecx").push("edx").push("ebp");
  // SYSCALL puts the return address into %ecx; the kernel then finds the second argument in %ebp.
  if (mechanism === "syscall") code.op("Mov_rm32_r32", "ebp", "ecx").op("Syscall");
  else if (mechanism === "sysenter") code.op("Mov_rm32_r32", "ebp", "esp").op("Sysenter");
  code.op("Int_imm8", 0x80);
  writeLanding(code);
}

function writeLanding(code: FunctionCode): void {
  code.label(code.local(LANDING)).pop("ebp").pop("edx").pop("ecx").op("Retnd");
}

/** How many bytes of `nop` keep the return address of the historical entry where the kernel expects it. */
const HISTORICAL_NOPS = 7;

/** A present-day kernel, which goes back two bytes from the landing pad too, finds the jump there: it leads back. */
function writeHistoricalEntry(code: FunctionCode): void {
  const restart = code.local("restart");
  code.push("ecx").push("edx").push("ebp").label(restart).op("Mov_rm32_r32", "ebp", "esp").op("Sysenter");
  for (let i = 0; i < HISTORICAL_NOPS; i++) code.op("Nopd");
  writeLanding(code.branch("jmp", restart));
}

const COUNTER_SIZE = 8;

/** Throws `ForgeError` on a table that does not lie in 32-bit memory. */
function checkCounters({ table, length }: CounterPlan): void {
  const whole = Number.isSafeInteger(length) && length >= 0;
  if (!whole || table < 0n || table + BigInt(COUNTER_SIZE * (length + 1)) > 1n << 32n) {
    throw new ForgeError(`${length} counters at 0x${table.toString(16)} do not lie in 32-bit memory`);
  }
}

/** Adds 1 to a counter; nothing but the flags changes. A restarted call does not come by here again. */
function writeCount(code: FunctionCode, { table, length }: CounterPlan): void {
  const [beyond, counted] = [code.local("beyond"), code.local("counted")];
  const add = (counter: Counter): void => {
    code.lock().op("Add_rm32_imm8", counter, 1).branch("jae", counted);
    code.lock().op("Add_rm32_imm8", { ...counter, displacement: counter.displacement + 4n }, 1);
  };
  code.op(length < 0x80 ? "Cmp_rm32_imm8" : "Cmp_rm32_imm32", "eax", length).branch("jae", beyond);
  add({ index: "eax", scale: COUNTER_SIZE, displacement: table });
  code.branch("jmp", counted).label(beyond);
  add({ displacement: table + BigInt(COUNTER_SIZE * length) });
  code.label(counted);
}

/** Memory in which a counter is; the displacement is that of its lower half. */
interface Counter {
  readonly index?: "eax";
  readonly scale?: typeof COUNTER_SIZE;
  readonly displacement: bigint;
}

function signalReturns(): FunctionPlan[] {
  return [
    {
      ...kernel(SIGNAL_RETURNS.sigreturn, (code) => {
        code.unwind((frame) => interrupted(frame, CONTEXT_AT.sigreturn));
        code.op("Pop_r32", "eax").unwind((frame) => interrupted(frame, CONTEXT_AT.sigreturn - 4));
        code.op("Mov_r32_imm32", "eax", NUMBERS.sigreturn).op("Int_imm8", 0x80);
      }),
      signal: true,
    },
    {
      ...kernel(SIGNAL_RETURNS.rt_sigreturn, (code) => {
        code.unwind((frame) => interrupted(frame, CONTEXT_AT.rt_sigreturn));
        code.op("Mov_r32_imm32", "eax", NUMBERS.rt_sigreturn).op("Int_imm8", 0x80);
      }),
      signal: true,
    },
  ];
}

/** The frame of interrupted code: all registers are where the kernel saved them, the stack pointer too. */
function interrupted(frame: FrameInstructions, contextAt: number): void {
  const { esp } = I386_REGISTERS;
  frame.cfaInMemory(esp, contextAt + SIGCONTEXT.esp);
  for (const register of ["eax", "ecx", "edx", "ebx", "ebp", "esi", "edi", "eip"] as const) {
    frame.savedInMemory(I386_REGISTERS[register], esp, contextAt + SIGCONTEXT[register]);
  }
}

/** A C function of one or two arguments that makes a system call of the same arguments through the entry. */
function throughEntry(name: Exclude<keyof typeof NUMBERS, `${string}sigreturn`>, argumentCount: 1 | 2): FunctionPlan {
  return {
    name: `__vdso_${name}`,
    aliases: [],
    version: "LINUX_2.6",
    signal: false,
    write(code) {
      code.push("ebx").op("Mov_r32_rm32", "ebx", { base: "esp", displacement: 8 });
      if (argumentCount === 2) code.op("Mov_r32_rm32", "ecx", { base: "esp", displacement: 12 });
      code.op("Mov_r32_imm32", "eax", NUMBERS[name]).branch("call", ENTRY).pop("ebx").op("Retnd");
    },
  };
}
