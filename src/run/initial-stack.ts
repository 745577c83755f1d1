import { Reader, type ReaderOptions } from "../bytes/reader.js";
import { type AuxvEntry, parseAuxv } from "../linux/auxv.js";

/** What lies at the stack pointer of a program that has not yet run. */
export interface InitialStack {
  readonly argumentCount: number;
  readonly environmentCount: number;
  /** Bytes from the stack pointer to the auxiliary vector. */
  readonly auxvOffset: number;
  readonly auxv: readonly AuxvEntry[];
}

/**
 * Finds the auxiliary vector in the bytes from a new program's stack pointer up: the number of arguments, the pointers to
 * them and a null, those to the environment and a null, the vector.
 *
 * Throws `FormatError` where the bytes end first, or a null is not where it has to be.
 * Source: fs/binfmt_elf.c `create_elf_tables`; the System V ABI's process initialization.
 */
export function parseInitialStack(
  bytes: Uint8Array,
  options: Pick<ReaderOptions, "wordSize" | "littleEndian">,
): InitialStack {
  const reader = new Reader(bytes, { ...options, what: "initial stack" });
  const { wordSize } = reader;
  const argumentCount = reader.sizeAt(0);
  const argumentsEnd = (1 + argumentCount) * wordSize;
  const terminator = reader.wordAt(argumentsEnd);
  if (terminator !== 0n) throw reader.error("the arguments do not end with a null", argumentsEnd, terminator);
  let at = argumentsEnd + wordSize;
  while (reader.wordAt(at) !== 0n) at += wordSize;
  const auxvOffset = at + wordSize;
  return {
    argumentCount,
    environmentCount: (at - argumentsEnd) / wordSize - 1,
    auxvOffset,
    auxv: parseAuxv(bytes.subarray(auxvOffset), options),
  };
}
