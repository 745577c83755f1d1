import { Assembler, type IcedModule, type Memory, type RegisterName } from "../../isa/x86/assembler.js";
import { AUDIT_ARCH_X86_64, X32_BIT } from "../filter.js";
import { PTRACE } from "../ptrace.js";
import { BLOCK, INFO, MAX_NUMBER, OP, SITE, SITE_SIZE, STACK_SIZE } from "./layout.js";

const SYS = { wait4: 61, ptrace: PTRACE.number, process_vm_readv: 310 } as const;
const WALL = 0x4000_0000;
const EINTR = 4;
/** The lowest byte of the status of a process that has stopped. */
const STOPPED = 0x7f;
/** The rest of the status, where a process has stopped for a signal, is that alone. */
const MAX_SIGNAL = 64;
const PAGE = 4096;

const at = (base: RegisterName, displacement: number): Memory => ({ base, displacement });
const block = (field: number): Memory => at("rbx", field);
const info = (field: keyof typeof INFO): Memory => block(BLOCK.info + INFO[field]);
const site = (field: keyof typeof SITE): Memory => at("r13", SITE[field]);

/**
 * Assembles the counting loop, a function of x86-64 that runs at any address; see `layout.ts` for what it does.
 *
 * rbx has the block, r12 the process, r13 the site that is looked at, r14d the number of those left: the kernel changes
 * none of them.
 */
export function countingCode(iced: IcedModule): Uint8Array {
  const asm = new Assembler(iced, 64);
  const saved = ["rbx", "r12", "r13", "r14"] as const;
  for (const register of saved) asm.op("Push_r64", register);
  asm.op("Mov_r64_rm64", "rbx", "rdi");

  asm
    .label("wait")
    .op("Xor_r32_rm32", "eax", "eax")
    .op("Cmp_rm32_imm8", block(BLOCK.stop), 0)
    .branch("jne", "return")
    .op("Mov_r32_imm32", "eax", SYS.wait4)
    .op("Mov_rm64_imm32", "rdi", -1)
    .op("Lea_r64_m", "rsi", block(BLOCK.status))
    .op("Mov_r32_imm32", "edx", WALL)
    .op("Xor_r32_rm32", "r10d", "r10d")
    .op("Syscall")
    .op("Cmp_rm64_imm8", "rax", -EINTR)
    .branch("je", "wait")
    .op("Test_rm64_r64", "rax", "rax")
    .branch("jle", "return")
    .op("Mov_r64_rm64", "r12", "rax");

  asm
    .op("Mov_r32_rm32", "eax", block(BLOCK.status))
    .op("Cmp_AL_imm8", "al", STOPPED)
    .branch("jne", "tell")
    .op("Shr_rm32_imm8", "eax", 8)
    .op("Cmp_r32_rm32", "eax", block(BLOCK.wanted))
    .branch("je", "call")
    .op("Cmp_rm32_imm8", "eax", MAX_SIGNAL)
    .branch("ja", "tell")
    .op("Mov_r32_rm32", "r10d", "eax")
    .branch("jmp", "resumeWith")
    .label("call")
    .op("Mov_rm32_imm32", info("op"), 0)
    .op("Mov_r32_imm32", "eax", SYS.ptrace)
    .op("Mov_r32_imm32", "edi", PTRACE.GET_SYSCALL_INFO)
    .op("Mov_r64_rm64", "rsi", "r12")
    .op("Mov_r32_imm32", "edx", INFO.size)
    .op("Lea_r64_m", "r10", block(BLOCK.info))
    .op("Syscall")
    .op("Test_rm64_r64", "rax", "rax")
    .branch("jle", "tell")
    .op("Movzx_r32_rm8", "eax", info("op"))
    .op("Cmp_rm32_imm8", "eax", OP.exit)
    .branch("je", "resume");

  asm
    .op("Mov_r32_rm32", "eax", info("number"))
    .op("And_EAX_imm32", "eax", ~X32_BIT >>> 0)
    .op("Cmp_EAX_imm32", "eax", MAX_NUMBER)
    .branch("jae", "resume")
    .op("Lea_r64_m", "rcx", block(BLOCK.wide))
    .op("Mov_r32_imm32", "edx", AUDIT_ARCH_X86_64)
    .op("Cmp_r32_rm32", "edx", info("arch"))
    .branch("je", "wide")
    .op("Lea_r64_m", "rcx", block(BLOCK.narrow))
    .label("wide")
    .op("Bt_rm32_r32", at("rcx", 0), "eax")
    .branch("jae", "resume");

  // What lies behind the end of a page may not be there: a piece that is not would take the other with it.
  asm
    .op("Mov_r64_rm64", "rax", info("stack"))
    .op("Mov_rm64_r64", block(BLOCK.remote), "rax")
    .op("Mov_r32_rm32", "ecx", "eax")
    .op("And_rm32_imm32", "ecx", PAGE - 1)
    .op("Mov_r32_imm32", "edx", PAGE)
    .op("Sub_r32_rm32", "edx", "ecx")
    .op("Cmp_rm32_imm32", "edx", STACK_SIZE)
    .branch("jbe", "divided")
    .op("Mov_r32_imm32", "edx", STACK_SIZE)
    .label("divided")
    .op("Mov_rm64_r64", block(BLOCK.remote + 8), "rdx")
    .op("Add_r64_rm64", "rax", "rdx")
    .op("Mov_rm64_r64", block(BLOCK.remote + 16), "rax")
    .op("Mov_r32_imm32", "ecx", STACK_SIZE)
    .op("Sub_r32_rm32", "ecx", "edx")
    .op("Mov_rm64_r64", block(BLOCK.remote + 24), "rcx")
    .op("Mov_r32_imm32", "eax", SYS.process_vm_readv)
    .op("Mov_r64_rm64", "rdi", "r12")
    .op("Lea_r64_m", "rsi", block(BLOCK.local))
    .op("Mov_r32_imm32", "edx", 1)
    .op("Lea_r64_m", "r10", block(BLOCK.remote))
    .op("Mov_r32_imm32", "r8d", 2)
    .op("Xor_r32_rm32", "r9d", "r9d")
    .op("Syscall")
    .op("Test_rm64_r64", "rax", "rax")
    .branch("jns", "read")
    .op("Xor_r32_rm32", "eax", "eax")
    .label("read")
    .op("Mov_rm64_r64", block(BLOCK.got), "rax");

  asm
    .op("Mov_r64_rm64", "r13", block(BLOCK.sites))
    .op("Mov_r32_rm32", "r14d", block(BLOCK.siteCount))
    .label("site")
    .op("Test_rm32_r32", "r14d", "r14d")
    .branch("je", "tell")
    .op("Cmp_r32_rm32", "r12d", site("pid"))
    .branch("jne", "other")
    .op("Mov_r64_rm64", "rax", info("instruction"))
    .op("Cmp_r64_rm64", "rax", site("instruction"))
    .branch("jne", "other")
    .op("Mov_r32_rm32", "eax", info("number"))
    .op("Cmp_r32_rm32", "eax", site("number"))
    .branch("jne", "other")
    .op("Mov_r32_rm32", "eax", info("arch"))
    .op("Cmp_r32_rm32", "eax", site("arch"))
    .branch("jne", "other")
    .op("Mov_r64_rm64", "rax", info("firstArgument"))
    .op("And_r64_rm64", "rax", site("argumentMask"))
    .op("Cmp_r64_rm64", "rax", site("firstArgument"))
    .branch("jne", "other")
    .op("Cmp_rm64_imm8", site("valueMask"), 0)
    .branch("je", "found")
    .op("Mov_r32_rm32", "eax", site("slot"))
    .op("Lea_r64_m", "rcx", at("rax", 8))
    .op("Cmp_r64_rm64", "rcx", block(BLOCK.got))
    .branch("ja", "other")
    .op("Mov_r64_rm64", "rax", { base: "rbx", index: "rax", displacement: BLOCK.stack })
    .op("And_r64_rm64", "rax", site("valueMask"))
    .op("Cmp_r64_rm64", "rax", site("value"))
    .branch("je", "found")
    .label("other")
    .op("Add_rm64_imm8", "r13", SITE_SIZE)
    .op("Dec_rm32", "r14d")
    .branch("jmp", "site");

  asm
    .label("found")
    .op("Inc_rm64", site("count"))
    .label("resume")
    .op("Xor_r32_rm32", "r10d", "r10d")
    .label("resumeWith")
    .op("Mov_r32_imm32", "eax", SYS.ptrace)
    .op("Mov_r32_rm32", "edi", block(BLOCK.resume))
    .op("Mov_r64_rm64", "rsi", "r12")
    .op("Xor_r32_rm32", "edx", "edx")
    .op("Syscall")
    .branch("jmp", "wait")
    .label("tell")
    .op("Mov_r64_rm64", "rax", "r12")
    .label("return");
  for (const register of [...saved].reverse()) asm.op("Pop_r64", register);
  return asm.op("Retnq").assemble(0n).bytes;
}
