import { type AuxvEntry, auxvValue } from "../auxv.js";

const AT_RANDOM = 25;

/** Bytes below the target of AT_RANDOM in which the vector is looked for: it lies right there, and has some 400. */
const MAX_STACK_VECTOR = 4096n;

/** Reads memory of a process; `undefined` where it cannot be read. */
type ReadMemory = (address: bigint, size: number) => Uint8Array | undefined;

/**
 * The vector that a program was given, on its stack, where C libraries read it: `vector` is the kernel's own record of
 * it, which /proc/PID/auxv shows. The two are the same unless somebody wrote to the stack: in place, or shifted, as the
 * dynamic linker does where it is run as a program.
 *
 * `undefined` where it is not found below the bytes that AT_RANDOM points to, where Linux puts it.
 */
export function stackVector(
  vector: readonly AuxvEntry[],
  read: ReadMemory,
  { wordSize, littleEndian }: { readonly wordSize: 4 | 8; readonly littleEndian: boolean },
): AuxvEntry[] | undefined {
  const random = auxvValue(vector, AT_RANDOM);
  const index = vector.findIndex(({ tag }) => tag === AT_RANDOM);
  if (random === undefined) return undefined;
  const end = random - (random % BigInt(wordSize));
  const bytes = end > MAX_STACK_VECTOR ? read(end - MAX_STACK_VECTOR, Number(MAX_STACK_VECTOR)) : undefined;
  if (!bytes) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = (at: number) =>
    wordSize === 8 ? view.getBigUint64(at, littleEndian) : BigInt(view.getUint32(at, littleEndian));
  const size = 2 * wordSize;
  // Where it was shifted down, its old end is left above it: the lowest counts.
  for (let at = index * size; at + size <= bytes.length; at += wordSize) {
    if (word(at) !== BigInt(AT_RANDOM) || word(at + wordSize) !== random) continue;
    const entries: AuxvEntry[] = [];
    for (let entry = at - index * size; entry + size <= bytes.length; entry += size) {
      const tag = Number(word(entry));
      if (tag === 0) break;
      entries.push({ tag, value: word(entry + wordSize) });
    }
    if (isLike(entries, vector)) return entries;
  }
  return undefined;
}

/** Whether most entries are those of the record: somebody may have changed some. */
function isLike(entries: readonly AuxvEntry[], vector: readonly AuxvEntry[]): boolean {
  const same = vector.filter(({ tag, value }, i) => entries[i]?.tag === tag && entries[i]?.value === value).length;
  return 2 * same > vector.length;
}
