import { AT_PAGESZ, AT_SYSINFO, AT_SYSINFO_EHDR } from "../../src/linux/auxv.js";
import { ProcessTarget } from "../../src/targets/target.js";
import { imageBytes } from "./images.js";

/** Where the image lies in {@link i386Maps}, and its size. */
export const I386_BASE = 0xf7f72000;
const SIZE = 0x2000;

/** The mappings of an i386 program as a 64-bit kernel of 6.13 or later lays them out. */
export const i386Maps: readonly string[] = [
  "08048000-0804d000 r-xp 00000000 fe:00 1201                       /usr/bin/sleep",
  "0804d000-0804f000 rw-p 00005000 fe:00 1201                       /usr/bin/sleep",
  "09a1c000-09a3d000 rw-p 00000000 00:00 0                          [heap]",
  "f7c00000-f7c22000 r--p 00000000 fe:00 2201                       /usr/lib/i386-linux-gnu/libc.so.6",
  "f7c22000-f7da1000 r-xp 00022000 fe:00 2201                       /usr/lib/i386-linux-gnu/libc.so.6",
  "f7f6a000-f7f6c000 rw-p 00000000 00:00 0 ",
  "f7f6c000-f7f70000 r--p 00000000 00:00 0                          [vvar]",
  "f7f70000-f7f72000 r--p 00000000 00:00 0                          [vvar_vclock]",
  "f7f72000-f7f74000 r-xp 00000000 00:00 0                          [vdso]",
  "f7f75000-f7f98000 r-xp 00001000 fe:00 2190                       /usr/lib/i386-linux-gnu/ld-linux.so.2",
  "ffb2c000-ffb4d000 rw-p 00000000 00:00 0                          [stack]",
];

/** What a process is to be other than the plain one. */
export interface StillOptions {
  readonly name?: string;
  readonly maps?: readonly string[];
  readonly notes?: readonly string[];
  /** AT_SYSINFO; the entry of the image unless given. */
  readonly sysinfo?: number;
}

/** An i386 process that stands still: its memory is an image that this project keeps, its mappings are as given. */
export function stillProcess(options: StillOptions = {}): ProcessTarget {
  const bytes = imageBytes("host618__native__i386");
  const words = [AT_PAGESZ, 4096, AT_SYSINFO, options.sysinfo ?? I386_BASE + 0x5e0, AT_SYSINFO_EHDR, I386_BASE, 0, 0];
  const maps = `${(options.maps ?? i386Maps).join("\n")}\n`;
  return new ProcessTarget(
    options.name ?? "process 4242 (sleep)",
    {
      pid: 4242,
      littleEndian: true,
      mapsBytes: () => new TextEncoder().encode(maps),
      auxvBytes: () => new Uint8Array(Uint32Array.from(words).buffer),
      read: (address, size) => {
        const start = Number(address) - I386_BASE;
        const memory = new Uint8Array(SIZE);
        memory.set(bytes.subarray(0, SIZE));
        return memory.slice(start, start + size);
      },
      close: () => {},
    },
    { notes: options.notes ?? [] },
  );
}
