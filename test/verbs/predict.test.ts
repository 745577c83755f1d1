import { describe, expect, it } from "vitest";
import { hexBytes } from "../../src/bytes/hex.js";
import { renderInForce, renderMatrix, renderPrediction, renderTimeline } from "../../src/render/predict.js";
import { type ImageTarget, imageTarget } from "../../src/targets/target.js";
import type { Cpu } from "../../src/vdso/cpu.js";
import { findCpu } from "../../src/vdso/cpu-models.js";
import { matrix, matrixCpus, timeline } from "../../src/verbs/matrix.js";
import { inForce, predict } from "../../src/verbs/predict.js";
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
    expect(text).toMatch(/SYSENTER32 \(0x6f\) +hidden/);
    expect(text).toMatch(/RDTSCP \(0x3b\) +present/);
    expect(text).toMatch(/0f 01 f9 66 90 +rdtscp +that for RDTSCP +NOPs as 64-bit kernels write them/);
    expect(inForce(imageTarget("arm", imageBytes("arm64__arm32__embedded")))).toBeUndefined();
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
    expect(result.without).toEqual(["6.12-cloud-amd64__amd64"]);
    expect(renderTimeline(result)).toContain(
      "processor                              5.10.223 64-bit  6.1.176 32-bit  7.2.13 64-bit",
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
