import { FormatError } from "../bytes/error.js";
import { MAX_DICTIONARY } from "./compression.js";
import type { Pull } from "./pull.js";
import { instantiate, WASM_PAGE, type WasmMemory, type WasmModule } from "./wasm.js";

/** The exports that are called of liblzma.wasm in node-liblzma 4.0.2, whose names its build shortened. */
interface LzmaExports {
  /** The memory. */
  readonly b: WasmMemory;
  /** Constructors of the C library. */
  c(): void;
  /** lzma_code(stream, action) */
  f(stream: number, action: number): number;
  /** lzma_end(stream) */
  g(stream: number): void;
  /** lzma_auto_decoder(stream, memory limit as two words, flags) */
  o(stream: number, limitLow: number, limitHigh: number, flags: number): number;
  /** malloc(size) */
  s(size: number): number;
}

const NEEDED = ["b", "c", "f", "g", "o", "s"] as const;

/** Results of lzma_code (lzma/base.h). */
const OK = 0;
const STREAM_END = 1;
const BUFFER_ERROR = 10;
const REASONS: Readonly<Record<number, string>> = {
  2: "it has no check",
  3: "its check is of an unknown kind",
  5: "there is no memory for its dictionary",
  6: `its dictionary is larger than ${MAX_DICTIONARY / 1024 / 1024} MiB`,
  7: "it does not start as one",
  8: "it uses a filter or an option that is not known",
  9: "it is corrupt",
};

/** lzma_action */
const RUN = 0;
const FINISH = 3;

/** lzma_stream on a 32-bit machine (lzma/base.h): next_in, avail_in, total_in (64 bits), and the same of the output. */
const STREAM_SIZE = 136;
const NEXT_IN = 0;
const AVAILABLE_IN = 4;
const NEXT_OUT = 16;
const AVAILABLE_OUT = 20;

/** Bytes handed over at once: less than a cache of the processor, so that they are still in it when they are used. */
const IN_SIZE = 64 * 1024;
const OUT_SIZE = 256 * 1024;

/** What the decoder itself needs beside the dictionary. */
const DECODER_MEMORY = 1024 * 1024;

/**
 * Decompresses one .xz or .lzma stream; bytes behind it are put back. `module` is liblzma.wasm of node-liblzma 4.0.
 *
 * A stream has an instance of its own, for the memory of one never shrinks. Throws `FormatError`, and `Error` where the
 * module is another one.
 */
export async function* decompressLzma(
  source: Pull,
  kind: "xz" | "lzma",
  module: WasmModule,
): AsyncGenerator<Uint8Array> {
  let memory: WasmMemory | undefined;
  const grow = (size: number): number => {
    const now = memory?.buffer.byteLength ?? 0;
    try {
      memory?.grow(Math.ceil((Math.max(size >>> 0, now) - now) / WASM_PAGE));
      return 1;
    } catch {
      return 0;
    }
  };
  const lzma = instantiate<LzmaExports>(module, { a: { a: grow } }, NEEDED, "liblzma");
  memory = lzma.b;
  lzma.c();
  const stream = lzma.s(STREAM_SIZE);
  const input = lzma.s(IN_SIZE);
  const output = lzma.s(OUT_SIZE);
  new Uint8Array(memory.buffer, stream, STREAM_SIZE).fill(0);
  const start = source.offset;
  const opened = lzma.o(stream, MAX_DICTIONARY + DECODER_MEMORY, 0, 0);
  if (opened !== OK) throw failure(kind, opened, start);

  let chunk: Uint8Array | undefined = new Uint8Array(0);
  let result = OK;
  while (result === OK) {
    // The memory moves when it grows, which it does while it decodes.
    let view = new DataView(memory.buffer);
    if (chunk && view.getUint32(stream + AVAILABLE_IN, true) === 0) {
      chunk = await source.chunk(IN_SIZE);
      if (chunk) {
        new Uint8Array(memory.buffer, input, chunk.length).set(chunk);
        view.setUint32(stream + NEXT_IN, input, true);
        view.setUint32(stream + AVAILABLE_IN, chunk.length, true);
      }
    }
    view.setUint32(stream + NEXT_OUT, output, true);
    view.setUint32(stream + AVAILABLE_OUT, OUT_SIZE, true);
    result = lzma.f(stream, chunk ? RUN : FINISH);
    view = new DataView(memory.buffer);
    const size = OUT_SIZE - view.getUint32(stream + AVAILABLE_OUT, true);
    if (size > 0) yield new Uint8Array(memory.buffer, output, size);
  }
  const left = new DataView(memory.buffer).getUint32(stream + AVAILABLE_IN, true);
  if (result !== STREAM_END) throw failure(kind, result, source.offset - left);
  if (left > 0)
    source.unread(new Uint8Array(memory.buffer, input, IN_SIZE).slice((chunk?.length ?? 0) - left, chunk?.length));
}

function failure(kind: string, result: number, offset: number): FormatError {
  const reason = result === BUFFER_ERROR ? "it is cut short" : (REASONS[result] ?? `liblzma gives up with ${result}`);
  return new FormatError(`Cannot read ${kind} stream: ${reason}`, offset, result);
}
