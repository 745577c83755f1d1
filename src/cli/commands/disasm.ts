import type { Decoder } from "../../isa/instruction.js";
import { renderDisasm } from "../../render/disasm.js";
import { type Target, TargetError } from "../../targets/target.js";
import { disasm } from "../../verbs/disasm.js";
import { type Command, type Invocation, UsageError } from "../command.js";
import { quickDecoderFor } from "../decoder.js";
import { refuseTogether, refuseWithout } from "../exclusive.js";
import { ABI_OPTION, gnuName, showEach } from "../with-target.js";

export const command: Command = {
  name: "disasm",
  summary: "the instructions of the image",
  usage: "[TARGET] [SYMBOL…] [--gnu] [--start-address A] [--stop-address B]",
  description:
    "Disassembles the image, or the functions named (x86). By default annotated: names, branches as arrows, and what is\n" +
    "read of the kernel's data. Name the target where a symbol follows: linux-gate disasm self __vdso_time.",
  options: {
    gnu: { type: "boolean", help: "the text of objdump -d" },
    "start-address": { type: "string", value: "ADDRESS", help: "with --gnu: from this address as linked" },
    "stop-address": { type: "string", value: "ADDRESS", help: "with --gnu: up to this one" },
    ...ABI_OPTION,
  },
  examples: [
    ["linux-gate disasm i386 __kernel_vsyscall", "the article's question: which way into the kernel?"],
    ["linux-gate disasm self __vdso_clock_gettime", "one function of this machine's own ABI"],
    ["linux-gate disasm image.so --gnu", "as objdump -d image.so"],
  ],
  arity: [0, 1000],
  run: async (invocation) => {
    refuseTogether(invocation, "gnu", ["json"]);
    refuseWithout(invocation, ["start-address", "stop-address"], "gnu");
    const gnu = invocation.flag("gnu");
    const show = async (target: Target) => {
      const decoder = await quickDecoderFor(target.image.abi);
      if (!decoder) throw new TargetError(`the instructions of ${target.image.abi} are not decoded yet: only x86 is`);
      const data = () => disasm(target, decoder, { symbols: invocation.positionals.slice(1) });
      const own = () => renderDisasm(data(), invocation.output.style);
      return { data, text: () => (gnu ? gnuText(invocation, target, decoder) : own()) };
    };
    return showEach(invocation, show, { titled: !gnu });
  },
};

async function gnuText({ positionals, text }: Invocation, target: Target, decoder: Decoder): Promise<string> {
  const { gnuDisassembly } = await import("../../render/gnu/disassembly.js");
  const startAddress = address(text("start-address"), "--start-address");
  const stopAddress = address(text("stop-address"), "--stop-address");
  const symbols = positionals.slice(1);
  return gnuDisassembly(target.image.elf, decoder, {
    fileName: gnuName(target),
    ...(symbols.length > 0 && { symbols }),
    ...(startAddress !== undefined && { startAddress }),
    ...(stopAddress !== undefined && { stopAddress }),
  });
}

function address(text: string | undefined, option: string): bigint | undefined {
  if (text === undefined) return undefined;
  if (!/^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text))
    throw new UsageError(`${option} is ${JSON.stringify(text)}, no address`);
  return BigInt(text);
}
