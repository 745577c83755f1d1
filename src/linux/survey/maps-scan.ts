import { KIND, permsBits } from "./sight.js";

const NEWLINE = 0x0a;
const SPACE = 0x20;
const DASH = 0x2d;
const ZERO = 0x30;
const OPEN = 0x5b;

/** Names of mappings that are kept, by the bytes between the brackets. */
const NAMES: readonly (readonly [name: Uint8Array, kind: number])[] = (
  [
    ["[vdso]", KIND.vdso],
    ["[vvar]", KIND.vvar],
    ["[vvar_vclock]", KIND.vvarClock],
    ["[vdso_data]", KIND.vdsoData],
  ] as const
).map(([name, kind]) => [new TextEncoder().encode(name), kind]);

/** Mappings that are looked into for a copy of the image; more of them are a JIT compiler's. */
const MAX_CANDIDATES = 256;

/** The largest mapping of a file that is looked into: programs whose code starts the file are larger, images smaller. */
export const MAX_COPY_FILE = 1 << 16;

/** Where the kernel's half of the addresses begins: [vsyscall] lies there, which cannot be read. */
const KERNEL_HALF = 2 ** 63;

/**
 * What a survey needs of the text of /proc/PID/maps, found without making an object of any line: a process has dozens
 * of them, and one in ten matters.
 *
 * Addresses are numbers: no process has memory above 2^53. Arrays are used again by the next scan.
 */
export class MapsScan {
  /** Kind, start, end and protection of each mapping that is kept, four numbers a mapping, in order. */
  readonly kept: number[] = [];
  /**
   * Start and end of executable mappings that may hold a copy of an image: those without a file, whatever name the
   * program gave them, and small ones of the start of a file (a memfd is one).
   */
  readonly candidates: number[] = [];
  /** Whether there were more of them than are kept. */
  overflowed = false;

  /** Scans `length` bytes of text. `ehdr` is AT_SYSINFO_EHDR, or 0: the mapping there is kept whatever its name. */
  scan(text: Uint8Array, length: number, ehdr: number): void {
    this.kept.length = 0;
    this.candidates.length = 0;
    this.overflowed = false;
    let at = 0;
    while (at < length) {
      let start = 0;
      let i = at;
      for (; i < length && text[i] !== DASH; i++) start = start * 16 + digit(text[i] as number);
      let end = 0;
      for (i += 1; i < length && text[i] !== SPACE; i++) end = end * 16 + digit(text[i] as number);
      const perms = i + 1;
      let stop = text.indexOf(NEWLINE, perms);
      if (stop < 0 || stop > length) stop = length;
      this.#line(text, start, end, perms, stop, ehdr);
      at = stop + 1;
    }
  }

  #line(text: Uint8Array, start: number, end: number, perms: number, stop: number, ehdr: number): void {
    const kind = text[stop - 1] === 0x5d ? kindOf(text, stop) : 0;
    if (kind !== 0) {
      this.kept.push(kind, start, end, permsBits(text, perms));
      return;
    }
    if (ehdr !== 0 && start <= ehdr && ehdr < end) this.kept.push(KIND.other, start, end, permsBits(text, perms));
    if (text[perms + 2] !== 0x78 || start >= KERNEL_HALF) return;
    if (!(isWithoutFile(text, perms, stop) || (end - start <= MAX_COPY_FILE && isFileStart(text, perms)))) return;
    if (this.candidates.length < 2 * MAX_CANDIDATES) this.candidates.push(start, end);
    else this.overflowed = true;
  }
}

/** Whether the inode, the third field behind the protection, is 0: `r-xp 00000000 00:00 0 [anon:name]`. */
function isWithoutFile(text: Uint8Array, perms: number, stop: number): boolean {
  const device = text.indexOf(SPACE, perms + 5);
  const inode = text.indexOf(SPACE, device + 1) + 1;
  return text[inode] === ZERO && (inode + 1 >= stop || text[inode + 1] === SPACE);
}

/** Whether the offset, the field behind the protection, is 0. */
function isFileStart(text: Uint8Array, perms: number): boolean {
  let i = perms + 5;
  while (text[i] === ZERO) i += 1;
  return text[i] === SPACE;
}

function digit(byte: number): number {
  return byte <= 0x39 ? byte - ZERO : byte - 0x57;
}

/** The kind of a mapping whose line ends in `]` at `stop`; 0 for one that is not kept. */
function kindOf(text: Uint8Array, stop: number): number {
  for (const [name, kind] of NAMES) {
    const from = stop - name.length;
    // A file's name starts with a slash, so that none ends in a space and these brackets alone… unless a folder does.
    if (text[from] === OPEN && text[from - 1] === SPACE && matches(text, from, name) && isSpecial(text, from))
      return kind;
  }
  return 0;
}

function matches(text: Uint8Array, from: number, name: Uint8Array): boolean {
  for (let i = 0; i < name.length; i++) if (text[from + i] !== name[i]) return false;
  return true;
}

/** Whether only spaces lie between the inode, which is 0, and the name: a file may be called "/tmp/a [vdso]". */
function isSpecial(text: Uint8Array, from: number): boolean {
  let i = from - 1;
  while (text[i] === SPACE) i -= 1;
  return text[i] === ZERO && text[i - 1] === SPACE;
}
