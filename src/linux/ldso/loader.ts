import type { LoaderAbi } from "./abi.js";
import type { ByteSource } from "./files.js";

/** What a dynamic linker of glibc was built with. */
export interface LoaderTraits {
  /** Folders searched last, best first, without a slash at the end. */
  readonly folders: readonly string[];
  /** $LIB. */
  readonly lib: string;
  readonly cachePath: string;
  readonly preloadPath: string;
  /** Whether it searches `glibc-hwcaps` subfolders: from 2.33 on. */
  readonly hwcapFolders: boolean;
  /** Whether it searches subfolders named for features and platforms: up to 2.36. */
  readonly legacyHwcaps: boolean;
}

/** The most that is read of a dynamic linker. Real ones have about 250 KiB. */
const MAX_LOADER = 1 << 23;

const latin1 = new TextDecoder("latin1");

/** glibc itself has four. */
const MAX_FOLDERS = 16;
/** The longest string that is looked at. */
const MAX_PATH = 4096;

/** The traits of a dynamic linker of which nothing but its ABI is known. */
export function assumedTraits(abi: LoaderAbi): LoaderTraits {
  return {
    folders: abi.folders,
    lib: abi.lib,
    cachePath: "/etc/ld.so.cache",
    preloadPath: "/etc/ld.so.preload",
    hwcapFolders: true,
    legacyHwcaps: false,
  };
}

/**
 * Tells the traits from the strings that a dynamic linker contains: every distribution builds it with folders of its
 * own, and `ld.so --help` would mean to run it.
 *
 * The folders are the longest run of paths to a `lib` folder. Where something is not found, the ABI's usual value is
 * taken. Throws the source's own error where it cannot be read.
 */
export function readLoaderTraits(source: ByteSource, abi: LoaderAbi): LoaderTraits {
  const text = latin1.decode(source.readAt(0, Math.min(source.size, MAX_LOADER)));
  const assumed = assumedTraits(abi);
  const strings = new Set<string>();
  let folders: string[] = [];
  let run: string[] = [];
  for (const string of text.split("\0")) {
    const short = string.length < MAX_PATH;
    if (short && string.startsWith("/") && string.endsWith("/")) {
      if (string.includes("/lib")) run.push(string.slice(0, -1));
    } else {
      run = [];
    }
    if (run.length > folders.length) folders = run.slice(0, MAX_FOLDERS);
    if (short) strings.add(string);
  }
  // Those of NixOS and the like are one folder deep in a store; "/usr/lib64" and "/lib64" both mean lib64.
  const candidates = folders.map((folder) => folder.replace(/^\/(usr\/)?/, ""));
  const lib = [...candidates, "lib64", "lib32", "libx32", "lib"].find((name) => strings.has(name));
  const path = (name: string) => [...strings].find((string) => string.startsWith("/") && string.endsWith(`/${name}`));
  const hwcaps = text.includes("--glibc-hwcaps-prepend");
  return {
    folders: folders.length > 0 ? folders : assumed.folders,
    lib: lib ?? assumed.lib,
    cachePath: path("ld.so.cache") ?? assumed.cachePath,
    preloadPath: path("ld.so.preload") ?? assumed.preloadPath,
    hwcapFolders: hwcaps,
    legacyHwcaps: !hwcaps || text.includes("Legacy HWCAP subdirectories"),
  };
}
