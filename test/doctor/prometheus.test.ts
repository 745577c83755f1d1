import { describe, expect, it } from "vitest";
import { renderPrometheus } from "../../src/render/doctor-prometheus.js";
import { doctor } from "../../src/verbs/doctor.js";
import { parseExposition } from "./exposition.js";

describe("the metrics", () => {
  const name = 'a "name"\\ of\ntwo lines';
  const result = doctor({
    machine: {
      release: "6.1",
      architecture: "x86_64",
      clocksource: { current: "hpet", available: ["hpet", "sundial"] },
      parameters: [],
      unread: [],
    },
    abis: [
      {
        abi: "x86_64",
        image: { functions: [] },
        proof: [
          { call: "time", function: "__vdso_time", need: "data page", answer: "vdso" },
          {
            call: "gettimeofday",
            function: "__vdso_gettimeofday",
            need: "counter",
            answer: "kernel",
            systemCall: "gettimeofday",
          },
          {
            call: "clock_gettime(PROCESS_CPUTIME_ID)",
            function: "__vdso_clock_gettime",
            need: "kernel",
            answer: "kernel",
          },
          { call: "getcpu", function: "__vdso_getcpu", need: "processor", answer: "absent" },
        ],
        figures: [{ call: "time", via: "vdso", nsMedian: 2.5, nsLow: 2, nsHigh: 3 }],
      },
      { abi: "i386", notRun: "not here", proof: [], figures: [] },
    ],
    process: { pid: 42, name, objects: [], filesRead: 0, unread: [] },
  });
  const families = parseExposition(renderPrometheus(result, 1_700_000_000));
  const samples = (wanted: string) =>
    families.find((one) => one.name === wanted)?.samples.map(({ labels, value }) => ({ ...labels, value }));

  it("are gauges in the text format, by a strict reader", () => {
    expect(families.map(({ type }) => type)).toEqual(families.map(() => "gauge"));
    expect(families.every(({ help }) => help.endsWith("."))).toBe(true);
    expect(families.every(({ name: one }) => one.startsWith("linux_gate_"))).toBe(true);
  });

  it("say what was found", () => {
    expect(samples("linux_gate_doctor_fast_path_lost")).toEqual([{ value: 1 }]);
    expect(samples("linux_gate_doctor_finding")).toContainEqual({
      id: "clock-falls-back",
      severity: "bad",
      abi: "x86_64",
      value: 1,
    });
    expect(samples("linux_gate_doctor_findings")).toContainEqual({ severity: "bad", value: 2 });
    expect(samples("linux_gate_vdso_call_fast")).toEqual([
      { abi: "x86_64", call: "time", value: 1 },
      { abi: "x86_64", call: "gettimeofday", value: 0 },
    ]);
    expect(samples("linux_gate_call_seconds")).toEqual([{ abi: "x86_64", call: "time", via: "vdso", value: 2.5e-9 }]);
    expect(samples("linux_gate_vdso_present")).toEqual([{ abi: "x86_64", value: 1 }]);
    expect(samples("linux_gate_clocksource_info")).toEqual([
      { clocksource: "hpet", vdso: "no", value: 1 },
      { clocksource: "sundial", vdso: "unknown", value: 0 },
    ]);
    expect(samples("linux_gate_doctor_time_seconds")).toEqual([{ value: 1_700_000_000 }]);
  });

  it("carry names that processes chose, escaped", () => {
    expect(samples("linux_gate_doctor_process_info")).toEqual([{ pid: "42", name, value: 1 }]);
  });
});
