import { FormatError } from "../bytes/error.js";
import { joined } from "../bytes/joined.js";
import { arMembers } from "./ar.js";
import { type Compression, compressionOf, type Decompress, SIGNATURE_SIZE } from "./compression.js";
import { candidate, ELF_HEADER_SIZE } from "./embedded.js";
import { type Format, HEAD_SIZE, identify } from "./format.js";
import { isKernelName } from "./names.js";
import { type ByteStream, copied, Pull } from "./pull.js";
import type { Draft, FoundKernel, KernelFile, Layer, Problem } from "./result.js";
import { type Place, Scan } from "./scan.js";
import { tarMembers } from "./tar.js";

export type { FoundImage, FoundKernel, KernelFile, Layer } from "./result.js";

/** Containers in one another: a package, its archive, a compressed kernel, its payload are four. */
const MAX_DEPTH = 8;

/** Output after which a place that was tried is what it looked like. */
const PROOF = 64 * 1024;

/** Places that were not what they looked like, which are told where nothing was found. */
const MAX_SUSPECTS = 3;

/** Input that is kept in case a place was not what it looked like: a block of lz4, and then some. */
const MAX_REPLAY = 10 * 1024 * 1024;

/** Bytes searched and decompressed unless told otherwise. */
const DEFAULT_MAX_SIZE = 512 * 1024 * 1024;

/** How to search. */
export interface SearchOptions {
  readonly decompress: Decompress;
  /** Search to the end, though images were found and none followed for a while. */
  readonly whole?: boolean;
  /** Bytes that may be read, and bytes that may be decompressed; 512 MiB unless told otherwise. */
  readonly maxSize?: number;
}

/**
 * Finds every vDSO image in a kernel file, or in a package of one, reading no more than is needed: it stops a little
 * behind the last image. The stream is closed.
 *
 * Damage ends the search where it is, and is told in the result together with what was found before.
 */
export async function searchKernel(stream: ByteStream, options: SearchOptions): Promise<KernelFile> {
  const search = new Search(options);
  const file = new Pull(search.counted(stream, "read"));
  try {
    const done = await search.guarded([], () => search.stream(file, [], {}));
    return search.result(file.offset, !done);
  } finally {
    await file.close();
  }
}

/** What a stream is known to be part of. */
interface Context {
  /** It is a member of this name. */
  readonly name?: string;
  /** It was decompressed out of a kernel: no other payload is in it. */
  readonly isPayload?: boolean;
}

class Search {
  readonly #options: SearchOptions;
  readonly #budget: number;
  readonly #spent = { read: 0, decompressed: 0 };
  readonly #kernels: Draft[] = [];
  readonly #problems: Problem[] = [];
  readonly #met = new Set<string>();
  /** Places that looked like a payload and could not be read: damage, if there was one. */
  readonly #suspects: Problem[] = [];
  #kernel: Draft | undefined;

  constructor(options: SearchOptions) {
    this.#options = options;
    this.#budget = options.maxSize ?? DEFAULT_MAX_SIZE;
  }

  result(read: number, whole: boolean): KernelFile {
    const kernels = this.#kernels.map(finished);
    const images = kernels.flatMap((kernel) => kernel.images);
    const problems = [...this.#problems, ...(images.length === 0 ? this.#suspects : [])];
    return {
      kernels,
      images,
      problems,
      read,
      whole: whole && problems.length === 0 && kernels.every((kernel) => kernel.whole),
      met: [...this.#met],
    };
  }

  /** A stream whose bytes are counted, and end in an error where they are too many. */
  async *counted(stream: ByteStream, what: "read" | "decompressed"): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of stream) {
      const room = this.#budget - this.#spent[what];
      this.#spent[what] += Math.min(chunk.length, room);
      if (chunk.length <= room) {
        yield chunk;
        continue;
      }
      if (room > 0) yield chunk.subarray(0, room);
      throw new FormatError(
        `Cannot search further: more than ${this.#budget} bytes would be ${what} (--max-size allows more)`,
        this.#spent[what],
        this.#budget,
      );
    }
  }

  #decompressed(compression: Compression, source: Pull): Pull {
    return new Pull(this.counted(this.#options.decompress(compression, source), "decompressed"));
  }

  /** Does a part of the search; damage becomes a problem. Resolves to whether the search is done. */
  async guarded(path: readonly Layer[], part: () => Promise<boolean>): Promise<boolean> {
    try {
      return await part();
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      // A broken container breaks everything in it again.
      const { message } = error;
      if (!this.#problems.some((problem) => problem.message === message)) this.#problems.push({ message, path });
      return false;
    }
  }

  /** Searches a stream of any kind; resolves to whether enough was found for the rest not to be searched. */
  async stream(pull: Pull, path: readonly Layer[], context: Context): Promise<boolean> {
    if (path.length > MAX_DEPTH) throw new FormatError(`Cannot search further: ${MAX_DEPTH} containers deep`, 0);
    const head = await pull.peek(HEAD_SIZE);
    const format = identify(head);
    switch (format?.kind) {
      case "deb":
        this.#met.add("a Debian package");
        return this.#package(pull, path);
      case "tar":
        this.#met.add("a tar archive");
        return this.#archive(pull, [...path, { format: "tar", offset: 0 }]);
      case "compressed": {
        const { compression } = format;
        this.#met.add(withArticle(`${compression} stream`));
        const inside = [...path, { format: compression, offset: pull.offset }];
        const inner = this.#decompressed(compression, pull);
        try {
          return await this.stream(inner, inside, context);
        } finally {
          await inner.close();
        }
      }
      default:
        return this.#kernelStream(pull, path, context, format);
    }
  }

  /** Searches a stream that is no container but a kernel, a part of one, or anything else. */
  async #kernelStream(pull: Pull, path: readonly Layer[], context: Context, format: Format | undefined) {
    const outer = this.#kernel;
    const name = formatName(format, await pull.peek(ELF_HEADER_SIZE));
    if (!outer || format) this.#met.add(withArticle(name));
    const kernel = outer ?? this.#begin(name, context.name);
    this.#describe(kernel, format);
    // What lies in a kernel's payload is its vmlinux, and has no offset of its own there.
    const inside = outer && name === "unknown file" ? path : [...path, { format: name, offset: pull.offset }];
    this.#kernel = kernel;
    try {
      const done = await this.#contents(pull, inside, context, format);
      if (!outer) kernel.whole = !done;
      return done;
    } finally {
      this.#kernel = outer;
    }
  }

  async #contents(pull: Pull, path: readonly Layer[], context: Context, format: Format | undefined): Promise<boolean> {
    if (format?.kind !== "payload") {
      const hasPayload = context.isPayload !== true && format?.kind !== "raw";
      const done = await this.#scan(pull, path, hasPayload);
      if (!done && format?.kind === "elf" && pull.offset < format.size) {
        throw new FormatError("Cannot read ELF file: it is cut short", pull.offset, format.size);
      }
      return done;
    }
    if (format.size === 0) throw new FormatError(`Cannot read ${format.name}: its payload has no bytes`, format.offset);
    await pull.skip(format.offset - pull.offset, format.name);
    const payload = new Pull(pull.limited(format.size, `payload of ${format.name}`));
    const compression = compressionOf(await payload.peek(SIGNATURE_SIZE));
    // One that is not compressed, or in a way that nobody knows.
    if (!compression) return this.#scan(payload, path, true);
    return this.#payload(payload, compression, [...path, { format: compression, offset: format.offset }]);
  }

  async #payload(source: Pull, compression: Compression, path: readonly Layer[]): Promise<boolean> {
    const inner = this.#decompressed(compression, source);
    try {
      return await this.stream(inner, path, { isPayload: true });
    } finally {
      await inner.close();
    }
  }

  #begin(format: string, name: string | undefined): Draft {
    const kernel: Draft = { format, ...(name !== undefined && { name }), images: [], searched: 0, whole: false };
    this.#kernels.push(kernel);
    return kernel;
  }

  #describe(kernel: Draft, format: Format | undefined): void {
    if (!format) return;
    if ("abi" in format && format.abi && kernel.abi === undefined) kernel.abi = format.abi;
    if (format.kind === "elf" && kernel.width === undefined) kernel.width = format.width;
    if (format.kind === "payload" && format.release !== undefined) kernel.release = format.release;
  }

  /** Searches the data of a Debian package: the kernels, and images that are files, up to the end of their folder. */
  async #package(pull: Pull, path: readonly Layer[]): Promise<boolean> {
    const inside = [...path, { format: "deb", offset: 0 }];
    for await (const { name, offset, body } of arMembers(pull)) {
      if (!/^data\.tar(\.\w+)?$/.test(name)) continue;
      const here = [...inside, { format: "member", offset, name }];
      if (/^data\.tar$/.test(name)) return this.#archive(body, here);
      const compression = compressionOf(await body.peek(SIGNATURE_SIZE));
      if (!compression) throw new FormatError(`Cannot read ${name}: it is not compressed in a known way`, offset);
      const archive = this.#decompressed(compression, body);
      try {
        return await this.#archive(archive, [...here, { format: compression, offset: 0 }]);
      } finally {
        await archive.close();
      }
    }
    throw new FormatError("Cannot read Debian package: it has no data.tar", pull.offset);
  }

  async #archive(pull: Pull, path: readonly Layer[]): Promise<boolean> {
    let folder: string | undefined;
    for await (const { name, isFile, offset, body } of tarMembers(pull)) {
      // Members of a folder stand together, and other kernels stand beside this one.
      if (folder !== undefined && !this.#options.whole && !name.startsWith(folder)) return true;
      if (!isFile || !isKernelName(name)) continue;
      const here = [...path, { format: "member", offset, name }];
      const before = this.#kernels.length;
      await this.guarded(here, () => this.stream(body, here, { name }));
      const found = this.#kernels.slice(before);
      // What only has the name of a kernel is not worth a mention.
      for (const kernel of found)
        if (kernel.images.length === 0) this.#kernels.splice(this.#kernels.indexOf(kernel), 1);
      if (found.some(({ images }) => images.length > 0)) folder ??= name.slice(0, name.lastIndexOf("/") + 1);
    }
    return false;
  }

  /** Searches bytes for images, and, in a kernel that decompresses itself, for its payload. */
  async #scan(pull: Pull, path: readonly Layer[], hasPayload: boolean): Promise<boolean> {
    const kernel = this.#kernel as Draft;
    const scan = new Scan(pull, kernel, path, { whole: this.#options.whole === true, hasPayload });
    try {
      for (;;) {
        const place = await scan.next();
        if (place === "enough") return true;
        if (place === "end") return false;
        if (await this.#trial(pull, scan, place)) return true;
      }
    } finally {
      this.#problems.push(...scan.problems.map((message) => ({ message, path })));
    }
  }

  /** Tries whether a payload starts at a place, and searches it. */
  async #trial(pull: Pull, scan: Scan, place: Place): Promise<boolean> {
    const replay: Uint8Array[] = [];
    let kept = 0;
    let decided = false;
    async function* input(): AsyncGenerator<Uint8Array> {
      yield scan.rest(place.offset);
      for (let chunk = await pull.chunk(); chunk; chunk = await pull.chunk()) {
        if (!decided) {
          replay.push(copied(chunk));
          kept += chunk.length;
          decided = kept > MAX_REPLAY;
        }
        yield chunk;
      }
    }
    const source = new Pull(input());
    const inner = this.#decompressed(place.compression, source);
    const inside = [...scan.path.map(asLoader), { format: place.compression, offset: place.offset }];
    try {
      const proof = await inner.peek(PROOF);
      if (!decided && proof.length < PROOF && inner.failure) throw inner.failure.error;
    } catch (error) {
      await inner.close();
      const isSpent = this.#spent.decompressed >= this.#budget;
      if (!(error instanceof FormatError) || decided || isSpent) throw error;
      if (this.#suspects.length < MAX_SUSPECTS) this.#suspects.push({ message: error.message, path: inside });
      pull.unread(joined(replay));
      return false;
    }
    decided = true;
    replay.length = 0;
    const kernel = this.#kernel as Draft;
    try {
      const done = await this.stream(inner, inside, { isPayload: true });
      if (kernel.images.length > 0) kernel.format = asLoader(kernel).format;
      if (done) return true;
      await inner.drain();
      // What the decoder did not want is searched on.
      pull.unread(source.release());
      scan.restart();
      return false;
    } finally {
      await inner.close();
    }
  }
}

/** An ELF file that turned out to have a payload (vmlinuz of mips) is no vmlinux. */
function asLoader<T extends { readonly format: string }>(layer: T): T {
  return layer.format === "vmlinux" ? { ...layer, format: "ELF loader" } : layer;
}

/** A kernel with what its images tell of it, where nothing else did. */
function finished(kernel: Draft): FoundKernel {
  const abis = kernel.images.map(({ image }) => image);
  const main = abis.find(({ elf }) => elf.header.class === 64) ?? abis[0];
  if (!main) return kernel;
  const { abi = main.abi, width = main.elf.header.class } = kernel;
  const isImage = abis.length === 1 && kernel.images[0]?.offset === 0;
  return { ...kernel, abi, width, ...(isImage && { format: "vDSO image" }) };
}

/** A name of a format behind the article that it is spoken with: `an xz stream`, `a zImage`, `an s390 image`. */
function withArticle(name: string): string {
  return `${/^([aeiou]|[lsx][^aeiou])/i.test(name) ? "an" : "a"} ${name}`;
}

function formatName(format: Format | undefined, head: Uint8Array): string {
  switch (format?.kind) {
    case "payload":
    case "loader":
    case "raw":
      return format.name;
    case "elf":
      return format.isKernel ? "vmlinux" : candidate(head) ? "ELF shared object" : "ELF file";
    default:
      return "unknown file";
  }
}
