import type { AgentAbi } from "../agent/protocol.js";
import { CLOCK_NAMES, syscallNumber } from "../vdso/syscalls.js";
import type { RoutineName } from "./layout.js";

/** By which way a call is made: through the vDSO's function, or a real system call by one of the ways into the kernel. */
export type Via =
  | "vdso"
  /** `__kernel_vsyscall`, whatever instruction it has. */
  | "gate"
  | "syscall"
  | "sysenter"
  | "int80";

/** What the memory that calls write to is for. */
export interface CallMemory {
  /** 64 bytes or more, which any call may write to. */
  readonly buffer: bigint;
  /** The state of the vDSO's getrandom, and its size; absent where there is none. */
  readonly randomState?: { readonly address: bigint; readonly size: number };
}

/** One call, which may be made in several ways. */
export interface CallPlan {
  /** `clock_gettime(MONOTONIC)`, `getcpu`. */
  readonly call: string;
  /** Its number in an ABI; absent where that has no such system call. */
  readonly numbers: Readonly<Partial<Record<AgentAbi, number>>>;
  /** The vDSO's function that answers it, without `__vdso_`; absent where none does. */
  readonly name?: string;
  args(memory: CallMemory): readonly (number | bigint)[];
  /** Arguments that the function takes beyond those of the system call. */
  functionArgs?(memory: CallMemory): readonly (number | bigint)[];
}

/** Bytes that getrandom is asked for: a key, or the id of an object. */
export const RANDOM_BYTES = 16;

const CLOCK_MONOTONIC = 1;

/** The clocks that a vDSO may answer for, and the two that it never does. */
const CLOCKS = [0, 1, 5, 6, 4, 7, 11, 2, 3] as const;

function numbersOf(name: string): CallPlan["numbers"] {
  const [i386, x86_64] = [syscallNumber("i386", name), syscallNumber("x86_64", name)];
  return { ...(i386 !== undefined && { i386 }), ...(x86_64 !== undefined && { x86_64 }) };
}

function clockCalls(name: string, clocks: readonly number[]): CallPlan[] {
  return clocks.map((clock) => ({
    call: `${name}(${CLOCK_NAMES[clock]})`,
    name,
    numbers: numbersOf(name),
    args: ({ buffer }) => [clock, buffer],
  }));
}

/**
 * The system call that does nothing: `getppid`, which no C library and no vDSO answers by itself, which takes no
 * argument, and which looks up one number.
 */
export const NULL_CALL = "null";

/** Every call that is measured, in the order in which results have them. */
export const CALLS: readonly CallPlan[] = [
  { call: NULL_CALL, numbers: { i386: 64, x86_64: 110 }, args: () => [] },
  ...clockCalls("clock_gettime", CLOCKS),
  ...clockCalls("clock_gettime64", CLOCKS),
  {
    call: "gettimeofday",
    name: "gettimeofday",
    numbers: numbersOf("gettimeofday"),
    args: ({ buffer }) => [buffer, 0],
  },
  { call: "time", name: "time", numbers: numbersOf("time"), args: () => [0] },
  ...clockCalls("clock_getres", [CLOCK_MONOTONIC]),
  ...clockCalls("clock_getres_time64", [CLOCK_MONOTONIC]),
  {
    call: "getcpu",
    name: "getcpu",
    numbers: numbersOf("getcpu"),
    args: ({ buffer }) => [buffer, buffer + 8n, 0],
  },
  {
    call: `getrandom(${RANDOM_BYTES})`,
    name: "getrandom",
    numbers: numbersOf("getrandom"),
    args: ({ buffer }) => [buffer, RANDOM_BYTES, 0],
    functionArgs: ({ randomState }) => (randomState ? [randomState.address, randomState.size] : []),
  },
];

/** How one call is made in one way. */
export interface Way {
  readonly plan: CallPlan;
  readonly via: Via;
  /** The routine of the measuring code that enters the kernel; absent for `gate` and `vdso`, which lie in the image. */
  readonly routine?: RoutineName;
}

/** `syscall`, two bytes. */
const SYSCALL = [0x0f, 0x05] as const;

/** Whether the code of the gate has this instruction in it. */
function hasSyscall(code: Uint8Array): boolean {
  return code.some((byte, i) => byte === SYSCALL[0] && code[i + 1] === SYSCALL[1]);
}

/**
 * All calls of an ABI in all ways, of which `has` says which functions of the vDSO there are: `__kernel_vsyscall` for the
 * gate, whose code is `gateCode`, and those that calls name.
 *
 * i386 makes each system call by the gate, which is how its programs make them, and by `int $0x80`; the fast instructions
 * themselves are told apart by the call that does nothing. In x86_64 that one is made by `int $0x80` as well.
 *
 * i386's `syscall` is left to kernels that use it themselves. Others have not told the processor where it leads: real
 * ones refuse it then, but qemu's go there, and the machine is lost.
 */
export function waysOf(abi: AgentAbi, has: (name: string) => boolean, gateCode: Uint8Array): Way[] {
  return CALLS.flatMap((plan): Way[] => {
    if (plan.numbers[abi] === undefined) return [];
    const vdso: Way[] = plan.name !== undefined && has(plan.name) ? [{ plan, via: "vdso" }] : [];
    const none = plan.call === NULL_CALL;
    const int80: Way = { plan, via: "int80", routine: "int80" };
    const syscall: Way = { plan, via: "syscall", routine: "syscall" };
    if (abi === "x86_64") return [...vdso, syscall, ...(none ? [int80] : [])];
    const gate: Way[] = has("__kernel_vsyscall") ? [{ plan, via: "gate" }] : [];
    const sysenter: Way = { plan, via: "sysenter", routine: "sysenter" };
    const bare: Way[] = none ? [...(hasSyscall(gateCode) ? [syscall] : []), sysenter] : [];
    return [...vdso, ...gate, ...bare, int80];
  });
}

/** Of the ways in which a call was made, the one that programs of the ABI use where no vDSO answers. */
export function realVia(abi: AgentAbi, vias: readonly Via[]): Via | undefined {
  const order: readonly Via[] = abi === "i386" ? ["gate", "int80"] : ["syscall"];
  return order.find((via) => vias.includes(via));
}
