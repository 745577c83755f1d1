import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { needs, output } from "../support/referee.js";
import { CLOCK_PROGRAM } from "./programs.js";

/** The program of known calls, built with a C library. */
export interface ClockProgram {
  readonly name: string;
  readonly path: string;
}

/** Builds the program of known calls with each compiler that there is, the one for dynamic linking first. */
export function clockPrograms(folder: string): ClockProgram[] {
  const source = join(folder, "program.c");
  writeFileSync(source, CLOCK_PROGRAM);
  return [
    { name: "dynamic", command: "gcc", flags: [], there: needs("gcc", "gcc") },
    { name: "static", command: "gcc", flags: ["-static"], there: needs("gcc", "gcc") },
    { name: "musl", command: "musl-gcc", flags: [], there: needs("musl-gcc", "musl-tools") },
    { name: "static musl", command: "musl-gcc", flags: ["-static"], there: needs("musl-gcc", "musl-tools") },
  ]
    .filter(({ there }) => there)
    .map(({ name, command, flags }, i) => {
      const path = join(folder, `program-${i}`);
      output(command, "-O1", ...flags, "-pthread", "-o", path, source);
      return { name, path };
    });
}
