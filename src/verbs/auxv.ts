import { RECORD_SIZE, readHeader } from "../elf/header.js";
import { AT_PHDR, AT_SYSINFO_EHDR, type AuxvKind, auxvTag, auxvValue } from "../linux/auxv.js";
import { hwcapNames } from "../linux/hwcap.js";
import { ProcessError } from "../linux/process.js";
import type { ProcessTarget } from "../targets/target.js";

/** One entry of the auxiliary vector, decoded. */
export interface DecodedAuxv {
  readonly tag: number;
  readonly name: string;
  readonly kind: AuxvKind;
  readonly meaning: string;
  readonly value: bigint;
  /** What a string entry points to. */
  readonly text?: string;
  /** The 16 bytes that AT_RANDOM points to. */
  readonly bytes?: Uint8Array;
  /** Names of the bits of AT_HWCAP and its like. */
  readonly features?: readonly string[];
  /** Why what the entry points to could not be read. */
  readonly unreadable?: string;
}

/** The auxiliary vector of a process. */
export interface AuxvResult {
  readonly target: string;
  readonly pid: number;
  readonly wordSize: 4 | 8;
  readonly entries: readonly DecodedAuxv[];
  readonly notes: readonly string[];
}

/** Longest string that an entry may point to: the kernel's limit on a path, and more than any platform name. */
const MAX_STRING = 4096;

/** The auxiliary vector of a process, as gdb's `info auxv` and LD_SHOW_AUXV show it, with what it points to. */
export function auxv(target: ProcessTarget): AuxvResult {
  const machine = machineOf(target);
  return {
    target: target.name,
    pid: target.process.pid,
    wordSize: target.wordSize,
    entries: target.auxv.map(({ tag, value }) => {
      const { name, kind, meaning } = auxvTag(tag);
      return { tag, name, kind, meaning, value, ...pointee(target, machine, tag, kind, value) };
    }),
    notes: target.notes,
  };
}

/**
 * The machine whose HWCAP bits these are, from the header of the process's own vDSO or, where it has none, of its
 * program: the program headers lie right behind that.
 */
function machineOf(target: ProcessTarget): number | undefined {
  const programHeaders = auxvValue(target.auxv, AT_PHDR);
  const headers = [
    auxvValue(target.auxv, AT_SYSINFO_EHDR),
    programHeaders && programHeaders - BigInt(RECORD_SIZE[target.wordSize === 8 ? 64 : 32].header),
  ];
  for (const header of headers) {
    if (header === undefined) continue;
    try {
      return readHeader(target.process.read(header, 64)).header.e_machine;
    } catch (error) {
      if (!(error instanceof ProcessError || error instanceof RangeError)) throw error;
    }
  }
  return undefined;
}

function pointee(
  target: ProcessTarget,
  machine: number | undefined,
  tag: number,
  kind: AuxvKind,
  value: bigint,
): Pick<DecodedAuxv, "text" | "bytes" | "features" | "unreadable"> {
  try {
    if (kind === "string" && value !== 0n) return { text: readString(target, value) };
    if (kind === "random" && value !== 0n) return { bytes: target.process.read(value, 16) };
  } catch (error) {
    if (error instanceof ProcessError) return { unreadable: error.code };
    throw error;
  }
  const features = kind === "hwcap" && machine !== undefined ? hwcapNames(machine, tag, value) : undefined;
  return features ? { features } : {};
}

/** Reads up to a NUL, never across the end of a mapping at once: strings lie at the very top of the stack. */
function readString(target: ProcessTarget, address: bigint): string {
  const bytes: number[] = [];
  while (bytes.length < MAX_STRING) {
    const at = address + BigInt(bytes.length);
    const chunk = target.process.read(at, Math.min(64, 4096 - Number(at & 4095n)));
    const end = chunk.indexOf(0);
    bytes.push(...(end < 0 ? chunk : chunk.subarray(0, end)));
    if (end >= 0) break;
  }
  return new TextDecoder("utf-8").decode(Uint8Array.from(bytes));
}
