import { fstatSync, writeSync } from "node:fs";
import { hex, hexBytes } from "../bytes/hex.js";
import { plainStyle, type Style, terminalStyle } from "../render/style.js";

/** Version of the JSON that the verbs print; counted up when a field changes its meaning or goes. */
export const SCHEMA = 1;

/** Whether a descriptor is a terminal. Asked of the file, not of a stream: making the stream takes milliseconds. */
export function isTerminal(descriptor: number): boolean {
  try {
    return fstatSync(descriptor).isCharacterDevice() && !isNull(descriptor);
  } catch {
    return false;
  }
}

/** /dev/null is a character device too: major 1, minor 3. */
function isNull(descriptor: number): boolean {
  return fstatSync(descriptor).rdev === 0x103;
}

/** The reader of our output has gone: `linux-gate maps | head -1`. */
export class BrokenPipe extends Error {
  override readonly name = "BrokenPipe";
}

/** Where results go (standard output) and messages (standard error). */
export class Output {
  readonly style: Style;

  constructor(style: Style) {
    this.style = style;
  }

  /** Writes a result. */
  text(text: string): void {
    writeAll(1, new TextEncoder().encode(text));
  }

  /** Writes a result as bytes. */
  bytes(bytes: Uint8Array): void {
    writeAll(1, bytes);
  }

  /** Writes a result as JSON, with the version of its schema first. */
  json(value: object): void {
    this.text(`${toJson({ schema: SCHEMA, ...value })}\n`);
  }

  /** Writes a remark to standard error. */
  remark(text: string): void {
    writeAll(2, new TextEncoder().encode(`linux-gate: ${text}\n`));
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

function writeAll(descriptor: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) {
    try {
      done += writeSync(descriptor, bytes, done);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === "EPIPE") throw new BrokenPipe();
      if (code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
    }
  }
}

/** JSON with addresses and 64-bit numbers as `"0x…"` and bytes as hex. */
export function toJson(value: unknown): string {
  return JSON.stringify(
    value,
    (_key, item: unknown) => {
      if (typeof item === "bigint") return hex(item);
      if (item instanceof Uint8Array) return hexBytes(item);
      return item;
    },
    2,
  );
}
