import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { hexBytes } from "../../src/bytes/hex.js";
import { alternativesOf } from "../../src/vdso/boot/alternatives.js";
import { parseCmdline } from "../../src/vdso/boot/cmdline.js";
import { parseCpuinfo } from "../../src/vdso/boot/cpu.js";
import { CPU_MODELS, findCpu } from "../../src/vdso/boot/cpu-models.js";
import { BootFeatures } from "../../src/vdso/boot/features.js";
import { readInForce } from "../../src/vdso/boot/in-force.js";
import { type BootDescription, kernelWidthOf, predictImage } from "../../src/vdso/boot/predict.js";
import { chooseSeparate } from "../../src/vdso/boot/separate-images.js";
import { parseImage, type VdsoImage } from "../../src/vdso/image.js";
import { rewritten, SEPARATE, separate, withoutSections } from "../support/alternative-table.js";
import { bootedImage, recordedBoots } from "../support/boots.js";
import { imageBytes } from "../support/images.js";

const folder = new URL("../fixtures/images/", import.meta.url);

/** Boots of test/fixtures/images: a text each, and an image where that process had one. */
const texts = readdirSync(folder)
  .filter((name) => name.endsWith(".txt"))
  .map((name) => {
    const text = readFileSync(new URL(name, folder), "utf8");
    const [kernel, , abi] = name.slice(0, -4).split("__");
    const lines = [...text.matchAll(/^CPU: (.*)$/gm)].map(([, line]) => line).join("\n");
    return {
      name: name.slice(0, -4),
      kernel: kernel as string,
      embedded: `${kernel}__${abi}__embedded`,
      cpu: parseCpuinfo(lines),
      cmdline: /^CMDLINE: (.*)$/m.exec(text)?.[1] ?? "",
      hasImage: !text.includes("NO VDSO MAPPING"),
    };
  });

function cpu(name: string) {
  const found = findCpu(name);
  if (!found) throw new Error(`no ${name}`);
  return found;
}

function predicted(image: Uint8Array, boot: Omit<BootDescription, "cpu"> & { readonly cpu: string }) {
  return predictImage(parseImage(image), { ...boot, cpu: cpu(boot.cpu) });
}

const i386of61 = bootedImage("6.1-686__i386");
const i386of612 = bootedImage("6.12-cloud-amd64__i386");
const i386of72 = bootedImage("7.2-cloud-amd64__i386");

describe("prediction", () => {
  const booted = texts.filter(({ kernel }) => kernel !== "host618");

  it.each(booted.filter(({ hasImage }) => hasImage))("is exact: $name", ({ name, embedded, cpu, cmdline }) => {
    const prediction = predictImage(parseImage(imageBytes(embedded)), { cpu, cmdline });
    expect(prediction.notMapped).toBeUndefined();
    expect(prediction.bytes && hexBytes(prediction.bytes)).toBe(hexBytes(imageBytes(name)));
  });

  it.each(booted.filter(({ hasImage }) => !hasImage))(
    "says that there is none: $name",
    ({ embedded, cpu, cmdline }) => {
      expect(predictImage(parseImage(imageBytes(embedded)), { cpu, cmdline }).notMapped).toMatch(/=0: /);
    },
  );

  it.each(recordedBoots)("is exact: $image on $model $cmdline", ({ image, cpuinfo, cmdline, sha256 }) => {
    const width = image.includes("686") ? 32 : 64;
    const prediction = predictImage(parseImage(bootedImage(image)), { cpu: parseCpuinfo(cpuinfo), cmdline, width });
    if (sha256 === undefined) {
      expect(prediction.notMapped).toBeDefined();
      return;
    }
    expect(prediction.notMapped).toBeUndefined();
    expect(prediction.bytes && createHash("sha256").update(prediction.bytes).digest("hex")).toBe(sha256);
  });

  it("leaves the image that it was given alone, even where it is a Buffer", () => {
    const bytes = Buffer.from(i386of612);
    predictImage(parseImage(bytes), { cpu: cpu("core2") });
    expect(bytes.equals(i386of612)).toBe(true);
  });

  it("of an image that is patched already is that of the pristine one, where nothing of the original is needed", () => {
    const live = parseImage(imageBytes("amd64__Nehalem__i386"), { mapped: true });
    const prediction = predictImage(live, { cpu: cpu("epyc") });
    expect(prediction.bytes && hexBytes(prediction.bytes)).toBe(hexBytes(imageBytes("amd64__EPYC__i386")));
    expect(prediction.remarks).toEqual([
      "a kernel has patched this image: at 10 of 10 places the original is not known",
    ]);
  });

  it("of a patched image is not made up where the original would be needed", () => {
    const live = parseImage(imageBytes("amd64__Nehalem__i386"), { mapped: true });
    const prediction = predictImage(live, { cpu: cpu("epyc"), cmdline: "clearcpuid=110,111" });
    expect(prediction.bytes).toBeUndefined();
    expect(prediction.sites[0]?.undetermined).toMatch(/what was there before/);
  });

  it("does not take an image for 32-bit programs for one of a 32-bit kernel", () => {
    expect(kernelWidthOf(parseImage(imageBytes("arm64__arm32__embedded")))).toBeUndefined();
    expect(kernelWidthOf(parseImage(imageBytes("arm64__arm64__embedded")))).toBe(64);
  });

  it("tells the width of the kernel from the image, but not of 7.0 and later", () => {
    expect(kernelWidthOf(parseImage(i386of61))).toBe(32);
    expect(kernelWidthOf(parseImage(i386of612))).toBe(64);
    expect(kernelWidthOf(parseImage(i386of72))).toBeUndefined();
    expect(predicted(i386of72, { cpu: "core2" }).bytes).toBeUndefined();
    expect(kernelWidthOf(parseImage(imageBytes("host618__native__i386"), { mapped: true }))).toBe(64);
  });

  it("goes both ways where a feature is not known, and says so", () => {
    const image = rewritten(i386of612, { change: (i) => (i === 0 ? { feature: 0x1f3 } : {}) });
    const { bytes, sites, entry } = predicted(image, { cpu: "core2", width: 64 });
    expect(bytes).toBeUndefined();
    expect(entry).toBeUndefined();
    expect(sites[0]?.undetermined).toBe("feature 0x1f3 is not known");
    expect(sites[0]?.possible?.map((one) => hexBytes(one))).toEqual(["0f1f4000", "89e50f34"]);
    expect(sites[0]?.after).toBeUndefined();
  });

  it("does not mind what is not known where it changes nothing", () => {
    const image = rewritten(i386of612, { change: (i) => (i === 0 ? { feature: 0x1f3 } : {}) });
    expect(predicted(image, { cpu: "epyc", width: 64 }).entry?.mechanism).toBe("syscall");
  });

  it("has nothing to say of an image without alternatives", () => {
    const { sites, bytes } = predicted(imageBytes("arm64__arm32__embedded"), { cpu: "cortex-a72" });
    expect(sites).toEqual([]);
    expect(bytes).toEqual(imageBytes("arm64__arm32__embedded"));
  });

  it("does not take an image for unpatched that has no section headers", () => {
    const { bytes, remarks } = predicted(withoutSections(i386of612), { cpu: "core2", width: 64 });
    expect(bytes).toBeUndefined();
    expect(remarks).toEqual(["it has no section headers, which say where its kernel patches it"]);
  });

  it("does not take an image for unpatched that is patched in a way that is not read", () => {
    const image = new Uint8Array(i386of61);
    const at = Buffer.from(image).indexOf(".altinstr_replacement");
    image.set(Buffer.from("__ftr_fixup\0"), at);
    const { bytes, remarks } = predicted(image, { cpu: "core2" });
    expect(bytes).toBeUndefined();
    expect(remarks).toEqual(["its kernel patches it by __ftr_fixup, which is not read here"]);
  });
});

describe("the choice of the entry", () => {
  const mechanism = (image: Uint8Array, name: string, cmdline = "", width?: 32 | 64) =>
    predicted(image, { cpu: name, cmdline, width }).entry?.mechanism;

  it("on a 32-bit kernel asks for SEP, and does not believe the Pentium Pro", () => {
    expect(mechanism(i386of61, "486")).toBe("int $0x80");
    expect(mechanism(i386of61, "pentium-pro")).toBe("int $0x80");
    expect(mechanism(i386of61, "pentium2-klamath")).toBe("int $0x80");
    expect(mechanism(i386of61, "pentium2")).toBe("sysenter");
    expect(mechanism(i386of61, "athlon")).toBe("sysenter");
    expect(mechanism(i386of61, "epyc")).toBe("sysenter");
    expect(mechanism(i386of61, "core2", "clearcpuid=sep")).toBe("int $0x80");
  });

  it("on a 64-bit kernel asks for the vendor", () => {
    expect(mechanism(i386of612, "core2")).toBe("sysenter");
    expect(mechanism(i386of612, "nano")).toBe("sysenter");
    expect(mechanism(i386of612, "epyc")).toBe("syscall");
    expect(mechanism(i386of612, "hygon")).toBe("syscall");
  });

  it("in kernels of 2026 is int $0x80 only where FRED or the command line takes the fast ones away", () => {
    expect(mechanism(i386of72, "core2", "", 64)).toBe("sysenter");
    expect(mechanism(i386of72, "k8", "", 64)).toBe("syscall");
    expect(mechanism(i386of72, "panther-lake", "", 64)).toBe("int $0x80");
    expect(mechanism(i386of72, "panther-lake", "fred=off", 64)).toBe("sysenter");
    expect(mechanism(i386of72, "core2", "clearcpuid=111", 64)).toBe("int $0x80");
    expect(mechanism(i386of72, "486", "", 32)).toBe("int $0x80");
    expect(mechanism(i386of72, "pentium3", "", 32)).toBe("sysenter");
  });

  it("before 7.1 needed fred=on for that", () => {
    expect(mechanism(i386of612, "panther-lake")).toBe("sysenter");
    expect(mechanism(i386of612, "panther-lake", "fred=on")).toBe("int $0x80");
  });

  it("tells which others there were, and what they would have needed", () => {
    const words = (image: Uint8Array, name: string, width?: 32 | 64) =>
      predicted(image, { cpu: name, width }).entry?.others.map(({ mechanism, needs }) => [
        mechanism,
        ...needs.map(({ feature, present }) => `${present ? "+" : "-"}${feature.name}`),
      ]);
    expect(words(i386of612, "core2")).toEqual([
      ["int $0x80", "-SYSENTER32"],
      ["syscall", "+SYSCALL32"],
    ]);
    expect(words(i386of72, "epyc", 64)).toEqual([
      ["int $0x80", "-SYSFAST32"],
      ["sysenter", "-SYSCALL32"],
    ]);
    expect(words(i386of61, "pentium3")).toEqual([["int $0x80", "-SEP"]]);
  });

  it("made by choosing an image, in kernels with several", () => {
    const [slow, sysenter, syscall] = [SEPARATE.slow, SEPARATE.sysenter, SEPARATE.syscall].map((code) =>
      parseImage(separate(i386of61, code)),
    ) as [VdsoImage, VdsoImage, VdsoImage];
    const chosen = (images: VdsoImage[], name: string, cmdline = "") =>
      chooseSeparate(images, { cpu: cpu(name), cmdline })?.mechanism;
    expect(chosen([slow, sysenter], "486")).toBe("int $0x80");
    expect(chosen([slow, sysenter], "pentium-pro")).toBe("int $0x80");
    expect(chosen([slow, sysenter], "pentium3")).toBe("sysenter");
    expect(chosen([slow, sysenter], "pentium3", "nosep")).toBe("sysenter");
    expect(chosen([slow, sysenter, syscall], "core2")).toBe("sysenter");
    // The first 64-bit kernels had two: whoever is not Intel got the other one.
    expect(chosen([sysenter, syscall], "nano")).toBe("sysenter");
    expect(chosen([sysenter, syscall], "crusoe")).toBe("syscall");
    expect(chosen([slow, sysenter, syscall], "k8")).toBe("syscall");
    expect(chosen([slow, slow], "k8")).toBeUndefined();
    expect(chosen([parseImage(i386of612), parseImage(i386of61)], "k8")).toBeUndefined();
  });
});

describe("the command line", () => {
  const notMapped = (image: Uint8Array, cmdline: string) => predicted(image, { cpu: "core2", cmdline }).notMapped;
  const amd64 = bootedImage("6.12-cloud-amd64__amd64");

  it("switches the image for 32-bit programs off by vdso32=, on a 32-bit kernel by vdso= too, the last of them", () => {
    expect(notMapped(i386of612, "vdso=0")).toBeUndefined();
    expect(notMapped(i386of612, "vdso32=0")).toMatch(/see no vDSO/);
    expect(notMapped(i386of612, "vdso32=2")).toMatch(/warns/);
    expect(notMapped(i386of612, "vdso32=0 vdso32=1")).toBeUndefined();
    expect(notMapped(i386of612, "vdso32=0x1")).toBeUndefined();
    expect(notMapped(i386of612, "vdso32=on")).toMatch(/see no vDSO/);
    expect(notMapped(i386of61, "vdso=0")).toMatch(/see no vDSO/);
    expect(notMapped(i386of61, "vdso=0 vdso32=1")).toBeUndefined();
    expect(notMapped(i386of61, "vdso32=1 vdso=0")).toMatch(/see no vDSO/);
  });

  it("switches that for 64-bit programs off by vdso=0 alone", () => {
    expect(notMapped(amd64, "vdso=0")).toMatch(/64-bit programs/);
    expect(notMapped(amd64, "vdso=2")).toBeUndefined();
    expect(notMapped(amd64, "vdso32=0")).toBeUndefined();
  });

  it("gives 2 a meaning of its own up to 3.14", () => {
    const of = (release: number) => notMapped(rewritten(i386of61, { recordSize: 12, release }), "vdso32=2");
    expect(of(3014)).toBeUndefined();
    expect(of(3015)).toMatch(/warns/);
  });

  it("takes the last of several options, in any notation of a number", () => {
    const rdtscp = (image: Uint8Array, cmdline: string) =>
      predicted(image, { cpu: "epyc", cmdline }).features.find(({ feature }) => feature.name === "RDTSCP")?.present;
    expect(rdtscp(i386of612, "clearcpuid=59 clearcpuid=60")).toBe(true);
    expect(rdtscp(i386of612, "clearcpuid=60 clearcpuid=59")).toBe(false);
    expect(rdtscp(i386of612, "clearcpuid=0x3b")).toBe(true);
    const old = rewritten(i386of612, { recordSize: 12, release: 5017 });
    expect(rdtscp(old, "clearcpuid=0x3b")).toBe(false);
    expect(rdtscp(old, "clearcpuid=073")).toBe(false);
    expect(rdtscp(old, "clearcpuid=rdtscp")).toBe(true);
  });

  it("says that kernels before 5.10 may stop at the first number of clearcpuid=", () => {
    const remarks = (release: number, cmdline: string) =>
      predicted(rewritten(i386of612, { recordSize: 13, release }), { cpu: "epyc", cmdline }).remarks;
    expect(remarks(5004, "clearcpuid=59,11")).toEqual([expect.stringMatching(/first number alone/)]);
    expect(remarks(5004, "clearcpuid=59")).toEqual([]);
    expect(remarks(5010, "clearcpuid=59,11")).toEqual([]);
  });

  it("takes FRED away by number, by name, and with what it goes with", () => {
    const way = (cmdline: string) => predicted(i386of72, { cpu: "panther-lake", cmdline, width: 64 }).entry?.mechanism;
    expect(way("")).toBe("int $0x80");
    for (const cmdline of ["clearcpuid=fred", "clearcpuid=401", "clearcpuid=402", "fred=off"]) {
      expect([cmdline, way(cmdline)]).toEqual([cmdline, "sysenter"]);
    }
    const shown = parseCpuinfo("vendor_id: GenuineIntel\ncpu family: 6\nmodel: 204\nflags: lm sep fred\n");
    const booted = (cmdline: string) =>
      predictImage(parseImage(i386of72), { cpu: shown, cmdline, width: 64 }).entry?.mechanism;
    expect([booted(""), booted("fred=off")]).toEqual(["int $0x80", "sysenter"]);
  });

  it("puts features there by setcpuid= from 6.15 on", () => {
    const last = (image: Uint8Array, width?: 32 | 64) =>
      predicted(image, { cpu: "core2", cmdline: "setcpuid=rdpid", width }).features.find(
        ({ feature }) => feature.name === "RDPID",
      )?.present;
    expect(last(i386of72, 64)).toBe(true);
    expect(last(i386of612)).toBe(false);
    expect(predicted(i386of612, { cpu: "core2", cmdline: "setcpuid=rdpid" }).remarks[0]).toMatch(/6\.15/);
  });

  it("takes SSE2 away with what it goes with, but only a 32-bit kernel minds", () => {
    const lfence = (image: Uint8Array, cmdline: string) =>
      predicted(image, { cpu: "core2", cmdline }).features.find(({ feature }) => feature.name === "LFENCE_RDTSC")
        ?.present;
    expect(lfence(i386of61, "clearcpuid=sse2")).toBe(false);
    expect(lfence(i386of61, "clearcpuid=fxsr")).toBe(false);
    expect(lfence(i386of61, "clearcpuid=rdtscp")).toBe(true);
    expect(lfence(i386of612, "clearcpuid=sse2")).toBe(true);
  });
});

describe("features that the kernel derives", () => {
  const options = parseCmdline("", undefined);
  const of = (name: string, fence: string, release: number, { family = undefined as number | undefined } = {}) => {
    const one = cpu(name);
    const boot = { width: 64, options, release, cpu: { ...one, ...(family && { family }) } } as const;
    return new BootFeatures(boot, { fences: true }).presence({ number: 0x71, name: fence, toldBy: "code" }).present;
  };

  it("are one fence or the other on AMD, up to 5.3: the one that the family lets the kernel make wait", () => {
    for (const [family, lfence] of [
      [15, false],
      [16, true],
      [17, false],
      [18, true],
      [23, true],
    ] as const) {
      expect([family, of("k8", "LFENCE_RDTSC", 4019, { family })]).toEqual([family, lfence]);
      expect([family, of("k8", "MFENCE_RDTSC", 4019, { family })]).toEqual([family, !lfence]);
    }
    expect(of("epyc", "LFENCE_RDTSC", 4014)).toBeUndefined();
    expect(of("epyc", "MFENCE_RDTSC", 4014)).toBeUndefined();
    expect(of("core2", "LFENCE_RDTSC", 4014)).toBe(true);
    expect(of("core2", "MFENCE_RDTSC", 4014)).toBe(false);
  });

  it("need a vendor that the release knows", () => {
    expect(of("hygon", "SYSCALL32", 4019)).toBe(false);
    expect(of("hygon", "SYSCALL32", 4020)).toBe(true);
    expect(of("zhaoxin", "SYSENTER32", 5002)).toBe(false);
    expect(of("zhaoxin", "SYSENTER32", 5003)).toBe(true);
    expect(of("nano", "LFENCE_RDTSC", 5010)).toBe(true);
    expect(of("crusoe", "LFENCE_RDTSC", 5010)).toBe(false);
  });

  it("begin with the Pentium II's third stepping, for SEP", () => {
    const stepping = (stepping: number) =>
      predictImage(parseImage(i386of61), { cpu: { ...cpu("pentium2-klamath"), stepping } }).entry?.mechanism;
    expect([stepping(2), stepping(3), stepping(4)]).toEqual(["int $0x80", "sysenter", "sysenter"]);
  });

  it("do not have SEP where nosep was read, up to 5.18", () => {
    const way = (release: number) =>
      predicted(rewritten(i386of61, { recordSize: 12, release }), { cpu: "pentium3", cmdline: "nosep" }).entry
        ?.mechanism;
    expect([way(5018), way(5019)]).toEqual(["int $0x80", "sysenter"]);
  });
});

describe("generations of kernels", () => {
  const sites = (image: Uint8Array, name: string, width?: 32 | 64, cmdline = "") =>
    predicted(image, { cpu: name, width, cmdline }).sites.map(({ after }) => after && hexBytes(after));

  it("4.1 to 5.12 look for padding at the start of a site, and choose NOPs by the processor", () => {
    const image = rewritten(i386of612, {
      recordSize: 13,
      release: 5004,
      change: (i) => ({ padding: i < 2 ? 4 : i % 2 === 0 ? 3 : 2 }),
    });
    const none = "clearcpuid=642,59,110,111";
    expect(sites(image, "core2", 64, none).slice(0, 2)).toEqual(["66666690", "0f31909090"]);
    expect(sites(image, "skylake", 64, none).slice(0, 2)).toEqual(["0f1f4000", "0f31909090"]);
    expect(sites(image, "epyc", 64, none).slice(0, 2)).toEqual(["0f1f4000", "0f31909090"]);
    expect(sites(image, "k8", 64, none).slice(0, 2)).toEqual(["66666690", "0f31909090"]);
    expect(sites(image, "skylake")[1]).toBe("0f01f96690");
  });

  it("before 4.1 leave what is not replaced as it is", () => {
    const image = rewritten(i386of61, { recordSize: 12, release: 3016 });
    expect(sites(image, "486").slice(0, 2)).toEqual(["90909090", "0f31909090"]);
    expect(sites(image, "skylake").slice(0, 2)).toEqual(["89e50f34", "0f01f989f6"]);
  });

  it("write NOPs of their own width from 5.13 on", () => {
    expect(sites(i386of61, "486").slice(0, 2)).toEqual(["8d742600", "0f318d7600"]);
    expect(sites(i386of72, "panther-lake", 64).at(-2)).toBe("cd80c3");
    expect(sites(i386of72, "core2", 64).at(-2)).toBe("0f1f00");
    expect(sites(i386of72, "pentium3", 32).at(-2)).toBe("8d7600");
  });

  it("move the distance of a call", () => {
    const image = parseImage(i386of72);
    const { sites: found } = predictImage(image, { cpu: cpu("core2"), width: 64 });
    const calls = found.filter(({ after }) => after?.[0] === 0xe8);
    expect(calls).toHaveLength(5);
    for (const { address, after } of calls) {
      const distance = new DataView((after as Uint8Array).buffer).getInt32(1, true);
      expect(address + 5n + BigInt(distance)).toBe(image.entry?.address);
    }
  });

  it("jump over breakpoints where no NOP is long enough, from 6.5 on; write several before", () => {
    const long = (release: number) =>
      rewritten(i386of612, {
        release,
        change: (i) => (i === 1 || i === 0 ? { length: 24, replacementLength: 4 } : {}),
      });
    expect(sites(long(6012), "core2")[0]).toBe(`89e50f34eb12${"cc".repeat(18)}`);
    expect(sites(long(6006), "core2")[0]).toBe(`89e50f34eb12${"cc".repeat(18)}`);
    expect(sites(long(6004), "core2")[0]).toBe("89e50f340f1f8400000000000f1f8400000000000f1f4000");
  });

  it("apply a record where its feature is absent, if it is inverted", () => {
    const image = rewritten(i386of612, { change: (i) => (i === 0 ? { flags: 1 } : {}) });
    // Inverted, number 0x6f names nothing that the code would tell.
    expect(sites(image, "core2")[0]).toBeUndefined();
    const numbered = rewritten(i386of612, { change: (i) => (i === 0 ? { flags: 1, feature: 11 } : {}) });
    expect(predicted(numbered, { cpu: "486", width: 64 }).sites[0]?.after?.[3]).toBe(0x34);
  });
});

describe("what is in force", () => {
  const mapped = texts.filter(({ hasImage }) => hasImage);

  it.each(mapped)("agrees with the processor: $name", ({ name, cpu, cmdline }) => {
    const image = parseImage(imageBytes(name), { mapped: true });
    const read = readInForce(image);
    const prediction = predictImage(image, { cpu, cmdline });
    expect(read?.pristine).toBe(false);
    for (const { feature, present, contradicted } of read?.features ?? []) {
      expect(contradicted).toBe(false);
      const expected = prediction.features.find((one) => one.feature.number === feature.number);
      if (present !== undefined) expect([feature.name, present]).toEqual([feature.name, expected?.present]);
    }
    expect(read?.mechanism).toBe(image.abi === "i386" ? prediction.entry?.mechanism : undefined);
  });

  it("tells an image that was never patched", () => {
    expect(readInForce(parseImage(i386of612))?.pristine).toBe(true);
    expect(readInForce(parseImage(imageBytes("amd64__amd64__embedded")))?.pristine).toBe(true);
  });
});

describe("processors", () => {
  it("are found by each of their names, which no two share", () => {
    const names = CPU_MODELS.flatMap(({ names }) => names);
    expect(new Set(names).size).toBe(names.length);
    for (const { names: all, cpu } of CPU_MODELS) for (const name of all) expect(findCpu(name.toUpperCase())).toBe(cpu);
    expect(findCpu("z80")).toBeUndefined();
  });

  it("are read from some lines of /proc/cpuinfo, the first of several", () => {
    const text =
      "processor\t: 0\nvendor_id\t:   Shanghai  \ncpu family\t: 7\nflags\t\t: sep lm\n\nprocessor\t: 1\nflags\t: fred\n";
    expect(parseCpuinfo(text)).toMatchObject({ vendor: "  Shanghai  ", family: 7, flags: new Set(["sep", "lm"]) });
    expect(parseCpuinfo("Features: fp ecv")).toMatchObject({ machine: "arm", flags: new Set(["fp", "ecv"]) });
    expect(() => parseCpuinfo("model: 3\n")).toThrow(/neither flags nor Features/);
  });

  it("that cannot run the kernel are named", () => {
    expect(predicted(i386of612, { cpu: "pentium3" }).cannotRun).toMatch(/64-bit mode/);
    expect(predicted(i386of612, { cpu: "cortex-a72" }).cannotRun).toMatch(/no processor of i386/);
    expect(predicted(i386of61, { cpu: "pentium3" }).cannotRun).toBeUndefined();
    // A kernel shows lm wherever there is a 64-bit mode, a 32-bit kernel too.
    const old = parseCpuinfo("vendor_id: GenuineIntel\r\ncpu family: 6\r\nmodel: 8\r\nflags: fpu sep\r\n");
    expect(predictImage(parseImage(i386of612), { cpu: old }).cannotRun).toMatch(/64-bit mode/);
  });

  it("of another machine have nothing predicted for them", () => {
    const { sites, bytes, cannotRun } = predicted(imageBytes("arm64__arm64__embedded"), { cpu: "epyc" });
    expect([sites, bytes, cannotRun]).toEqual([[], undefined, "AMD EPYC (Naples) is no processor of aarch64"]);
  });

  it("have no alternatives of kinds that the table does not know", () => {
    for (const name of ["6.1-amd64__x32", "6.12-cloud-amd64__amd64", "7.2-cloud-amd64__i386"]) {
      const image = parseImage(bootedImage(name));
      const { features } = predictImage(image, { cpu: cpu("epyc"), width: 64 });
      expect(features.every(({ feature }) => feature.name !== undefined)).toBe(true);
      expect(features.length).toBeGreaterThan(0);
      expect(alternativesOf(image)).toBeDefined();
    }
  });
});
