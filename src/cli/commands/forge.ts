import { createHash } from "node:crypto";
import { release } from "node:os";
import { hex } from "../../bytes/hex.js";
import { ForgeError } from "../../forge/error.js";
import type { ForgePlan } from "../../forge/forge.js";
import { kernelVersionCode } from "../../forge/kernel-version.js";
import { parseAbi } from "../../vdso/abi.js";
import { type ForgeResult, forge } from "../../verbs/forge.js";
import { type Command, type Invocation, UsageError } from "../command.js";
import { ENTRIES } from "../entries.js";
import { refuseTerminal, writeWhole } from "../write-file.js";

export const command: Command = {
  name: "forge",
  summary: "a vDSO image of our own, written from nothing",
  usage: "[OPTIONS] -o FILE",
  description:
    "Writes a vDSO image: an ELF shared object with the functions, symbol versions, notes and unwind tables that the\n" +
    "kernel's has, and with code of our own that makes the real system calls. It reads no image and starts no program.\n" +
    "\n" +
    "For i386 the entry, __kernel_vsyscall, takes the way into the kernel that --entry names, and the clock functions\n" +
    'call it. --historical makes the image of "What is linux-gate.so.1?": its symbols at its addresses, and its entry\n' +
    "byte for byte.",
  options: {
    output: { type: "string", short: "o", value: "FILE", help: "where to write; - for standard output" },
    abi: {
      type: "string",
      value: "ABI",
      help: "i386 or x86_64; x86_64 unless said, i386 with --entry or --historical",
    },
    entry: { type: "string", value: "WAY", help: "of i386: int80 (unless said), sysenter or syscall" },
    historical: { type: "boolean", help: "of i386: the image of the article" },
    base: { type: "string", value: "ADDRESS", help: "where it is linked to lie; 0x0, or 0xffffe000 with --historical" },
    "kernel-version": { type: "string", value: "X.Y.Z", help: "for the Linux note; that of the running kernel" },
  },
  examples: [
    ["linux-gate forge --entry sysenter -o linux-gate.dso", "a linux-gate.so.1 that enters by sysenter"],
    ["linux-gate forge --historical -o linux-gate.dso", "the one of the article, to be looked at with objdump -T"],
    ["linux-gate forge -o - | file -", "one for x86_64, to another tool"],
  ],
  arity: [0, 0],
  run: async (invocation) => {
    const { text, output, json } = invocation;
    const plan = planOf(invocation);
    const file = text("output");
    if (file === undefined) throw new UsageError("name a file with -o FILE (linux-gate forge --help)");
    if (file !== "-" || !json) refuseTerminal(file);
    const result = await make(plan);
    if (file === "-") {
      if (json) output.json(result);
      else output.bytes(result.bytes);
      return 0;
    }
    writeWhole(file, result.bytes);
    const { bytes, ...described } = result;
    if (json) output.json({ ...described, file, size: bytes.length });
    else output.remark(remarkOn(file, plan, result));
    return 0;
  },
};

/** What the options ask for. Throws `UsageError` where they contradict each other or name nothing known. */
function planOf({ text, flag }: Invocation): ForgePlan {
  const entryName = text("entry");
  const historical = flag("historical");
  const abiName = text("abi") ?? (historical || entryName !== undefined ? "i386" : "x86_64");
  const abi = parseAbi(abiName);
  if (abi !== "i386" && abi !== "x86_64") {
    throw new UsageError(`--abi is ${JSON.stringify(abiName)}: images are made for i386 and x86_64`);
  }
  const base = baseOf(text("base"));
  const common = { kernelVersion: versionOf(text("kernel-version")), ...(base !== undefined && { base }) };
  if (abi === "x86_64") {
    if (entryName !== undefined) throw new UsageError("--entry is of i386: x86_64 has one way into the kernel");
    if (historical) throw new UsageError("--historical is of i386");
    return { ...common, abi };
  }
  const entry = ENTRIES.get(entryName ?? "int80");
  if (entry === undefined) {
    throw new UsageError(`--entry is ${JSON.stringify(entryName)}, not one of ${[...ENTRIES.keys()].join(", ")}`);
  }
  if (!historical) return { ...common, abi, entry };
  if (entryName !== undefined && entry !== "sysenter") {
    throw new UsageError("--historical is the image of the article, which enters by sysenter");
  }
  return { ...common, abi, historical };
}

function baseOf(text: string | undefined): bigint | undefined {
  if (text === undefined) return undefined;
  if (!/^0x[0-9a-f]{1,16}$/i.test(text)) throw new UsageError(`--base is ${JSON.stringify(text)}, no address (0x…)`);
  return BigInt(text);
}

function versionOf(text: string | undefined): number {
  const code = kernelVersionCode(text ?? release());
  if (code !== undefined) return code;
  throw new UsageError(
    text === undefined
      ? `the running system is release ${JSON.stringify(release())}: name a --kernel-version X.Y.Z`
      : `--kernel-version is ${JSON.stringify(text)}, no version X.Y.Z with numbers up to 255`,
  );
}

async function make(plan: ForgePlan): Promise<ForgeResult> {
  const iced = await import("iced-x86");
  const sha1 = (bytes: Uint8Array): Uint8Array => createHash("sha1").update(bytes).digest();
  try {
    return forge(plan, { iced, sha1 });
  } catch (error) {
    throw error instanceof ForgeError ? new UsageError(error.message) : error;
  }
}

function remarkOn(file: string, plan: ForgePlan, { bytes, base, identity }: ForgeResult): string {
  const entry = plan.abi === "x86_64" ? "" : `, enters by ${"historical" in plan ? "sysenter" : plan.entry}`;
  return `${file}: ${bytes.length} bytes, ${identity.soname} for ${plan.abi} at ${hex(base)}${entry}`;
}
