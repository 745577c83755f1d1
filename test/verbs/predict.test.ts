import { describe, expect, it } from "vitest";
import { hexBytes } from "../../src/bytes/hex.js";
import { renderInForce, renderMatrix, renderPrediction, renderTimeline } from "../../src/render/predict.js";
import { type ImageTarget, imageTarget } from "../../src/targets/target.js";
import type { Cpu } from "../../src/vdso/boot/cpu.js";
import { findCpu } from "../../src/vdso/boot/cpu-models.js";
import { matrices, matrix, matrixCpus, timeline } from "../../src/verbs/matrix.js";
import { inForce, predict } from "../../src/verbs/predict.js";
import { SEPARATE, separate, withoutSections } from "../support/alternative-table.js";
import { bootedImage } from "../support/boots.js";
import { imageBytes } from "../support/images.js";

const booted = (name: string): ImageTarget => imageTarget(name, bootedImage(name));
const cpu = (name: string) => findCpu(name) as Cpu;

describe("predict", () => {
  const target = booted("6.12-cloud-amd64__i386");

  it("tells every site: where, which function, what was there, what is put there, and what decided", () => {
    const [result] = predict([target], { cpu: cpu("epyc") });
    const text = renderPrediction(result as NonNullable<typeof result>);
    const lines = text.split("\n");
    expect(lines[0]).toBe("i386 image of Linux 6.12.95, 64-bit kernel, on AMD EPYC (Naples) (AuthenticAMD 23/1/2)");
    expect(text).toContain(
      "entry: syscall; could be int $0x80 (without SYSCALL32) or sysenter (with SYSENTER32 and without SYSCALL32)",
    );
    expect(text).toMatch(/SYSCALL32 \(0x6e\) +present +a 64-bit kernel sets it for AuthenticAMD/);
    expect(text).toMatch(/0x583 +__kernel_vsyscall +90 90 90 90 +89 cd 0f 05 +mov %ecx,%ebp; syscall +SYSCALL32/);
    expect(text).toMatch(/0x1973 +__vdso_getcpu +0f 03 c0 90 +0f 03 c0 90 +lsl +no RDPID/);
    expect(lines.filter((line) => line.includes("rdtscp  "))).toHaveLength(8);
  });

  it("says what is undetermined, and what programs will not see", () => {
    const [unknown] = predict([target], { cpu: { ...cpu("epyc"), vendor: undefined } as unknown as Cpu });
    expect(unknown?.bytes).toBeUndefined();
    expect(renderPrediction(unknown as NonNullable<typeof unknown>)).toContain(
      "undetermined: it depends on the vendor",
    );
    const [none] = predict([target], { cpu: cpu("epyc"), cmdline: "vdso32=0" });
    expect(renderPrediction(none as NonNullable<typeof none>)).toContain("vdso32=0: 32-bit programs see no vDSO");
  });

  it("takes the kernel's width from its file", () => {
    const image = booted("7.2-cloud-amd64__i386");
    const kernel = { format: "bzImage", images: [], searched: 0, whole: true } as const;
    const of = (width: 32 | 64) =>
      predict([{ ...image, kernel: { ...kernel, width } }], { cpu: cpu("pentium-pro") })[0];
    expect(of(32)?.width).toBe(32);
    expect(of(64)?.cannotRun).toMatch(/64-bit mode/);
    expect(predict([image], { cpu: cpu("core2") })[0]?.width).toBeUndefined();
  });
});

describe("a mapped image", () => {
  it("is read for what its kernel saw", () => {
    const result = inForce(imageTarget("live", imageBytes("host618__native__i386")));
    const text = renderInForce(result as NonNullable<typeof result>);
    expect(text).toContain("entry: syscall");
    expect(text).toMatch(/SYSENTER32 \(0x6f\) +hidden +where it would show/);
    expect(text).toMatch(/RDTSCP \(0x3b\) +present/);
    expect(text).toMatch(/0f 01 f9 66 90 +rdtscp +that for RDTSCP$/m);
    expect(text).toContain("padding: NOPs as 64-bit kernels write them\n");
  });

  it("without alternatives is told to be as its file has it, or that it is not known", () => {
    const plain = inForce(imageTarget("arm", imageBytes("arm64__arm32__embedded")));
    expect(renderInForce(plain)).toBe("arm image of Linux 6.1.176\nno place in it is patched at boot\n");
    const stripped = inForce(imageTarget("stripped", withoutSections(bootedImage("6.1-686__i386"))));
    expect(renderInForce(stripped)).toContain("it has no section headers, which say where its kernel patches it");
  });
});

describe("matrix", () => {
  it("has a row a processor and a column for sites that become the same", () => {
    const target = booted("6.1-686__i386");
    const result = matrix(target, matrixCpus(target));
    expect(result.columns).toEqual([
      { title: "entry", sites: 1 },
      { title: "counter", sites: 9 },
    ]);
    const row = (name: string) => result.rows.find((one) => one.cpu.name === cpu(name).name)?.cells;
    expect(row("486")).toEqual(["int $0x80", "rdtsc"]);
    expect(row("pentium-pro")).toEqual(["int $0x80", "rdtsc"]);
    expect(row("pentium3")).toEqual(["sysenter", "rdtsc"]);
    expect(row("core2")).toEqual(["sysenter", "lfence; rdtsc"]);
    expect(row("epyc")).toEqual(["sysenter", "rdtscp"]);
    expect(row("nano")).toEqual(["sysenter", "rdtsc"]);
    expect(renderMatrix(result).split("\n")).toHaveLength(result.rows.length + 4);
    expect(renderMatrix(result)).not.toContain("cannot run");
  });

  it("of the kernels of 2026 shows that FRED changes the calls inside too", () => {
    const target = booted("7.2-cloud-amd64__i386");
    const result = matrix(target, [cpu("core2"), cpu("panther-lake"), cpu("pentium3")], { width: 64 });
    expect(result.columns.map(({ title }) => title)).toEqual(["entry", "counter", "calls inside", "processor number"]);
    expect(result.rows.map(({ cells }) => cells)).toEqual([
      ["sysenter", "lfence; rdtsc", "call", "lsl"],
      ["int $0x80", "rdtscp", "int $0x80", "rdpid"],
      expect.anything(),
    ]);
    expect(renderMatrix(result)).toMatch(/Pentium III +– +– +– +–/);
    expect(renderMatrix(result)).toMatch(/\n\n– it cannot run this kernel\n$/);
  });

  it("of a kernel with separate images is one table, of the image that each processor gets", () => {
    const images = [SEPARATE.slow, SEPARATE.sysenter].map((code) =>
      imageTarget("old", separate(bootedImage("6.1-686__i386"), code)),
    );
    const results = matrices(images, { width: 32 });
    expect(results).toHaveLength(1);
    const way = (name: string) => results[0]?.rows.find((row) => row.cpu.name === cpu(name).name)?.cells;
    expect([way("486"), way("pentium-pro"), way("pentium3"), way("epyc")]).toEqual([
      ["int $0x80"],
      ["int $0x80"],
      ["sysenter"],
      ["sysenter"],
    ]);
    const { kernels } = timeline([images], [cpu("486"), cpu("pentium3")], { width: 32 });
    expect(kernels[0]?.mechanisms).toEqual(["int $0x80", "sysenter"]);
  });

  it("says that programs will have no vDSO, for every column", () => {
    const target = booted("6.12-cloud-amd64__i386");
    const { rows } = matrix(target, [cpu("core2")], { cmdline: "vdso32=0" });
    expect(rows[0]?.cells).toEqual(["no vDSO", "no vDSO", "no vDSO"]);
  });

  it("of arm64 shows the counter", () => {
    const target = imageTarget("arm64", imageBytes("arm64__arm64__embedded"));
    const { rows } = matrix(target, matrixCpus(target));
    expect(new Set(rows.map(({ cells }) => cells[0]))).toEqual(new Set(["isb; mrs cntvct_el0", "mrs cntvctss_el0"]));
  });
});

describe("timeline", () => {
  it("sorts kernels by version and shows each one's way in", () => {
    const names = ["7.2-cloud-amd64__i386", "6.1-686__i386", "5.10-cloud-amd64__i386", "6.12-cloud-amd64__amd64"];
    const result = timeline(
      names.map((name) => [booted(name)]),
      [cpu("pentium-pro"), cpu("core2"), cpu("k8"), cpu("panther-lake")],
      { width: 64 },
    );
    expect(result.kernels.map(({ version }) => version)).toEqual(["5.10.223", "6.1.176", "7.2.13"]);
    expect(result.kernels.map(({ mechanisms }) => mechanisms)).toEqual([
      [undefined, "sysenter", "syscall", "sysenter"],
      ["int $0x80", "sysenter", "sysenter", "sysenter"],
      [undefined, "sysenter", "syscall", "int $0x80"],
    ]);
    expect(result.kernels[0]?.missing).toEqual(["cannot run", undefined, undefined, undefined]);
    expect(result.without).toEqual(["6.12-cloud-amd64__amd64"]);
    expect(renderTimeline(result)).toMatch(
      /\n\n– it cannot run this kernel\n\n6\.12-cloud-amd64__amd64: no i386 image/,
    );
    expect(renderTimeline(result)).toContain(
      "processor                              5.10.223 64-bit  6.1.176 32-bit  7.2.13 64-bit",
    );
  });
});

describe("a timeline", () => {
  const of = (names: readonly string[], question = {}) =>
    renderTimeline(
      timeline(
        names.map((name) => [booted(name)]),
        [cpu("core2")],
        question,
      ),
    );

  it("has widths in a line of their own where there are many kernels", () => {
    const names = ["7.2-cloud-amd64__i386", "6.1-686__i386", "5.10-cloud-amd64__i386", "6.12-cloud-amd64__i386"];
    const [versions, widths, row] = of(names, { width: 64 }).split("\n");
    expect(versions).toMatch(/^processor +5\.10\.223 +6\.1\.176 +6\.12\.95 +7\.2\.13$/);
    expect(widths).toMatch(/^ +64-bit +32-bit +64-bit +64-bit$/);
    expect(row).toMatch(/^Intel Core 2( +sysenter){4}$/);
  });

  it("tells what is undetermined from what is not mapped", () => {
    expect(of(["7.2-cloud-amd64__i386"])).toMatch(/Core 2 +\?\n\n\? undetermined\n$/);
    expect(of(["6.12-cloud-amd64__i386"], { cmdline: "vdso32=0" })).toMatch(/Core 2 +no vDSO\n$/);
  });

  it("of kernels without an i386 image is no table", () => {
    expect(of(["6.12-cloud-amd64__amd64"])).toBe(
      "6.12-cloud-amd64__amd64: no i386 image, whose way in this is about\n",
    );
  });
});

describe("the predicted bytes", () => {
  it("are those that a booted process saw", () => {
    const target = imageTarget("amd64", imageBytes("amd64__amd64__embedded"));
    const [result] = predict([target], { cpu: cpu("nehalem"), cmdline: "clearcpuid=rdtscp" });
    expect(hexBytes(result?.bytes as Uint8Array)).toBe(hexBytes(imageBytes("amd64__Nehalem__amd64")));
  });
});
