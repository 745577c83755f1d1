import { readFileSync } from "node:fs";
import { EINTR } from "./errno.js";
import type { Registers, TracingAgent } from "./tracer.js";

/** The selector of the code segment of 64-bit programs (arch/x86/include/asm/segment.h). */
const USER_CS_64 = 0x33n;

/** Size of `syscall`, of `int $0x80`, and of what stands for them before the place where fast calls of i386 return. */
const ENTRY_SIZE = 2n;

/** How a wait says that it has no limit, by the register that has its time. */
interface Unlimited {
  readonly register: "rdx" | "rsi" | "r10" | "r8" | "rdi";
  /** As a number of 32 bits, or as a pointer that is null. */
  readonly value: -1n | 0n;
}

/** System calls that the kernel breaks off (EINTR) when their thread is stopped, and does not take up again; signal(7). */
const WAITS: Readonly<Record<"wide" | "narrow", Readonly<Record<number, Unlimited | "always">>>> = {
  wide: {
    // semop, semtimedop; rt_sigtimedwait; io_getevents; epoll_wait, epoll_pwait, epoll_pwait2.
    65: "always",
    220: { register: "r10", value: 0n },
    128: { register: "rdx", value: 0n },
    208: { register: "r8", value: 0n },
    232: { register: "r10", value: -1n },
    281: { register: "r10", value: -1n },
    441: { register: "r10", value: 0n },
  },
  narrow: {
    // rt_sigtimedwait, epoll_wait, epoll_pwait; its third and fourth arguments are in %edx and %esi.
    177: { register: "rdx", value: 0n },
    256: { register: "rsi", value: -1n },
    319: { register: "rsi", value: -1n },
  },
};

/**
 * Has a thread that was stopped, and stands still, take up again the wait that this broke off, where it is one without a
 * limit. One that has a limit ends early (EINTR): how much of its time is left is not known.
 */
export async function takeUpWait(tracing: TracingAgent, thread: number): Promise<void> {
  const registers = await tracing.registers(thread);
  if (!isBrokenWait(registers) || hasSignal(thread)) return;
  const { rip, orig_rax } = registers;
  await tracing.setRegisters(thread, { ...registers, rip: rip - ENTRY_SIZE, rax: orig_rax });
}

function isBrokenWait(registers: Registers): boolean {
  if (BigInt.asIntN(32, registers.rax) !== BigInt(-EINTR)) return false;
  const calls = registers.cs === USER_CS_64 ? WAITS.wide : WAITS.narrow;
  const unlimited = calls[Number(BigInt.asIntN(32, registers.orig_rax))];
  if (unlimited === undefined || unlimited === "always") return unlimited === "always";
  const { register, value } = unlimited;
  return value === 0n ? registers[register] === 0n : BigInt.asIntN(32, registers[register]) === value;
}

/** Whether a signal has come to a thread that it does not keep back: that ends a wait by right. */
function hasSignal(thread: number): boolean {
  let status: string;
  try {
    status = readFileSync(`/proc/${thread}/status`, "latin1");
  } catch {
    return true;
  }
  const mask = (field: string): bigint =>
    BigInt(`0x${new RegExp(`^${field}:\\s+([0-9a-f]+)$`, "m").exec(status)?.[1] ?? 0}`);
  return ((mask("SigPnd") | mask("ShdPnd")) & ~mask("SigBlk")) !== 0n;
}
