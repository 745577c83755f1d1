import { clocksourceMode } from "../measure/doctor/clocksources.js";
import { countsOf, type DoctorResult } from "../verbs/doctor.js";

type Labels = Readonly<Record<string, string>>;

interface Metric {
  readonly name: string;
  readonly help: string;
  readonly samples: readonly (readonly [labels: Labels, value: number])[];
}

/**
 * The results as metrics in Prometheus' text format, for the textfile collector of node_exporter: gauges without
 * timestamps, each with its help and type. `seconds` is the time of the look, since the epoch.
 *
 * Source: prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4.
 */
export function renderPrometheus(result: DoctorResult, seconds: number): string {
  return metricsOf(result, seconds)
    .filter(({ samples }) => samples.length > 0)
    .map(({ name, help, samples }) => {
      const lines = samples.map(([labels, value]) => `${name}${labelText(labels)} ${value}\n`);
      return `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} gauge\n${lines.join("")}`;
    })
    .join("");
}

function metricsOf({ lost, findings, facts }: DoctorResult, seconds: number): Metric[] {
  const { machine, abis, process } = facts;
  const counts = countsOf(findings);
  const clocksource = machine.clocksource;
  return [
    {
      name: "linux_gate_doctor_fast_path_lost",
      help: "Whether a clock is slow that should be answered by the vDSO.",
      samples: [[{}, Number(lost)]],
    },
    {
      name: "linux_gate_doctor_findings",
      help: "Findings of linux-gate doctor, by severity.",
      samples: Object.entries(counts).map(([severity, count]) => [{ severity }, count]),
    },
    {
      name: "linux_gate_doctor_finding",
      help: "1 for each finding of linux-gate doctor.",
      samples: distinct(
        findings.map(({ id, severity, abi, pid }) => ({
          id,
          severity,
          ...(abi !== undefined && { abi }),
          ...(pid !== undefined && { pid: String(pid) }),
        })),
      ).map((labels) => [labels, 1]),
    },
    {
      name: "linux_gate_vdso_call_fast",
      help: "Whether the vDSO answers a call without entering the kernel, by proof.",
      samples: abis.flatMap(({ abi, proof }) =>
        proof
          .filter(({ answer, need }) => need !== "kernel" && (answer === "vdso" || answer === "kernel"))
          .map(({ call, answer }) => [{ abi, call }, Number(answer === "vdso")] as const),
      ),
    },
    {
      name: "linux_gate_call_seconds",
      help: "Seconds a call takes, the median of batches; via vdso or by a real system call.",
      samples: abis.flatMap(({ abi, figures }) =>
        figures.map(({ call, via, nsMedian }) => [{ abi, call, via }, nsMedian / 1e9] as const),
      ),
    },
    {
      name: "linux_gate_vdso_present",
      help: "Whether a fresh process of an ABI has a vDSO.",
      samples: abis
        .filter(({ notRun }) => notRun === undefined)
        .map(({ abi, image }) => [{ abi }, Number(image !== undefined)]),
    },
    {
      name: "linux_gate_clocksource_info",
      help: "Clocksources that are available: 1 for the one in force; vdso says whether programs can read it.",
      samples: (clocksource?.available ?? []).map((name) => [
        { clocksource: name, vdso: clocksourceMode(name)?.vdso ?? "unknown" },
        Number(name === clocksource?.current),
      ]),
    },
    {
      name: "linux_gate_doctor_process_info",
      help: "The process that was looked at.",
      samples: process ? [[{ pid: String(process.pid), name: process.name }, 1]] : [],
    },
    {
      name: "linux_gate_doctor_time_seconds",
      help: "When linux-gate doctor looked, in seconds since the epoch.",
      samples: [[{}, seconds]],
    },
  ];
}

/** A set of labels may stand only once. */
function distinct(all: readonly Labels[]): Labels[] {
  return [...new Map(all.map((labels) => [labelText(labels), labels])).values()];
}

function labelText(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return parts.length > 0 ? `{${parts.join(",")}}` : "";
}

function escapeHelp(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

function escapeLabel(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"');
}
