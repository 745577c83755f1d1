import { FormatError } from "../../bytes/error.js";
import { Reader } from "../../bytes/reader.js";
import { DT_PLTGOT, PT_DYNAMIC, PT_LOAD } from "../../elf/constants.js";
import { readDynamic } from "../../elf/dynamic.js";
import { ElfFile } from "../../elf/file.js";
import type { Mapping } from "../../linux/maps.js";

/** What a mapping with code is to a program. */
export type Role =
  | "vdso"
  /** The C library, or a part of it with a file of its own. */
  | "libc"
  | "dynamic linker"
  /** A program or any other library. */
  | "file"
  /** Code that was made at run time. */
  | "memory";

/** A place in code. */
export interface Place {
  readonly role: Role;
  /** The file, as /proc/PID/maps has it, or what the kernel calls the mapping; empty for memory without a name. */
  readonly name: string;
  /** In the file; in the mapping where that has none. */
  readonly offset: bigint;
  /** Tell the file from another of its name; 0 where there is none. */
  readonly inode: bigint;
}

/** Who made a system call. */
export interface CallSite {
  /** The code that entered the kernel; of i386, which does that through the vDSO's gate, what called the gate. */
  readonly entered: Place;
  /**
   * The code outside the C library, the dynamic linker and the vDSO that wanted it: the innermost on the stack. Absent
   * where none was found. The code that entered the kernel itself, where that is none of the three.
   */
  readonly caller?: Place;
  /** Where on the stack, from the stack pointer on, and by which word the caller was found. */
  readonly slot?: { readonly offset: number; readonly value: bigint };
}

/** A thread that stands at a system call. */
export interface Stopped {
  readonly abi: "x86_64" | "i386";
  /** Behind the instruction that entered the kernel. */
  readonly instruction: bigint;
  /** What lies on its stack, from the stack pointer on. */
  readonly stack: Uint8Array;
}

/** The code of a process. */
export interface CodeSpace {
  readonly mappings: readonly Mapping[];
  /** `size` bytes at an address; `undefined` where they cannot be read. */
  read(address: bigint, size: number): Uint8Array | undefined;
}

/** Size of an instruction that enters the kernel. */
const ENTRY_SIZE = 2n;

/** Most bytes of an instruction that calls, without prefixes, and those of one that names the function. */
const MAX_CALL = 7;
const NEAR_CALL = 5;

/** `libc.so.6`, `libc-2.31.so`, `libpthread.so.0`, `libc.musl-x86_64.so.1`, and musl's linker, which is its library. */
const LIBC = /^(lib(c|pthread|rt|uClibc)(-[\d.]+)?(\.musl-\w+)?\.so(\.\d+)*|ld-musl-.*)$/;
const LINKER = /^ld(-[\w-]+|-[\d.]+|64)?\.so(\.\d+)*$/;

/** What the code of a mapping is, by its name. */
export function roleOf({ name }: Pick<Mapping, "name">): Role {
  if (name === "[vdso]") return "vdso";
  if (!name.startsWith("/")) return "memory";
  const base = fileName(name);
  if (LIBC.test(base)) return "libc";
  return LINKER.test(base) ? "dynamic linker" : "file";
}

/** The last part of a path, without what the kernel says of files that were deleted. */
function fileName(path: string): string {
  return path.replace(/ \(deleted\)$/, "").replace(/^.*\//, "");
}

/**
 * Finds who made a system call. Without rules to unwind by, the stack is searched for what may be a return address: one
 * that lies in code, right behind an instruction that calls. Earlier calls have left such addresses there too; so the
 * first is taken whose call leads to the very function of the C library, linker or vDSO that was passed on the way. Where
 * there is none, as with calls through a pointer, it is the first that does not call code of its own file.
 */
export function findSite(stopped: Stopped, space: CodeSpace): CallSite {
  const code = new CodeReader(space, stopped.abi);
  const at = code.placeOf(stopped.instruction - ENTRY_SIZE);
  // Its mappings may not be read, or it has ended.
  if (!at) return { entered: { role: "memory", name: "", offset: 0n, inode: 0n } };
  if (isCaller(at)) return { entered: at, caller: at };
  let entered = at;
  // Without a vDSO, the linker has the gate.
  let viaGate = stopped.abi === "i386" && (entered.role === "vdso" || entered.role === "dynamic linker");
  const passed = [stopped.instruction];
  const found: Partial<Record<Likelihood, Omit<CallSite, "entered">>> = {};
  const size = stopped.abi === "i386" ? 4 : 8;
  const words = new Reader(stopped.stack, { littleEndian: true, wordSize: size, what: "stack" });
  const start = viaGate && code.isReturn(words, GATE_RETURN) ? GATE_RETURN : 0;
  for (let offset = start; offset + size <= words.length && !found.sure; offset += size) {
    const value = words.wordAt(offset);
    const place = code.placeOf(value - 1n);
    const likelihood = place && code.likelihood(value, passed);
    if (!place || !likelihood) continue;
    // What the gate returns to made the call.
    if (viaGate) entered = place;
    viaGate = false;
    if (isCaller(place)) found[likelihood] ??= { caller: place, slot: { offset, value } };
    else passed.push(value);
  }
  return { entered, ...(found.sure ?? found.maybe ?? found.hardly) };
}

/** Where on the stack the return address lies when the gate of i386 has put %ecx, %edx and %ebp, which hold anything, there. */
const GATE_RETURN = 12;

/** How likely it is that a return address is that of the call which led to where a thread stands. */
type Likelihood = "sure" | "maybe" | "hardly";

/** How far behind its start a function of a library may have made a call. */
const REACH = 0x2000n;

/** How much of a function is looked through for a jump to another, in place of a call and a return. */
const TAIL = 256;

/** What is read of a file's start, and most of a dynamic section. */
const HEAD_SIZE = 4096;

/** Jumps from one to the next that are followed. */
const MAX_JUMPS = 2;

/** Reads calls and jumps in the code of a process. */
class CodeReader {
  readonly #code: readonly Mapping[];
  readonly #space: CodeSpace;
  readonly #wide: boolean;
  /** Of code of i386, by file; `undefined` where there is none. */
  readonly #tables = new Map<string, bigint | undefined>();

  constructor(space: CodeSpace, abi: Stopped["abi"]) {
    this.#code = space.mappings.filter(({ perms }) => perms[2] === "x");
    this.#space = space;
    this.#wide = abi === "x86_64";
  }

  placeOf(address: bigint): Place | undefined {
    const mapping = this.#mappingOf(address);
    return mapping && placeIn(mapping, address);
  }

  /** Whether a word of a stack may be a return address. */
  isReturn(stack: Reader, offset: number): boolean {
    if (offset + stack.wordSize > stack.length) return false;
    const value = stack.wordAt(offset);
    return this.#mappingOf(value - 1n) !== undefined && this.likelihood(value, []) !== undefined;
  }

  /**
   * How likely a call that returns to an address led to one of the addresses that were passed; `undefined` where there is
   * no call before it.
   */
  likelihood(address: bigint, passed: readonly bigint[]): Likelihood | undefined {
    const bytes = this.#space.read(address - BigInt(MAX_CALL), MAX_CALL);
    if (bytes?.length !== MAX_CALL) return undefined;
    const leads = (target: bigint | undefined): boolean =>
      target !== undefined && passed.some((one) => target <= one && one < target + REACH);
    if (bytes[MAX_CALL - NEAR_CALL] === 0xe8) {
      const target = this.#relative(address, i32(bytes, MAX_CALL - 4));
      if (this.#mappingOf(target)) {
        const final = this.#follow(target);
        if (leads(final) || this.#tails(target).some(leads)) return "sure";
        return this.#mappingOf(address)?.name === this.#mappingOf(final)?.name ? "hardly" : "maybe";
      }
    }
    for (let size = 2; size <= MAX_CALL; size++) {
      const from = MAX_CALL - size;
      if (bytes[from] !== 0xff || indirectCallSize(bytes.subarray(from + 1)) !== size) continue;
      const operand = i32(bytes, from + 2);
      if (bytes[from + 1] === 0x15 && leads(this.#pointer(address, operand))) return "sure";
      return bytes[from + 1] === 0x93 && leads(this.#tablePointer(address, operand)) ? "sure" : "maybe";
    }
    return undefined;
  }

  /** Where code at an address jumps that does nothing else, as entries of a procedure linkage table; else the address. */
  #follow(address: bigint): bigint | undefined {
    let at = address;
    for (let jumps = 0; jumps < MAX_JUMPS; jumps++) {
      const bytes = this.#space.read(at, 16);
      if (!bytes) return at;
      // endbr64 or endbr32, and a prefix that tells of bounds.
      let from = bytes[0] === 0xf3 && bytes[1] === 0x0f && bytes[2] === 0x1e ? 4 : 0;
      if (bytes[from] === 0xf2) from += 1;
      const jump = this.#jumpAt(bytes, from, at);
      if (jump === undefined) return at;
      at = jump;
    }
    return at;
  }

  /** Where a function may jump at its end. */
  #tails(address: bigint): bigint[] {
    const bytes = this.#space.read(address, TAIL);
    if (!bytes) return [];
    const tails: bigint[] = [];
    for (let from = 0; from + 6 <= bytes.length; from++) {
      const jump = this.#jumpAt(bytes, from, address);
      const final = jump === undefined || !this.#mappingOf(jump) ? undefined : this.#follow(jump);
      if (final !== undefined) tails.push(final);
    }
    return tails;
  }

  /** Where the jump in `bytes`, which lie at `address`, leads; `undefined` where there is none. */
  #jumpAt(bytes: Uint8Array, from: number, address: bigint): bigint | undefined {
    const behind = (size: number): bigint => address + BigInt(from + size);
    if (bytes[from] === 0xe9) return this.#relative(behind(5), i32(bytes, from + 1));
    if (bytes[from] !== 0xff) return undefined;
    if (bytes[from + 1] === 0x25) return this.#pointer(behind(6), i32(bytes, from + 2));
    return bytes[from + 1] === 0xa3 ? this.#tablePointer(address, i32(bytes, from + 2)) : undefined;
  }

  /** The word that an operand of i386 names which is relative to %ebx, where code at `address` has its table's address. */
  #tablePointer(address: bigint, displacement: number): bigint | undefined {
    const mapping = this.#wide ? undefined : this.#mappingOf(address);
    if (!mapping) return undefined;
    if (!this.#tables.has(mapping.name)) this.#tables.set(mapping.name, this.#tableOf(mapping));
    const table = this.#tables.get(mapping.name);
    return table === undefined ? undefined : this.#pointer(0n, Number(BigInt.asIntN(32, table)) + displacement);
  }

  /** The global offset table of the file in a mapping, as its dynamic section has it in memory. */
  #tableOf({ name }: Mapping): bigint | undefined {
    const start = this.#space.mappings.find((one) => one.name === name && one.offset === 0n)?.start;
    const head = start === undefined ? undefined : this.#space.read(start, HEAD_SIZE);
    if (start === undefined || !head) return undefined;
    try {
      const { segments } = new ElfFile(head);
      const dynamic = segments.find(({ p_type }) => p_type === PT_DYNAMIC);
      const bias = segments.find(({ p_type }) => p_type === PT_LOAD)?.p_vaddr === 0n ? start : 0n;
      const bytes = dynamic && this.#space.read(bias + dynamic.p_vaddr, Math.min(dynamic.p_filesz, HEAD_SIZE));
      if (!bytes) return undefined;
      const entries = readDynamic(new Reader(bytes, { littleEndian: true, wordSize: 4, what: "dynamic section" }));
      const value = entries.find(({ d_tag }) => d_tag === DT_PLTGOT)?.d_val;
      // Some linkers leave it as it is in the file.
      return value === undefined || value >= start ? value : bias + value;
    } catch (error) {
      if (error instanceof FormatError) return undefined;
      throw error;
    }
  }

  /** The word that an operand names which is relative to `behind`, or in code of i386 an address. */
  #pointer(behind: bigint, displacement: number): bigint | undefined {
    const size = this.#wide ? 8 : 4;
    const address = this.#wide ? behind + BigInt(displacement) : BigInt.asUintN(32, BigInt(displacement));
    const bytes = this.#space.read(address, size);
    return bytes?.length === size
      ? new Reader(bytes, { littleEndian: true, wordSize: size, what: "pointer" }).wordAt(0)
      : undefined;
  }

  #relative(behind: bigint, displacement: number): bigint {
    return BigInt.asUintN(this.#wide ? 64 : 32, behind + BigInt(displacement));
  }

  #mappingOf(address: bigint | undefined): Mapping | undefined {
    return address === undefined ? undefined : this.#code.find(({ start, end }) => start <= address && address < end);
  }
}

/** A displacement; 0 where it is cut off. */
function i32(bytes: Uint8Array, offset: number): number {
  if (offset + 4 > bytes.length) return 0;
  return new Reader(bytes, { littleEndian: true, wordSize: 4, what: "displacement" }).i32At(offset);
}

function isCaller({ role }: Place): boolean {
  return role === "file" || role === "memory";
}

function placeIn({ name, start, offset, inode }: Mapping, address: bigint): Place {
  const role = roleOf({ name });
  // Code made at run time is nowhere for long: its places would be ever new ones.
  if (role === "memory") return { role, name, offset: 0n, inode };
  return { role, name, offset: address - start + (inode === 0n ? 0n : offset), inode };
}

/** The size of a call through a register or memory (`ff /2`), of which the bytes behind the opcode are given. */
function indirectCallSize([modrm = 0, sib = 0]: Uint8Array): number | undefined {
  const mod = modrm >> 6;
  const rm = modrm & 7;
  if (((modrm >> 3) & 7) !== 2) return undefined;
  if (mod === 3) return 2;
  const hasSib = rm === 4;
  const wide = mod === 2 || (mod === 0 && (rm === 5 || (hasSib && (sib & 7) === 5)));
  return 2 + (hasSib ? 1 : 0) + (wide ? 4 : mod === 1 ? 1 : 0);
}
