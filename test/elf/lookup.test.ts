import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as C from "../../src/elf/constants.js";
import { ElfFile } from "../../src/elf/file.js";
import type { ElfSymbol } from "../../src/elf/symbol.js";
import { withoutDynamicTag, withoutSectionHeaders } from "../support/elf-writer.js";
import { imageBytes, imageNames, imagePath } from "../support/images.js";
import { needs, output } from "../support/referee.js";

const hasPython = needs("python3", "python3");

/** Where the dynamic section of an image is in the file. */
function dynamicOffset(elf: ElfFile): number {
  return elf.segments.find(({ p_type }) => p_type === C.PT_DYNAMIC)?.p_offset ?? 0;
}

describe.each(imageNames)("image %s", (name) => {
  const bytes = imageBytes(name);
  const whole = new ElfFile(bytes);
  const named = whole.dynamicSymbols.filter(({ name, bind }) => name !== "" && bind !== C.STB_LOCAL);

  it("has the same symbols without its section headers", () => {
    const cut = new ElfFile(withoutSectionHeaders(bytes));
    expect(cut.sections).toEqual([]);
    expect(cut.loaderSymbols).toEqual(whole.dynamicSymbols);
    expect(cut.dynamicSymbols).toEqual(whole.dynamicSymbols);
    expect(cut.versionDefinitions).toEqual(whole.versionDefinitions);
    expect(cut.buildId).toEqual(whole.buildId);
    expect(cut.soname).toBe(whole.soname);
    expect(cut.notes).toEqual(whole.notes);
  });

  it("gives each symbol for its name and version, and for no other version", () => {
    expectLookups(whole);
  });

  it("gives them through each of its hash tables alone", () => {
    const tables = [C.DT_HASH, C.DT_GNU_HASH].filter((tag) => whole.dynamicValue(tag) !== undefined);
    expect(tables.length).toBeGreaterThan(0);
    for (const tag of tables) {
      const other = tag === C.DT_HASH ? C.DT_GNU_HASH : C.DT_HASH;
      const alone = new ElfFile(withoutDynamicTag(bytes, dynamicOffset(whole), other));
      expect(alone.hashTable?.kind).toBe(tag === C.DT_HASH ? "sysv" : "gnu");
      expect(alone.loaderSymbols).toEqual(whole.dynamicSymbols);
      expectLookups(alone);
    }
  });

  function expectLookups(elf: ElfFile): void {
    const versions = new Set(whole.versionDefinitions.map(({ name }) => name));
    for (const symbol of named) {
      expect(symbol.version?.kind).toBe("defined");
      for (const version of versions) {
        const found = elf.lookup(symbol.name, version);
        expect(found).toEqual(version === symbol.version?.name ? symbol : undefined);
      }
      expect(elf.lookup(symbol.name)).toEqual(symbol);
      expect(elf.lookup(symbol.name, "LINUX_9.9")).toBeUndefined();
      expect(elf.lookup(`${symbol.name}_`)).toBeUndefined();
    }
  }
});

/** Opens a library and asks `dlvsym` and `dlsym` for each line "NAME VERSION" or "NAME"; prints offsets from its base. */
const ASK = `
import ctypes, sys
class Info(ctypes.Structure):
    _fields_ = [("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("name", ctypes.c_char_p), ("at", ctypes.c_void_p)]
libc = ctypes.CDLL(None)
for name in ("dlopen", "dlsym", "dlvsym"):
    getattr(libc, name).restype = ctypes.c_void_p
libc.dlopen.argtypes = [ctypes.c_char_p, ctypes.c_int]
libc.dlsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
libc.dlvsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
libc.dladdr.argtypes = [ctypes.c_void_p, ctypes.POINTER(Info)]
handle = libc.dlopen(sys.argv[1].encode(), 2)
assert handle
for line in open(sys.argv[2], "rb").read().split(b"\\n"):
    words = line.split(b" ")
    at = libc.dlvsym(handle, *words) if len(words) == 2 else libc.dlsym(handle, words[0])
    info = Info()
    print(at - info.base if at and libc.dladdr(at, ctypes.byref(info)) else "none")
`;

describe("dlvsym and dlsym of the C library", () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "linux-gate-lookup-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const images = imageNames.filter((name) => new ElfFile(imageBytes(name)).header.e_machine === C.EM_X86_64);
  const libraries = [...images.map(imagePath), "/lib/x86_64-linux-gnu/libm.so.6", "/lib/x86_64-linux-gnu/libz.so.1"];

  it.skipIf(!hasPython).each(libraries)("find in %s what lookup() finds", (path) => {
    const elf = new ElfFile(new Uint8Array(readFileSync(path)));
    const versions = [...elf.versionDefinitions.map(({ name }) => name), "LINUX_9.9"];
    const names = new Set(elf.dynamicSymbols.map(({ name }) => name).filter((name) => name !== ""));
    for (const symbol of elf.dynamicSymbols) if (!isComparable(symbol)) names.delete(symbol.name);
    const questions = [...names].flatMap((name) => [name, ...versions.map((version) => `${name} ${version}`)]);
    const file = join(folder, "questions");
    writeFileSync(file, questions.join("\n"));
    const answers = output("python3", "-c", ASK, path, file).trimEnd().split("\n");
    expect(answers.length).toBe(questions.length);
    const ours = questions.map((question) => {
      const [name = "", version] = question.split(" ");
      return String(elf.lookup(name, version)?.st_value ?? "none");
    });
    expect(ours).toEqual(answers);
  });

  /** Calling the C library gives the address that an indirect function chooses, and that of a thread's variable. */
  function isComparable({ type, st_shndx, st_value }: ElfSymbol): boolean {
    const placed = st_shndx !== C.SHN_UNDEF && st_value !== 0n;
    return placed && type !== C.STT_GNU_IFUNC && type !== C.STT_TLS;
  }
});
