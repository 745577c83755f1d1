/** As much of the global `WebAssembly` as decoders need; TypeScript knows it only together with the whole DOM. */
interface WebAssemblyApi {
  readonly Module: new (bytes: Uint8Array) => WasmModule;
  readonly Instance: new (module: WasmModule, imports: WasmImports) => { readonly exports: object };
}

/** A compiled module. */
export type WasmModule = object & { readonly wasm?: never };

type WasmImports = Record<string, Record<string, (...values: number[]) => number>>;

/** The memory of an instance; `buffer` is another one after it has grown. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

/** Bytes of a page of an instance's memory. */
export const WASM_PAGE = 65536;

const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyApi };

/** Compiles a module. */
export function compile(bytes: Uint8Array): WasmModule {
  return new WebAssembly.Module(bytes);
}

/** Makes an instance and checks that it exports what is called of it; `what` names the module in the error. */
export function instantiate<T extends object>(
  module: WasmModule,
  imports: WasmImports,
  needed: readonly (keyof T & string)[],
  what: string,
): T {
  const { exports } = new WebAssembly.Instance(module, imports);
  for (const name of needed) {
    if (!(name in exports)) throw new Error(`the WebAssembly of ${what} exports no ${name}: it is another version`);
  }
  return exports as T;
}
