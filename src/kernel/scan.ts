import { FormatError } from "../bytes/error.js";
import { type Compression, SIGNATURE_SIZE, SIGNATURES, type Signature } from "./compression.js";
import { candidate, ELF_HEADER_SIZE, embeddedImage, PAGE } from "./embedded.js";
import { copied, type Pull } from "./pull.js";
import type { Draft, Layer } from "./result.js";
import { Window } from "./window.js";

/**
 * Bytes behind an image without another one after which the rest of a kernel is not searched.
 *
 * In every kernel looked at (Linux 5.10 to 7.2, nine architectures) each image lies on the page behind the one before.
 * The largest pages that Linux is built for on these are 64 KiB, and images are aligned to pages: this is four of them.
 */
const SLACK = 256 * 1024;

/** ELF files looked at in one stream; a kernel with an initramfs that is not compressed has hundreds. */
const MAX_CANDIDATES = 4096;

/** Places that look like the start of a compressed payload and are tried, in one stream. */
const MAX_TRIALS = 64;

const ELF_MAGIC = Uint8Array.of(0x7f, 0x45, 0x4c, 0x46);
const BANNER = new TextEncoder().encode("Linux version ");

/** As much of the banner as its release and what must follow it have. */
const MAX_BANNER = 128;

/** A place where a payload may start. */
export interface Place {
  readonly offset: number;
  readonly compression: Compression;
}

/** What is searched for: its bytes, where it was last seen, and up to where it was looked for. */
interface Pattern {
  readonly bytes: Uint8Array;
  readonly signature?: Signature;
  at: number;
  searchedTo: number;
}

/** The search of a stream for images and for what may be a payload; it notes what it finds in the kernel. */
export class Scan {
  /** Damage that did not end the search. */
  readonly problems: string[] = [];
  readonly path: readonly Layer[];
  readonly #window: Window;
  readonly #kernel: Draft;
  readonly #whole: boolean;
  readonly #elf = pattern(ELF_MAGIC);
  readonly #banner = pattern(BANNER);
  readonly #signatures: readonly Pattern[];
  #position: number;
  /** Offset behind the last image. */
  #behind: number | undefined;
  #candidates = 0;
  #trials = 0;

  constructor(
    pull: Pull,
    kernel: Draft,
    path: readonly Layer[],
    { whole, hasPayload }: { readonly whole: boolean; readonly hasPayload: boolean },
  ) {
    this.#window = new Window(pull);
    this.#position = this.#window.end;
    this.#kernel = kernel;
    this.path = path;
    this.#whole = whole;
    this.#signatures = hasPayload
      ? SIGNATURES.map((signature) => ({ ...pattern(Uint8Array.from(signature.start)), signature }))
      : [];
  }

  /** Searches on: to a place where a payload may start, to where enough was searched, or to the end. */
  async next(): Promise<Place | "enough" | "end"> {
    for (;;) {
      const hit = this.#earliest();
      const reached = hit?.at ?? this.#window.end;
      if (!this.#whole && this.#behind !== undefined && reached - this.#behind > SLACK) return "enough";
      if (!hit) {
        const before = this.#window.end;
        this.#position = Math.max(this.#position, before - BANNER.length + 1);
        if (!(await this.#window.fetch(this.#position))) return "end";
        this.#kernel.searched += this.#window.end - before;
        continue;
      }
      this.#position = hit.at + 1;
      if (hit === this.#elf) await this.#elfAt(hit.at);
      else if (hit === this.#banner) await this.#bannerAt(hit.at);
      else {
        const place = await this.#placeAt(hit.at, hit.signature as Signature);
        if (place) return place;
      }
    }
  }

  /** A copy of what was fetched from an offset on. */
  rest(offset: number): Uint8Array {
    return copied(this.#window.view(offset, this.#window.end - offset));
  }

  /** Goes on where the stream now stands. */
  restart(): void {
    this.#window.restart();
    this.#position = this.#window.end;
  }

  /** The first place, at or behind the position, where something that is searched for starts. */
  #earliest(): Pattern | undefined {
    const wanted = [this.#elf];
    if (this.#kernel.release === undefined) wanted.push(this.#banner);
    // A kernel with images in it is none that decompresses itself.
    if (this.#behind === undefined && this.#trials < MAX_TRIALS) wanted.push(...this.#signatures);
    let first: Pattern | undefined;
    for (const one of wanted) {
      if (one.at < this.#position) {
        const from = Math.max(this.#position, one.at === -1 ? one.searchedTo - one.bytes.length + 1 : 0);
        const at = this.#window.find(one.bytes, from);
        one.searchedTo = this.#window.end;
        one.at = at;
      }
      if (one.at >= 0 && (first === undefined || one.at < first.at)) first = one;
    }
    return first;
  }

  async #fetch(offset: number, size: number): Promise<Uint8Array> {
    const before = this.#window.end;
    await this.#window.ensure(offset, size);
    this.#kernel.searched += this.#window.end - before;
    return this.#window.view(offset, size);
  }

  async #elfAt(offset: number): Promise<void> {
    const header = candidate(await this.#fetch(offset, ELF_HEADER_SIZE));
    if (!header) return;
    if (++this.#candidates > MAX_CANDIDATES) {
      throw new FormatError(`Cannot search further: more than ${MAX_CANDIDATES} ELF files`, offset);
    }
    const bytes = await this.#fetch(offset, header.paddedSize);
    if (bytes.length < header.size && !header.open) {
      // Images lie on pages; elsewhere, it is something that happens to look like a header.
      if (offset % PAGE === 0) {
        this.problems.push(new FormatError("Cannot read ELF file: it is cut short", offset + bytes.length).message);
      }
      return;
    }
    const image = embeddedImage(bytes);
    if (!image) return;
    this.#kernel.images.push({ image, offset, path: this.path });
    this.#behind = offset + header.size;
    if (header.open) this.#behind = offset + image.bytes.length;
    this.#position = this.#behind;
  }

  async #bannerAt(offset: number): Promise<void> {
    const text = String.fromCharCode(...(await this.#fetch(offset, MAX_BANNER)));
    // The kernel also has the text with a format in the place of the release.
    const release = /^Linux version (\d[!-~]{0,64}) \(/.exec(text)?.[1];
    if (release !== undefined) this.#kernel.release = release;
  }

  async #placeAt(offset: number, signature: Signature): Promise<Place | undefined> {
    const bytes = await this.#fetch(offset, SIGNATURE_SIZE);
    if (bytes.length < SIGNATURE_SIZE || !signature.plausible(bytes)) return undefined;
    this.#trials++;
    return { offset, compression: signature.compression };
  }
}

function pattern(bytes: Uint8Array): Pattern {
  return { bytes, at: -1, searchedTo: 0 };
}
