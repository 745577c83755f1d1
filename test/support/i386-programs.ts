import { join } from "node:path";
import type { CpioEntry } from "./cpio.js";
import { unpackedPackage } from "./debian.js";
import { fileEntry, programEntries } from "./guest.js";
import { GO_WORKLOAD, PROBE, WORKLOAD } from "./i386-sources.js";
import { runs32, type Workshop } from "./programs.js";
import { needs, output } from "./referee.js";

/** Where the programs lie in the guest. */
export const PROGRAMS = "/programs";

/** The C libraries that programs are built with; `glibc64` has clocks of 64 bits. */
type CLibrary = "glibc" | "glibc64" | "glibc-static" | "musl" | "musl-static";

/**
 * Builds programs of i386: `work-LIBRARY` and `probe-LIBRARY` for each C library, `work-go`, and Debian's `busybox`. Gives
 * what has to be in a guest that runs them, or `undefined` where something cannot be had; standard error says what.
 */
export async function i386Programs(workshop: Workshop): Promise<CpioEntry[] | undefined> {
  if (![needs("gcc", "gcc"), needs("go", "golang-go")].every(Boolean) || !runs32(workshop).builds) return undefined;
  const [headers, musl, busybox] = [
    await unpackedPackage("musl-dev", "i386"),
    await unpackedPackage("musl", "i386"),
    await unpackedPackage("busybox-static", "i386"),
  ];
  if (!headers || !musl || !busybox) return undefined;
  const muslLibrary = join(musl, "lib/i386-linux-musl");
  const builds: Readonly<Record<CLibrary, readonly string[]>> = {
    glibc: ["-fexceptions"],
    glibc64: ["-fexceptions", "-D_TIME_BITS=64", "-D_FILE_OFFSET_BITS=64"],
    "glibc-static": ["-fexceptions", "-static"],
    musl: muslOptions(
      join(headers, "usr"),
      ["-L", muslLibrary, "-l:libc.so"],
      "-Wl,-dynamic-linker,/lib/ld-musl-i386.so.1",
    ),
    "musl-static": muslOptions(join(headers, "usr"), ["-lc"], "-static"),
  };
  const entries: CpioEntry[] = [];
  for (const [library, options] of Object.entries(builds)) {
    for (const [name, source] of [
      ["work", WORKLOAD],
      ["probe", PROBE],
    ] as const) {
      const file = `${name}-${library}`;
      workshop.compile(source, "-m32", "-O1", "-o", file, ...options);
      const [from, to] = [workshop.path(file), `${PROGRAMS}/${file}`];
      entries.push(...(library === "glibc" ? programEntries(from, to) : [fileEntry(from, to)]));
    }
  }
  return [
    ...entries,
    fileEntry(workshop.goProgram("work-go", GO_WORKLOAD, { GOARCH: "386" }), `${PROGRAMS}/work-go`),
    fileEntry(join(muslLibrary, "libc.so"), "/lib/ld-musl-i386.so.1"),
    // Threads that are cancelled load it.
    fileEntry(output("gcc", "-m32", "-print-file-name=libgcc_s.so.1").trim(), "/lib32/libgcc_s.so.1"),
    fileEntry(join(busybox, "bin/busybox"), `${PROGRAMS}/busybox`),
  ];
}

/** What makes gcc build with another C library than its own. */
function muslOptions(usr: string, library: readonly string[], kind: string): string[] {
  const [start, folder] = [join(usr, "lib/i386-linux-musl"), output("gcc", "-print-file-name=include").trim()];
  const ends = (...names: readonly string[]) => names.map((name) => join(start, name));
  return [
    ...["-fno-pie", "-no-pie", "-nostdinc", "-isystem", join(usr, "include/i386-linux-musl"), "-isystem", folder],
    ...[
      "-nostdlib",
      kind,
      ...ends("crt1.o", "crti.o"),
      "-L",
      start,
      ...library,
      "-lgcc",
      "-lgcc_eh",
      ...ends("crtn.o"),
    ],
  ];
}
