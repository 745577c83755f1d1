import { EM_386, EM_AARCH64, EM_ARM, EM_RISCV, EM_X86_64 } from "../elf/constants.js";
import { AT_HWCAP, AT_HWCAP2 } from "./auxv.js";

/** Names of bits, lowest first; `-` for one that is reserved. */
const bits = (text: string): readonly string[] => text.trim().split(/\s+/);

/** CPUID leaf 1, EDX: what AT_HWCAP is on x86, with the names of /proc/cpuinfo. */
const X86 = bits(`
  fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht
  tm ia64 pbe`);

/** arch/x86/include/uapi/asm/hwcap2.h. */
const X86_2 = bits("ring3mwait fsgsbase");

/** arch/arm64/include/uapi/asm/hwcap.h. */
const AARCH64 = bits(`
  fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4
  asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg`);
const AARCH64_2 = bits(`
  dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 dgh rng
  bti mte ecv afp rpres mte3 sme smei16i64 smef64f64 smei8i32 smef16f32 smeb16f32 smef32f32 smefa64`);

/** arch/arm/include/uapi/asm/hwcap.h. */
const ARM = bits(`
  swp half thumb 26bit fastmult fpa vfp edsp java iwmmxt crunch thumbee neon vfpv3 vfpv3d16 tls vfpv4 idiva idivt vfpd32
  lpae evtstrm`);
const ARM_2 = bits("aes pmull sha1 sha2 crc32");

/** On RISC-V each bit is a single-letter extension. */
const RISCV = bits("a b c d e f g h i j k l m n o p q r s t u v w x y z");

const TABLES: ReadonlyMap<string, readonly string[]> = new Map([
  [`${EM_386}/${AT_HWCAP}`, X86],
  [`${EM_386}/${AT_HWCAP2}`, X86_2],
  [`${EM_X86_64}/${AT_HWCAP}`, X86],
  [`${EM_X86_64}/${AT_HWCAP2}`, X86_2],
  [`${EM_AARCH64}/${AT_HWCAP}`, AARCH64],
  [`${EM_AARCH64}/${AT_HWCAP2}`, AARCH64_2],
  [`${EM_ARM}/${AT_HWCAP}`, ARM],
  [`${EM_ARM}/${AT_HWCAP2}`, ARM_2],
  [`${EM_RISCV}/${AT_HWCAP}`, RISCV],
]);

/**
 * Names of the bits that are set in AT_HWCAP or AT_HWCAP2; a bit without a name is written `bit N`. `undefined` where
 * no table for the machine is known.
 */
export function hwcapNames(machine: number, tag: number, value: bigint): string[] | undefined {
  const table = TABLES.get(`${machine}/${tag}`);
  if (!table) return undefined;
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((value >> BigInt(bit)) & 1n) {
      const name = table[bit];
      names.push(name === undefined || name === "-" ? `bit ${bit}` : name);
    }
  }
  return names;
}
