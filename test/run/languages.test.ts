import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { mappingAt, parseMaps } from "../../src/linux/maps.js";
import { ExecVerb } from "../support/exec-verb.js";
import { BASE, everyGate, type GateCase } from "../support/gates.js";
import { runsHere } from "../support/native.js";
import { type BuiltProgram, Workshop } from "../support/programs.js";
import { needs, output } from "../support/referee.js";

const workshop = new Workshop();
const verb = await ExecVerb.bundle();
afterAll(() => {
  verb.remove();
  workshop.remove();
});

/** How often each program asks for the time. */
const CALLS = 200;

// Both write the same, wait for a line, ask for the time, and say whether it ever went backward.
const C_SOURCE = `
#include <stdio.h>
#include <time.h>
int main(void) {
  struct timespec now, last = {0};
  puts("ready");
  fflush(stdout);
  getchar();
  for (int i = 0; i < ${CALLS}; i++) {
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return 2;
    if (now.tv_sec < last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec < last.tv_nsec)) return 3;
    last = now;
  }
  puts("forward");
  return 0;
}
`;

const GO_SOURCE = `
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	fmt.Println("ready")
	os.Stdin.Read(make([]byte, 1))
	last := time.Now()
	for i := 1; i < ${CALLS}; i++ {
		now := time.Now()
		if now.Before(last) {
			os.Exit(3)
		}
		last = now
	}
	fmt.Println("forward")
}
`;

/** How many system calls a program makes where each of its clock calls is one. */
interface Calls {
  readonly least: number;
  readonly most: number;
}

function programs(): (BuiltProgram & Calls)[] {
  const built = workshop.cPrograms(C_SOURCE);
  if (needs("gcc", "gcc")) {
    workshop.compile(C_SOURCE, "-static-pie", "-o", "static-pie");
    built.push({ name: "static C at any address", path: workshop.path("static-pie") });
  }
  const exact = built.map((one) => ({ ...one, least: CALLS, most: CALLS }));
  if (!needs("go", "golang-go")) return exact;
  // time.Now() reads two clocks, and Go's scheduler reads them for itself.
  const go = {
    name: "Go",
    path: workshop.goProgram("clock", GO_SOURCE),
    least: 2 * CALLS,
    most: Number.POSITIVE_INFINITY,
  };
  return [...exact, go];
}

/** A system call that strace saw: where in the program. */
const CALLED_FROM = /\[([0-9a-f]{16})\] clock_gettime\(/g;

/** Runs a program to its end, and gives what it wrote and where it entered the kernel for the time. */
async function observe(gate: GateCase, path: string) {
  const child = verb.start({ stdio: ["pipe", "pipe", "inherit"] }, ...gate.options, "--", path);
  const text: string[] = [];
  child.stdout?.on("data", (data) => text.push(String(data)));
  await once(child.stdout as NodeJS.ReadableStream, "data");
  const pid = output("pgrep", "-P", String(child.pid), "-f", path).trim();
  const maps = parseMaps(readFileSync(`/proc/${pid}/maps`, "utf8"));
  expect(readFileSync(`/proc/${pid}/status`, "utf8")).toMatch(/^TracerPid:\t0$/m);
  const log = workshop.path("strace.log");
  const strace = spawn("strace", ["-f", "-i", "-e", "trace=clock_gettime", "-o", log, "-p", pid], { stdio: "pipe" });
  await once(strace.stderr, "data");
  child.stdin?.end("x");
  const [[status]] = await Promise.all([once(child, "close"), once(strace, "exit")]);
  const addresses = [...readFileSync(log, "utf8").matchAll(CALLED_FROM)].map(([, digits]) => BigInt(`0x${digits}`));
  return { text: text.join(""), status, addresses, maps };
}

describe.skipIf(!runsHere("x86_64"))("exec of", () => {
  const mayTrace =
    needs("strace", "strace") &&
    needs("pgrep", "procps") &&
    spawnSync("strace", ["-qq", "-e", "trace=none", "true"]).status === 0;
  const gates = everyGate(workshop.folder);

  const built = programs();
  if (built.length === 0) it.skip("programs that no compiler here makes");

  describe.each(built)("$name", ({ path, least, most }) => {
    it.skipIf(!mayTrace).each(gates)(
      "under $name: same output, and its clock calls go where they are to",
      async (gate) => {
        const { text, status, addresses, maps } = await observe(gate, path);
        expect([text, status]).toEqual(["ready\nforward\n", 0]);
        if (gate.enters === "nowhere") {
          expect(addresses).toEqual([]);
          return;
        }
        expect(addresses.length).toBeGreaterThanOrEqual(least);
        expect(addresses.length).toBeLessThanOrEqual(most);
        const from = new Set(addresses.map((address) => mappingAt(maps, address)));
        if (gate.enters === "image") {
          const [image] = from;
          expect(from.size).toBe(1);
          expect(image).toMatchObject({ perms: "r-xp", name: "" });
          if (gate.options.includes("--base")) expect(image?.start).toBe(BASE);
        } else for (const mapping of from) expect(mapping?.name).toMatch(/^\//);
      },
    );
  });
});
