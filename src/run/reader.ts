import { readFileSync } from "node:fs";
import { isWide, type Registers, type Tracer } from "./tracer.js";

/** Of Yama: who, other than its tracer and those that started it, may look into a process. */
const PR_SET_PTRACER = 0x5961_6d61n;

/** `syscall; nop…` and `int $0x80; nop…`, a word. */
const NOPS = [0x90, 0x90, 0x90, 0x90, 0x90, 0x90];
const GATES = { wide: [0x0f, 0x05, ...NOPS], narrow: [0xcd, 0x80, ...NOPS] } as const;

/** Whether Yama is in force, which lets no process look into one whose parents, back to that process, have ended. */
export function isGuarded(): boolean {
  try {
    return readFileSync("/proc/sys/kernel/yama/ptrace_scope", "latin1").trim() !== "0";
  } catch {
    return false;
  }
}

/** Lets a process read and write the memory of a program that was just executed, until its process ends. */
export async function allowReader(tracer: Tracer, reader: number): Promise<void> {
  await tracer.leaveExec();
  await setReader(tracer, reader);
}

/** As {@link allowReader}, while `use` runs. */
export async function withReader<T>(tracer: Tracer, reader: number, use: () => Promise<T>): Promise<T> {
  await allowReader(tracer, reader);
  try {
    return await use();
  } finally {
    await setReader(tracer, 0);
  }
}

/** Where nothing can be read yet, the program has an instruction that enters the kernel put where it is to begin. */
async function setReader(tracer: Tracer, reader: number): Promise<void> {
  const registers = await tracer.registers();
  const wide = isWide(registers);
  const gate = registers.rip & ~7n;
  const there = await tracer.peek(gate);
  await tracer.write(gate, Uint8Array.from(wide ? GATES.wide : GATES.narrow));
  try {
    const args: Partial<Registers> = wide
      ? { rax: 157n, rdi: PR_SET_PTRACER, rsi: BigInt(reader) }
      : { rax: 172n, rbx: PR_SET_PTRACER, rcx: BigInt(reader) };
    await tracer.enterKernel(gate, { ...registers, ...args });
    tracer.setRegisters(registers);
  } finally {
    await tracer.write(gate, there);
  }
}
