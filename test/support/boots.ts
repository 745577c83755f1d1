import { readFileSync } from "node:fs";

/** What one boot under emulation showed (test/fixtures/boots). */
export interface RecordedBoot {
  /** Name of the unpatched image. */
  readonly image: string;
  readonly model: string;
  readonly cmdline: string;
  readonly cpuinfo: string;
  /** Of the bytes that a process saw; absent where it had no vDSO. */
  readonly sha256?: string;
}

const folder = new URL("../fixtures/boots/", import.meta.url);

/** All boots that were recorded. */
export const recordedBoots = JSON.parse(readFileSync(new URL("boots.json", folder), "utf8")) as readonly RecordedBoot[];

/** The unpatched image of a kernel that was booted: `6.12-cloud-amd64__i386`. */
export function bootedImage(name: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`${name}.so`, folder)));
}
