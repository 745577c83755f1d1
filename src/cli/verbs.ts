import type { Command } from "./command.js";

/** A verb in the list: its module is loaded only when it is called. */
export interface VerbEntry {
  readonly name: string;
  readonly summary: string;
  load(): Promise<Command>;
}

/** All verbs, in the order of the article. */
export const VERBS: readonly VerbEntry[] = [
  {
    name: "tour",
    summary: "the article, step by step in the terminal, its commands run here",
    load: async () => (await import("./commands/tour.js")).command,
  },
  {
    name: "report",
    summary: "every step of the article for this machine: where, what, and which way into the kernel",
    load: async () => (await import("./commands/report.js")).command,
  },
  {
    name: "ldd",
    summary: "the libraries that a program would load, the virtual one first (ldd)",
    load: async () => (await import("./commands/ldd.js")).command,
  },
  {
    name: "maps",
    summary: "the mappings of a process, the special ones explained (cat /proc/PID/maps)",
    load: async () => (await import("./commands/maps.js")).command,
  },
  {
    name: "auxv",
    summary: "the auxiliary vector, decoded (LD_SHOW_AUXV=1, gdb's info auxv)",
    load: async () => (await import("./commands/auxv.js")).command,
  },
  {
    name: "dump",
    summary: "the image, as mapped, to a file (the article's dd)",
    load: async () => (await import("./commands/dump.js")).command,
  },
  {
    name: "file",
    summary: "what kind of file the image is (file -b)",
    load: async () => (await import("./commands/file.js")).command,
  },
  {
    name: "symbols",
    summary: "the functions that the image exports, with versions (objdump -T, nm -D)",
    load: async () => (await import("./commands/symbols.js")).command,
  },
  {
    name: "disasm",
    summary: "the instructions of the image or of functions (objdump -d)",
    load: async () => (await import("./commands/disasm.js")).command,
  },
  {
    name: "explain",
    summary: "the gate and each function in words, from the bytes found",
    load: async () => (await import("./commands/explain.js")).command,
  },
  {
    name: "images",
    summary: "the images inside a kernel file, or a package or folder of kernels",
    load: async () => (await import("./commands/images.js")).command,
  },
  {
    name: "predict",
    summary: "the image as the kernel patches it at boot, for any processor and command line",
    load: async () => (await import("./commands/predict.js")).command,
  },
  {
    name: "verify",
    summary: "whether each process has the gate that the kernel put there",
    load: async () => (await import("./commands/verify.js")).command,
  },
  {
    name: "doctor",
    summary: "whether clock calls go through the vDSO, and if not, why",
    load: async () => (await import("./commands/doctor.js")).command,
  },
  {
    name: "diff",
    summary: "what two images have in common and what not",
    load: async () => (await import("./commands/diff.js")).command,
  },
  {
    name: "forge",
    summary: "a vDSO image of our own, written from nothing; the article's too",
    load: async () => (await import("./commands/forge.js")).command,
  },
  {
    name: "exec",
    summary: "a program under another vDSO, under none, or in another time",
    load: async () => (await import("./commands/exec.js")).command,
  },
  {
    name: "bench",
    summary: "nanoseconds per call by every way into the kernel, beside the vDSO's functions",
    load: async () => (await import("./commands/bench.js")).command,
  },
  {
    name: "trace",
    summary: "the clock calls of a program that reach the kernel, which library makes them, and the time lost",
    load: async () => (await import("./commands/trace.js")).command,
  },
];
