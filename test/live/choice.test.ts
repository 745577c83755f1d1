import { beforeAll, describe, expect, it } from "vitest";
import { AT_SYSINFO, AT_SYSINFO_EHDR, auxvValue, auxvWordSize, parseAuxv } from "../../src/linux/auxv.js";
import { readKernelFile } from "../../src/targets/kernel-file.js";
import type { Abi } from "../../src/vdso/abi.js";
import { parseCpuinfo } from "../../src/vdso/boot/cpu.js";
import { readInForce } from "../../src/vdso/boot/in-force.js";
import { predictImage } from "../../src/vdso/boot/predict.js";
import type { Mechanism } from "../../src/vdso/gate.js";
import { parseImage, type VdsoImage } from "../../src/vdso/image.js";
import { unfetched } from "../support/unfetched.js";
import { type KernelView, type ProcessView, type VdsoGuest, vdsoGuest } from "../support/vdso-guest.js";

/** One boot: a processor as qemu names it, parameters of the kernel, and the way in that its i386 programs take. */
type Combination = readonly [cpu: string, append: string, wayIn: Mechanism | "no vDSO" | undefined];

/** The kernels that are booted, and what on. */
const KERNELS = [
  {
    name: "Linux 6.1 of 32 bits",
    metapackage: "linux-image-686",
    source: { architecture: "i386" },
    combinations: [
      ["pentium3", "", "sysenter"],
      ["pentium3", "clearcpuid=11", "int $0x80"],
      // A word that kernels no longer know.
      ["pentium3", "nosep", "sysenter"],
      ["pentium3", "vdso=0", "no vDSO"],
      ["pentium3,-sep", "", "int $0x80"],
      ["pentium3,vendor=UnknownVend0", "", "sysenter"],
      ["pentium3,vendor=CentaurHauls", "", "sysenter"],
      ["pentium,+cmov", "", "int $0x80"],
      ["athlon", "", "sysenter"],
      ["qemu32", "", "sysenter"],
      ["EPYC", "", "sysenter"],
      ["EPYC", "clearcpuid=59,114", "sysenter"],
    ],
  },
  {
    name: "Linux 6.1 of 64 bits",
    metapackage: "linux-image-cloud-amd64",
    source: { architecture: "amd64" },
    combinations: [
      ["EPYC", "", "syscall"],
      ["EPYC", "clearcpuid=110", "int $0x80"],
      ["EPYC", "vdso=0", "syscall"],
      ["EPYC,-rdtscp", "", "syscall"],
      ["Dhyana", "", "syscall"],
      ["qemu64", "", "syscall"],
      ["Nehalem", "", "sysenter"],
      ["Nehalem", "clearcpuid=sep", "sysenter"],
      ["Nehalem", "vdso32=0", "no vDSO"],
      ["Nehalem,vendor=CentaurHauls", "", "sysenter"],
      ["Nehalem,vendor=GenuineFoo00", "", "int $0x80"],
      ["Skylake-Client", "", "sysenter"],
    ],
  },
  {
    name: "Linux 6.12 of 64 bits",
    metapackage: "linux-image-cloud-amd64",
    source: { architecture: "amd64", release: "bookworm-backports" },
    combinations: [
      ["EPYC", "", "syscall"],
      ["EPYC", "clearcpuid=sep,rdtscp", "syscall"],
      ["EPYC", "vdso32=2", "no vDSO"],
      ["Skylake-Client", "", "sysenter"],
    ],
  },
  {
    name: "Linux 6.1 of arm64",
    metapackage: "linux-image-cloud-arm64",
    source: { architecture: "arm64" },
    combinations: [
      ["cortex-a57", "", undefined],
      ["max", "", undefined],
    ],
  },
] as const satisfies readonly {
  readonly name: string;
  readonly metapackage: string;
  readonly source: Parameters<typeof vdsoGuest>[1];
  readonly combinations: readonly Combination[];
}[];

/** Time for all boots of a kernel, on a machine that is busy. */
const BOOTS_MS = 300_000;

/** Guests that run at once. */
const AT_ONCE = 2;

for (const { name, metapackage, source, combinations } of KERNELS) {
  const guest = await vdsoGuest(metapackage, source);
  if (guest) describe(name, () => judge(guest, combinations));
  else unfetched(`${name} (${metapackage}), or what it needs,`);
}

function judge(guest: VdsoGuest, combinations: readonly Combination[]): void {
  const views = new Map<Combination, KernelView>();
  let images: ReadonlyMap<Abi, VdsoImage>;

  beforeAll(async () => {
    const file = await readKernelFile(guest.deb);
    images = new Map(file.images.map(({ image }) => [image.abi, image]));
    const waiting = [...combinations];
    const worker = async (): Promise<void> => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const [cpu, append] = next;
        views.set(next, await guest.view(cpu, append));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  }, BOOTS_MS);

  const viewOf = (combination: Combination): KernelView => views.get(combination) as KernelView;

  /** What the processor is where no parameter hides any of it: a prediction is not to be told what it should find. */
  const processorOf = ([cpu]: Combination) => {
    const plain = combinations.find((other) => other[0] === cpu && other[1] === "");
    return parseCpuinfo(viewOf(plain as Combination).cpuinfo, cpu);
  };

  const titled = combinations.map((combination) => {
    const [cpu, append] = combination;
    return [append === "" ? cpu : `${cpu}, told ${append}`, combination] as const;
  });

  it.each(titled)("on %s, its processes see what was predicted, byte for byte", (_title, combination) => {
    const { cmdline, processes } = viewOf(combination);
    expect([...processes.keys()]).toEqual(guest.abis);
    for (const [abi, process] of processes) {
      const image = images.get(abi) as VdsoImage;
      const prediction = predictImage(image, { cpu: processorOf(combination), cmdline });
      expect(prediction.notMapped !== undefined, `${abi}: ${prediction.notMapped}`).toBe(process.vdso === undefined);
      expect(prediction.cannotRun).toBeUndefined();
      expect(hasVdso(process)).toBe(process.vdso !== undefined);
      if (!process.vdso) continue;
      expect(prediction.sites.filter(({ undetermined }) => undetermined !== undefined)).toEqual([]);
      expect(differences(prediction.bytes as Uint8Array, process.vdso), abi).toEqual([]);
    }
  });

  it.each(titled)("on %s, the mapped image tells what the kernel saw of the processor", (_title, combination) => {
    const [, , wayIn] = combination;
    const { cpuinfo, processes, cmdline } = viewOf(combination);
    const { flags } = parseCpuinfo(cpuinfo);
    for (const [abi, { vdso }] of processes) {
      if (abi === "i386" && wayIn === "no vDSO") expect(vdso).toBeUndefined();
      if (!vdso) continue;
      const seen = readInForce(parseImage(vdso, { mapped: true }));
      if (abi === "i386") {
        const plain = images.get(abi) as VdsoImage;
        expect(seen?.mechanism).toBe(wayIn);
        expect(predictImage(plain, { cpu: processorOf(combination), cmdline }).entry?.mechanism).toBe(wayIn);
      }
      for (const { feature, present, contradicted } of seen?.features ?? []) {
        expect(contradicted).toBe(false);
        const flag = feature.name?.toLowerCase() ?? "";
        if (IN_CPUINFO.has(flag) && present !== undefined) expect([flag, present]).toEqual([flag, flags.has(flag)]);
      }
    }
  });
}

/** Of the features that a vDSO is patched for, those that the kernel shows where it found them. */
const IN_CPUINFO = new Set(["sep", "rdtscp", "rdpid"]);

/** Whether the auxiliary vector points to an image; to its entry also, in an i386 process. */
function hasVdso({ auxv }: ProcessView): boolean {
  const entries = parseAuxv(auxv, { littleEndian: true, wordSize: auxvWordSize(auxv, true) ?? 8 });
  const header = auxvValue(entries, AT_SYSINFO_EHDR);
  if (header === undefined) expect(auxvValue(entries, AT_SYSINFO)).toBeUndefined();
  return header !== undefined;
}

/** Where two images differ, and the bytes of each there. */
function differences(ours: Uint8Array, theirs: Uint8Array): string[] {
  const lines = ours.length === theirs.length ? [] : [`${ours.length} bytes, not ${theirs.length}`];
  theirs.forEach((byte, i) => {
    if (byte !== ours[i]) lines.push(`0x${i.toString(16)}: ${ours[i]?.toString(16)}, not ${byte.toString(16)}`);
  });
  return lines;
}
