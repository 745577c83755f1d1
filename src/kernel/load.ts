import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { FormatError } from "../bytes/error.js";
import { type Compression, compressionOf, type Decompress, SIGNATURE_SIZE } from "./compression.js";
import type { ByteStream, Pull } from "./pull.js";
import { compile, type WasmModule } from "./wasm.js";

const modules = new Map<string, WasmModule>();

/**
 * Reads and compiles a decoder when it is first needed. The build puts them into dist/wasm, beside the folders of the
 * library and of the program.
 */
function load(name: string): WasmModule {
  let module = modules.get(name);
  if (!module) {
    const path = [`../wasm/${name}.wasm`, `../../dist/wasm/${name}.wasm`]
      .map((place) => fileURLToPath(new URL(place, import.meta.url)))
      .find((place) => existsSync(place));
    if (path === undefined) throw new Error(`wasm/${name}.wasm is missing: run npm run build`);
    module = compile(readFileSync(path));
    modules.set(name, module);
  }
  return module;
}

/** Streams one behind the other that may be of any size, and bytes that all further ones have on average at least. */
const FREE_STREAMS = 256;
const LEAST_AVERAGE = 32 * 1024;

/** Zeros between two .xz streams that are passed over. */
const MAX_PADDING = 4096;

/** Decompresses a stream with the decoder of its format, which is loaded when its first byte is asked for. */
export const decompress: Decompress = async function* (compression, source) {
  let size = 0;
  let streams = 0;
  do {
    // Each needs a decoder of its own: thousands with nothing in them would keep us busy for minutes.
    if (++streams > FREE_STREAMS + size / LEAST_AVERAGE) {
      throw new FormatError(
        `Cannot read ${compression} stream: ${streams} of them follow one another, with ${size} bytes in all`,
        source.offset,
        streams,
      );
    }
    for await (const chunk of await open(compression, source)) {
      size += chunk.length;
      yield chunk;
    }
    // Compressors that work in parallel, and people with cat, put several streams one behind the other.
  } while (await continues(compression, source));
};

/** Whether another stream of the same kind follows; what pads them is passed over. */
async function continues(compression: Compression, source: Pull): Promise<boolean> {
  if (compressionOf(await source.peek(SIGNATURE_SIZE)) === compression) return true;
  if (compression !== "xz") return false;
  const ahead = await source.peek(MAX_PADDING + SIGNATURE_SIZE);
  const zeros = ahead.findIndex((byte) => byte !== 0);
  if (zeros <= 0 || zeros % 4 !== 0 || compressionOf(ahead.subarray(zeros)) !== "xz") return false;
  await source.skip(zeros, "xz stream");
  return true;
}

async function open(compression: Compression, source: Pull): Promise<ByteStream> {
  switch (compression) {
    case "gzip":
      return (await import("./gzip/load.js")).gunzip(source);
    case "xz":
    case "lzma":
      return (await import("./lzma.js")).decompressLzma(source, compression, load("liblzma"));
    case "zstd":
      return (await import("./zstd.js")).decompressZstd(source, load("zstd"));
    case "lz4":
      return (await import("./lz4.js")).decompressLz4(source);
    case "lzo":
      return (await import("./lzo.js")).decompressLzo(source);
    case "bzip2":
      return (await import("./bzip2.js")).decompressBzip2(source);
  }
}
