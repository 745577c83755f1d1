import { sameBytes } from "../bytes/equal.js";
import { AT_SYSINFO_EHDR, type AuxvEntry, auxvValue, auxvWordSize, parseAuxv } from "../linux/auxv.js";
import { type Mapping, parseMaps } from "../linux/maps.js";
import { ProcessError, type ProcessView } from "../linux/process.js";
import { parseImage, type VdsoImage } from "../vdso/image.js";
import { locateVdso, type VdsoLocation } from "../vdso/locate.js";
import { TargetError } from "./error.js";
import { pause } from "./pause.js";

/** The largest mapping that is taken for a vDSO: real ones have 1 to 4 pages, on pages of at most 64 KiB. */
const MAX_IMAGE = 1 << 20;

/** How often a process that executes another program under our eyes is read anew. */
const MAX_CHANGES = 50;

/** How often a program that is being started is waited for, a pause each: the kernel may have to read it from a disk. */
const MAX_PAUSES = 500;
const PAUSE_MS = 2;

/** Remembers what a function gave or threw, so that both are the same however often they are asked for. */
export class Memo {
  readonly #known = new Map<string, { value: unknown } | { error: unknown }>();

  once<T>(key: string, make: () => T): T {
    let known = this.#known.get(key);
    if (!known) {
      try {
        known = { value: make() };
      } catch (error) {
        known = { error };
      }
      this.#known.set(key, known);
    }
    if ("error" in known) throw known.error;
    return known.value as T;
  }
}

/**
 * The parts of a process as they were at one time: all of the same program, or an error in the place of a part. They
 * are read by {@link momentOf}; what is made of them is made when first asked for.
 */
export class Moment {
  readonly #name: string;
  readonly #process: ProcessView;
  readonly #memo = new Memo();

  constructor(name: string, process: ProcessView) {
    this.#name = name;
    this.#process = process;
  }

  get auxvBytes(): Uint8Array {
    return this.#memo.once("auxvBytes", () => this.#process.auxvBytes());
  }

  get mapsBytes(): Uint8Array {
    return this.#memo.once("mapsBytes", () => {
      const bytes = this.#process.mapsBytes();
      // Of a process that has ended and of which its parent has not heard yet, the file is empty.
      if (bytes.length === 0 && this.auxvBytes.length === 0) throw this.#ended();
      return bytes;
    });
  }

  get mappings(): readonly Mapping[] {
    return this.#memo.once("mappings", () => parseMaps(new TextDecoder("utf-8").decode(this.mapsBytes)));
  }

  get wordSize(): 4 | 8 {
    return this.#memo.once("wordSize", () => {
      // The kernel's own end marker is in every vector: only where there is no memory are there no bytes at all.
      if (this.auxvBytes.length === 0) throw this.#ended();
      const size = auxvWordSize(this.auxvBytes, this.#process.littleEndian);
      if (size === undefined) throw new TargetError(`${this.#name} has an auxiliary vector without AT_PHENT`);
      return size;
    });
  }

  get auxv(): readonly AuxvEntry[] {
    return this.#memo.once("auxv", () => {
      const { wordSize } = this;
      return parseAuxv(this.auxvBytes, { wordSize, littleEndian: this.#process.littleEndian });
    });
  }

  get location(): VdsoLocation | undefined {
    return this.#memo.once("location", () => locateVdso(this.#auxvIfAny(), this.mappings));
  }

  get imageBytes(): Uint8Array {
    return this.#memo.once("imageBytes", () => {
      const { location } = this;
      if (!location) throw this.#noVdso();
      if (location.size > MAX_IMAGE) {
        throw new TargetError(`${this.#name}: the mapping at AT_SYSINFO_EHDR has ${location.size} bytes, no vDSO has`);
      }
      return this.#process.read(location.base, location.size);
    });
  }

  get image(): VdsoImage {
    return this.#memo.once("image", () => parseImage(this.imageBytes, { mapped: true }));
  }

  /**
   * Reads all parts, and says whether they are of one program: `changed` where it executed another one meanwhile,
   * `starting` where the kernel has not yet written the new program's vector.
   */
  read(): "whole" | "changed" | "starting" {
    const before = bytesOf(() => this.#process.auxvBytes());
    try {
      this.#process.hold?.();
    } catch (error) {
      // What may not be held may still be looked at: Yama refuses the memory alone. Reading it will say why.
      if (!(error instanceof ProcessError)) throw error;
    }
    const vector = bytesOf(() => this.auxvBytes);
    const failure = failureOf(() => this.imageBytes);
    // Refused, or ended: every part says so itself.
    if (!vector || vector.length === 0) return "whole";
    const after = bytesOf(() => this.#process.auxvBytes());
    // Memory that was held before all the rest and can still be read proves that the program is still the same, unless
    // a child of vfork held its parent's: but then its vector has become another.
    if (!before || !after || !sameBytes(before, vector) || !sameBytes(vector, after)) return "changed";
    if (failure !== undefined && this.#isGone()) return "changed";
    return vector.every((byte) => byte === 0) ? "starting" : "whole";
  }

  /** Whether the memory that is held is no process's any more; where nothing is mapped, the system says another thing. */
  #isGone(): boolean {
    const failure = failureOf(() => this.#process.read(0n, 1));
    return failure instanceof ProcessError && failure.code === "ESRCH";
  }

  #auxvIfAny(): readonly AuxvEntry[] | undefined {
    try {
      return this.auxv;
    } catch (error) {
      if (error instanceof ProcessError || error instanceof TargetError) return undefined;
      throw error;
    }
  }

  #noVdso(): TargetError {
    const auxv = this.#auxvIfAny();
    const says = auxv && auxvValue(auxv, AT_SYSINFO_EHDR);
    return new TargetError(
      says === undefined || says === 0n
        ? `${this.#name} has no vDSO: no AT_SYSINFO_EHDR and no mapping [vdso] (vdso=0, an emulator, or a kernel without one)`
        : `${this.#name} has no vDSO: AT_SYSINFO_EHDR is 0x${says.toString(16)}, where nothing is mapped`,
    );
  }

  #ended(): ProcessError {
    return new ProcessError(`${this.#name} has ended (ESRCH)`, "ESRCH");
  }
}

/** Bytes as read; `undefined` where the system refused them. */
function bytesOf(read: () => Uint8Array): Uint8Array | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof ProcessError) return undefined;
    throw error;
  }
}

/** What went wrong; kept by the moment, which throws it again where the part is asked for. */
function failureOf(read: () => unknown): unknown {
  try {
    read();
    return undefined;
  } catch (error) {
    return error;
  }
}

/**
 * Reads a process without stopping it: its files in /proc are opened one after the other, and it may execute another
 * program between two of them. Then all is read anew; throws {@link ProcessError} (`EAGAIN`) where that goes on.
 */
export function momentOf(name: string, process: ProcessView): Moment {
  let pauses = 0;
  for (let changes = 0; changes < MAX_CHANGES; ) {
    const moment = new Moment(name, process);
    const found = moment.read();
    // A vector that stays empty for so long is one that somebody emptied.
    if (found === "whole" || (found === "starting" && pauses === MAX_PAUSES)) return moment;
    if (found === "changed") {
      changes += 1;
    } else {
      pauses += 1;
      pause(PAUSE_MS);
    }
  }
  throw new ProcessError(`${name} keeps executing other programs: no two looks show the same one (EAGAIN)`, "EAGAIN");
}
