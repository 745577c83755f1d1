import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Mapping, parseMaps } from "../../src/linux/maps.js";
import { alternativesOf } from "../../src/vdso/boot/alternatives.js";
import { permittedVariants } from "../../src/vdso/boot/variants.js";
import { parseImage, type VdsoImage } from "../../src/vdso/image.js";
import { makerOf } from "../../src/vdso/maker.js";
import { type DataMapping, judge, type Seen, type Standard } from "../../src/vdso/tamper/judge.js";
import { Reference, type ReferenceImage } from "../../src/vdso/tamper/reference.js";
import { imageBytes, imageNames } from "../support/images.js";
import { i386Maps } from "../support/still-process.js";

const BASE = 0xf7f72000n;
const MAPS = parseMaps(i386Maps.join("\n"));
const DATA: readonly DataMapping[] = [
  { name: "[vvar]", start: -0x6000n, end: -0x2000n, perms: "r--p" },
  { name: "[vvar_vclock]", start: -0x2000n, end: 0n, perms: "r--p" },
];

function imageNamed(name: string): VdsoImage {
  return parseImage(imageBytes(name), { mapped: true });
}

/** Bytes as a process has them mapped: whole pages. */
function mapped(name: string): Uint8Array {
  const bytes = imageBytes(name);
  const whole = new Uint8Array(Math.ceil(bytes.length / 4096) * 4096);
  whole.set(bytes);
  return whole;
}

interface Change {
  readonly bytes?: Uint8Array;
  readonly mappings?: readonly Mapping[];
  readonly seen?: Partial<Seen>;
}

/** An i386 process with these bytes at its vDSO's place. */
function seenWith(bytes: Uint8Array, { mappings, seen = {} }: Change = {}): Seen {
  const maps =
    mappings ?? MAPS.map((one) => (one.name === "[vdso]" ? { ...one, end: one.start + BigInt(bytes.length) } : one));
  return {
    wordSize: 4,
    sysinfoEhdr: BASE,
    sysinfo: BASE + entryOffset(bytes),
    mappings: maps,
    read: (address, size) => {
      const start = Number(address - BASE);
      return start >= 0 && start + size <= bytes.length ? bytes.slice(start, start + size) : undefined;
    },
    privatePages: [],
    ...seen,
  };
}

function entryOffset(bytes: Uint8Array): bigint {
  const { entry, linkBase } = parseImage(bytes, { mapped: true });
  return (entry?.address ?? 0n) - linkBase;
}

function against(...references: ReferenceImage[]): Standard {
  return { given: references.map((one) => new Reference(one)), data: DATA };
}

function peers(name: string): Standard {
  return { given: [], peer: new Reference({ name, image: imageNamed(name), kind: "same boot" }), data: DATA };
}

const ids = (seen: Seen, standard: Standard) => judge(seen, standard).findings.map(({ id }) => id);

const I386 = "host618__native__i386";

/** Live images of each kernel, beside the image in its file. */
const KERNELS: readonly (readonly [embedded: string, live: RegExp])[] = [
  ["686__i386__embedded", /^686__.*__i386$/],
  ["amd64__i386__embedded", /^amd64__(?!i386__).*__i386$/],
  ["amd64__amd64__embedded", /^amd64__(?!amd64__).*__amd64$/],
  ["arm64__arm64__embedded", /^arm64__(?!arm).*__arm64$/],
];

describe("judge", () => {
  it.each(KERNELS)("finds nothing in live images beside %s, which is unpatched", (embedded, live) => {
    const reference = new Reference({ name: embedded, image: imageNamed(embedded), kind: "unpatched" });
    const names = imageNames.filter((name) => live.test(name));
    expect(names.length).toBeGreaterThan(2);
    for (const name of names) expect([name, reference.compare(mapped(name)).count]).toEqual([name, 0]);
  });

  it.each(KERNELS)(
    "finds that the image in the file of %s is not what a process may see, if it has sites",
    (embedded) => {
      const image = imageNamed(embedded);
      const reference = new Reference({ name: embedded, image, kind: "unpatched" });
      const x86 = image.abi !== "aarch64";
      expect(reference.compare(mapped(embedded)).count > 0).toBe(x86);
    },
  );

  it("finds live images of the same kernel on another processor permitted where one is named, and not among peers", () => {
    const [sysenter, syscall] = ["amd64__Nehalem__i386", "amd64__EPYC__i386"] as const;
    const patched = { name: sysenter, image: imageNamed(sysenter), kind: "patched" } as const;
    expect(ids(seenWith(mapped(syscall)), against(patched))).toEqual([]);
    const findings = judge(seenWith(mapped(syscall)), peers(sysenter)).findings;
    expect(new Set(findings.map(({ id }) => id))).toEqual(new Set(["site-differs"]));
    expect(findings.map((one) => one.function)).toContain("__kernel_vsyscall");
  });

  it("finds every change of a single byte, wherever it lies", () => {
    const clean = mapped(I386);
    const reference = new Reference({ name: I386, image: imageNamed(I386), kind: "same boot" });
    for (let offset = 0; offset < clean.length; offset++) {
      const bytes = clean.slice();
      bytes[offset] = (bytes[offset] as number) ^ (1 << (offset % 8));
      const { wrong, count } = reference.compare(bytes);
      if (count !== 1 || wrong[offset] === 0) expect.fail(`offset ${offset}`);
    }
  });

  it("finds every change of a single byte outside of all sites, beside the kernel's file", () => {
    for (const [embedded, live] of KERNELS) {
      const name = imageNames.find((one) => live.test(one)) as string;
      const image = imageNamed(embedded);
      const reference = new Reference({ name: embedded, image, kind: "unpatched" });
      const sites = alternativesOf(image)?.sites ?? [];
      const bytes = mapped(name);
      for (let offset = 0; offset < bytes.length; offset++) {
        if (sites.some((site) => offset >= site.offset && offset < site.offset + site.length)) continue;
        const before = bytes[offset] as number;
        bytes[offset] = before ^ 0xff;
        const { count } = reference.compare(bytes);
        bytes[offset] = before;
        if (count !== 1) expect.fail(`${name}: offset ${offset}`);
      }
    }
  }, 30_000);

  it("permits every alternative at every site, and finds any other bytes there", () => {
    for (const [embedded, live] of KERNELS) {
      const name = imageNames.find((one) => live.test(one)) as string;
      const image = imageNamed(embedded);
      const reference = new Reference({ name: embedded, image, kind: "unpatched" });
      const table = alternativesOf(image);
      for (const site of table?.sites ?? []) {
        const original = image.bytes.slice(site.offset, site.offset + site.length);
        const options = { original, recordSize: table?.recordSize, release: 6001, arm64: image.abi === "aarch64" };
        for (const { bytes: variant } of permittedVariants(site, options)) {
          const bytes = mapped(name);
          bytes.set(variant, site.offset);
          expect(reference.compare(bytes).count).toBe(0);
          bytes[site.offset] = (bytes[site.offset] as number) ^ 0x80;
          expect(reference.compare(bytes).count).toBeGreaterThan(0);
        }
      }
    }
  });

  it("tells of changed bytes once, each run of them with its function", () => {
    const bytes = mapped(I386);
    const entry = Number(entryOffset(bytes));
    bytes.set([0xe9, 0x00, 0x10, 0x00, 0x10], entry);
    const { findings } = judge(seenWith(bytes), peers(I386));
    expect(findings).toMatchObject([
      {
        id: "function-hooked",
        function: "__kernel_vsyscall",
        leadsTo: (BASE + BigInt(entry) + 5n + 0x10001000n) & 0xffff_ffffn,
        size: 5,
      },
    ]);
  });

  it("finds AT_SYSINFO that is not the entry, or is not there", () => {
    const bytes = mapped(I386);
    expect(ids(seenWith(bytes), peers(I386))).toEqual([]);
    expect(ids(seenWith(bytes, { seen: { sysinfo: BASE + 0x100n } }), peers(I386))).toEqual(["sysinfo-elsewhere"]);
    const { sysinfo: _, ...without } = seenWith(bytes);
    expect(ids(without, peers(I386))).toEqual(["sysinfo-elsewhere"]);
  });

  it("finds AT_SYSINFO_EHDR that points elsewhere, or is not there", () => {
    const bytes = mapped(I386);
    const at = (sysinfoEhdr: bigint) => ids(seenWith(bytes, { seen: { sysinfoEhdr } }), peers(I386));
    expect(at(0x1000n)).toContain("sysinfo-ehdr-elsewhere");
    expect(at(0x08048000n)).toContain("sysinfo-ehdr-elsewhere");
    expect(at(BASE + 0x1000n)).toContain("sysinfo-ehdr-elsewhere");
    const { sysinfoEhdr: _, ...without } = seenWith(bytes);
    expect(ids(without, peers(I386))).toEqual(["sysinfo-ehdr-missing"]);
  });

  it("finds nothing in a process without a vDSO, and that it was unmapped where the vector tells of one", () => {
    const mappings = MAPS.filter(({ name }) => !/^\[v/.test(name));
    const { sysinfoEhdr: _, sysinfo: __, ...none } = seenWith(mapped(I386), { mappings });
    expect(judge(none, peers(I386))).toEqual({ findings: [], marks: [], more: 0 });
    expect(ids({ ...none, sysinfoEhdr: BASE }, peers(I386))).toEqual(["vdso-unmapped"]);
  });

  it("finds pages with another protection, one of two as well, and pieces that were moved", () => {
    const bytes = mapped(I386);
    const split = (perms: string, second: bigint) =>
      MAPS.flatMap((one) =>
        one.name === "[vdso]"
          ? [
              { ...one, end: one.start + 0x1000n },
              { ...one, start: second, end: second + 0x1000n, perms },
            ]
          : [one],
      );
    const found = (perms: string, second: bigint) =>
      ids(seenWith(bytes, { mappings: split(perms, second) }), peers(I386)).sort();
    expect(found("rwxp", BASE + 0x1000n)).toEqual(["writable"]);
    expect(found("r--p", BASE + 0x1000n)).toEqual(["protection-changed"]);
    expect(found("r-xp", 0xf7fa0000n)).toEqual(["second-vdso", "vdso-unmapped"]);
  });

  it("finds data that is missing, replaced, moved or may be written to", () => {
    const bytes = mapped(I386);
    const change = (name: string, to: Partial<Mapping> | undefined) =>
      ids(
        seenWith(bytes, {
          mappings: MAPS.flatMap((one) => (one.name !== name ? [one] : to ? [{ ...one, ...to }] : [])),
        }),
        peers(I386),
      );
    expect(change("[vvar]", undefined)).toEqual(["data-missing"]);
    expect(change("[vvar]", { name: "" })).toEqual(["data-missing"]);
    expect(change("[vvar_vclock]", { start: 0x1000n, end: 0x3000n })).toEqual(["data-missing"]);
    expect(change("[vvar]", { perms: "rw-p" })).toEqual(["data-protection"]);
    expect(change("[vvar]", { perms: "---p" })).toEqual(["data-protection"]);
    const [cut] = MAPS.filter(({ name }) => name === "[vvar]").map(({ start }) => start + 0x1000n);
    const pieces = MAPS.flatMap((one) =>
      one.name === "[vvar]"
        ? [
            { ...one, end: cut as bigint },
            { ...one, start: cut as bigint },
          ]
        : [one],
    );
    expect(ids(seenWith(bytes, { mappings: pieces }), peers(I386))).toEqual(["data-missing"]);
  });

  it("finds a vector on the stack that does not lead where the kernel's record does", () => {
    const bytes = mapped(I386);
    const sysinfo = BASE + entryOffset(bytes);
    const good = [
      { tag: 32, value: sysinfo },
      { tag: 33, value: BASE },
      { tag: 6, value: 4096n },
    ];
    const judged = (stackVector: Seen["stackVector"] & object, seen: Partial<Seen> = {}) =>
      judge(seenWith(bytes, { seen: { ...seen, stackVector } }), peers(I386));
    expect(judged(good).findings).toEqual([]);
    const one = { id: "stack-vector-differs" };
    // C libraries take the last of several entries.
    expect(judged([...good, { tag: 33, value: 0x1000n }]).findings).toMatchObject([{ ...one, severity: "high" }]);
    expect(judged([{ tag: 32, value: 0x1000n }, ...good.slice(1)]).findings).toMatchObject([
      { ...one, address: 0x1000n },
    ]);
    expect(judged(good.slice(1)).findings).toMatchObject([{ ...one, severity: "medium", address: sysinfo }]);
    expect(judged(good.slice(1), { tracer: { pid: 7 } })).toMatchObject({
      findings: [],
      marks: [{ kind: "traced-vector" }],
    });
    const none = seenWith(bytes, { mappings: [], seen: { stackVector: good } });
    const { sysinfoEhdr: _, sysinfo: __, ...hidden } = none;
    expect(ids(hidden, peers(I386))).toEqual(["stack-vector-differs", "stack-vector-differs"]);
  });

  it("finds a page that was written to, unless somebody traces the process", () => {
    const seen = seenWith(mapped(I386), { seen: { privatePages: [BASE] } });
    expect(ids(seen, peers(I386))).toEqual(["private-page"]);
    const traced = judge({ ...seen, tracer: { pid: 7, comm: "gdb" } }, peers(I386));
    expect(traced).toMatchObject({
      findings: [],
      marks: [{ kind: "traced-copy", detail: "traced by process 7 (gdb)" }],
    });
  });

  it("tells a debugger's breakpoint from one that nobody set, and from other bytes that are 0xcc", () => {
    const bytes = mapped(I386);
    const entry = Number(entryOffset(bytes));
    bytes[entry] = 0xcc;
    const tracer = { pid: 7 };
    const starts = (offset: number) => offset === entry;
    const standard = { ...peers(I386), startsInstruction: (_: Reference, offset: number) => starts(offset) };
    expect(judge(seenWith(bytes, { seen: { tracer } }), standard)).toMatchObject({
      findings: [],
      marks: [{ kind: "breakpoint", function: "__kernel_vsyscall" }],
    });
    expect(ids(seenWith(bytes), standard)).toEqual(["breakpoint-without-tracer"]);
    const inside = mapped(I386);
    inside[entry + 4] = 0xcc;
    expect(ids(seenWith(inside, { seen: { tracer } }), standard)).toHaveLength(1);
    const run = mapped(I386);
    run.fill(0xcc, entry, entry + 4);
    expect(ids(seenWith(run, { seen: { tracer } }), standard)).toHaveLength(1);
    const header = mapped(I386);
    header[9] = 0xcc;
    expect(ids(seenWith(header, { seen: { tracer } }), peers(I386))).toEqual(["bytes-changed"]);
  });

  it("tells what rr does to functions from what others do", () => {
    const name = "host618__native__amd64";
    const bytes = mapped(name);
    const image = imageNamed(name);
    const target = image.functions.find((one) => one.name === "__vdso_clock_gettime");
    const offset = Number((target?.address as bigint) - image.linkBase);
    bytes.set([0xb8, 228, 0, 0, 0, 0x0f, 0x05, 0x90, 0x90, 0x90, 0xc3], offset);
    const { sysinfo: _, ...seen } = seenWith(bytes, { seen: { wordSize: 8, tracer: { pid: 7, comm: "rr" } } });
    expect(judge(seen, peers(name))).toMatchObject({
      findings: [],
      marks: [{ kind: "rr", function: "__vdso_clock_gettime" }],
    });
    const { tracer: __, ...untraced } = seen;
    expect(ids(untraced, peers(name))).toHaveLength(1);
    bytes[offset + 1] = 96;
    expect(ids(seen, peers(name))).toHaveLength(1);
  });

  it("says of another kernel's image that it is another, in one finding", () => {
    expect(ids(seenWith(mapped("amd64__EPYC__i386")), peers(I386))).toContain("other-image");
    expect(judge(seenWith(mapped("amd64__EPYC__i386")), peers(I386)).findings.length).toBeLessThan(4);
    const noise = mapped(I386).fill(0x41);
    const { findings } = judge({ ...seenWith(mapped(I386)), read: () => noise }, peers(I386));
    expect(findings.map(({ id }) => id)).toEqual(["not-an-image"]);
  });

  it("picks among several references the one of the process's width and build", () => {
    const all = ["amd64__amd64__embedded", "686__i386__embedded", "amd64__i386__embedded"].map((name) => ({
      name,
      image: imageNamed(name),
      kind: "unpatched" as const,
    }));
    expect(ids(seenWith(mapped("amd64__EPYC__i386")), { ...against(...all) })).toEqual([]);
    expect(ids(seenWith(mapped("686__qemu32__i386")), { ...against(...all) })).toEqual([]);
  });

  it("lists no more than so many findings, and says how many more there are", () => {
    const bytes = mapped(I386);
    for (let offset = 64; offset < bytes.length; offset += 40) bytes[offset] = (bytes[offset] as number) ^ 0xff;
    const { findings, more } = judge({ ...seenWith(mapped(I386)), read: () => bytes }, peers(I386));
    expect(findings).toHaveLength(64);
    expect(more).toBeGreaterThan(50);
  });
});

describe("judge, whatever a process shows", () => {
  const mapping = fc.record({
    start: fc.bigInt(0n, 0xffff_ffffn),
    size: fc.bigInt(1n, 0x4000n),
    perms: fc.constantFrom("r-xp", "rwxp", "r--p", "---p", "r-xs"),
    name: fc.constantFrom("[vdso]", "[vvar]", "[vvar_vclock]", "", "/bin/x"),
  });

  it("throws nothing, and finds something in all but the bytes of the reference", () => {
    const standard = peers(I386);
    const clean = mapped(I386);
    const changes = fc.array(fc.tuple(fc.nat(clean.length - 1), fc.nat(255)), { maxLength: 40 });
    fc.assert(
      fc.property(changes, fc.boolean(), fc.option(fc.nat(4096)), (changed, traced, length) => {
        const bytes = clean.slice();
        for (const [offset, byte] of changed) bytes[offset] = byte;
        const seen: Seen = {
          ...seenWith(clean, { seen: { ...(traced && { tracer: { pid: 1 } }) } }),
          read: (_, size) => bytes.slice(0, length ?? size),
        };
        const { findings, marks } = judge(seen, standard);
        const same = bytes.every((byte, i) => byte === clean[i]);
        if (length === null && same) expect(findings).toEqual([]);
        if (!same && length === null) expect(findings.length + marks.length).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });

  it("throws nothing on any mappings and vectors", () => {
    const standard = peers(I386);
    const clean = mapped(I386);
    fc.assert(
      fc.property(
        fc.array(mapping, { maxLength: 8 }),
        fc.option(fc.bigInt(0n, 0xffff_ffffn), { nil: undefined }),
        fc.uint8Array({ maxLength: 300 }),
        (list, ehdr, noise) => {
          const mappings = list.map(({ start, size, ...rest }) => ({
            ...{ start, end: start + size, ...rest },
            ...{ offset: 0n, device: "00:00", inode: 0n },
          }));
          const bytes = clean.slice();
          bytes.set(noise);
          const place = mappings.find(({ name }) => name === "[vdso]")?.start;
          for (const sysinfoEhdr of [ehdr, place]) {
            judge(
              {
                wordSize: 4,
                ...(sysinfoEhdr !== undefined && { sysinfoEhdr }),
                mappings,
                read: (_, size) => bytes.slice(0, size),
                privatePages: [0n],
              },
              standard,
            );
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe("makerOf", () => {
  it("tells Linux by its note", () => {
    for (const name of imageNames.filter((one) => !one.includes("arm32"))) {
      expect([name, makerOf(imageNamed(name))]).toEqual([name, "Linux"]);
    }
  });
});
