import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { refuseEntry } from "../../src/run/entry.js";
import { kernelReturns } from "../../src/run/place.js";
import { parseCpuinfo } from "../../src/vdso/boot/cpu.js";
import { parseImage } from "../../src/vdso/image.js";
import { forged } from "../support/forged.js";
import { imagePath } from "../support/images.js";

const image = (name: string) => parseImage(new Uint8Array(readFileSync(imagePath(name))), { mapped: true });
const made = (kind: "int80" | "sysenter" | "syscall" | "historical") => parseImage(forged(kind));
const machine = (vendor: string, cmdline = "quiet") => ({
  cpu: parseCpuinfo(`vendor_id\t: ${vendor}\nflags\t\t: fpu sep syscall lm\n`, "this processor"),
  cmdline,
});

describe("refuseEntry()", () => {
  const amd = image("amd64__EPYC__i386");
  const intel = image("amd64__Nehalem__i386");
  const cleared = image("amd64__EPYC+clearcpuid110__i386");

  it("lets pass what the kernel takes itself, and int $0x80 everywhere", () => {
    for (const own of [amd, intel, cleared]) refuseEntry(made("int80"), own, machine("GenuineIntel"));
    refuseEntry(made("syscall"), amd, machine("AuthenticAMD"));
    for (const kind of ["sysenter", "historical"] as const) refuseEntry(made(kind), intel, machine("GenuineIntel"));
  });

  it("refuses what the processor's vendor does not have under a 64-bit kernel, and says what works", () => {
    expect(() => refuseEntry(made("sysenter"), amd, machine("AuthenticAMD"))).toThrow(
      /by sysenter: a 64-bit kernel does not set it for .*AMD.*; syscall works here$/,
    );
    expect(() => refuseEntry(made("historical"), amd, machine("AuthenticAMD"))).toThrow(/by sysenter/);
    expect(() => refuseEntry(made("syscall"), intel, machine("GenuineIntel"))).toThrow(/; sysenter works here$/);
  });

  it("lets pass what only the command line keeps the kernel from, and refuses what FRED has taken away", () => {
    refuseEntry(made("syscall"), cleared, machine("AuthenticAMD", "quiet clearcpuid=110"));
    expect(() => refuseEntry(made("syscall"), cleared, machine("AuthenticAMD"))).toThrow(/FRED/);
  });
});

describe("kernelReturns()", () => {
  it("finds where kernels of either width come back to", () => {
    for (const name of ["amd64__EPYC__i386", "amd64__Nehalem__i386", "686__i386__embedded", "host618__native__i386"]) {
      const own = image(name);
      const { landing, sigreturn, rtSigreturn } = kernelReturns(own);
      expect([...own.bytes.subarray(landing - 2, landing + 4)]).toEqual([0xcd, 0x80, 0x5d, 0x5a, 0x59, 0xc3]);
      expect(own.bytes[sigreturn]).toBe(0x58);
      expect(own.bytes[rtSigreturn]).toBe(0xb8);
    }
  });

  it("refuses an image without a landing pad, and one of another ABI", () => {
    expect(() => kernelReturns(made("int80"))).toThrow(/no landing pad/);
    expect(() => kernelReturns(image("amd64__EPYC__amd64"))).toThrow(/no __kernel_vsyscall/);
  });
});
