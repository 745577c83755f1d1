import type { FoundKernel } from "../kernel/find.js";
import type { AuxvEntry } from "../linux/auxv.js";
import type { Mapping } from "../linux/maps.js";
import { ProcessError, type ProcessView } from "../linux/process.js";
import { isVdso, parseImage, type VdsoImage } from "../vdso/image.js";
import type { VdsoLocation } from "../vdso/locate.js";
import { TargetError } from "./error.js";
import { Memo, type Moment, momentOf } from "./moment.js";

export { TargetError } from "./error.js";

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
  /** The kernel that it was found in: it is as the build made it, before any patching. Absent for a file of its own. */
  readonly kernel?: FoundKernel;
  readonly location: undefined;
  readonly bias: undefined;
  /** Remarks on how the target was understood. */
  readonly notes: readonly string[];
  close(): Promise<void>;
}

/** What is told of a process beside its parts. */
export interface ProcessOptions {
  /** Remarks on how the target was understood. */
  readonly notes?: readonly string[];
  /** Why it has no memory that could be read, in a sentence with its name: every part throws it as a {@link TargetError}. */
  readonly unreadable?: string;
  /** Is called by `close()` after the process was let go. */
  readonly onClose?: () => Promise<void>;
}

/**
 * A process. It is read when a part is first asked for, and the parts are then kept: all are of one program, even where
 * the process executes another one meanwhile.
 *
 * A part throws `ProcessError` where the system refuses it or the process has ended, and {@link TargetError} where the
 * process has no such part.
 */
export class ProcessTarget {
  readonly kind = "process";
  readonly name: string;
  readonly process: ProcessView;
  readonly notes: readonly string[];
  /** Why it has no memory that could be read (a kernel thread, a zombie); every part throws it as a TargetError. */
  readonly unreadable: string | undefined;
  readonly #onClose: (() => Promise<void>) | undefined;
  readonly #memo = new Memo();

  constructor(name: string, process: ProcessView, options: ProcessOptions = {}) {
    this.name = name;
    this.process = process;
    this.notes = options.notes ?? [];
    this.unreadable = options.unreadable;
    this.#onClose = options.onClose;
  }

  get #moment(): Moment {
    if (this.unreadable !== undefined) throw new TargetError(this.unreadable);
    return this.#memo.once("moment", () => momentOf(this.name, this.process));
  }

  /** The text of /proc/PID/maps, byte for byte. */
  get mapsBytes(): Uint8Array {
    return this.#moment.mapsBytes;
  }

  get mappings(): readonly Mapping[] {
    return this.#moment.mappings;
  }

  /** Word size of the process in bytes. */
  get wordSize(): 4 | 8 {
    return this.#moment.wordSize;
  }

  get auxv(): readonly AuxvEntry[] {
    return this.#moment.auxv;
  }

  /** Where the vDSO lies; `undefined` in a process without one. */
  get location(): VdsoLocation | undefined {
    return this.#moment.location;
  }

  /** The bytes mapped at the vDSO, all of the mapping; throws {@link TargetError} where there is none. */
  get imageBytes(): Uint8Array {
    return this.#moment.imageBytes;
  }

  get image(): VdsoImage {
    return this.#moment.image;
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
  return imageOf(name, image);
}

/** A target of an image that was read already. */
export function imageOf(
  name: string,
  image: VdsoImage,
  { kernel, notes = [] }: Partial<Pick<ImageTarget, "kernel" | "notes">> = {},
): ImageTarget {
  const nowhere = { location: undefined, bias: undefined, close: async () => {} };
  return { kind: "image", name, image, notes, ...nowhere, ...(kernel && { kernel }) };
}
