import type { AuxvEntry } from "../linux/auxv.js";
import { AT_SYSINFO_EHDR, auxvValue, auxvWordSize, parseAuxv } from "../linux/auxv.js";
import { type Mapping, parseMaps } from "../linux/maps.js";
import { ProcessError, type ProcessView } from "../linux/process.js";
import { isVdso, parseImage, type VdsoImage } from "../vdso/image.js";
import { locateVdso, type VdsoLocation } from "../vdso/locate.js";

/** A target cannot serve what was asked of it: it names no process or file, or has no vDSO. */
export class TargetError extends Error {
  override readonly name = "TargetError";
}

/** A part of a process that could not be read, in a sentence. */
export interface Missing {
  readonly what: "maps" | "auxv" | "memory";
  readonly why: string;
}

/** What the user named: a process with its vDSO, or an image from a file. */
export type Target = ProcessTarget | ImageTarget;

/** An image in a file: no base address, no process. */
export interface ImageTarget {
  readonly kind: "image";
  /** As messages name it: the path. */
  readonly name: string;
  readonly image: VdsoImage;
  readonly location: undefined;
  readonly bias: undefined;
  /** Remarks on how the target was understood. */
  readonly notes: readonly string[];
  close(): Promise<void>;
}

/** The largest mapping that is taken for a vDSO: real ones have 1 to 4 pages, on pages of at most 64 KiB. */
const MAX_IMAGE = 1 << 24;

/** A process. Each part is read when first asked for and then kept. */
export class ProcessTarget {
  readonly kind = "process";
  readonly name: string;
  readonly process: ProcessView;
  readonly notes: readonly string[];
  readonly #onClose: (() => Promise<void>) | undefined;
  readonly #memo = new Map<string, { value: unknown } | { error: unknown }>();

  constructor(
    name: string,
    process: ProcessView,
    options: { notes?: readonly string[]; onClose?: () => Promise<void> } = {},
  ) {
    this.name = name;
    this.process = process;
    this.notes = options.notes ?? [];
    this.#onClose = options.onClose;
  }

  /** Remembers a value or the error, so that both are the same however often they are asked for. */
  #once<T>(key: string, make: () => T): T {
    let known = this.#memo.get(key);
    if (!known) {
      try {
        known = { value: make() };
      } catch (error) {
        known = { error };
      }
      this.#memo.set(key, known);
    }
    if ("error" in known) throw known.error;
    return known.value as T;
  }

  /** The text of /proc/PID/maps, byte for byte. */
  get mapsBytes(): Uint8Array {
    return this.#once("mapsBytes", () => this.process.mapsBytes());
  }

  get mappings(): readonly Mapping[] {
    return this.#once("mappings", () => parseMaps(new TextDecoder("utf-8").decode(this.mapsBytes)));
  }

  /** Word size of the process in bytes; throws {@link TargetError} where it has no auxiliary vector. */
  get wordSize(): 4 | 8 {
    return this.#once("wordSize", () => {
      const size = auxvWordSize(this.process.auxvBytes(), this.process.littleEndian);
      if (size === undefined) {
        throw new TargetError(
          `${this.name} has no auxiliary vector: it is a kernel thread, a zombie or has just ended`,
        );
      }
      return size;
    });
  }

  get auxv(): readonly AuxvEntry[] {
    return this.#once("auxv", () =>
      parseAuxv(this.process.auxvBytes(), { wordSize: this.wordSize, littleEndian: this.process.littleEndian }),
    );
  }

  /** Where the vDSO lies; `undefined` in a process without one. */
  get location(): VdsoLocation | undefined {
    return this.#once("location", () =>
      locateVdso(
        this.#optional(() => this.auxv),
        this.mappings,
      ),
    );
  }

  #optional<T>(get: () => T): T | undefined {
    try {
      return get();
    } catch (error) {
      if (error instanceof ProcessError || error instanceof TargetError) return undefined;
      throw error;
    }
  }

  /** The bytes mapped at the vDSO, all of the mapping; throws {@link TargetError} where there is none. */
  get imageBytes(): Uint8Array {
    return this.#once("imageBytes", () => {
      const { location } = this;
      if (!location) {
        const says = this.#optional(() => auxvValue(this.auxv, AT_SYSINFO_EHDR));
        throw new TargetError(
          says === undefined || says === 0n
            ? `${this.name} has no vDSO: no AT_SYSINFO_EHDR and no mapping [vdso] (vdso=0, an emulator, or a kernel without one)`
            : `${this.name} has no vDSO: AT_SYSINFO_EHDR is 0x${says.toString(16)}, where nothing is mapped`,
        );
      }
      if (location.size > MAX_IMAGE) {
        throw new TargetError(`${this.name}: the mapping at AT_SYSINFO_EHDR has ${location.size} bytes, no vDSO has`);
      }
      return this.process.read(location.base, location.size);
    });
  }

  get image(): VdsoImage {
    return this.#once("image", () => parseImage(this.imageBytes, { mapped: true }));
  }

  /** What to add to an address as linked to get that in the process; `undefined` without a vDSO. */
  get bias(): bigint | undefined {
    return this.location && this.location.base - this.image.linkBase;
  }

  /** What of the process cannot be read: permission, or it ended. */
  get missing(): readonly Missing[] {
    const missing: Missing[] = [];
    const attempt = (what: Missing["what"], get: () => unknown) => {
      try {
        get();
      } catch (error) {
        if (error instanceof ProcessError) missing.push({ what, why: error.message });
        else if (!(error instanceof TargetError)) throw error;
      }
    };
    attempt("maps", () => this.mapsBytes);
    attempt("auxv", () => this.auxv);
    if (missing.length === 0) attempt("memory", () => this.imageBytes);
    return missing;
  }

  async close(): Promise<void> {
    this.process.close();
    await this.#onClose?.();
  }
}

/** Makes a target of the bytes of an image; throws {@link TargetError} where they are another kind of ELF file. */
export function imageTarget(name: string, bytes: Uint8Array): ImageTarget {
  const image = parseImage(bytes, { mapped: true });
  if (!isVdso(image.elf)) {
    throw new TargetError(`${name} is an ELF file of ${image.abi}, but no vDSO image`);
  }
  return { kind: "image", name, image, location: undefined, bias: undefined, notes: [], close: async () => {} };
}
