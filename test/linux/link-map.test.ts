import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { Writer } from "../../src/bytes/writer.js";
import { auxvWordSize, parseAuxv } from "../../src/linux/auxv.js";
import { type LinkMapProcess, readLinkMap } from "../../src/linux/link-map.js";
import { LiveProcess } from "../../src/linux/live.js";
import { parseMaps } from "../../src/linux/maps.js";
import { loadedText } from "../../src/render/ldd.js";
import { lddProcess } from "../../src/verbs/ldd.js";
import { runs32, Workshop } from "../support/programs.js";
import { needs } from "../support/referee.js";

function describeProcess(live: LiveProcess): LinkMapProcess {
  const bytes = live.auxvBytes();
  const wordSize = auxvWordSize(bytes, live.littleEndian) ?? 8;
  const entries = parseAuxv(bytes, { wordSize, littleEndian: live.littleEndian });
  const mappings = parseMaps(new TextDecoder().decode(live.mapsBytes()));
  const vdso = mappings.find(({ name }) => name === "[vdso]");
  return {
    auxv: new Map(entries.map(({ tag, value }) => [tag, value])),
    wordSize,
    littleEndian: live.littleEndian,
    read: (address, size) => live.read(address, size),
    mappings,
    ...(vdso && { vdso: { start: vdso.start, end: vdso.end, soname: "linux-vdso.so.1" } }),
  };
}

/** Starts a program that says a word when it is up, and gives it back when it has. */
async function started(command: string, ...args: string[]): Promise<ChildProcess> {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "ignore"] });
  await new Promise<void>((resolve, reject) => {
    child.stdout?.once("data", () => resolve());
    child.once("error", reject);
    child.once("exit", () => reject(new Error(`${command} ended`)));
  });
  return child;
}

const HELLO = '#include <unistd.h>\nint main(void) { write(1, "up", 2); char c; read(0, &c, 1); return 0; }';

describe.skipIf(process.platform !== "linux")("the link map of a process", () => {
  const workshop = new Workshop();
  const children: ChildProcess[] = [];
  const run = async (command: string, ...args: string[]) => {
    const child = await started(command, ...args);
    children.push(child);
    return { pid: child.pid as number, process: describeProcess(new LiveProcess(child.pid as number)) };
  };
  const gcc = needs("gcc", "gcc");
  const wide = { builds: false, runs: false };
  beforeAll(() => {
    if (gcc) Object.assign(wide, runs32(workshop));
  });
  afterAll(() => {
    for (const child of children) child.kill("SIGKILL");
    workshop.remove();
  });

  it("of this one names the files that are mapped, each at its start", () => {
    const live = new LiveProcess(process.pid);
    const result = readLinkMap(describeProcess(live));
    const mappings = parseMaps(new TextDecoder().decode(live.mapsBytes()));
    live.close();
    expect(result).toMatchObject({ kind: "dynamic", state: "consistent", problems: [] });
    expect(result.objects[0]).toMatchObject({ kind: "program", name: "" });
    for (const { name, start, kind } of result.objects.filter(({ kind }) => kind === "library")) {
      expect(kind).toBe("library");
      const file = spawnSync("readlink", ["-f", name], { encoding: "utf8" }).stdout.trim();
      expect(mappings.find((mapping) => mapping.name === file)?.start, name).toBe(start);
    }
    expect(result.objects.find(({ kind }) => kind === "virtual")?.name).toBe("linux-vdso.so.1");
  });

  it.skipIf(!gcc || !needs("gdb", "gdb"))("is what gdb lists, in the same order", async () => {
    workshop.compile(HELLO, "-o", "hello", "-Wl,--no-as-needed", "-lm", "-ldl");
    const { pid, process: target } = await run(workshop.path("hello"));
    const listed = spawnSync("gdb", ["-nx", "-batch", "-p", String(pid), "-ex", "info sharedlibrary"], {
      encoding: "utf8",
    }).stdout;
    const files = [...listed.matchAll(/^0x[0-9a-f]+ .* (\/\S+)$/gm)].map(([, file]) => file);
    const result = readLinkMap(target);
    expect(files.length).toBeGreaterThan(2);
    expect(result.objects.filter(({ kind }) => kind === "library").map(({ name }) => name)).toEqual(files);
    const text = loadedText([lddProcess({ ...target, pid })]);
    expect(text).toMatch(/^\tlinux-vdso\.so\.1 \(0x[0-9a-f]{16}\) \(virtual: mapped by the kernel, no file\)\n/);
    expect(text).toMatch(/libm\.so\.6 \(0x[0-9a-f]{16}\)\n/);
  });

  it.skipIf(!gcc)("of a static program has no libraries", async () => {
    workshop.compile(HELLO, "-static", "-o", "still");
    workshop.compile(HELLO, "-static-pie", "-o", "stillpie");
    for (const name of ["still", "stillpie"]) {
      const { pid, process: target } = await run(workshop.path(name));
      expect(readLinkMap(target), name).toMatchObject({ kind: "static", problems: [] });
      expect(loadedText([lddProcess({ ...target, pid })])).toMatch(/^\tstatically linked\n/);
      expect(readLinkMap(target).objects.filter(({ kind }) => kind === "library")).toEqual([]);
    }
  });

  it.skipIf(!gcc)("has the start of a program that is linked for an address", async () => {
    workshop.compile(HELLO, "-no-pie", "-o", "fixed");
    const { process: target } = await run(workshop.path("fixed"));
    const [main] = readLinkMap(target).objects;
    expect(main).toMatchObject({ bias: 0n, start: 0x400000n, kind: "program" });
  });

  it.skipIf(!gcc)("has the namespaces that dlmopen makes", async () => {
    const source = `#define _GNU_SOURCE
      #include <dlfcn.h>
      #include <unistd.h>
      int main(void) { void *p = dlmopen(LM_ID_NEWLM, "libm.so.6", RTLD_NOW); write(1, "up", 2); char c; read(0, &c, 1); return !p; }`;
    workshop.compile(source, "-o", "spaces");
    const { process: target } = await run(workshop.path("spaces"));
    const result = readLinkMap(target);
    if ((result.version ?? 1) < 2) return;
    expect(
      result.objects
        .filter(({ namespace }) => namespace === 1)
        .map(({ name }) => name)
        .join(),
    ).toMatch(/libm\.so\.6.*libc\.so\.6/);
  });

  it.skipIf(!gcc || !needs("musl-gcc", "musl-tools"))("of musl is read alike", async () => {
    workshop.compileWith("musl-gcc", HELLO, "-o", "musl");
    const { process: target } = await run(workshop.path("musl"));
    const result = readLinkMap(target);
    expect(result.kind).toBe("dynamic");
    expect(result.objects.map(({ name }) => name).join()).toContain("/lib/ld-musl-x86_64.so.1");
    expect(result.objects.filter(({ kind }) => kind === "virtual")).toHaveLength(1);
  });

  it.skipIf(!gcc)("of a 32-bit process is read with its own word size", async () => {
    if (!wide.runs) return;
    workshop.compile(HELLO, "-m32", "-o", "narrow");
    const { process: target } = await run(workshop.path("narrow"));
    expect(target.wordSize).toBe(4);
    expect(
      readLinkMap(target)
        .objects.map(({ name }) => name)
        .join(),
    ).toMatch(/libc\.so\.6/);
  });
});

/** A process that is nothing but a link map, made for either width and byte order. */
function synthetic(wordSize: 4 | 8, littleEndian: boolean, edit: (memory: Memory) => void = () => {}): LinkMapProcess {
  const memory = new Memory(wordSize, littleEndian);
  edit(memory);
  const bytes = memory.write();
  return {
    auxv: new Map([
      [3, BASE + 0x40n],
      [4, wordSize === 8 ? 56n : 32n],
      [5, 3n],
      [7, 0x7000_0000n],
    ]),
    wordSize,
    littleEndian,
    read(address, size) {
      const offset = Number(address - BASE);
      if (offset < 0 || offset + size > bytes.length) throw new Error(`nothing at 0x${address.toString(16)}`);
      return bytes.slice(offset, offset + size);
    },
    vdso: { start: 0x7fff_0000n, end: 0x7fff_2000n },
  };
}

const BASE = 0x1_0000n;

class Memory {
  /** name, next index; each map lies 0x100 apart. */
  maps: { name: string | undefined; next: number | bigint; dynamic: bigint }[] = [
    { name: "", next: 1, dynamic: BASE + 0x200n },
    { name: "", next: 2, dynamic: 0x7fff_0400n },
    { name: "/lib/libé.so", next: -1, dynamic: 0x5000_0100n },
  ];
  version = 1;
  state = 0;
  nextDebug = 0n;
  debug = BASE + 0x300n;
  readonly #wordSize: 4 | 8;
  readonly #littleEndian: boolean;

  constructor(wordSize: 4 | 8, littleEndian: boolean) {
    this.#wordSize = wordSize;
    this.#littleEndian = littleEndian;
  }

  write(): Uint8Array {
    const out = new Writer({ wordSize: this.#wordSize, littleEndian: this.#littleEndian });
    const segment = (type: number, vaddr: bigint, size: bigint) => {
      out.u32(type);
      if (this.#wordSize === 8) out.u32(4);
      out.word(vaddr).word(vaddr).word(vaddr).word(size).word(size);
      if (this.#wordSize === 4) out.u32(4);
      out.word(8);
    };
    out.padTo(0x40);
    segment(6, 0x40n, 0xa8n);
    segment(1, 0n, 0x1000n);
    segment(2, 0x200n, 0x80n);
    out.padTo(0x200).word(21).word(this.debug).word(0).word(0);
    const at = (index: number | bigint) =>
      typeof index === "bigint" ? index : index < 0 ? 0n : BASE + 0x400n + BigInt(index) * 0x100n;
    out.padTo(0x300).u32(this.version);
    if (this.#wordSize === 8) out.u32(0);
    out.word(at(0)).word(0).u32(this.state);
    if (this.#wordSize === 8) out.u32(0);
    out.word(0).word(this.nextDebug);
    for (const [index, { name, next, dynamic }] of this.maps.entries()) {
      out.padTo(0x400 + index * 0x100);
      const nameAt = name === undefined ? 0x9999_0000n : at(index) + 0x40n;
      out
        .word(index === 2 ? 0x5000_0000n : 0n)
        .word(nameAt)
        .word(dynamic)
        .word(at(next))
        .word(0);
      out.padTo(0x440 + index * 0x100).cstring(new TextDecoder("latin1").decode(new TextEncoder().encode(name ?? "")));
    }
    return out.padTo(0x2000).finish();
  }
}

describe("link maps of every width and byte order", () => {
  it.each([
    [4, true],
    [4, false],
    [8, true],
    [8, false],
  ] as const)("words of %s bytes, little-endian %s", (wordSize, littleEndian) => {
    const result = readLinkMap(synthetic(wordSize, littleEndian));
    expect(result).toMatchObject({ kind: "dynamic", version: 1, state: "consistent", problems: [] });
    expect(result.objects).toMatchObject([
      { kind: "program", name: "", start: BASE },
      { kind: "virtual", start: 0x7fff_0000n },
      { kind: "library", name: "/lib/libé.so", bias: 0x5000_0000n, dynamic: 0x5000_0100n },
    ]);
  });
});

describe("hostile link maps", () => {
  const broken = (edit: (memory: Memory) => void) => readLinkMap(synthetic(8, true, edit));
  const map = (memory: Memory, index: number) => memory.maps[index] as Memory["maps"][number];

  it("a list that comes back to itself ends", () => {
    const result = broken((memory) => Object.assign(map(memory, 2), { next: 0 }));
    expect(result.objects).toHaveLength(3);
    expect(result.problems[0]).toContain("comes back");
  });

  it("a list that leads nowhere keeps what came before", () => {
    const result = broken((memory) => Object.assign(map(memory, 1), { next: 0xdead_0000n }));
    expect(result.objects).toHaveLength(2);
    expect(result.problems).toEqual(["the link map at 0xdead0000 cannot be read"]);
  });

  it("a name that is not there is told", () => {
    const result = broken((memory) => Object.assign(map(memory, 2), { name: undefined }));
    expect(result.objects[2]?.name).toBe("");
    expect(result.problems[0]).toContain("name");
  });

  it("a list that is being changed is told", () => {
    expect(broken((memory) => Object.assign(memory, { state: 1 })).problems[0]).toContain("adding");
  });

  it("namespaces that come back to themselves end", () => {
    const result = broken((memory) => Object.assign(memory, { version: 2, nextDebug: memory.debug }));
    expect(result.problems[0]).toContain("namespaces");
  });

  it("no list yet is no list", () => {
    expect(broken((memory) => Object.assign(memory, { debug: 0n })).kind).toBe("not-started");
  });

  it("r_debug that is not there is told", () => {
    const result = broken((memory) => Object.assign(memory, { debug: 0xdead_0000n }));
    expect(result.objects).toEqual([]);
    expect(result.problems[0]).toContain("r_debug");
  });

  it("an auxiliary vector that lies is refused", () => {
    const process = synthetic(8, true);
    const with_ = (tag: number, value: bigint) => ({ ...process, auxv: new Map([...process.auxv, [tag, value]]) });
    expect(() => readLinkMap(with_(5, 1n << 40n))).toThrow(FormatError);
    expect(() => readLinkMap(with_(4, 32n))).toThrow(FormatError);
    expect(readLinkMap({ ...process, auxv: new Map() }).kind).toBe("static");
  });
});
