import { describe, expect, it } from "vitest";
import { Code } from "../../src/vdso/code.js";
import { dataPagesOfImage } from "../../src/vdso/data-pages.js";
import { Budget } from "../../src/vdso/dataflow.js";
import { clocksOfMask, type FunctionFacts, functionFacts } from "../../src/vdso/facts.js";
import { parseImage } from "../../src/vdso/image.js";
import { decoderFor } from "../../src/verbs/decoder.js";
import { imageBytes, imageNames, imagePath } from "../support/images.js";
import { needs, output } from "../support/referee.js";

const x86 = imageNames.filter((name) => /i386|amd64__amd64|__amd64$/.test(name));

async function factsOf(name: string): Promise<Map<string, FunctionFacts>> {
  const image = parseImage(imageBytes(name));
  const decoder = await decoderFor(image.abi);
  if (!decoder) throw new Error(`no decoder for ${image.abi}`);
  const code = new Code(image.elf, decoder);
  const budget = new Budget();
  return new Map(image.functions.map((one) => [one.name, functionFacts(image, one, code, budget)]));
}

const numbers = (facts: FunctionFacts | undefined) => [...new Set(facts?.kernelEntries.map(({ number }) => number))];

describe("what functions do, found in their code", () => {
  it("finds the system calls that 64-bit functions fall back to", async () => {
    const facts = await factsOf("host618__native__amd64");
    expect(numbers(facts.get("__vdso_clock_gettime"))).toEqual([228]);
    expect(numbers(facts.get("__vdso_gettimeofday"))).toEqual([96]);
    expect(numbers(facts.get("__vdso_clock_getres"))).toEqual([229]);
    expect(numbers(facts.get("__vdso_getrandom"))).toEqual([318]);
    expect(numbers(facts.get("__vdso_time"))).toEqual([]);
    expect(numbers(facts.get("__vdso_getcpu"))).toEqual([]);
  });

  it("finds those of i386 through the call of __kernel_vsyscall", async () => {
    const facts = await factsOf("host618__native__i386");
    const clock = facts.get("__vdso_clock_gettime64")?.kernelEntries ?? [];
    expect(clock.map(({ by }) => by)).toEqual(clock.map(() => "__kernel_vsyscall"));
    expect(clock.map(({ name }) => name)).toContain("clock_gettime64");
    expect(numbers(facts.get("__vdso_clock_gettime"))).toEqual([265]);
  });

  it("ends a signal return where the kernel does not come back", async () => {
    const facts = await factsOf("686__pentium3__i386");
    const plain = facts.get("__kernel_sigreturn");
    expect(plain?.kernelEntries.map(({ name, by }) => [name, by])).toEqual([["sigreturn", "int $0x80"]]);
    expect(plain?.instructionCount).toBe(3);
    expect(numbers(facts.get("__kernel_rt_sigreturn"))).toEqual([173]);
  });

  it("finds how the processor is asked, which the kernel patched for it", async () => {
    const readOf = async (name: string, of: string) => (await factsOf(name)).get(of)?.processorReads ?? [];
    expect(new Set((await readOf("amd64__EPYC__amd64", "__vdso_clock_gettime")).map((one) => one.instruction))).toEqual(
      new Set(["rdtscp"]),
    );
    const fenced = await readOf("amd64__Nehalem+clearcpuid_sep__amd64", "__vdso_clock_gettime");
    expect(fenced.length).toBeGreaterThan(0);
    const host = await readOf("host618__native__i386", "__vdso_getcpu");
    expect(host.map(({ instruction }) => instruction)).toEqual(["rdpid"]);
    const older = await readOf("amd64__EPYC__amd64", "__vdso_getcpu");
    expect(older.map(({ instruction }) => instruction)).toEqual(["lsl"]);
  });

  it("tells clocks by the masks that the code tests", async () => {
    const facts = await factsOf("host618__native__amd64");
    const masks = facts.get("__vdso_clock_gettime")?.clockMasks ?? [];
    expect(masks.map(clocksOfMask)).toEqual([
      ["REALTIME", "MONOTONIC", "BOOTTIME", "TAI"],
      ["REALTIME_COARSE", "MONOTONIC_COARSE"],
    ]);
  });

  it("sees the loop that waits for the kernel to finish writing", async () => {
    const facts = await factsOf("host618__native__amd64");
    expect(facts.get("__vdso_clock_gettime")?.retries).toBe(true);
    expect(facts.get("__vdso_time")?.retries).toBe(false);
  });

  it("sees that one enters an enclave", async () => {
    expect((await factsOf("amd64__EPYC__amd64")).get("__vdso_sgx_enter_enclave")?.entersEnclave).toBe(true);
  });
});

describe("the pages of data that the code reads", () => {
  it("are six in the layout with hypervisor clocks apart, on both widths alike", async () => {
    const wide = dataPagesOfImage([...(await factsOf("host618__native__amd64")).values()]);
    const narrow = dataPagesOfImage([...(await factsOf("host618__native__i386")).values()]);
    const pages = (list: typeof wide) => list.map(({ offset, kind }) => [Number(offset), kind]);
    expect(pages(wide)).toEqual([
      [-0x6000, "clock data"],
      [-0x5000, "system clock data (time namespaces only)"],
      [-0x4000, "random-number state"],
      [-0x2000, "hypervisor clock"],
    ]);
    expect(pages(narrow)).toEqual(pages(wide).filter(([, kind]) => kind !== "random-number state"));
  });

  it("are four in the older layout", async () => {
    const pages = dataPagesOfImage([...(await factsOf("amd64__EPYC__i386")).values()]);
    expect(pages.map(({ offset, kind }) => [Number(offset), kind])).toEqual([
      [-0x4000, "clock data"],
      [-0x3000, "hypervisor clock"],
      [-0x2000, "hypervisor clock"],
      [-0x1000, "system clock data (time namespaces only)"],
    ]);
  });
});

const objdump = needs("objdump", "binutils");

it.skipIf(!objdump).each(x86)("%s: every kernel entry found is one for objdump too", async (name) => {
  const listing = output("objdump", "-d", imagePath(name));
  const facts = await factsOf(name);
  for (const { kernelEntries } of facts.values()) {
    for (const { address, by } of kernelEntries) {
      const line = listing.split("\n").find((one) => one.trimStart().startsWith(`${address.toString(16)}:`));
      expect(line).toMatch(
        by === "__kernel_vsyscall"
          ? /call .*<__kernel_vsyscall/
          : new RegExp(by.replace("$", "\\$").replace(" ", " +")),
      );
    }
  }
});
