import { readFileSync } from "node:fs";
import { RunError } from "../../run/error.js";
import type { Gate } from "../../run/gate.js";
import { type Running, type RunRequest, startProgram } from "../../run/live.js";
import { replacementImage } from "../../run/place.js";
import { resolveTarget } from "../../targets/resolve.js";
import { type Command, type Invocation, isExpected, UsageError } from "../command.js";
import { quickDecoderFor } from "../decoder.js";
import { refuseTogether } from "../exclusive.js";
import { endBySignal, forwardSignals } from "../signals.js";

const PAGE = 4096n;

export const command: Command = {
  name: "exec",
  summary: "start a program without a vDSO, or with another one",
  usage: "[--no-vdso | --vdso TARGET] [--base ADDRESS] [--aslr off] -- PROGRAM [ARGUMENT …]",
  description:
    "Starts a program whose auxiliary vector tells of no vDSO, so that its clock calls become system calls that strace,\n" +
    "seccomp and fakers of time see; or of another image; or of the kernel's own at another address. Works for dynamic and\n" +
    "static programs of x86_64 and i386, whatever language they are written in. The program alone is changed: those that\n" +
    "it executes in turn get what the kernel gives.\n" +
    "An image that reads no data is mapped beside the kernel's own. One that does is written over it, which needs the same\n" +
    "kernel version, size, and data in the same places. What /proc/PID/auxv shows is the kernel's record, which stays as it was.\n" +
    "The program has this one's standard streams, environment, working folder and process group. The exit status is the\n" +
    "program's; after a signal, the same signal ends this. 127: no such program; 126: it cannot be executed; 125: it\n" +
    "cannot be traced or changed, and was ended before it ran.",
  options: {
    "no-vdso": { type: "boolean", help: "announce no vDSO" },
    vdso: { type: "string", value: "TARGET", help: "announce this image: a file, or whatever else has one of the ABI" },
    base: {
      type: "string",
      value: "ADDRESS",
      help: "where the image is to lie, as 0x…; without --vdso, the kernel's own",
    },
    aslr: { type: "string", value: "off", help: "do not randomize addresses, as setarch -R" },
  },
  examples: [
    ["linux-gate exec --no-vdso -- date", "date asks the kernel for the time"],
    ["linux-gate exec --vdso changed.so -- ./program", "another vDSO"],
    ["linux-gate exec --aslr off --base 0x10000000 -- cat /proc/self/maps", "the kernel's own at a fixed address"],
  ],
  arity: [1, Number.POSITIVE_INFINITY],
  run: async (invocation) => {
    const gate = await gateOf(invocation);
    const request: RunRequest = {
      words: programWords(invocation.positionals),
      environment: ownEnvironment(),
      ...(gate && { gate }),
      fixedAddresses: invocation.text("aslr") === "off",
    };
    const signals = forwardSignals();
    let running: Running;
    try {
      running = await startProgram(request);
    } catch (error) {
      signals.stop();
      const [signal] = signals.received;
      // What was to end the program came before there was one.
      if (signal !== undefined) return endBySignal(signal);
      if (!isExpected(error) && !(error instanceof RunError)) throw error;
      invocation.output.remark(error.message);
      if (invocation.json) invocation.output.json({ error: error.message });
      return error instanceof RunError ? error.status : 125;
    }
    signals.to(running.pid);
    const { code, signal } = await running.exited;
    signals.stop();
    return signal === undefined ? (code ?? 128) : endBySignal(signal);
  },
};

/** What the options ask for; throws {@link UsageError}, {@link RunError} or what `resolveTarget` throws. */
async function gateOf(invocation: Invocation): Promise<Gate | undefined> {
  const { flag, text } = invocation;
  refuseTogether(invocation, "no-vdso", ["vdso", "base"]);
  const aslr = text("aslr") ?? "off";
  if (aslr !== "off") throw new UsageError(`--aslr is ${JSON.stringify(aslr)}: off is all that can be asked for`);
  const base = baseOf(text("base"));
  if (flag("no-vdso")) return { kind: "none" };
  const word = text("vdso");
  if (word === undefined) return base === undefined ? undefined : { kind: "moved", base };
  const target = await resolveTarget(word);
  try {
    const { image } = target;
    const decoder = image.abi === "x86_64" || image.abi === "i386" ? await quickDecoderFor(image.abi) : undefined;
    if (!decoder)
      throw new UsageError(`${target.name} is an image of ${image.abi}: programs of x86_64 and i386 can be started`);
    return {
      kind: "image",
      replacement: replacementImage(image, decoder),
      decoder,
      ...(base !== undefined && { base }),
    };
  } finally {
    await target.close();
  }
}

function baseOf(word: string | undefined): bigint | undefined {
  if (word === undefined) return undefined;
  if (!/^0x[0-9a-f]{1,16}$/i.test(word))
    throw new UsageError(`--base is ${JSON.stringify(word)}, no address as 0x10000000`);
  const base = BigInt(word);
  if (base % PAGE !== 0n) throw new UsageError(`--base is ${word}, not the start of a page of ${PAGE} bytes`);
  return base;
}

/** The strings in a /proc file in which each ends with a zero byte. */
function zeroEnded(path: string): Uint8Array[] {
  const bytes = readFileSync(path);
  const strings: Uint8Array[] = [];
  for (let from = 0; from < bytes.length; ) {
    const zero = bytes.indexOf(0, from);
    const end = zero < 0 ? bytes.length : zero;
    strings.push(bytes.subarray(from, end));
    from = end + 1;
  }
  return strings;
}

/** The environment as this process was given it: Node's own view of it has no bytes that are not UTF-8. */
function ownEnvironment(): Uint8Array[] {
  return zeroEnded("/proc/self/environ").filter(({ length }) => length > 0);
}

/** The program and its arguments, byte for byte: they are the last words of this process, which Node has as UTF-8. */
function programWords(positionals: readonly string[]): RunRequest["words"] {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const words = zeroEnded("/proc/self/cmdline").slice(-positionals.length);
  const same = words.length === positionals.length && words.every((word, i) => decoder.decode(word) === positionals[i]);
  const [program, ...rest] = same ? words : positionals.map((word) => new TextEncoder().encode(word));
  if (!program) throw new UsageError("no program is named");
  return [program, ...rest];
}
