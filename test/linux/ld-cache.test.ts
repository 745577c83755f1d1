import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { Writer } from "../../src/bytes/writer.js";
import { chooseCacheEntry, type LdCache, parseLdCache } from "../../src/linux/ld-cache.js";
import { Workshop } from "../support/programs.js";
import { needs, output } from "../support/referee.js";

const CACHE = "/etc/ld.so.cache";
const ldconfig = needs("ldconfig", "libc-bin");
const gcc = needs("gcc", "gcc");

/** Lines of `ldconfig -p` as "name => path", in its order. */
function printed(text: string): string[] {
  return [...text.matchAll(/^\t(.*) \((.*)\) => (.*)$/gm)].map(([, name, , path]) => `${name} => ${path}`);
}

const lines = (cache: LdCache) => cache.entries.map(({ name, path }) => `${name} => ${path}`);
const none = { flags: 0x303, hwcapFolders: [], hwcapBits: undefined };

describe.skipIf(!ldconfig || !existsSync(CACHE))("the cache of this machine", () => {
  const bytes = new Uint8Array(existsSync(CACHE) ? readFileSync(CACHE) : []);

  it("lists what ldconfig -p lists, in its order", () => {
    const text = output("ldconfig", "-p");
    const cache = parseLdCache(bytes);
    expect(lines(cache)).toEqual(printed(text));
    expect(text).toContain(`${cache.entries.length} libs found`);
    if (cache.generator) expect(text).toContain(cache.generator);
  });

  it("survives every truncation with a FormatError or a shorter list", () => {
    for (let size = 0; size < bytes.length; size += Math.max(1, Math.floor(bytes.length / 400))) {
      try {
        parseLdCache(bytes.subarray(0, size));
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError);
      }
    }
  });

  it("survives bytes of garbage", () => {
    for (let at = 0; at < 4000; at += 3) {
      const broken = Uint8Array.from(bytes);
      broken[at] = (broken[at] as number) ^ 0xff;
      broken[at + 1] = 0xff;
      try {
        parseLdCache(broken);
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError);
      }
    }
  });
});

describe.skipIf(!ldconfig || !gcc)("caches that ldconfig writes", () => {
  const workshop = new Workshop();
  const make = (...args: string[]) => {
    const cache = workshop.path(`cache${args.join("")}`);
    const { status, stderr } = spawnSync("ldconfig", ["-X", "-f", workshop.path("conf"), "-C", cache, ...args], {
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(stderr);
    return { cache: parseLdCache(new Uint8Array(readFileSync(cache))), text: output("ldconfig", "-p", "-C", cache) };
  };

  beforeAll(() => {
    workshop.library("lib/liba.so", "-Wl,-soname,liba.so");
    for (const level of ["v2", "v3", "v4"]) {
      workshop.library(`lib/glibc-hwcaps/x86-64-${level}/liba.so`, "-Wl,-soname,liba.so");
    }
    workshop.write("conf", `${workshop.path("lib")}\n`);
  });
  afterAll(() => workshop.remove());

  it.each([
    ["new", "new"],
    ["compat", "compat"],
  ] as const)("the format %s is told and lists the same", (argument, format) => {
    const { cache, text } = make("-c", argument);
    expect(cache.format).toBe(format);
    expect(lines(cache)).toEqual(printed(text));
  });

  it("the best glibc-hwcaps subfolder that the processor has is taken, else the plain entry", () => {
    const { cache } = make();
    const entries = cache.entries.filter(({ name }) => name === "liba.so");
    expect(entries.map(({ hwcapFolder }) => hwcapFolder)).toContain("x86-64-v3");
    const choose = (...hwcapFolders: string[]) =>
      chooseCacheEntry(entries, { ...none, hwcapFolders })?.path.slice(workshop.path("lib/").length);
    expect(choose()).toBe("liba.so");
    expect(choose("x86-64-v2")).toBe("glibc-hwcaps/x86-64-v2/liba.so");
    expect(choose("x86-64-v3", "x86-64-v2")).toBe("glibc-hwcaps/x86-64-v3/liba.so");
    expect(choose("x86-64-v4", "x86-64-v3", "x86-64-v2")).toBe("glibc-hwcaps/x86-64-v4/liba.so");
    expect(chooseCacheEntry(entries, { ...none, flags: 0x003 })).toBeUndefined();
  });
});

describe("formats that are no longer written", () => {
  const strings = "libm.so.6\0/lib/libm.so.6\0";

  it("the old format is read, whose strings lie behind its entries", () => {
    const writer = new Writer().raw(new TextEncoder().encode("ld.so-1.7.0\0")).u32(1).u32(3).u32(0).u32(10);
    const cache = parseLdCache(writer.raw(new TextEncoder().encode(strings)).finish());
    expect(cache).toMatchObject({ format: "old", entries: [{ name: "libm.so.6", path: "/lib/libm.so.6", flags: 3 }] });
  });

  it("a big-endian cache says so itself", () => {
    const writer = new Writer({ littleEndian: false }).raw(new TextEncoder().encode("glibc-ld.so.cache1.1"));
    writer.u32(1).u32(strings.length).u8(3).padTo(48);
    writer.u32(0x403).u32(72).u32(82).u32(0x030200).u64(0n).raw(new TextEncoder().encode(strings));
    expect(parseLdCache(writer.finish())).toMatchObject({
      littleEndian: false,
      entries: [{ name: "libm.so.6", path: "/lib/libm.so.6", flags: 0x403, osversion: 0x030200 }],
    });
  });

  it("entries for features of the processor are passed over unless it has them", () => {
    const entry = (path: string, hwcap: bigint) => ({ name: "a", path, flags: 0x303, osversion: 0, hwcap });
    const entries = [entry("/tls/avx512", 4n), entry("/x86_64", 2n), entry("/plain", 0n)];
    const choose = (hwcapBits: bigint | undefined) => chooseCacheEntry(entries, { ...none, hwcapBits })?.path;
    expect(choose(undefined)).toBe("/plain");
    expect(choose(2n)).toBe("/x86_64");
    expect(choose(6n)).toBe("/tls/avx512");
  });

  it("a count beyond the end is refused before anything is made for it", () => {
    const writer = new Writer().raw(new TextEncoder().encode("glibc-ld.so.cache1.1")).u32(0xffff_ffff).padTo(48);
    expect(() => parseLdCache(writer.finish())).toThrow(FormatError);
    expect(() => parseLdCache(new Uint8Array())).toThrow(FormatError);
  });
});
