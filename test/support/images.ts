import { readdirSync, readFileSync } from "node:fs";

const folder = new URL("../fixtures/images/", import.meta.url);

/** Names of the images under test/fixtures/images, without `.so`. */
export const imageNames: readonly string[] = readdirSync(folder)
  .filter((name) => name.endsWith(".so"))
  .map((name) => name.slice(0, -3))
  .sort();

/** Path of an image. */
export function imagePath(name: string): string {
  return new URL(`${name}.so`, folder).pathname;
}

/** Bytes of an image. */
export function imageBytes(name: string): Uint8Array {
  return new Uint8Array(readFileSync(imagePath(name)));
}
