import { syscallNumber } from "../../../vdso/syscalls.js";

/** Functions of C libraries that tell the time or the processor, and that a vDSO may answer. */
const CLOCK_FUNCTIONS: ReadonlySet<string> = new Set([
  "clock_gettime",
  "__clock_gettime",
  "__clock_gettime64",
  "clock_getres",
  "__clock_getres64",
  "gettimeofday",
  "__gettimeofday",
  "__gettimeofday64",
  "time",
  "__time64",
  "timespec_get",
  "timespec_getres",
  "ftime",
  "sched_getcpu",
  "getcpu",
  "getrandom",
]);

/** The name of a clock function as programs write it, of the name that is linked; `undefined` for any other. */
export function clockFunction(symbol: string): string | undefined {
  if (!CLOCK_FUNCTIONS.has(symbol)) return undefined;
  return symbol.replace(/^__/, "").replace(/64$/, "");
}

/** The names by which programs look for functions of a vDSO: those of `*.lds.S`, of clocks and the like. */
const VDSO_NAMES = [
  "__vdso_clock_gettime",
  "__vdso_clock_gettime64",
  "__vdso_gettimeofday",
  "__vdso_time",
  "__vdso_clock_getres",
  "__vdso_clock_getres_time64",
  "__vdso_getcpu",
  "__vdso_getrandom",
  "__kernel_clock_gettime",
  "__kernel_gettimeofday",
  "__kernel_time",
  "__kernel_clock_getres",
  "__kernel_getcpu",
  "__kernel_getrandom",
] as const;

/** Bytes in which can be searched, as Node's `Buffer`. */
export interface Searchable {
  readonly length: number;
  indexOf(what: string | Uint8Array, from?: number): number;
  readonly [index: number]: number | undefined;
}

/** The names of vDSO functions that lie in a program's bytes: it looks for them by itself. */
export function vdsoNames(bytes: Searchable): string[] {
  const anywhere = ["__vdso_", "__kernel_"].some((prefix) => bytes.indexOf(prefix) >= 0);
  return anywhere ? VDSO_NAMES.filter((name) => isHeld(bytes, name)) : [];
}

/** Most places at which a name is looked at. */
const MAX_PLACES = 64;

/** Strings of Go have no end of their own, so that what follows is no help but where it makes a longer name. */
function isHeld(bytes: Searchable, name: string): boolean {
  const longer = VDSO_NAMES.filter((other) => other !== name && other.startsWith(name));
  let at = -1;
  for (let i = 0; i < MAX_PLACES; i++) {
    at = bytes.indexOf(name, at + 1);
    if (at < 0) return false;
    if (longer.every((other) => bytes.indexOf(other, at) !== at)) return true;
  }
  return false;
}

/** The system calls of clocks whose numbers code carries. */
const SYSTEM_CALLS = ["clock_gettime", "clock_gettime64", "gettimeofday", "time"] as const;

/** How far behind the number the way into the kernel may lie, in bytes. */
const NEAR = 24;

/** The ways into the kernel: `syscall`; `int $0x80` and `call *%gs:0x10`. */
const WAYS: Readonly<Record<"x86_64" | "i386", readonly Uint8Array[]>> = {
  x86_64: [Uint8Array.of(0x0f, 0x05)],
  i386: [Uint8Array.of(0xcd, 0x80), Uint8Array.of(0x65, 0xff, 0x15, 0x10, 0, 0, 0)],
};

/**
 * The system calls of clocks that x86 code makes: `mov $number,%eax` with a way into the kernel right behind. Told from
 * the bytes without a decoder, so that it is meant for evidence, not for proof.
 */
export function clockSystemCalls(bytes: Searchable, abi: "x86_64" | "i386"): string[] {
  return SYSTEM_CALLS.filter((name) => {
    const number = syscallNumber(abi, name);
    return number !== undefined && isCalled(bytes, number, WAYS[abi]);
  });
}

function isCalled(bytes: Searchable, number: number, ways: readonly Uint8Array[]): boolean {
  const load = Uint8Array.of(0xb8, number & 0xff, number >> 8, 0, 0);
  let at = -1;
  for (let i = 0; i < 4096; i++) {
    at = bytes.indexOf(load, at + 1);
    if (at < 0) return false;
    for (let end = at + load.length; end < at + load.length + NEAR; end++) {
      if (ways.some((way) => way.every((byte, k) => bytes[end + k] === byte))) return true;
    }
  }
  return false;
}

/** What makes a program's clock calls, told from the bytes of one of its files; `undefined` where nothing tells. */
export function runtimeOf(name: string, bytes: Searchable, text: (from: number, to: number) => string) {
  const go = bytes.indexOf("\xff Go buildinf:".slice(1));
  if (go > 0 && bytes[go - 1] === 0xff) {
    // Since Go 1.18 the version stands behind the header of 32 bytes, with its length first.
    const length = bytes[go - 1 + 32] ?? 0;
    const version = /^go([\d.]+)/.exec(text(go - 1 + 33, go - 1 + 33 + length))?.[1];
    return version === undefined ? "Go" : `Go ${version}`;
  }
  if (/\/ld-musl-[^/]*$/.test(name)) return "musl";
  const glibc = bytes.indexOf("GNU C Library");
  if (glibc >= 0 && /\/libc[.-][^/]*$/.test(name)) {
    const version = /version ([\d.]+\d)/.exec(text(glibc, glibc + 200))?.[1];
    return version === undefined ? "glibc" : `glibc ${version}`;
  }
  return undefined;
}
