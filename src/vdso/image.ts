import { hexBytes } from "../bytes/hex.js";
import { Reader } from "../bytes/reader.js";
import * as C from "../elf/constants.js";
import { ElfFile } from "../elf/file.js";
import type { ElfSymbol } from "../elf/symbol.js";
import { type Abi, abiOf } from "./abi.js";

/** What an exported function of a vDSO is for; told from its name, which is the kernel's ABI. */
export type FunctionRole = "entry" | "signal return" | "clock" | "cpu" | "random" | "enclave" | "other";

/** One exported function, with all the names it goes by. */
export interface VdsoFunction {
  /** The name that the kernel documents (`__vdso_…`, `__kernel_…`) where it has several. */
  readonly name: string;
  /** Other names of the same code: the weak, unprefixed ones. */
  readonly aliases: readonly string[];
  /** `LINUX_2.6`; absent in an image without symbol versions. */
  readonly version?: string;
  /** Address as linked: add the bias of the image to get that in a process. */
  readonly address: bigint;
  readonly size: number;
  readonly role: FunctionRole;
  readonly symbol: ElfSymbol;
}

/** The kernel that an image belongs to, from its `Linux` note (LINUX_VERSION_CODE). */
export interface KernelVersion {
  readonly code: number;
  /** `6.1.176`; a third number of 255 stands for 255 or more. */
  readonly text: string;
}

/** A vDSO image, understood. */
export interface VdsoImage {
  readonly bytes: Uint8Array;
  readonly elf: ElfFile;
  readonly abi: Abi;
  readonly soname?: string;
  /** Lower-case hex. */
  readonly buildId?: string;
  readonly kernelVersion?: KernelVersion;
  /** By address. */
  readonly functions: readonly VdsoFunction[];
  /** `__kernel_vsyscall`: the function through which a program enters the kernel (i386 only). */
  readonly entry?: VdsoFunction;
  /** Address of the first byte of the image as linked: 0, or 0xffffe000 in the days of fixed addresses. */
  readonly linkBase: bigint;
  /** Size that the loadable segment says, in bytes; the mapping is this, rounded up to pages. */
  readonly loadSize: bigint;
}

const ROLES: readonly (readonly [pattern: RegExp, role: FunctionRole])[] = [
  [/^__kernel_vsyscall$/, "entry"],
  [/sigreturn/, "signal return"],
  [/(gettimeofday|clock_get|_time$|^time$|get_tbfreq)/, "clock"],
  [/(getcpu|hwprobe|flush_icache|sync_dicache)/, "cpu"],
  [/getrandom/, "random"],
  [/sgx/, "enclave"],
];

/**
 * Whether an ELF file is a vDSO image: a shared object that needs no other and no interpreter, whose own versions are
 * those of the kernel (`LINUX_2.6`), or whose name is one of the kernel's.
 */
export function isVdso(elf: ElfFile): boolean {
  if (elf.header.e_type !== C.ET_DYN || abiOf(elf.header) === undefined || elf.interpreter !== undefined) return false;
  if (elf.needed.length > 0) return false;
  if (/^linux-(gate|vdso|vsyscall)/.test(elf.soname ?? "")) return true;
  return elf.versionDefinitions.some(({ name }) => /^LINUX_\d/.test(name));
}

/**
 * Understands the bytes of an image: a file, or what a process has mapped.
 *
 * Throws `FormatError` where they are no ELF file or are damaged; whether they are a vDSO is asked of {@link isVdso}.
 */
export function parseImage(bytes: Uint8Array, options: { readonly mapped?: boolean } = {}): VdsoImage {
  const elf = new ElfFile(bytes, options);
  const abi = abiOf(elf.header);
  if (abi === undefined) {
    throw new Reader(bytes, { what: "vDSO image" }).error(
      `machine ${elf.header.e_machine} has no vDSO`,
      18,
      elf.header.e_machine,
    );
  }
  const load = elf.segments.find(({ p_type }) => p_type === C.PT_LOAD);
  const { soname, buildId } = elf;
  const kernelVersion = findKernelVersion(elf);
  const functions = findFunctions(elf);
  const entry = functions.find(({ role }) => role === "entry");
  return {
    bytes,
    elf,
    abi,
    functions,
    linkBase: load ? load.p_vaddr - BigInt(load.p_offset) : 0n,
    loadSize: load ? load.p_memsz + BigInt(load.p_offset) : 0n,
    ...(soname !== undefined && { soname }),
    ...(buildId && { buildId: hexBytes(buildId) }),
    ...(kernelVersion && { kernelVersion }),
    ...(entry && { entry }),
  };
}

function findKernelVersion(elf: ElfFile): KernelVersion | undefined {
  const note = elf.notes.find(({ name, type, desc }) => name === "Linux" && type === 0 && desc.length === 4);
  if (!note) return undefined;
  const code = new Reader(note.desc, { littleEndian: elf.header.littleEndian, what: "Linux note" }).u32At(0);
  return { code, text: `${code >>> 16}.${(code >>> 8) & 255}.${code & 255}` };
}

/** Whether a symbol names code: a function, or (signal returns of arm64 and s390) an untyped name in a section. */
function isCode(symbol: ElfSymbol): boolean {
  if (symbol.st_shndx === C.SHN_UNDEF || symbol.st_shndx >= C.SHN_LORESERVE || symbol.bind === C.STB_LOCAL)
    return false;
  return symbol.type === C.STT_FUNC || symbol.type === C.STT_NOTYPE;
}

function findFunctions(elf: ElfFile): VdsoFunction[] {
  const byAddress = new Map<bigint, ElfSymbol[]>();
  for (const symbol of elf.dynamicSymbols) {
    if (!isCode(symbol)) continue;
    const known = byAddress.get(symbol.st_value);
    if (known) known.push(symbol);
    else byAddress.set(symbol.st_value, [symbol]);
  }
  const functions: VdsoFunction[] = [];
  for (const [address, symbols] of byAddress) {
    const main = symbols.find(({ name }) => name.startsWith("__")) ?? (symbols[0] as ElfSymbol);
    functions.push({
      name: main.name,
      aliases: symbols.filter((symbol) => symbol !== main).map(({ name }) => name),
      ...(main.version && { version: main.version.name }),
      address,
      size: Number(BigInt.asUintN(53, main.st_size)),
      role: ROLES.find(([pattern]) => pattern.test(main.name))?.[1] ?? "other",
      symbol: main,
    });
  }
  return functions.sort((a, b) => (a.address < b.address ? -1 : 1));
}
