import type { Abi } from "../vdso/abi.js";
import type { DataPage } from "../vdso/data-pages.js";
import { clocksOfMask, type FunctionFacts, type KernelEntry, type ProcessorRead } from "../vdso/facts.js";
import type { Mechanism } from "../vdso/gate.js";
import type { ExplainedGate, GateLine } from "../verbs/explain.js";

/** `a`, `a and b`, `a, b and c`. */
export function list(items: readonly string[]): string {
  return items.length < 2 ? (items[0] ?? "") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;
}

/** What a register carries when a program calls the entry (the i386 system call convention). */
const ARGUMENTS: Readonly<Record<string, string>> = {
  ecx: "argument 2",
  edx: "argument 3",
  ebp: "argument 6",
};

/** What the way in does to a register, which is why the entry saves it; empty where it does nothing. */
function clobberWords({ mechanism, alternatives }: ExplainedGate, register: string): string {
  if (register === "ebp" && mechanism !== "int $0x80") {
    return `%ebp is about to carry ${mechanism === "sysenter" ? "the stack pointer" : "argument 2"}`;
  }
  // Only a 64-bit kernel uses `syscall` for 32-bit programs; it never returns by sysexit.
  const wideKernel = mechanism === "syscall" || alternatives.includes("syscall");
  if (mechanism === "sysenter" && register === "ecx") {
    return wideKernel ? "sysretl takes the return address from it" : "sysexit takes the stack pointer from it";
  }
  if (mechanism === "sysenter" && register === "edx") {
    return wideKernel ? "a 32-bit kernel's sysexit would need it" : "sysexit takes the return address from it";
  }
  if (mechanism === "syscall" && register === "ecx") return "syscall overwrites it with the return address";
  return `${mechanism} does not need it, but it is outside the part chosen at boot`;
}

/** What one instruction of the entry is for. */
export function stepWords({ purpose }: GateLine, gate: ExplainedGate): string {
  switch (purpose.kind) {
    case "save": {
      const carries = ARGUMENTS[purpose.register];
      const why = clobberWords(gate, purpose.register);
      const sixth = purpose.register === "ebp" && gate.sixthArgument === "stack";
      return [
        `saves %${purpose.register}${carries ? ` (${carries})` : ""}`,
        why,
        ...(sixth ? ["the kernel reads argument 6 here, from the stack"] : []),
      ].join("; ");
    }
    case "pass-stack":
      return "tells the kernel where the stack is: argument 6 is at 0(%ebp)";
    case "pass-second-argument":
      return "passes argument 2 in %ebp, because syscall is about to overwrite %ecx";
    case "enter":
      return ENTER_WORDS[purpose.mechanism];
    case "restart":
      return purpose.by === "jump"
        ? "restart: the kernel steps back 2 bytes to here, and %ebp is set up again"
        : "restart: an interrupted call is run again from here, with all registers as they were";
    case "restore":
      return `${purpose.landing ? "the kernel returns to here; " : ""}restores %${purpose.register}`;
    case "return":
      return "back to the caller; the result is in %eax";
    case "padding":
      return gate.mechanism === "int $0x80"
        ? "nothing: room for a faster way in, which is not in place in this image"
        : "nothing: keeps what follows where it is";
    case "jump":
      return "goes to the way in that was chosen";
    case "other":
      return "";
  }
}

const ENTER_WORDS: Readonly<Record<Mechanism, string>> = {
  sysenter: "ENTERS THE KERNEL the fast way of Intel; it saves no return address",
  syscall: "ENTERS THE KERNEL the fast way of AMD; the return address goes to %ecx",
  "int $0x80": "ENTERS THE KERNEL by interrupt, the oldest and slowest way",
};

/** Which way in, and what is known of the choice. */
function choiceWords({ mechanism, alternatives }: ExplainedGate): string {
  const others = alternatives.filter((way) => way !== mechanism);
  const also = others.length > 0 ? `, which also hold ${list(others)}, for other processors` : "";
  if (alternatives.includes(mechanism)) {
    return (
      `The way into the kernel is ${mechanism}: put in place at boot, out of the image's alternatives${also}. ` +
      "Where the kernel finds none of them usable, it leaves int $0x80."
    );
  }
  const inForce = `The way into the kernel is ${mechanism}.`;
  return others.length > 0
    ? `${inForce} The image's alternatives hold ${list(others)}, put in place at boot where the processor has it.`
    : `${inForce} The image shows no alternatives: kernels before 4.4 had one image for each way.`;
}

/** The answer to the article's question, from the entry that was found. */
export function gateAnswer(gate: ExplainedGate): string[] {
  const sentences = [choiceWords(gate)];
  if (gate.restart === "int $0x80") {
    sentences.push(
      `The int $0x80 behind the ${gate.mechanism} is not run on the way in: the kernel returns behind it. When a system ` +
        "call that was interrupted by a signal is to be restarted, the kernel moves the return address back by two " +
        "bytes, the length of int $0x80, and that instruction runs the call again. By interrupt, because all six " +
        `arguments are back in their registers by then, %ebp with the sixth among them, and ${gate.mechanism} would want them as they were set up for it.`,
    );
  } else if (gate.restart === "jump") {
    sentences.push(
      "The jump behind it is not run on the way in: the kernel returns behind it. When a system call that was interrupted " +
        "by a signal is to be restarted, the kernel moves the return address back by two bytes, the length of this jump, " +
        "which leads to where %ebp is set to the stack pointer again (there the sixth argument lies).",
    );
  }
  return sentences;
}

/** What is said of code that no decoder is there for. */
export function notDecodedWords(abi: Abi): string {
  return `The instructions of ${abi} are not decoded yet: only x86 is.`;
}

/** How a 64-bit program enters the kernel, where no entry is exported. */
export function noEntryWords(functions: readonly FunctionFacts[]): string | undefined {
  const fallbacks = functions.filter(({ kernelEntries }) => kernelEntries.length > 0);
  if (fallbacks.length === 0) return undefined;
  const ways = [...new Set(fallbacks.flatMap(({ kernelEntries }) => kernelEntries.map(({ by }) => by)))];
  return (
    `There is no entry to call: programs of this ABI enter the kernel by an instruction of their own. ` +
    `The image has it (${list(ways)}) only as the fallback of ${count(fallbacks.length, "function")}.`
  );
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

function entryWords({ by, number, name }: KernelEntry): string {
  const call = number === undefined ? "a system call" : `system call ${number}${name ? ` (${name})` : ""}`;
  return `${call} by ${by === "__kernel_vsyscall" ? "calling __kernel_vsyscall" : by}`;
}

/** Each text once, with how often it stands where that is more than once. */
function unique(items: readonly string[]): string[] {
  return [...new Set(items)];
}

const READ_WORDS: Readonly<Record<ProcessorRead["instruction"], string>> = {
  rdtsc: "the time-stamp counter by rdtsc",
  rdtscp: "the time-stamp counter by rdtscp, which waits for earlier instructions by itself",
  rdpid: "the processor's number by rdpid",
  lsl: "the processor's number from a segment limit (lsl)",
  rdrand: "random numbers by rdrand",
  rdseed: "random numbers by rdseed",
};

/** What a function does, sentence by sentence, from its code. */
export function functionWords(facts: FunctionFacts, pages: readonly DataPage[]): string[] {
  const { function: target, kernelEntries, processorReads, clockMasks } = facts;
  const sentences: string[] = [];
  if (target.role === "signal return") return [signalReturnWords(kernelEntries)];

  const used = pages.filter(({ readBy }) => readBy.includes(target.name));
  const reads = [
    ...unique(
      used.map(({ kind, offset }) => (kind === "unknown" ? `data ${-offset / 4096n} pages before the image` : kind)),
    ),
    ...unique(
      processorReads.map(({ instruction, fence }) => READ_WORDS[instruction] + (fence ? ` behind an ${fence}` : "")),
    ),
  ];
  if (reads.length > 0) sentences.push(`Reads ${list(reads)}.`);
  if (clockMasks.length > 0) {
    sentences.push(
      `Tells ${list(clockMasks.map((mask) => clocksOfMask(mask).join(", ")).map((clocks) => `{${clocks}}`))} apart.`,
    );
  }
  if (!facts.complete) sentences.push("Not all of its code was followed: there is too much of it.");
  if (facts.retries) sentences.push("Waits and reads again where the kernel was just writing.");
  if (facts.entersEnclave) sentences.push("Enters an SGX enclave (enclu).");

  const entries = unique(kernelEntries.map(entryWords));
  if (entries.length > 0) {
    const alone = reads.length === 0;
    sentences.push(`${alone ? "Makes" : "Otherwise makes"} ${list(entries)}.`);
  } else if (!facts.entersEnclave) {
    sentences.push("Never enters the kernel.");
  }
  return sentences;
}

function signalReturnWords(entries: readonly KernelEntry[]): string {
  const calls = unique(entries.map(entryWords));
  return (
    `Where a signal handler returns to: makes ${calls.length > 0 ? list(calls) : "a system call"}, ` +
    "and the kernel puts the interrupted program back."
  );
}

/** `[vvar] page 0: clock data, read by …`. */
export function pageWords({ kind, readBy }: DataPage): string {
  return readBy.length > 0 ? `${kind}, read by ${list(readBy)}` : `${kind} (no function here reads it)`;
}
