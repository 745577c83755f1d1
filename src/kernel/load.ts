import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
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

/** Decompresses a stream with the decoder of its format, which is loaded when its first byte is asked for. */
export const decompress: Decompress = async function* (compression, source) {
  do {
    yield* await open(compression, source);
    // Compressors that work in parallel, and people with cat, put several streams one behind the other.
  } while (compressionOf(await source.peek(SIGNATURE_SIZE)) === compression);
};

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
