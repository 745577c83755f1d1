import { describe, expect, it } from "vitest";
import { clocksourceMode, fastAlternatives } from "../../src/measure/doctor/clocksources.js";
import {
  clockFlags,
  clockMessage,
  clockParameters,
  marksUnstable,
  parameterValue,
} from "../../src/measure/doctor/machine/parse.js";
import { namespaceOffsets, statusNumber } from "../../src/measure/doctor/process/parse.js";
import { clockSystemCalls, vdsoNames } from "../../src/measure/doctor/process/symbols.js";
import { errnoFilter, FIRST_ERRNO } from "../../src/measure/doctor/proof/filter.js";
import { AUDIT_ARCH_I386, AUDIT_ARCH_X86_64 } from "../../src/run/filter.js";

describe("what the doctor reads of the machine", () => {
  it("takes the counter's flags of the first processor", () => {
    const text = "processor\t: 0\nflags\t\t: fpu tsc rdtscp constant_tsc aes\n\nprocessor\t: 1\nflags\t\t: fpu\n";
    expect(clockFlags(text)).toEqual(["tsc", "rdtscp", "constant_tsc"]);
    expect(clockFlags("processor : 0\nFeatures : fp asimd\n")).toBeUndefined();
  });

  it("takes the parameters that matter, none behind the kernel's own, and the last of a name", () => {
    const parameters = clockParameters("quiet tsc=reliable vdso32=0 nohpet tsc=unstable init=/bin/sh -- vdso=0\n");
    expect(parameters).toEqual(["tsc=reliable", "vdso32=0", "nohpet", "tsc=unstable"]);
    expect(parameterValue(parameters, "tsc")).toBe("unstable");
    expect(parameterValue(parameters, "vdso")).toBeUndefined();
  });

  it("takes the messages by which the kernel chooses a clocksource or gives one up", () => {
    const text =
      "4,812,93512345,-;clocksource: timekeeping watchdog on CPU3: Marking clocksource 'tsc' as unstable because the skew is too large:\n SUBSYSTEM=x\n";
    const message = clockMessage(text) as string;
    expect(message).toMatch(/too large:$/);
    expect(marksUnstable(message)).toBe(true);
    expect(marksUnstable("tsc: Marking TSC unstable due to boot parameter")).toBe(true);
    expect(clockMessage("6,1,2,-;clocksource: Switched to clocksource tsc\n")).toBe(
      "clocksource: Switched to clocksource tsc",
    );
    expect(clockMessage("6,1,2,-;usb 1-1: new device\n")).toBeUndefined();
    expect(clockMessage("no record")).toBeUndefined();
  });

  it("knows which clocksources programs can read", () => {
    expect(clocksourceMode("tsc")?.vdso).toBe("yes");
    expect(clocksourceMode("hyperv_clocksource_tsc_page")?.vdso).toBe("yes");
    expect(clocksourceMode("hpet")?.vdso).toBe("no");
    expect(clocksourceMode("constructor")).toBeUndefined();
    expect(fastAlternatives(["hpet", "acpi_pm", "tsc"], "hpet")).toEqual(["tsc"]);
    expect(fastAlternatives(["tsc"], "tsc")).toEqual([]);
  });
});

describe("what the doctor reads of a process", () => {
  it("takes the offsets of its time namespace that are not zero, with their sign", () => {
    const text = "monotonic           0         0\nboottime         1000         5\n";
    expect(namespaceOffsets(text)).toEqual(["boottime 1000.000000005"]);
    expect(namespaceOffsets("monotonic -2 500000000\nboottime -1 0\n")).toEqual([
      "monotonic -1.500000000",
      "boottime -1.000000000",
    ]);
    expect(namespaceOffsets("")).toEqual([]);
  });

  it("takes numbers of its status", () => {
    const text = "Seccomp:\t2\nSeccomp_filters:\t13\n";
    expect([statusNumber(text, "Seccomp"), statusNumber(text, "Seccomp_filters")]).toEqual([2, 13]);
    expect(statusNumber(text, "NoNewPrivs")).toBeUndefined();
  });
});

describe("what the doctor finds in a program's bytes", () => {
  it("names of vDSO functions, whole ones alone", () => {
    expect(vdsoNames(Buffer.from("\0__vdso_clock_gettime64\0__vdso_time\0"))).toEqual([
      "__vdso_clock_gettime64",
      "__vdso_time",
    ]);
    expect(vdsoNames(Buffer.from("__vdso_clock_gettime__vdso_gettimeofday"))).toEqual([
      "__vdso_clock_gettime",
      "__vdso_gettimeofday",
    ]);
    expect(vdsoNames(Buffer.from("nothing"))).toEqual([]);
  });

  it("system calls of clocks, by their numbers right before a way into the kernel", () => {
    const load = (number: number) => [0xb8, number & 255, number >> 8, 0, 0];
    expect(clockSystemCalls(Buffer.from([...load(228), 0x0f, 0x05]), "x86_64")).toEqual(["clock_gettime"]);
    expect(clockSystemCalls(Buffer.from([...load(228), 0xc3]), "x86_64")).toEqual([]);
    expect(clockSystemCalls(Buffer.from([...load(403), 0xcd, 0x80]), "i386")).toEqual(["clock_gettime64"]);
    expect(clockSystemCalls(Buffer.from([...load(78), 0x65, 0xff, 0x15, 0x10, 0, 0, 0]), "i386")).toEqual([
      "gettimeofday",
    ]);
  });
});

/** What the kernel would do with a call: runs the filter as include/uapi/linux/bpf_common.h says. */
function runFilter(filter: Uint8Array, arch: number, number: number): number {
  const view = new DataView(filter.buffer, filter.byteOffset, filter.byteLength);
  let accumulator = 0;
  for (let at = 0; at < filter.length; at += 8) {
    const [code, onEqual, onOther, operand] = [
      view.getUint16(at, true),
      view.getUint8(at + 2),
      view.getUint8(at + 3),
      view.getUint32(at + 4, true),
    ];
    if (code === 0x20) accumulator = operand === 0 ? number : operand === 4 ? arch : Number.NaN;
    else if (code === 0x54) accumulator = (accumulator & operand) >>> 0;
    else if (code === 0x15) at += 8 * (accumulator === operand ? onEqual : onOther);
    else if (code === 0x06) return operand;
    else throw new Error(`code 0x${code.toString(16)}`);
  }
  throw new Error("the filter does not return");
}

describe("the filter of the proof", () => {
  it("gives each call an error of its own, and lets all others pass", () => {
    const filter = errnoFilter("x86_64", [228, 96]);
    expect(runFilter(filter, AUDIT_ARCH_X86_64, 228)).toBe(0x50000 | FIRST_ERRNO);
    expect(runFilter(filter, AUDIT_ARCH_X86_64, 96)).toBe(0x50000 | (FIRST_ERRNO + 1));
    expect(runFilter(filter, AUDIT_ARCH_X86_64, 0)).toBe(0x7fff0000);
    expect(runFilter(filter, AUDIT_ARCH_I386, 228)).toBe(0x7fff0000);
    expect(runFilter(errnoFilter("i386", [265]), AUDIT_ARCH_I386, 265)).toBe(0x50000 | FIRST_ERRNO);
  });
});
