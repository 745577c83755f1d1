import { buildElf } from "../elf/builder.js";
import {
  EM_386,
  EM_X86_64,
  ET_EXEC,
  PF_R,
  PF_W,
  PF_X,
  PT_GNU_STACK,
  PT_LOAD,
  SHF_ALLOC,
  SHF_EXECINSTR,
  SHT_PROGBITS,
} from "../elf/constants.js";
import { Assembler, type IcedModule } from "../isa/x86/assembler.js";
import { type AgentAbi, CALL_ADDRESS, REPLY_FD, REQUEST_FD, REQUEST_WORDS, WORD_SIZE } from "./protocol.js";

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;
const EINTR = 4;

/** The two ABIs' numbers of the system calls that the agent makes of its own accord. */
const NUMBERS = {
  x86_64: { read: 0, write: 1, prctl: 157, exit_group: 231 },
  i386: { read: 3, write: 4, prctl: 172, exit_group: 252 },
};

/** What differs between the ELF files of the ABIs. The base is where a linker puts a static program by default. */
const FILES = {
  x86_64: { class: 64, machine: EM_X86_64, base: 0x400000n },
  i386: { class: 32, machine: EM_386, base: 0x8048000n },
} as const;

/** The agent's machine code, which runs at any address; see `protocol.ts` for what it does. */
export function agentCode(iced: IcedModule, abi: AgentAbi): Uint8Array {
  const assembler = new Assembler(iced, FILES[abi].class);
  return (abi === "x86_64" ? codeX86_64(assembler) : codeI386(assembler)).assemble(0n).bytes;
}

/** A static program that consists of the agent's code: no section, one segment to load, which is not writable. */
export function agentElf(abi: AgentAbi, code: Uint8Array): Uint8Array {
  return buildElf({
    ...FILES[abi],
    type: ET_EXEC,
    entry: ".text",
    sections: [{ name: ".text", type: SHT_PROGBITS, flags: SHF_ALLOC | SHF_EXECINSTR, content: code }],
    segments: [
      { type: PT_LOAD, flags: PF_R | PF_X, covers: ["headers", ".text"], align: 0x1000 },
      // Without this header the kernel makes the stack executable.
      { type: PT_GNU_STACK, flags: PF_R | PF_W, align: 16 },
    ],
    sectionHeaders: false,
  });
}

/** The stack is aligned to 16 bytes at the start and stays so: a request takes 56 of 64 bytes. */
function codeX86_64(asm: Assembler): Assembler {
  const number = NUMBERS.x86_64;
  const size = WORD_SIZE.x86_64;
  asm
    .op("Sub_rm64_imm8", "rsp", 64)
    .op("Mov_r32_imm32", "eax", number.prctl)
    .op("Mov_r32_imm32", "edi", PR_SET_PDEATHSIG)
    .op("Mov_r32_imm32", "esi", SIGKILL)
    .op("Syscall");

  asm
    .label("reply")
    .op("Mov_rm64_r64", { base: "rsp" }, "rax")
    .op("Mov_r32_imm32", "eax", number.write)
    .op("Mov_r32_imm32", "edi", REPLY_FD)
    .op("Mov_r64_rm64", "rsi", "rsp")
    .op("Mov_r32_imm32", "edx", size)
    .branch("call", "transfer");

  asm
    .op("Mov_r32_imm32", "eax", number.read)
    .op("Mov_r32_imm32", "edi", REQUEST_FD)
    .op("Mov_r64_rm64", "rsi", "rsp")
    .op("Mov_r32_imm32", "edx", REQUEST_WORDS * size)
    .branch("call", "transfer");
  const registers = ["rax", "rdi", "rsi", "rdx", "r10", "r8", "r9"] as const;
  registers.forEach((register, i) => {
    asm.op("Mov_r64_rm64", register, { base: "rsp", displacement: i * size });
  });
  asm.op("Cmp_rm64_imm8", "rax", CALL_ADDRESS).branch("je", "function").op("Syscall").branch("jmp", "reply");

  // Arguments move up by one, the address having been the first; eax = 0 tells a function of variable arguments that
  // no vector register holds any.
  asm
    .label("function")
    .op("Mov_r64_rm64", "r11", "rdi")
    .op("Mov_r64_rm64", "rdi", "rsi")
    .op("Mov_r64_rm64", "rsi", "rdx")
    .op("Mov_r64_rm64", "rdx", "r10")
    .op("Mov_r64_rm64", "rcx", "r8")
    .op("Mov_r64_rm64", "r8", "r9")
    .op("Xor_r32_rm32", "eax", "eax")
    .op("Call_rm64", "r11")
    .branch("jmp", "reply");

  // Reads or writes (eax) all of edx bytes at rsi; ends the program where there is no more.
  asm
    .label("transfer")
    .op("Mov_r32_rm32", "ebx", "eax")
    .label("again")
    .op("Mov_r32_rm32", "eax", "ebx")
    .op("Syscall")
    .op("Cmp_rm64_imm8", "rax", -EINTR)
    .branch("je", "again")
    .op("Test_rm64_r64", "rax", "rax")
    .branch("jle", "end")
    .op("Add_r64_rm64", "rsi", "rax")
    .op("Sub_r32_rm32", "edx", "eax")
    .branch("jne", "again")
    .op("Retnq");

  return asm.label("end").op("Mov_r32_imm32", "eax", number.exit_group).op("Xor_r32_rm32", "edi", "edi").op("Syscall");
}

/**
 * The request takes 28 of 40 bytes, so that its third word, the first argument of a function, lies where the stack is
 * aligned to 16 bytes: a function is called with the stack pointer there, and finds its arguments in place.
 */
function codeI386(asm: Assembler): Assembler {
  const number = NUMBERS.i386;
  const size = WORD_SIZE.i386;
  asm
    .op("Sub_rm32_imm8", "esp", 40)
    .op("Mov_r32_imm32", "eax", number.prctl)
    .op("Mov_r32_imm32", "ebx", PR_SET_PDEATHSIG)
    .op("Mov_r32_imm32", "ecx", SIGKILL)
    .op("Int_imm8", 0x80);

  asm
    .label("reply")
    .op("Mov_rm32_r32", { base: "esp" }, "eax")
    .op("Mov_r32_imm32", "eax", number.write)
    .op("Mov_r32_imm32", "ebx", REPLY_FD)
    .op("Mov_r32_rm32", "ecx", "esp")
    .op("Mov_r32_imm32", "edx", size)
    .branch("call", "transfer");

  asm
    .op("Mov_r32_imm32", "eax", number.read)
    .op("Mov_r32_imm32", "ebx", REQUEST_FD)
    .op("Mov_r32_rm32", "ecx", "esp")
    .op("Mov_r32_imm32", "edx", REQUEST_WORDS * size)
    .branch("call", "transfer");
  const registers = ["eax", "ebx", "ecx", "edx", "esi", "edi", "ebp"] as const;
  registers.forEach((register, i) => {
    asm.op("Mov_r32_rm32", register, { base: "esp", displacement: i * size });
  });
  asm.op("Cmp_rm32_imm8", "eax", CALL_ADDRESS).branch("je", "function").op("Int_imm8", 0x80).branch("jmp", "reply");

  asm
    .label("function")
    .op("Mov_r32_rm32", "ebp", "esp")
    .op("Add_rm32_imm8", "esp", 2 * size)
    .op("Call_rm32", "ebx")
    .op("Mov_r32_rm32", "esp", "ebp")
    .branch("jmp", "reply");

  // Reads or writes (eax) all of edx bytes at ecx; ends the program where there is no more.
  asm
    .label("transfer")
    .op("Mov_r32_rm32", "esi", "eax")
    .label("again")
    .op("Mov_r32_rm32", "eax", "esi")
    .op("Int_imm8", 0x80)
    .op("Cmp_rm32_imm8", "eax", -EINTR)
    .branch("je", "again")
    .op("Test_rm32_r32", "eax", "eax")
    .branch("jle", "end")
    .op("Add_r32_rm32", "ecx", "eax")
    .op("Sub_r32_rm32", "edx", "eax")
    .branch("jne", "again")
    .op("Retnd");

  return asm
    .label("end")
    .op("Mov_r32_imm32", "eax", number.exit_group)
    .op("Xor_r32_rm32", "ebx", "ebx")
    .op("Int_imm8", 0x80);
}
