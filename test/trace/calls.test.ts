import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { SERVED_CALLS, tracedCall } from "../../src/measure/trace/calls.js";
import { needs } from "../support/referee.js";

/** Numbers of system calls as the headers of the C library have them. */
function numbersIn(flag: "-m32" | "-m64", names: readonly string[]): (number | undefined)[] {
  const input = `#include <sys/syscall.h>\n${names.map((name) => `"${name}" SYS_${name}`).join("\n")}\n`;
  const { stdout } = spawnSync("gcc", [flag, "-E", "-P", "-x", "c", "-"], { input, encoding: "utf8" });
  return names.map((name) => Number(new RegExp(`^"${name}" (\\d+)$`, "m").exec(stdout)?.[1]));
}

describe("SERVED_CALLS", () => {
  it.skipIf(!needs("gcc", "gcc")).each([["x86_64", "-m64"] as const, ["i386", "-m32"] as const])(
    "has the numbers of the C library's headers: %s",
    (abi, flag) => {
      const calls = SERVED_CALLS[abi];
      expect(
        numbersIn(
          flag,
          calls.map(({ name }) => name),
        ),
      ).toEqual(calls.map(({ number }) => number));
    },
  );
});

describe("tracedCall()", () => {
  const call = (number: number, clock: bigint) => tracedCall("x86_64", number, clock)?.call;

  it("names clocks, and tells those that no vDSO reads", () => {
    expect(tracedCall("x86_64", 228, 1n)).toMatchObject({ call: "clock_gettime(MONOTONIC)", byDesign: false });
    expect(tracedCall("i386", 403, 2n)).toMatchObject({ call: "clock_gettime64(PROCESS_CPUTIME_ID)", byDesign: true });
    expect(tracedCall("x86_64", 229, 7n)).toMatchObject({
      call: "clock_getres(BOOTTIME)",
      measuredAs: "clock_getres(MONOTONIC)",
    });
    expect(tracedCall("x86_64", 309, 12345n)).toMatchObject({ call: "getcpu", byDesign: false });
    expect(tracedCall("x86_64", 1, 0n)).toBeUndefined();
  });

  it("tells clocks that are made from ids and descriptors by their kind alone", () => {
    // As CPUCLOCK macros of the kernel make them: of process 1000, of thread 1000, of descriptor 5.
    expect(call(228, BigInt.asUintN(32, (~1000n << 3n) | 2n))).toBe("clock_gettime(processor time of a process)");
    expect(call(228, BigInt.asUintN(32, (~1000n << 3n) | 6n))).toBe("clock_gettime(processor time of a thread)");
    expect(call(228, BigInt.asUintN(32, (~5n << 3n) | 3n))).toBe("clock_gettime(clock of a device)");
    expect(call(228, 99n)).toBe("clock_gettime(unknown clock)");
  });
});
