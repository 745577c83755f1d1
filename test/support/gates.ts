import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { forged } from "./forged.js";

/** Where the gates that name an address put their image. */
export const BASE = 0x2000_0000n;

/** A way to start a program, and where its clock calls then enter the kernel. */
export interface GateCase {
  readonly name: string;
  readonly options: readonly string[];
  /** `nowhere`: they do not; `program`: by instructions of the program's or of its libraries; `image`: by the image's. */
  readonly enters: "nowhere" | "program" | "image";
}

/** Every gate that a program of x86-64 can be started under; an image is written to the folder. */
export function everyGate(folder: string): readonly GateCase[] {
  const image = join(folder, "forged.so");
  writeFileSync(image, forged("x86_64"));
  const base = `0x${BASE.toString(16)}`;
  return [
    { name: "the kernel's", options: [], enters: "nowhere" },
    { name: "--no-vdso", options: ["--no-vdso"], enters: "program" },
    { name: "--vdso FORGED", options: ["--vdso", image], enters: "image" },
    { name: "--vdso FORGED --base", options: ["--vdso", image, "--base", base], enters: "image" },
    { name: "--vdso self", options: ["--vdso", "self"], enters: "nowhere" },
    { name: "--base", options: ["--base", base], enters: "nowhere" },
    { name: "--aslr off", options: ["--aslr", "off"], enters: "nowhere" },
  ];
}
