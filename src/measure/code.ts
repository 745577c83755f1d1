import type { AgentAbi } from "../agent/protocol.js";
import { Assembler, type IcedModule, type Memory, type RegisterName } from "../isa/x86/assembler.js";
import { CLOCK_MONOTONIC_RAW, JOB, JOB_SIZE, type MeasuringCode, PROGRAM, type RoutineName } from "./layout.js";

const NS_PER_SECOND = 1_000_000_000;

/** Where loops begin, so that no line of the cache or of decoded instructions divides one by chance. */
const ALIGNMENT = 64;

const ROUTINES: readonly RoutineName[] = [
  "run",
  "int80",
  "syscall",
  "sysenter",
  "emptyReturn",
  "emptyJump",
  "cpuid",
  "rdtsc",
  "readTsc",
  "readKernelClock",
  "readKernelClock64",
];

const at = (base: RegisterName, displacement: number): Memory => ({ base, displacement });

/**
 * Assembles the measuring code of an ABI, which runs at any address and keeps its calling convention; see `layout.ts`
 * for what it does.
 *
 * All that is measured is called in the same way from the same loop. What enters the kernel comes back by `pop` and
 * `jmp`: the kernel's own calls have taken the places where the processor remembers return addresses, so that a `ret`
 * right after `syscall` is often foretold wrongly, which costs more than the entry of the kernel that it would be
 * counted to.
 */
export function measuringCode(iced: IcedModule, abi: AgentAbi): MeasuringCode {
  const assembler = new Assembler(iced, abi === "x86_64" ? 64 : 32);
  const { bytes, labels } = (abi === "x86_64" ? codeX86_64(assembler) : codeI386(assembler)).assemble(0n);
  const routines: Partial<Record<RoutineName, number>> = {};
  for (const name of ROUTINES) {
    const address = labels.get(name);
    if (address !== undefined) routines[name] = Number(address);
  }
  return { bytes, routines };
}

/**
 * rbx the job, ebp jobs left, r12 calls left, r13 the program, r14 where the next result goes, r15d rounds left: neither
 * functions nor the kernel change them.
 */
function codeX86_64(asm: Assembler): Assembler {
  const saved = ["rbx", "rbp", "r12", "r13", "r14", "r15"] as const;
  asm.label("run");
  for (const register of saved) asm.op("Push_r64", register);
  asm
    .op("Sub_rm64_imm8", "rsp", 8)
    .op("Mov_r64_rm64", "r13", "rdi")
    .op("Mov_r64_rm64", "r14", at("r13", PROGRAM.results))
    .op("Mov_r32_rm32", "r15d", at("r13", PROGRAM.rounds))
    .op("Call_rm64", at("r13", PROGRAM.clock))
    .op("Mov_rm64_r64", at("r13", PROGRAM.start), "rax")
    .op("Call_rm64", at("r13", PROGRAM.kernelClock))
    .op("Mov_rm64_r64", at("r13", PROGRAM.startKernel), "rax");

  asm
    .label("round")
    .op("Mov_r64_rm64", "rbx", at("r13", PROGRAM.jobs))
    .op("Mov_r32_rm32", "ebp", at("r13", PROGRAM.jobCount))
    .label("job")
    .op("Mov_r64_rm64", "r12", at("rbx", JOB.warm))
    .branch("call", "repeat")
    .op("Call_rm64", at("r13", PROGRAM.clock))
    .op("Mov_rm64_r64", at("r14", 0), "rax")
    .op("Mov_r64_rm64", "r12", at("rbx", JOB.count))
    .branch("call", "repeat")
    .op("Call_rm64", at("r13", PROGRAM.clock))
    .op("Sub_r64_rm64", "rax", at("r14", 0))
    .op("Mov_rm64_r64", at("r14", 0), "rax")
    .op("Add_rm64_imm8", "r14", 8)
    .op("Add_rm64_imm8", "rbx", JOB_SIZE)
    .op("Dec_rm32", "ebp")
    .branch("jne", "job")
    .op("Dec_rm32", "r15d")
    .branch("jne", "round");

  asm
    .op("Call_rm64", at("r13", PROGRAM.clock))
    .op("Mov_rm64_r64", at("r13", PROGRAM.end), "rax")
    .op("Call_rm64", at("r13", PROGRAM.kernelClock))
    .op("Mov_rm64_r64", at("r13", PROGRAM.endKernel), "rax")
    .op("Xor_r32_rm32", "eax", "eax")
    .op("Add_rm64_imm8", "rsp", 8);
  for (const register of [...saved].reverse()) asm.op("Pop_r64", register);
  asm.op("Retnq");

  // A system call has its fourth argument in r10, a function in rcx.
  const registers = ["rdi", "rsi", "rdx", "r10", "r8", "r9"] as const;
  asm.align(ALIGNMENT).label("repeat").op("Sub_rm64_imm8", "rsp", 8).label("again");
  asm.op("Mov_r64_rm64", "rax", at("rbx", JOB.number));
  registers.forEach((register, i) => {
    asm.op("Mov_r64_rm64", register, at("rbx", JOB.args + 8 * i));
  });
  asm
    .op("Mov_r64_rm64", "rcx", "r10")
    .op("Call_rm64", at("rbx", JOB.entry))
    .op("Dec_rm64", "r12")
    .branch("jne", "again")
    .op("Mov_rm64_r64", at("rbx", JOB.result), "rax")
    .op("Add_rm64_imm8", "rsp", 8)
    .op("Retnq");

  const jumpBack = () => asm.op("Pop_r64", "rcx").op("Jmp_rm64", "rcx");
  asm.align(ALIGNMENT).label("syscall").op("Syscall");
  jumpBack();
  asm.align(ALIGNMENT).label("int80").op("Int_imm8", 0x80);
  jumpBack();
  asm.align(ALIGNMENT).label("emptyReturn").op("Retnq");
  asm.align(ALIGNMENT).label("emptyJump");
  jumpBack();
  asm
    .align(ALIGNMENT)
    .label("cpuid")
    .op("Mov_r64_rm64", "r11", "rbx")
    .op("Xor_r32_rm32", "eax", "eax")
    .op("Cpuid")
    .op("Mov_r64_rm64", "rbx", "r11")
    .op("Retnq");
  asm.align(ALIGNMENT).label("rdtsc").op("Rdtsc").op("Retnq");

  // What was begun before is done, and what comes after waits.
  asm
    .align(ALIGNMENT)
    .label("readTsc")
    .op("Lfence")
    .op("Rdtsc")
    .op("Lfence")
    .op("Shl_rm64_imm8", "rdx", 32)
    .op("Or_r64_rm64", "rax", "rdx")
    .op("Retnq");

  const SYS_CLOCK_GETTIME = 228;
  return asm
    .align(ALIGNMENT)
    .label("readKernelClock")
    .op("Mov_r32_imm32", "eax", SYS_CLOCK_GETTIME)
    .op("Mov_r32_imm32", "edi", CLOCK_MONOTONIC_RAW)
    .op("Lea_r64_m", "rsi", at("r13", PROGRAM.timespec))
    .op("Syscall")
    .op("Imul_r64_rm64_imm32", "rax", at("r13", PROGRAM.timespec), NS_PER_SECOND)
    .op("Add_r64_rm64", "rax", at("r13", PROGRAM.timespec + 8))
    .op("Retnq");
}

/** edi the job, esi calls left, ebp the program: neither functions nor the kernel change them. */
function codeI386(asm: Assembler): Assembler {
  const saved = ["ebp", "ebx", "esi", "edi"] as const;
  asm.label("run");
  for (const register of saved) asm.op("Push_r32", register);
  const copy = (from: number, to: number) =>
    asm.op("Mov_r32_rm32", "eax", at("ebp", from)).op("Mov_rm32_r32", at("ebp", to), "eax");
  const readBoth = (clock: number, kernelClock: number) => {
    for (const [routine, place] of [
      [PROGRAM.clock, clock],
      [PROGRAM.kernelClock, kernelClock],
    ] as const) {
      asm
        .op("Call_rm32", at("ebp", routine))
        .op("Mov_rm32_r32", at("ebp", place), "eax")
        .op("Mov_rm32_r32", at("ebp", place + 4), "edx");
    }
  };
  asm.op("Mov_r32_rm32", "ebp", at("esp", 4 * (saved.length + 1)));
  copy(PROGRAM.results, PROGRAM.resultsAt);
  copy(PROGRAM.rounds, PROGRAM.roundsLeft);
  readBoth(PROGRAM.start, PROGRAM.startKernel);

  asm.label("round");
  copy(PROGRAM.jobCount, PROGRAM.jobsLeft);
  asm
    .op("Mov_r32_rm32", "edi", at("ebp", PROGRAM.jobs))
    .label("job")
    .op("Mov_r32_rm32", "esi", at("edi", JOB.warm))
    .branch("call", "repeat")
    .op("Call_rm32", at("ebp", PROGRAM.clock))
    .op("Mov_r32_rm32", "ecx", at("ebp", PROGRAM.resultsAt))
    .op("Mov_rm32_r32", at("ecx", 0), "eax")
    .op("Mov_rm32_r32", at("ecx", 4), "edx")
    .op("Mov_r32_rm32", "esi", at("edi", JOB.count))
    .branch("call", "repeat")
    .op("Call_rm32", at("ebp", PROGRAM.clock))
    .op("Mov_r32_rm32", "ecx", at("ebp", PROGRAM.resultsAt))
    .op("Sub_r32_rm32", "eax", at("ecx", 0))
    .op("Sbb_r32_rm32", "edx", at("ecx", 4))
    .op("Mov_rm32_r32", at("ecx", 0), "eax")
    .op("Mov_rm32_r32", at("ecx", 4), "edx")
    .op("Add_rm32_imm8", at("ebp", PROGRAM.resultsAt), 8)
    .op("Add_rm32_imm8", "edi", JOB_SIZE)
    .op("Dec_rm32", at("ebp", PROGRAM.jobsLeft))
    .branch("jne", "job")
    .op("Dec_rm32", at("ebp", PROGRAM.roundsLeft))
    .branch("jne", "round");

  readBoth(PROGRAM.end, PROGRAM.endKernel);
  asm.op("Xor_r32_rm32", "eax", "eax");
  for (const register of [...saved].reverse()) asm.op("Pop_r32", register);
  asm.op("Retnd");

  // A function has its arguments on the stack, which is aligned to 16 bytes there; a system call in registers.
  const FUNCTION_ARGS = 5;
  const argument = (i: number): Memory => at("edi", JOB.args + 8 * i);
  asm.align(ALIGNMENT).label("repeat").op("Sub_rm32_imm8", "esp", 4).label("again");
  for (let i = FUNCTION_ARGS - 1; i >= 3; i--) asm.op("Push_rm32", argument(i));
  (["ebx", "ecx", "edx"] as const)
    .map((register, i) => [register, argument(i)] as const)
    .reverse()
    .forEach(([register, memory]) => {
      asm.op("Mov_r32_rm32", register, memory).op("Push_r32", register);
    });
  asm
    .op("Mov_r32_rm32", "eax", at("edi", JOB.number))
    .op("Call_rm32", at("edi", JOB.entry))
    .op("Add_rm32_imm8", "esp", 4 * FUNCTION_ARGS)
    .op("Dec_r32", "esi")
    .branch("jne", "again")
    .op("Mov_rm32_r32", at("edi", JOB.result), "eax")
    .op("Add_rm32_imm8", "esp", 4)
    .op("Retnd");

  const jumpBack = () => asm.op("Pop_r32", "ecx").op("Jmp_rm32", "ecx");
  asm.align(ALIGNMENT).label("int80").op("Int_imm8", 0x80);
  jumpBack();
  // The two fast instructions tell the kernel no address to come back to: it goes to one place in its own image, which
  // takes these three off the stack and returns. Source: arch/x86/entry/vdso/vdso32/system_call.S.
  const saveForTheGate = () => asm.op("Push_r32", "ecx").op("Push_r32", "edx").op("Push_r32", "ebp");
  asm.align(ALIGNMENT).label("syscall");
  saveForTheGate();
  asm.op("Mov_r32_rm32", "ebp", "ecx").op("Syscall");
  asm.align(ALIGNMENT).label("sysenter");
  saveForTheGate();
  asm.op("Mov_r32_rm32", "ebp", "esp").op("Sysenter");
  asm.align(ALIGNMENT).label("emptyReturn").op("Retnd");
  asm.align(ALIGNMENT).label("emptyJump");
  jumpBack();
  asm
    .align(ALIGNMENT)
    .label("cpuid")
    .op("Push_r32", "ebx")
    .op("Xor_r32_rm32", "eax", "eax")
    .op("Cpuid")
    .op("Pop_r32", "ebx")
    .op("Retnd");
  asm.align(ALIGNMENT).label("rdtsc").op("Rdtsc").op("Retnd");
  asm.align(ALIGNMENT).label("readTsc").op("Lfence").op("Rdtsc").op("Lfence").op("Retnd");

  const readKernelClock = (label: RoutineName, number: number, nanoseconds: number) =>
    asm
      .align(ALIGNMENT)
      .label(label)
      .op("Push_r32", "ebx")
      .op("Mov_r32_imm32", "eax", number)
      .op("Mov_r32_imm32", "ebx", CLOCK_MONOTONIC_RAW)
      .op("Lea_r32_m", "ecx", at("ebp", PROGRAM.timespec))
      .op("Int_imm8", 0x80)
      .op("Mov_r32_imm32", "eax", NS_PER_SECOND)
      .op("Mul_rm32", at("ebp", PROGRAM.timespec))
      .op("Add_r32_rm32", "eax", at("ebp", PROGRAM.timespec + nanoseconds))
      .op("Adc_rm32_imm8", "edx", 0)
      .op("Pop_r32", "ebx")
      .op("Retnd");
  const [SYS_CLOCK_GETTIME, SYS_CLOCK_GETTIME64] = [265, 403];
  readKernelClock("readKernelClock", SYS_CLOCK_GETTIME, 4);
  return readKernelClock("readKernelClock64", SYS_CLOCK_GETTIME64, 8);
}
