import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { setFlagsFromString } from "node:v8";
import { Iced } from "./iced.js";

let loaded: Iced | undefined;

/**
 * Loads the x86 decoder: once, however often it is called.
 *
 * Finds `iced-x86/iced_x86_bg.wasm` as Node finds any package from here, so in a bundle the package stays outside of
 * it, and `import.meta.url` must be the bundle's own address.
 */
export function loadIced(): Iced {
  if (!loaded) {
    const path = createRequire(import.meta.url).resolve("iced-x86/iced_x86_bg.wasm");
    loaded = new Iced(readFileSync(path));
  }
  return loaded;
}

/**
 * Makes the decoder start faster and run slower, which is right for a process that ends after little work: to be called
 * before {@link loadIced}.
 *
 * iced builds its tables in large functions, which V8 starts to optimize and then waits for at the end of the process:
 * longer than everything else together. This lets V8 optimize nothing in the process, and check functions of WebAssembly
 * when they are first called, so it is for programs and not for libraries.
 */
export function startQuickly(): void {
  setFlagsFromString("--wasm-tiering-budget=1000000000");
  setFlagsFromString("--wasm-lazy-validation");
  setFlagsFromString("--no-opt");
}
