import { renderCallCounts } from "../../render/call-counts.js";
import { isRunError } from "../../run/error.js";
import type { CallTable } from "../call-table.js";
import { type Command, type Invocation, UsageError } from "../command.js";
import { chooseGate, GATE_OPTIONS } from "../gate-options.js";
import { type RunWish, runProgram } from "../run-program.js";

export const command: Command = {
  name: "exec",
  summary: "start a program without a vDSO, with another one, or with another time",
  usage: "[OPTIONS] -- PROGRAM [ARGUMENT …]",
  description:
    "Starts a program under another gate: without a vDSO, so that its clock calls become system calls which strace, seccomp\n" +
    "and fakers of time see; with another image, or the kernel's own elsewhere; with clocks that show another time; or, for\n" +
    "i386, by another way into the kernel. Works for dynamic and static programs, whatever language they are written in.\n" +
    "Nothing is preloaded, and nothing stays attached but with --follow.\n" +
    "\n" +
    "--time changes what the calendar's clocks show through the vDSO; system calls that bypass it, and times to sleep until,\n" +
    "are the kernel's. An image that reads no data is mapped beside the kernel's own; one that does is written over it, which\n" +
    "needs the same kernel version, size, and data in the same places.\n" +
    "\n" +
    "The program has this one's standard streams, environment, working folder and process group. The exit status is the\n" +
    "program's; after a signal, the same signal ends this. 127: no such program; 126: it cannot be executed; 125: it\n" +
    "cannot be traced or changed, and was ended before it ran.",
  options: {
    ...GATE_OPTIONS,
    aslr: { type: "string", value: "off", help: "do not randomize addresses, as setarch -R" },
  },
  examples: [
    ["linux-gate exec --no-vdso -- date", "date asks the kernel for the time"],
    ["linux-gate exec --time 2038-01-19T03:14:00Z -- ./server", "how will it take the end of 32-bit time?"],
    ["linux-gate exec --time +1y --rate 60 --follow -- make check", "a minute a second, for all that make starts"],
    ["linux-gate exec --vdso changed.so -- ./program", "another vDSO"],
    ["linux-gate exec --entry int80 --count -- ./i386-program", "the old way in, and how often it was taken"],
    ["linux-gate exec --aslr off --base 0x10000000 -- cat /proc/self/maps", "the kernel's own at a fixed address"],
  ],
  arity: [1, Number.POSITIVE_INFINITY],
  run: async (invocation) => {
    try {
      return await start(invocation);
    } catch (error) {
      if (!isRunError(error)) throw error;
      invocation.output.remark(error.message);
      if (invocation.json) invocation.output.json({ error: error.message });
      return error.status;
    }
  },
};

async function start(invocation: Invocation): Promise<number> {
  const aslr = invocation.text("aslr") ?? "off";
  if (aslr !== "off") throw new UsageError(`--aslr is ${JSON.stringify(aslr)}: off is all that can be asked for`);
  const { gate, calls, follow, intercept } = await chooseGate(invocation);
  const wish: RunWish = {
    ...(gate && { gate }),
    follow,
    ...(intercept && { intercept }),
    fixedAddresses: invocation.text("aslr") === "off",
  };
  return runProgram(invocation, wish, () => {
    if (calls) showCalls(calls, invocation);
  });
}

/** Lists the calls that were counted, on standard error as strace does: standard output is the program's. */
function showCalls(calls: CallTable, { json, output }: Invocation): void {
  const counts = calls.counts();
  calls.close();
  if (json) output.json({ calls: counts });
  else output.aside(renderCallCounts(counts));
}
