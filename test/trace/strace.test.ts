import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TraceResult } from "../../src/verbs/trace.js";
import { runsHere } from "../support/native.js";
import { needs, output } from "../support/referee.js";
import { byName, TraceVerb } from "../support/trace-verb.js";
import { clockPrograms } from "./built.js";
import { CONFINING_PROGRAM, GO_PROGRAM } from "./programs.js";

const scratch = mkdtempSync(join(tmpdir(), "trace-strace-test-"));
let verb: TraceVerb;
beforeAll(async () => {
  verb = await TraceVerb.in(scratch);
});
afterAll(() => {
  rmSync(scratch, { recursive: true, force: true });
  verb.verb.remove();
});

const programs = clockPrograms(scratch);
const dynamic = programs[0]?.path ?? "";
const modes = ["mixed", "threads", "children", "signals"];

describe.skipIf(!(runsHere("x86_64") && dynamic && needs("strace", "strace")))("trace and strace", () => {
  it.each(programs.flatMap((program) => modes.map((mode) => ({ ...program, mode }))))(
    "count the same: $name, $mode",
    ({ path, mode }) => {
      const { result } = verb.trace([], path, mode, "40");
      const counted = byName(result);
      expect(counted).toEqual(verb.straced(path, mode, "40"));
      expect(result.calls).toBe([...counted.values()].reduce((sum, calls) => sum + calls, 0));
      expect(result.method).toBe("filter");
    },
  );

  it.skipIf(!needs("go", "golang-go"))("count the same: Go", () => {
    const folder = join(scratch, "go.go");
    writeFileSync(folder, GO_PROGRAM);
    const path = join(scratch, "go-program");
    output("env", `GOCACHE=${scratch}/cache`, "GOFLAGS=-mod=mod", "CGO_ENABLED=0", "go", "build", "-o", path, folder);
    const { result } = verb.trace([], path);
    expect(byName(result)).toEqual(verb.straced(path));
    expect(byName(result).get("clock_gettime")).toBe(50);
    expect(result.sites[0]?.caller?.symbol).toMatch(/Syscall/);
  });

  it("count the same where no filter is to be had, so that it stops at every system call", () => {
    const confine = join(scratch, "confine");
    writeFileSync(`${confine}.c`, CONFINING_PROGRAM);
    output("gcc", "-o", confine, `${confine}.c`);
    const file = join(scratch, "confined.json");
    const run = verb.verb.runBy([confine], {}, "--json", "-o", file, "--", dynamic, "children", "20");
    expect([run.status, run.errors]).toEqual([0, ""]);
    const result = JSON.parse(readFileSync(file, "utf8")) as TraceResult;
    expect(result.method).toBe("every call");
    expect(byName(result)).toEqual(verb.straced(dynamic, "children", "20"));
  });
});
