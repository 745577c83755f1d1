import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import type { Mapping } from "../../src/linux/maps.js";
import {
  clockFlags,
  clockMessage,
  clockParameters,
  marksUnstable,
  parameterValue,
} from "../../src/measure/doctor/machine/parse.js";
import { importedNames } from "../../src/measure/doctor/process/imports.js";
import { namespaceOffsets, statusNumber } from "../../src/measure/doctor/process/parse.js";
import { clockSystemCalls, runtimeOf, vdsoNames } from "../../src/measure/doctor/process/symbols.js";
import { boundedElf } from "../../src/measure/file/bounds.js";
import { cpusIn, parseCpuTimes, parseLoad, tscFlags } from "../../src/measure/machine.js";
import { functionFinder } from "../../src/measure/trace/names.js";
import { findSite } from "../../src/run/counter/site.js";
import { imageBytes } from "../support/images.js";

/** Text of words that the readers look for, in any order, among anything. */
function textOf(...words: readonly string[]): fc.Arbitrary<string> {
  const word = fc.oneof(
    fc.constantFrom(...words, " ", "\t", "\n", ":", ";", ",", "=", "-", "--", "0", "18"),
    fc.string(),
  );
  return fc.array(word, { maxLength: 60 }).map((all) => all.join(""));
}

/** An image with some bytes changed, and perhaps cut short. */
function mutations(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  const place = fc.oneof(fc.nat(800), fc.nat(bytes.length - 1));
  return fc
    .record({
      changes: fc.array(fc.tuple(place, fc.nat(255)), { maxLength: 8 }),
      length: fc.oneof({ weight: 3, arbitrary: fc.constant(bytes.length) }, fc.nat(bytes.length)),
    })
    .map(({ changes, length }) => {
      const copy = bytes.slice(0, length);
      for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
      return copy;
    });
}

/** Nothing but a {@link FormatError} leaves. */
function orFormatError(act: () => void): void {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(FormatError);
  }
}

describe("what is read of the machine, whatever it says", () => {
  it("/proc/cpuinfo gives known flags, or none", () => {
    fc.assert(
      fc.property(textOf("flags", "flags\t\t: ", "tsc", "constant_tsc", "nonstop_tsc", "processor"), (text) => {
        expect((tscFlags(text) === undefined) === (clockFlags(text) === undefined)).toBe(true);
        if (tscFlags(text)?.tsc) expect(clockFlags(text)).toContain("tsc");
      }),
    );
  });

  it("the command line gives words of its own, none behind --", () => {
    fc.assert(
      fc.property(textOf("tsc=", "vdso=0", "clocksource=", "notsc", "quiet", " -- "), (text) => {
        const found = clockParameters(text);
        const words = text.trim().split(/\s+/);
        const end = words.indexOf("--");
        for (const word of found) expect(words.slice(0, end < 0 ? words.length : end)).toContain(word);
        const value = parameterValue(found, "vdso");
        if (value !== undefined) expect(found.some((word) => word === "vdso" || word === `vdso=${value}`)).toBe(true);
      }),
    );
  });

  it("the kernel's log gives one line of a record, or none", () => {
    fc.assert(
      fc.property(textOf("6,1,2,-;", "clocksource: ", "Switched to clocksource", "Marking TSC", "unstable"), (text) => {
        const message = clockMessage(text);
        if (message === undefined) return;
        expect(text).toContain(message);
        expect(message).not.toContain("\n");
        expect(typeof marksUnstable(message)).toBe("boolean");
      }),
    );
  });

  it("/proc/stat and /proc/loadavg give numbers, or nothing; a mask gives processors in order", () => {
    fc.assert(
      fc.property(textOf("cpu", "cpu0 ", "1 2 3 4 ", "1e9", "0.5 "), fc.uint8Array({ maxLength: 64 }), (text, mask) => {
        for (const cpu of parseCpuTimes(text).keys()) expect(Number.isInteger(cpu)).toBe(true);
        const load = parseLoad(text);
        if (load !== undefined) expect(Number.isFinite(load)).toBe(true);
        const cpus = cpusIn(mask);
        expect(cpus).toEqual([...cpus].sort((a, b) => a - b));
      }),
    );
  });
});

describe("what is read of a process, whatever it says", () => {
  it("its time namespace gives seconds that are not zero", () => {
    fc.assert(
      fc.property(textOf("monotonic ", "boottime ", "-", "12 ", "500000000", "\n"), (text) => {
        for (const offset of namespaceOffsets(text)) expect(offset).toMatch(/^\S+ -?\d+\.\d{9}$/);
      }),
    );
  });

  it("offsets come back as they were written", () => {
    const ns = fc.bigInt({ min: -(10n ** 18n), max: 10n ** 18n }).filter((offset) => offset !== 0n);
    fc.assert(
      fc.property(ns, (offset) => {
        const rest = ((offset % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
        const [found = ""] = namespaceOffsets(`boottime ${(offset - rest) / 1_000_000_000n} ${rest}\n`);
        expect(BigInt(found.replace(/^boottime /, "").replace(".", ""))).toBe(offset);
      }),
    );
  });

  it("its status gives a number, or none", () => {
    fc.assert(
      fc.property(textOf("Seccomp", "Seccomp:\t2", "Seccomp_filters:", "\n"), (text) => {
        const value = statusNumber(text, "Seccomp");
        if (value !== undefined) expect(value).toBeGreaterThanOrEqual(0);
      }),
    );
  });

  it("bytes of its files give no name and no system call that is not in them", () => {
    const pieces = [
      "__vdso_time",
      "__vdso_clock_gettime64",
      "__kernel_",
      "\xff Go buildinf:",
      "GNU C Library",
      "version 2.",
    ];
    const bytesOf = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      textOf(...pieces).map((text) => Buffer.from(text, "latin1")),
    );
    fc.assert(
      fc.property(bytesOf, fc.constantFrom("/lib/libc.so.6", "/lib/ld-musl-x86_64.so.1", "/bin/x"), (content, path) => {
        const bytes = Buffer.from(content);
        for (const name of vdsoNames(bytes)) expect(bytes.includes(name)).toBe(true);
        for (const abi of ["x86_64", "i386"] as const) expect(clockSystemCalls(bytes, abi).length).toBeLessThan(5);
        const runtime = runtimeOf(path, bytes, (from, to) => bytes.toString("latin1", from, to));
        if (runtime !== undefined) expect(runtime).toMatch(/^(Go|glibc)( [\d.]+)?$|^musl$/);
      }),
    );
  });

  it.each(["amd64__EPYC__i386", "amd64__EPYC__amd64"])("a damaged file is a FormatError: %s", (name) => {
    const good = imageBytes(name);
    fc.assert(
      fc.property(mutations(good), fc.nat(good.length), (bytes, offset) => {
        orFormatError(() => {
          importedNames(boundedElf(bytes), (at, size) => expect(Number.isFinite(at + size)).toBe(true));
        });
        orFormatError(() => {
          functionFinder(boundedElf(bytes))(offset);
        });
      }),
    );
  });

  it("a stack and code of anything give a site", () => {
    const code = fc.uint8Array({ minLength: 64, maxLength: 512 });
    const names = fc.constantFrom("[vdso]", "/lib/libc.so.6", "/lib/ld-linux-x86-64.so.2", "/bin/program", "");
    const mapping = fc.tuple(code, names, fc.nat(7));
    const words = fc.array(fc.tuple(fc.nat(7), fc.nat(600), fc.boolean()), { maxLength: 100 });
    fc.assert(
      fc.property(fc.array(mapping, { maxLength: 6 }), words, fc.constantFrom("x86_64", "i386"), (all, stack, abi) => {
        const size = abi === "i386" ? 4 : 8;
        const at = (index: number): bigint => 0x10000n * BigInt(index + 1);
        const mappings = all.map(
          ([bytes, name], index): Mapping => ({
            ...{ start: at(index), end: at(index) + BigInt(bytes.length), perms: "r-xp", offset: 0n },
            ...{ device: "08:01", inode: name.startsWith("/") ? 7n : 0n, name },
          }),
        );
        const read = (address: bigint, length: number): Uint8Array | undefined => {
          const index = mappings.findIndex(({ start, end }) => start <= address && address + BigInt(length) <= end);
          const from = Number(address - at(index));
          return index < 0 ? undefined : all[index]?.[0].slice(from, from + length);
        };
        const bytes = Buffer.alloc(stack.length * size);
        stack.forEach(([index, offset, code], i) => {
          bytes.writeUInt32LE(code ? Number(at(index)) + offset : offset, i * size);
        });
        const site = findSite({ abi, instruction: at(0) + 8n, stack: bytes }, { mappings, read });
        expect(["vdso", "libc", "dynamic linker", "file", "memory"]).toContain(site.entered.role);
        if (site.slot) expect(site.slot.offset + size).toBeLessThanOrEqual(bytes.length);
      }),
    );
  });
});
