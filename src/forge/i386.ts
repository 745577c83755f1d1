import type { Mechanism } from "../vdso/gate.js";
import type { FunctionCode, FunctionPlan } from "./code.js";
import { type FrameInstructions, I386_REGISTERS } from "./dwarf.js";

const ENTRY = "__kernel_vsyscall";

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

/** The functions of a present-day i386 image whose entry takes a way into the kernel. */
export function i386Functions(mechanism: Mechanism): FunctionPlan[] {
  return [
    kernel(ENTRY, (code) => writeEntry(code, mechanism)),
    ...signalReturns(),
    throughEntry("gettimeofday", 2),
    throughEntry("time", 1),
    throughEntry("clock_gettime", 2),
    throughEntry("clock_gettime64", 2),
    throughEntry("clock_getres", 2),
  ];
}

/** The functions of the image of "What is linux-gate.so.1?". */
export function historicalFunctions(): FunctionPlan[] {
  return [kernel(ENTRY, writeHistoricalEntry), ...signalReturns()];
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
function writeEntry(code: FunctionCode, mechanism: Mechanism): void {
  if (mechanism === "int $0x80") {
    code.op("Int_imm8", 0x80).op("Retnd");
    return;
  }
  code.push("ecx").push("edx").push("ebp");
  // SYSCALL puts the return address into %ecx; the kernel then finds the second argument in %ebp.
  if (mechanism === "syscall") code.op("Mov_rm32_r32", "ebp", "ecx").op("Syscall");
  else code.op("Mov_rm32_r32", "ebp", "esp").op("Sysenter");
  code.op("Int_imm8", 0x80).pop("ebp").pop("edx").pop("ecx").op("Retnd");
}

/** How many bytes of `nop` keep the return address of the historical entry where the kernel expects it. */
const HISTORICAL_NOPS = 7;

function writeHistoricalEntry(code: FunctionCode): void {
  code.push("ecx").push("edx").push("ebp").label("restart").op("Mov_rm32_r32", "ebp", "esp").op("Sysenter");
  for (let i = 0; i < HISTORICAL_NOPS; i++) code.op("Nopd");
  code.branch("jmp", "restart").pop("ebp").pop("edx").pop("ecx").op("Retnd");
}

function signalReturns(): FunctionPlan[] {
  return [
    {
      ...kernel("__kernel_sigreturn", (code) => {
        code.unwind((frame) => interrupted(frame, CONTEXT_AT.sigreturn));
        code.op("Pop_r32", "eax").unwind((frame) => interrupted(frame, CONTEXT_AT.sigreturn - 4));
        code.op("Mov_r32_imm32", "eax", NUMBERS.sigreturn).op("Int_imm8", 0x80);
      }),
      signal: true,
    },
    {
      ...kernel("__kernel_rt_sigreturn", (code) => {
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
