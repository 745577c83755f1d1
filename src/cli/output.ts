import { fstatSync, writeSync } from "node:fs";
import { getSystemErrorMap } from "node:util";
import { hex, hexBytes } from "../bytes/hex.js";
import { plainStyle, type Style, terminalStyle } from "../render/style.js";
import { visible } from "../render/visible.js";
import { pause } from "../targets/pause.js";

/** Version of the JSON that the verbs print; counted up when a field changes its meaning or goes. */
export const SCHEMA = 1;

/** Major number of the memory devices: /dev/null, zero, full, random. */
const MEMORY_DEVICES = 1;

/**
 * Whether a descriptor is a terminal. The file is asked first, because Node's module of terminals takes milliseconds to
 * load, and most output goes to files, pipes and /dev/null.
 */
export function isTerminal(descriptor: number): boolean {
  try {
    const status = fstatSync(descriptor);
    if (!status.isCharacterDevice() || status.rdev >> 8 === MEMORY_DEVICES) return false;
  } catch {
    return false;
  }
  return process.getBuiltinModule("node:tty").isatty(descriptor);
}

/** The reader of our output has gone: `linux-gate maps | head -1`. */
export class BrokenPipe extends Error {
  override readonly name = "BrokenPipe";
}

/** A result could not be written; the message is for the user. */
export class WriteError extends Error {
  override readonly name = "WriteError";
}

/** The system's refusal as {@link WriteError}, `WHERE: no space left on device (ENOSPC)`; any other error as it is. */
export function writeError(where: string, error: unknown): unknown {
  const { code, errno } = error as NodeJS.ErrnoException;
  if (typeof code !== "string" || typeof errno !== "number") return error;
  const reason = getSystemErrorMap().get(errno)?.[1] ?? "cannot be written";
  return new WriteError(`${where}: ${reason} (${code})`, { cause: error });
}

/** Where results go (standard output) and messages (standard error). */
export class Output {
  readonly style: Style;

  constructor(style: Style) {
    this.style = style;
  }

  /** Writes a result; throws {@link WriteError} or {@link BrokenPipe}. */
  text(text: string): void {
    this.bytes(new TextEncoder().encode(text));
  }

  /** Writes a result as bytes; throws {@link WriteError} or {@link BrokenPipe}. */
  bytes(bytes: Uint8Array): void {
    try {
      writeAll(1, bytes);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EPIPE") throw new BrokenPipe();
      throw writeError("standard output", error);
    }
  }

  /** Writes a result as JSON, with the version of its schema first. */
  json(value: object): void {
    this.text(`${toJson({ schema: SCHEMA, ...value })}\n`);
  }

  /**
   * Writes a remark to standard error, one line whatever is in it. A remark that cannot be written is lost: there is
   * nowhere to say so, and the result does not depend on it.
   */
  remark(text: string): void {
    this.aside(`linux-gate: ${visible(text)}\n`);
  }

  /** Writes lines to standard error, for a result whose program has standard output. They may be lost as a remark may. */
  aside(lines: string): void {
    try {
      writeAll(2, new TextEncoder().encode(lines));
    } catch {}
  }
}

/** The style that options, NO_COLOR and the kind of standard output ask for. */
export function chooseStyle(options: { readonly color: boolean; readonly noColor: boolean }): Style {
  if (options.noColor) return plainStyle;
  if (options.color) return terminalStyle;
  if (process.env.NO_COLOR || process.env.TERM === "dumb") return plainStyle;
  return isTerminal(1) ? terminalStyle : plainStyle;
}

/** Pause between attempts to write to a pipe that is full and does not block. */
const PAUSE_MS = 2;

/** Writes all bytes, however many calls that takes, waiting for a pipe that is full. */
export function writeAll(descriptor: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) {
    try {
      done += writeSync(descriptor, bytes, done);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      pause(PAUSE_MS);
    }
  }
}

/** What a terminal would obey and JSON's writer leaves: DEL, C1 and the controls of text direction. */
const OBEYED = /[\u007f-\u009f\p{Bidi_Control}]/gu;

/** JSON with addresses and 64-bit numbers as `"0x…"` and bytes as hex. All control characters in it are escaped. */
export function toJson(value: unknown): string {
  return JSON.stringify(
    value,
    (_key, item: unknown) => {
      if (typeof item === "bigint") return hex(item);
      if (item instanceof Uint8Array) return hexBytes(item);
      return item;
    },
    2,
  ).replace(OBEYED, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
