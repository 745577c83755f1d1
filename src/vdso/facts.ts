import type { Instruction } from "../isa/instruction.js";
import { behind, type Code } from "./code.js";
import { type Budget, follow, type Visit } from "./dataflow.js";
import { type Mechanism, mechanismOf } from "./gate.js";
import type { VdsoFunction, VdsoImage } from "./image.js";
import { CLOCK_NAMES, syscallName } from "./syscalls.js";

/** A place where a function enters the kernel: its fallback, or all that it does. */
export interface KernelEntry {
  readonly address: bigint;
  /** By an instruction of its own, or by calling `__kernel_vsyscall`. */
  readonly by: Mechanism | "__kernel_vsyscall";
  /** Number of the system call, where every path sets the same. */
  readonly number?: number;
  /** Its name on this ABI. */
  readonly name?: string;
}

/** An instruction that reads something of the processor. */
export interface ProcessorRead {
  readonly address: bigint;
  readonly instruction: "rdtsc" | "rdtscp" | "rdpid" | "lsl" | "rdrand" | "rdseed";
  /** What keeps the processor from reading it too early, in front of it. */
  readonly fence?: "lfence" | "mfence";
}

/** An instruction that reads (or takes the address of) data that the kernel put before the image. */
export interface DataAccess {
  /** Address of the instruction, as linked. */
  readonly at: bigint;
  /** Address of the data relative to the start of the image: negative. */
  readonly offset: bigint;
}

/** What the code of one function does, found by following it. */
export interface FunctionFacts {
  readonly function: VdsoFunction;
  /** Instructions reached, those of internal functions that it calls included. */
  readonly instructionCount: number;
  readonly kernelEntries: readonly KernelEntry[];
  readonly processorReads: readonly ProcessorRead[];
  /** Accesses to data before the image, in the order of the code. */
  readonly dataAccesses: readonly DataAccess[];
  /** Whether it waits and reads again where the kernel was just writing (a sequence lock). */
  readonly retries: boolean;
  /** Clocks that it tells by a bit mask, in the order of the tests: each mask a set of clock numbers. */
  readonly clockMasks: readonly number[];
  /** `enclu`: it enters an SGX enclave. */
  readonly entersEnclave: boolean;
  /** Whether all of its code was followed: a hostile image may have more than is worth following. */
  readonly complete: boolean;
}

/** How far from the image its data may lie: the kernel puts at most 16 pages before it. */
const DATA_WINDOW = 64n * 4096n;

const PROCESSOR_READS: ReadonlySet<string> = new Set<ProcessorRead["instruction"]>([
  "rdtsc",
  "rdtscp",
  "rdpid",
  "lsl",
  "rdrand",
  "rdseed",
]);

/** Names of the clocks in a mask, as {@link CLOCK_NAMES} has them. */
export function clocksOfMask(mask: number): string[] {
  return Array.from({ length: 32 }, (_, bit) => bit)
    .filter((bit) => (mask >>> bit) & 1)
    .map((bit) => CLOCK_NAMES[bit] ?? `clock ${bit}`);
}

/** Follows the code of one function of an x86 image, as far as the budget of the image goes, and says what it does. */
export function functionFacts(image: VdsoImage, target: VdsoFunction, code: Code, budget: Budget): FunctionFacts {
  const wide = image.abi !== "i386";
  const visits = follow(target.address, code, {
    wide,
    budget,
    neverReturns: (number) => syscallName(image.abi, number)?.endsWith("sigreturn") ?? false,
  });
  // Inside the entry lies the gate itself: whoever calls it enters the kernel there.
  const entry = image.entry;
  const insideEntry = (address: bigint) =>
    entry !== undefined && target !== entry && address >= entry.address && address < entry.address + BigInt(entry.size);
  const own = visits.filter(({ instruction }) => !insideEntry(instruction.address));
  return {
    function: target,
    instructionCount: own.length,
    kernelEntries: own.flatMap((visit) => kernelEntry(image, visit)),
    processorReads: own.flatMap((visit, i) => processorRead(visit.instruction, own[i - 1]?.instruction)),
    dataAccesses: dataAccesses(image, own, wide),
    retries: own.some(({ instruction }) => instruction.mnemonic === "pause"),
    clockMasks: [
      ...new Set(own.flatMap(({ argumentMask }) => (argumentMask === undefined ? [] : [Number(argumentMask)]))),
    ],
    entersEnclave: own.some(({ instruction }) => instruction.mnemonic === "enclu"),
    complete: !budget.exhausted,
  };
}

function kernelEntry(image: VdsoImage, { instruction, accumulator }: Visit): KernelEntry[] {
  const callsEntry = instruction.flow === "call" && instruction.target === image.entry?.address && image.entry;
  const by = callsEntry ? ("__kernel_vsyscall" as const) : mechanismOf(instruction);
  if (!by) return [];
  if (accumulator === undefined) return [{ address: instruction.address, by }];
  const number = Number(accumulator);
  const name = syscallName(image.abi, number);
  return [{ address: instruction.address, by, number, ...(name && { name }) }];
}

function processorRead(instruction: Instruction, before: Instruction | undefined): ProcessorRead[] {
  if (!PROCESSOR_READS.has(instruction.mnemonic)) return [];
  const fence = before && behind(before) === instruction.address ? before.mnemonic : undefined;
  return [
    {
      address: instruction.address,
      instruction: instruction.mnemonic as ProcessorRead["instruction"],
      ...((fence === "lfence" || fence === "mfence") && { fence }),
    },
  ];
}

function dataAccesses(image: VdsoImage, visits: readonly Visit[], wide: boolean): DataAccess[] {
  return visits.flatMap(({ instruction, memoryAddress }) => {
    if (memoryAddress === undefined) return [];
    const memory = instruction.operands.find((operand) => operand.kind === "memory");
    // An address computed from no register on i386 is an offset that another instruction adds.
    const absolute = memory?.base === undefined && memory?.index === undefined;
    if (!wide && absolute && instruction.mnemonic.startsWith("lea")) return [];
    const offset = BigInt.asIntN(wide ? 64 : 32, memoryAddress - image.linkBase);
    return offset < 0n && offset >= -DATA_WINDOW ? [{ at: instruction.address, offset }] : [];
  });
}
