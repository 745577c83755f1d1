import { FormatError } from "../bytes/error.js";
import { MAX_DICTIONARY } from "./compression.js";
import type { Pull } from "./pull.js";
import { instantiate, type WasmMemory, type WasmModule } from "./wasm.js";

/** The exports that are called of the WebAssembly in zstddec 0.3.4. */
interface ZstdExports {
  readonly memory: WasmMemory;
  malloc(size: number): number;
  ZSTD_createDCtx(): number;
  ZSTD_decompressStream(context: number, output: number, input: number): number;
}

const NEEDED = ["memory", "malloc", "ZSTD_createDCtx", "ZSTD_decompressStream"] as const;

/** ZSTD_ErrorCode (zstd_errors.h), as far as a stream can cause them. */
const REASONS: Readonly<Record<number, string>> = {
  10: "it does not start as one",
  14: "it uses what is not supported",
  16: `its window is larger than ${MAX_DICTIONARY / 1024 / 1024} MiB`,
  20: "it is corrupt",
  22: "its checksum is wrong",
  32: "it needs a dictionary",
  64: "there is no memory for its window",
};

/** Results of libzstd from here on are error codes, negated. */
const FIRST_ERROR = 0x1_0000_0000 - 120;

/** Bytes handed over at once: less than a cache of the processor, so that they are still in it when they are used. */
const IN_SIZE = 128 * 1024;
const OUT_SIZE = 256 * 1024;

/** ZSTD_inBuffer and ZSTD_outBuffer: address, size, position. */
const BUFFER_SIZE = 12;

/**
 * Decompresses one Zstandard frame; bytes behind it are put back. `module` is the WebAssembly of zstddec 0.3.
 *
 * libzstd itself refuses a window of more than 128 MiB unless told otherwise. Throws `FormatError`, and `Error` where
 * the module is another one.
 */
export async function* decompressZstd(source: Pull, module: WasmModule): AsyncGenerator<Uint8Array> {
  // It is told whenever its memory has grown.
  const imports = { env: { emscripten_notify_memory_growth: () => 0 } };
  const zstd = instantiate<ZstdExports>(module, imports, NEEDED, "zstd");
  const { memory } = zstd;
  const context = zstd.ZSTD_createDCtx();
  const input = zstd.malloc(IN_SIZE);
  const output = zstd.malloc(OUT_SIZE);
  const buffers = zstd.malloc(2 * BUFFER_SIZE);
  const out = buffers + BUFFER_SIZE;
  new Uint32Array(memory.buffer, buffers, 6).set([input, 0, 0, output, OUT_SIZE, 0]);

  for (;;) {
    // The memory moves when it grows, which it does while it decodes.
    let view = new DataView(memory.buffer);
    let available = view.getUint32(buffers + 4, true);
    const position = view.getUint32(buffers + 8, true);
    let ended = false;
    if (position === available) {
      const chunk = await source.chunk(IN_SIZE);
      ended = chunk === undefined;
      if (chunk) {
        new Uint8Array(memory.buffer, input, chunk.length).set(chunk);
        available = chunk.length;
        view.setUint32(buffers + 4, available, true);
        view.setUint32(buffers + 8, 0, true);
      }
    }
    const before = view.getUint32(buffers + 8, true);
    view.setUint32(out + 8, 0, true);
    const result = zstd.ZSTD_decompressStream(context, out, buffers) >>> 0;
    view = new DataView(memory.buffer);
    const used = view.getUint32(buffers + 8, true);
    const size = view.getUint32(out + 8, true);
    const offset = source.offset - available + used;
    if (result >= FIRST_ERROR) {
      const code = 0x1_0000_0000 - result;
      throw new FormatError(
        `Cannot read zstd stream: ${REASONS[code] ?? `libzstd gives up with ${code}`}`,
        offset,
        code,
      );
    }
    if (size > 0) yield new Uint8Array(memory.buffer, output, size);
    if (result === 0) {
      if (used < available) source.unread(new Uint8Array(memory.buffer, input, available).slice(used));
      return;
    }
    if (size === 0 && used === before) {
      throw new FormatError(`Cannot read zstd stream: it is ${ended ? "cut short" : "corrupt"}`, offset);
    }
  }
}
