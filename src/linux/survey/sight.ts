/** Kinds of mappings that a survey keeps; their numbers stand in shapes. */
export const KIND = {
  vdso: 1,
  vvar: 2,
  vvarClock: 3,
  vdsoData: 4,
  /** What lies at AT_SYSINFO_EHDR and is not named [vdso]. */
  other: 5,
  /** Executable memory that may hold a copy of an image: it starts as an ELF file does. */
  copy: 6,
} as const;

/** Bits of a protection in a shape. */
const PERMS = { r: 1, w: 2, x: 4, s: 8 } as const;

/** The letters of a protection, `r-xp`, as bits: of the four bytes at an offset of a line of maps. */
export function permsBits(text: Uint8Array, at: number): number {
  return (
    (text[at] === 0x72 ? PERMS.r : 0) |
    (text[at + 1] === 0x77 ? PERMS.w : 0) |
    (text[at + 2] === 0x78 ? PERMS.x : 0) |
    (text[at + 3] === 0x73 ? PERMS.s : 0)
  );
}

/** Bits of the second number of a shape. */
export const FLAG = {
  ehdr: 1,
  sysinfo: 2,
  pagesUntold: 4,
  imageUnread: 8,
  /** The vector on the program's stack is not where the kernel put it, or not as the kernel remembers it. */
  otherStack: 16,
  /** There is more executable memory than was looked into for copies. */
  unsearched: 32,
} as const;

/**
 * What a survey saw of one process or of many that look the same: all that matters of their vDSO, relative to where it
 * lies. Two processes of the same sight are alike in every respect that is judged.
 */
export interface Sight {
  /**
   * Word size, {@link FLAG}s, AT_SYSINFO relative to the image, bit mask of private pages, and for each mapping of
   * {@link KIND} its kind, start and end relative to the image, and protection.
   */
  readonly shape: Float64Array;
  /** The bytes at the image's place; empty where nothing is mapped there. */
  readonly image: Uint8Array;
  /** How many of the processes of the last pass showed this. */
  count: number;
}

/** What processes are held against each other as: those of one ABI. */
export type Group = 4 | 8 | "x32";

/** The number of x86-64 (EM_X86_64), in the ELF header's bytes 18 and 19. */
const X86_64 = 62;

/**
 * The group of processes of a word size: x32 programs stand beside those of i386, with words of 4 bytes and another
 * image. `kernels` says whether the image lies in pages of the kernel's own: what a process may have written is not
 * believed, or it could tell what it is to be held against.
 */
export function groupOf(wordSize: 4 | 8, image: Uint8Array, kernels: boolean): Group {
  return wordSize === 4 && kernels && image[18] === X86_64 && image[19] === 0 ? "x32" : wordSize;
}

/** Whether a sight's image lies in a mapping that the kernel calls [vdso], and nobody has written to it. */
export function isKernels({ shape }: Sight): boolean {
  if (shape[3] !== 0 || ((shape[1] as number) & FLAG.pagesUntold) !== 0) return false;
  for (let i = HEAD; i < shape.length; i += 4) if (shape[i] === KIND.other) return false;
  return true;
}

/** Numbers of a shape before those of its mappings. */
export const HEAD = 4;

/** Sights compared one by one before they are looked up by their text: nearly all processes show one of two or three. */
const COMPARED = 8;

/**
 * The sights of a survey, each kept once. Looking one up takes a comparison of bytes with those that are most common,
 * and no more than a look into a table however many there are.
 */
export class Sights {
  #first: Sight[] = [];
  readonly #rest = new Map<string, Sight>();

  /** The sight with this shape and these bytes, which are copied where it is new. */
  of(shape: Float64Array, image: Buffer): Sight {
    for (let i = 0; i < this.#first.length; i++) {
      const known = this.#first[i] as Sight;
      if (known.image.length === image.length && sameNumbers(known.shape, shape) && image.equals(known.image)) {
        known.count += 1;
        if (i > 0) this.#forward(i);
        return known;
      }
    }
    const made = (): Sight => ({ shape: shape.slice(), image: new Uint8Array(image), count: 1 });
    if (this.#first.length < COMPARED) {
      const sight = made();
      this.#first.push(sight);
      return sight;
    }
    const key = `${shape.join(",")};${image.toString("latin1")}`;
    const known = this.#rest.get(key);
    if (known) {
      known.count += 1;
      return known;
    }
    const sight = made();
    this.#rest.set(key, sight);
    return sight;
  }

  /** Starts to count anew, and forgets what the last pass did not show. */
  newPass(): void {
    this.#first = this.#first.filter(({ count }) => count > 0);
    for (const [key, { count }] of this.#rest) {
      if (count === 0) this.#rest.delete(key);
    }
    for (const sight of this.all()) sight.count = 0;
  }

  /** All sights. */
  *all(): Iterable<Sight> {
    yield* this.#first;
    yield* this.#rest.values();
  }

  #forward(i: number): void {
    const [one, other] = [this.#first[i - 1] as Sight, this.#first[i] as Sight];
    if (other.count <= one.count) return;
    this.#first[i - 1] = other;
    this.#first[i] = one;
  }
}

/** Whether two shapes are the same. */
export function sameNumbers(one: Float64Array, other: Float64Array): boolean {
  if (one.length !== other.length) return false;
  for (let i = 0; i < one.length; i++) if (one[i] !== other[i]) return false;
  return true;
}
