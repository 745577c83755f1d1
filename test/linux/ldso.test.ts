import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { EM_386, EM_AARCH64, EM_PPC, EM_X86_64 } from "../../src/elf/constants.js";
import { ElfFile } from "../../src/elf/file.js";
import { readHeader } from "../../src/elf/header.js";
import { loaderAbi } from "../../src/linux/ldso/abi.js";
import { hwcapFolders, legacyHwcaps, parseCpu, searchSubfolders } from "../../src/linux/ldso/cpu.js";
import { liveCpu, liveFiles } from "../../src/linux/ldso/live.js";
import { type LoaderTraits, readLoaderTraits } from "../../src/linux/ldso/loader.js";
import { readDso, readDsoVersions } from "../../src/linux/ldso/object.js";
import { folderOf, pathText } from "../../src/linux/ldso/path.js";
import { expandTokens, hasToken } from "../../src/linux/ldso/tokens.js";
import { type LddOptions, ldd } from "../../src/verbs/ldd.js";
import { buildDso, memoryFiles } from "../support/dso-writer.js";
import { Workshop } from "../support/programs.js";

const source = (bytes: Uint8Array) => ({
  size: bytes.length,
  readAt: (offset: number, size: number) => bytes.slice(offset, offset + size),
});
const header = (machine: number, bits: 32 | 64 = 64) => readHeader(buildDso({ machine, class: bits })).header;
const LOADER = "/lib64/ld-linux-x86-64.so.2";
const existing = (path: string) => spawnSync("test", ["-e", path]).status === 0;

const INTEL = "flags\t: avx avx2 bmi1 bmi2 cx16 f16c fma lahf_lm movbe pni popcnt sse4_1 sse4_2 ssse3 xsave abm\n";

function options(files: Parameters<typeof memoryFiles>[0], more: Partial<LddOptions> = {}): LddOptions {
  return { files: memoryFiles(files), cwd: "/place", cpu: parseCpu(INTEL), ...more };
}

const paths = (result: ReturnType<typeof ldd>) => result.objects.map(({ name, path }) => path ?? `${name}?`);

describe("tokens", () => {
  const tokens = { ORIGIN: "/o", LIB: "lib64", PLATFORM: undefined };
  it.each([
    ["$ORIGIN/x", "/o/x"],
    [`\${ORIGIN}/x:\${LIB}`, "/o/x:lib64"],
    ["$ORIGINAL/$LIBRARY", "$ORIGINAL/$LIBRARY"],
    ["$LIB_x", "$LIB_x"],
    ["$$ORIGIN", "$/o"],
    ["a$", "a$"],
    ["$PLATFORM/x", undefined],
  ])("%s becomes %s", (path, expanded) => {
    expect(expandTokens(path, tokens)).toBe(expanded);
  });

  it("are told from other dollar signs", () => {
    expect(hasToken("a$ORIGIN")).toBe(true);
    expect(hasToken("a$OTHER")).toBe(false);
  });
});

describe("processors", () => {
  it("give the glibc-hwcaps folders of their level, best first", () => {
    const x86 = header(EM_X86_64);
    expect(hwcapFolders(x86, parseCpu("flags\t: sse2 pni\n"))).toEqual([]);
    expect(hwcapFolders(x86, parseCpu(INTEL))).toEqual(["x86-64-v3", "x86-64-v2"]);
    expect(hwcapFolders(header(EM_AARCH64), parseCpu(INTEL))).toEqual([]);
    expect(hwcapFolders(header(EM_386, 32), parseCpu(INTEL))).toEqual([]);
  });

  it("of Intel's with certain features are a platform of their own in old versions", () => {
    const x86 = header(EM_X86_64);
    expect(legacyHwcaps(x86, parseCpu(`vendor_id\t: GenuineIntel\n${INTEL}`), "x86_64").platform).toBe("haswell");
    expect(legacyHwcaps(x86, parseCpu(`vendor_id\t: AuthenticAMD\n${INTEL}`), "x86_64").platform).toBeUndefined();
  });

  it("of this machine are those that its dynamic linker tells", () => {
    if (process.arch !== "x64" || !existing(LOADER)) return;
    const help = spawnSync(LOADER, ["--help"], { encoding: "utf8" }).stdout;
    const told = [...help.matchAll(/^ {2}(x86-64-v\d) \(supported, searched\)/gm)].map(([, name]) => name);
    expect(hwcapFolders(header(EM_X86_64), liveCpu())).toEqual(told);
  });

  it("make subfolders in the order of glibc", () => {
    expect(searchSubfolders(["v2"], ["a", "tls"])).toEqual(["glibc-hwcaps/v2/", "tls/a/", "tls/", "a/", ""]);
    expect(searchSubfolders([], [])).toEqual([""]);
  });
});

describe("a dynamic linker's bytes", () => {
  const traitsOf = (path: string, machine: number, bits: 32 | 64 = 64): LoaderTraits => {
    const abi = loaderAbi(header(machine, bits));
    if (!abi) throw new Error("no ABI");
    return readLoaderTraits(source(new Uint8Array(readFileSync(path))), abi);
  };

  it("tell what --help and --list-diagnostics tell", () => {
    if (process.arch !== "x64" || !existing(LOADER)) return;
    const traits = traitsOf(LOADER, EM_X86_64);
    const help = spawnSync(LOADER, ["--help"], { encoding: "utf8" }).stdout;
    const folders = [...help.matchAll(/^ {2}(\/.*) \(system search path\)$/gm)].map(([, folder]) => folder);
    expect(traits.folders).toEqual(folders);
    expect(help).toContain(traits.cachePath);
    expect(traits.legacyHwcaps).toBe(help.includes("Legacy HWCAP"));
    expect(traits.hwcapFolders).toBe(help.includes("glibc-hwcaps directories"));
    const diagnostics = spawnSync(LOADER, ["--list-diagnostics"], { encoding: "utf8" }).stdout;
    expect(diagnostics).toContain(`dl_dst_lib="${traits.lib}"`);
    expect(traits.preloadPath).toBe("/etc/ld.so.preload");
  });

  it("tell the folders of the i386 one, which need not run for it", () => {
    if (!existing("/lib32/ld-linux.so.2")) return;
    expect(traitsOf("/lib32/ld-linux.so.2", EM_386, 32)).toMatchObject({
      folders: ["/lib32", "/usr/lib32", "/lib", "/usr/lib"],
      lib: "lib32",
    });
  });

  it("of garbage leave what the ABI usually has", () => {
    const abi = loaderAbi(header(EM_X86_64));
    if (!abi) throw new Error("no ABI");
    const slashes = new Uint8Array(1 << 20).fill(0x2f);
    expect(readLoaderTraits(source(slashes), abi)).toMatchObject({ folders: abi.folders, lib: abi.lib });
  });
});

describe("an object", () => {
  it.each([
    [32, true, EM_386],
    [64, true, EM_X86_64],
    [32, false, EM_PPC],
  ] as const)("of %s bits, little-endian %s, gives its dynamic strings", (bits, littleEndian, machine) => {
    const plan = { needed: ["liba.so", "libb.so"], soname: "me.so", rpath: "/r", runpath: "/p", interpreter: "/ld" };
    const dso = readDso(source(buildDso({ ...plan, class: bits, littleEndian, machine })));
    expect(dso).toMatchObject({ soname: "me.so", rpath: "/r", runpath: "/p", interpreter: "/ld", dynamic: true });
    expect(dso.links.map(({ name }) => name)).toEqual(plan.needed);
  });

  it("reads of a real library the same as the whole file gives, and little of it", () => {
    const bytes = new Uint8Array(readFileSync(process.execPath));
    let read = 0;
    const counted = {
      size: bytes.length,
      readAt(offset: number, size: number) {
        read += Math.min(size, bytes.length - offset);
        return bytes.slice(offset, offset + size);
      },
    };
    const file = new ElfFile(bytes);
    const dso = readDso(counted);
    expect(dso.links.map(({ name }) => name)).toEqual(file.needed);
    expect(dso.interpreter).toBe(file.interpreter);
    expect(read).toBeLessThan(65_536);
    expect(
      readDsoVersions(counted)
        .needs.map(({ version }) => version)
        .sort(),
    ).toEqual(file.versionNeeds.map(({ name }) => name).sort());
  });

  it("that is cut short anywhere is a FormatError or an object", () => {
    const bytes = buildDso({ needed: ["liba.so"], soname: "me.so", runpath: "/p", interpreter: "/ld" });
    for (let size = 0; size < bytes.length; size++) {
      for (const read of [readDso, readDsoVersions]) {
        try {
          read(source(bytes.subarray(0, size)));
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }
    }
  });

  it("with strings of megabytes, or that share bytes without end, is refused", () => {
    expect(() => readDso(source(buildDso({ needed: ["x".repeat(1 << 17)] })))).toThrow(FormatError);
    const needed = Array.from({ length: 200 }, (_, i) => "x".repeat(40_000 + i));
    expect(() => readDso(source(buildDso({ needed })))).toThrow(FormatError);
  });
});

describe("resolution among files in memory", () => {
  const libc = buildDso({ soname: "libc.so.6", needed: ["ld-linux-x86-64.so.2"] });
  const loader = buildDso({ soname: "ld-linux-x86-64.so.2" });
  const base = { "/lib/libc.so.6": libc, [LOADER]: loader };

  it("needs no machine", () => {
    const main = buildDso({ needed: ["libx.so", "libc.so.6"], runpath: "$ORIGIN/../lib", interpreter: LOADER });
    const files = { ...base, "/opt/bin/main": main, "/opt/lib/libx.so": buildDso({ soname: "libx.so" }) };
    const result = ldd("/opt/bin/main", options(files, { virtual: { soname: "linux-vdso.so.1" } }));
    expect(paths(result)).toEqual(["linux-vdso.so.1?", "/opt/bin/../lib/libx.so", "/lib/libc.so.6", LOADER]);
    expect(result).toMatchObject({ abi: "x86_64", status: 0, problems: [] });
  });

  it("says which library may not be read and shows the rest", () => {
    const main = buildDso({ needed: ["libx.so", "libc.so.6"], rpath: "/a:/b", interpreter: LOADER });
    const files = { ...base, "/main": main, "/a/libx.so": "EACCES", "/b/libx.so": buildDso({}) };
    const result = ldd("/main", options(files));
    expect(paths(result)).toEqual(["/b/libx.so", "/lib/libc.so.6", LOADER]);
    expect(result.problems).toEqual([{ message: "/a/libx.so: permission denied (EACCES): passed over", fatal: false }]);
    expect(ldd("/main", options({ "/main": "EACCES" }))).toMatchObject({ kind: "unreadable", status: 1 });
  });

  it("a file that is passed over because of an odd error ends the search of its list", () => {
    const main = buildDso({ needed: ["libx.so"], rpath: "/a:/b", interpreter: LOADER });
    const result = ldd(
      "/main",
      options({ ...base, "/main": main, "/a/libx.so": "EMFILE", "/b/libx.so": buildDso({}) }),
    );
    expect(paths(result)).toEqual(["libx.so?"]);
  });

  it("musl reads its path file below the prefix of its dynamic linker", () => {
    const interpreter = "/opt/musl/lib/ld-musl-x86_64.so.1";
    const main = buildDso({ needed: ["libx.so", "libc.so"], interpreter });
    const files = {
      "/main": main,
      [interpreter]: loader,
      "/opt/musl/etc/ld-musl-x86_64.path": new TextEncoder().encode("/one\n/two"),
      "/two/libx.so": buildDso({ soname: "libx.so", needed: ["libpthread.so.0"] }),
    };
    const result = ldd("/main", options(files));
    expect(result).toMatchObject({ libc: "musl", interpreter });
    expect(paths(result)).toEqual([interpreter, "/two/libx.so"]);
    expect(result.objects[0]?.neededBy).toEqual(["/main", "libx.so"]);
  });

  it("a loader that is not known or not there is told", () => {
    const main = buildDso({ needed: ["libc.so.6"], interpreter: "/odd/ld.so" });
    expect(ldd("/main", options({ ...base, "/main": main })).problems[0]?.message).toContain(`${LOADER} stands in`);
    const odd = ldd("/main", options({ ...base, "/main": main, "/odd/ld.so": loader }));
    expect(odd.problems[0]?.message).toContain("taken to go by glibc's rules");
  });

  it("an unknown machine is told", () => {
    const result = ldd("/main", options({ "/main": buildDso({ needed: ["a"], machine: 0x7777 }) }));
    expect(result).toMatchObject({
      status: 1,
      problems: [{ message: "/main: machine 30583 is not known", fatal: true }],
    });
  });

  it("/etc/ld.so.preload is read, comments and all", () => {
    const files = {
      ...base,
      "/main": buildDso({ needed: ["libc.so.6"], interpreter: LOADER }),
      "/etc/ld.so.preload": new TextEncoder().encode("# no\n/pre/liba.so:libgone.so # libno.so\n"),
      "/pre/liba.so": buildDso({ soname: "liba.so" }),
    };
    const result = ldd("/main", options(files));
    expect(paths(result)).toEqual(["/pre/liba.so", "/lib/libc.so.6", LOADER]);
    expect(result.objects[0]).toMatchObject({ foundBy: "preload", neededBy: ["/etc/ld.so.preload"] });
    expect(result.problems[0]?.message).toContain("libgone.so from /etc/ld.so.preload is not found");
  });

  it("60,000 needs and folders without end come to an end", () => {
    const folders = Array.from({ length: 400 }, (_, i) => `/f${i}`);
    const existingFolders = Object.fromEntries(folders.map((folder) => [`${folder}/x`, new Uint8Array()]));
    const needed = Array.from({ length: 60_000 }, (_, i) => `lib${i}.so`);
    const main = buildDso({ needed, rpath: folders.join(":"), interpreter: LOADER });
    const started = performance.now();
    const result = ldd("/main", options({ ...base, ...existingFolders, "/main": main }));
    expect(performance.now() - started).toBeLessThan(8000);
    expect(result.status).toBe(1);
    expect(result.problems.at(-1)?.message).toContain("given up");
    const many = ldd("/main", options({ ...base, "/main": buildDso({ needed, interpreter: LOADER }) }));
    expect(many.problems.at(-1)?.message).toContain("given up");
  });
});

describe("paths", () => {
  it("are UTF-8 where they can be", () => {
    expect(pathText("lib\u00c3\u00a9")).toBe("libé");
    expect(pathText("lib\u00e9")).toBe("lib\u00e9");
  });

  it("have the folder that the dynamic linker takes for $ORIGIN", () => {
    expect(folderOf("./main", "/place")).toBe("/place/.");
    expect(folderOf("/main", "/place")).toBe("/");
    expect(folderOf("a/b", "/")).toBe("/a");
  });
});

describe("another root", () => {
  const workshop = new Workshop();
  afterAll(() => workshop.remove());

  it("has its own absolute links, and nothing leads out of it", () => {
    workshop.write("usr/lib/libc.so.6", buildDso({ soname: "libc.so.6" }));
    workshop.write("main", buildDso({ needed: ["libc.so.6", "libout.so"], interpreter: LOADER }));
    symlinkSync("/usr/lib", workshop.path("lib"));
    symlinkSync("/../../../../../../lib/x86_64-linux-gnu/libm.so.6", workshop.path("usr/lib/libout.so"));
    symlinkSync("/self", workshop.path("self"));
    mkdirSync(workshop.path("etc"));
    const result = ldd("/main", { files: liveFiles(workshop.folder), cwd: "/", cpu: parseCpu("") });
    expect(paths(result)).toEqual(["/lib/libc.so.6", "libout.so?"]);
    expect(liveFiles(workshop.folder).status("/self")).toEqual({ code: "ELOOP" });
    expect(ldd("/self", { files: liveFiles(workshop.folder), cwd: "/", cpu: parseCpu("") }).status).toBe(1);
  });
});
