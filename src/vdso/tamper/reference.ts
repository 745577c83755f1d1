import { sameBytes } from "../../bytes/equal.js";
import { Reader } from "../../bytes/reader.js";
import { EM_AARCH64 } from "../../elf/constants.js";
import { type AlternativeTable, alternativesOf } from "../boot/alternatives.js";
import { permittedVariants } from "../boot/variants.js";
import type { VdsoImage } from "../image.js";

/** An image that others are held against. */
export interface ReferenceImage {
  /** As messages name it: a path, `a fresh x86_64 process`. */
  readonly name: string;
  readonly image: VdsoImage;
  /**
   * What it may differ in from an image that is mapped. `same boot`: nothing, for the kernel chooses once; `patched`: it
   * is one that was mapped, on another machine perhaps; `unpatched`: as in the kernel's file; `either`: not known.
   */
  readonly kind: "same boot" | "patched" | "unpatched" | "either";
}

/** What may lie at one site. */
interface AllowedSite {
  readonly start: number;
  readonly end: number;
  /** Each of the length of the site. */
  readonly allowed: readonly Uint8Array[];
}

/** How a byte is wrong. */
export const OUTSIDE = 1;
export const AT_SITE = 2;
export const SITE_DIFFERS = 3;

/** Where an image is not as a reference says; of the size of the image that was found. */
export interface Difference {
  /** For each byte 0, or how it is wrong. */
  readonly wrong: Uint8Array;
  readonly expected: Uint8Array;
  readonly count: number;
}

/** An image prepared for comparing others with it: all that depends on it alone is worked out once. */
export class Reference {
  readonly name: string;
  readonly image: VdsoImage;
  readonly kind: ReferenceImage["kind"];
  /** The image's bytes, padded with zeros to whole pages as the kernel maps it. */
  readonly bytes: Uint8Array;
  readonly #sites: readonly AllowedSite[];

  /** Throws `FormatError` where the image's table of alternatives is damaged. */
  constructor({ name, image, kind }: ReferenceImage, pageSize = 4096) {
    this.name = name;
    this.image = image;
    this.kind = kind;
    const size = Math.ceil(Math.max(image.bytes.length, Number(image.loadSize)) / pageSize) * pageSize;
    if (size > MAX_IMAGE) {
      throw new Reader(image.bytes, { what: "vDSO image" }).error(`it has ${size} bytes, no vDSO has`, 0, size);
    }
    this.bytes = new Uint8Array(size);
    this.bytes.set(image.bytes);
    const table = alternativesOf(image);
    this.#sites = table ? this.#allowed(table) : [];
  }

  #allowed(table: AlternativeTable): AllowedSite[] {
    const { kernelVersion } = this.image;
    const options = {
      recordSize: table.recordSize,
      arm64: this.image.elf.header.e_machine === EM_AARCH64,
      ...(kernelVersion && { release: (kernelVersion.code >>> 16) * 1000 + ((kernelVersion.code >>> 8) & 255) }),
    };
    return table.sites.map((site) => {
      const end = site.offset + site.length;
      const own = this.bytes.subarray(site.offset, end);
      // An image that was mapped may show the original here; if it does not, its padding in another style is no other code.
      const variants = permittedVariants(site, { ...options, original: own }).map(({ bytes }) => bytes);
      const literal = this.kind === "unpatched" ? [] : [own];
      return { start: site.offset, end, allowed: [...literal, ...variants] };
    });
  }

  /** Where `found` is not what this reference allows. */
  compare(found: Uint8Array): Difference {
    const wrong = new Uint8Array(found.length);
    const expected = new Uint8Array(found.length);
    expected.set(this.bytes.subarray(0, found.length));
    for (let i = 0; i < found.length; i++) {
      if (found[i] !== expected[i]) wrong[i] = OUTSIDE;
    }
    for (const site of this.#sites) this.#compareSite(site, found, wrong, expected);
    return { wrong, expected, count: wrong.reduce((sum, how) => sum + (how === 0 ? 0 : 1), 0) };
  }

  #compareSite({ start, end, allowed }: AllowedSite, found: Uint8Array, wrong: Uint8Array, expected: Uint8Array) {
    if (end > found.length) return;
    const there = found.subarray(start, end);
    const permitted = allowed.some((bytes) => sameBytes(bytes, there));
    if (this.kind !== "same boot") {
      if (permitted) wrong.fill(0, start, end);
      else {
        const nearest = nearestOf(allowed, there);
        if (nearest) expected.set(nearest, start);
        for (let i = start; i < end; i++) wrong[i] = found[i] === expected[i] ? 0 : AT_SITE;
      }
      return;
    }
    for (let i = start; i < end; i++) {
      if (wrong[i] !== 0) wrong[i] = permitted ? SITE_DIFFERS : AT_SITE;
    }
  }
}

/** The largest image that is taken for a vDSO. */
const MAX_IMAGE = 1 << 20;

function nearestOf(candidates: readonly Uint8Array[], found: Uint8Array): Uint8Array | undefined {
  let best: Uint8Array | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const distance = found.reduce((sum, byte, i) => sum + (byte === candidate[i] ? 0 : 1), 0);
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}
