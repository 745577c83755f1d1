import { gather } from "../../measure/doctor/live.js";
import { renderDoctor, renderFindingList } from "../../render/doctor.js";
import { renderPrometheus } from "../../render/doctor-prometheus.js";
import { TargetError } from "../../targets/target.js";
import { doctor, documentedFindings } from "../../verbs/doctor.js";
import { type Command, UsageError } from "../command.js";
import { refuseTogether } from "../exclusive.js";
import { writeWhole } from "../write-file.js";

export const command: Command = {
  name: "doctor",
  summary: "whether clock calls go through the vDSO, and if not, why",
  usage: "[PID] [--prometheus FILE] | --list",
  description:
    "Says which functions of the vDSO answer without entering the kernel and which fall back, in fresh processes of each\n" +
    "ABI that runs here: proved by a seccomp filter that answers the real calls, and measured. Then why: the clocksource\n" +
    "in force, the time-stamp counter, the kernel's command line; of a process also whether it was given a vDSO, whether\n" +
    "anything in it looks there, its time namespace and seccomp filters, and which of its libraries call what. Each\n" +
    "finding has an id, evidence and a remedy. Exit status 1: a clock is slow that should be fast.",
  options: {
    list: { type: "boolean", help: "every finding that there may be, with what it means and what to do" },
    prometheus: { type: "string", value: "FILE", help: "write the results for node_exporter's textfile collector" },
  },
  examples: [
    ["linux-gate doctor", "this machine"],
    ["linux-gate doctor 1234", "a process, and what its libraries call"],
    ["linux-gate doctor --prometheus /var/lib/node_exporter/linux-gate.prom", "as a health check, from cron"],
  ],
  arity: [0, 1],
  run: async (invocation) => {
    const { positionals, flag, text, output, json } = invocation;
    if (flag("list")) {
      refuseTogether(invocation, "list", ["prometheus"]);
      if (positionals.length > 0) throw new UsageError("--list stands alone: it looks at no process");
      const findings = documentedFindings();
      if (json) output.json({ findings });
      else output.text(renderFindingList(findings, output.style));
      return 0;
    }
    if (process.platform !== "linux") throw new TargetError("doctor needs Linux: it looks at processes");
    const pid = pidOf(positionals[0]);
    const result = doctor(await gather(pid === undefined ? {} : { pid }));
    const file = text("prometheus");
    if (file !== undefined) {
      writeWhole(file, new TextEncoder().encode(renderPrometheus(result, Math.floor(Date.now() / 1000))));
    }
    if (json) output.json(result);
    else output.text(renderDoctor(result, output.style));
    return result.lost ? 1 : 0;
  },
};

/** A process id, as written; `undefined` for none, which stands for the machine. */
function pidOf(word: string | undefined): number | undefined {
  if (word === undefined) return undefined;
  if (word === "self") return process.pid;
  const pid = Number(word);
  if (!/^\d{1,7}$/.test(word) || pid === 0) throw new UsageError(`${JSON.stringify(word)} is no process id`);
  return pid;
}
