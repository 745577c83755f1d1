import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { explainMapping, mappingAt, parseMaps, parseMapsLine } from "../../src/linux/maps.js";

describe("a line of maps", () => {
  it("is read field by field", () => {
    const line = "7ffd1b5f2000-7ffd1b5f4000 r-xp 00001000 fe:00 338944                     /usr/lib/x.so";
    expect(parseMapsLine(line)).toEqual({
      start: 0x7ffd1b5f2000n,
      end: 0x7ffd1b5f4000n,
      perms: "r-xp",
      offset: 0x1000n,
      device: "fe:00",
      inode: 338944n,
      name: "/usr/lib/x.so",
    });
  });

  it("may have no name, with or without the spaces that old kernels wrote", () => {
    expect(parseMapsLine("b7e88000-b7e89000 rwxp b7e88000 00:00 0 ").name).toBe("");
    expect(parseMapsLine("b7e88000-b7e89000 rwxp b7e88000 00:00 0").name).toBe("");
  });

  it("may have a name with spaces, an escaped newline, or the mark of a deleted file", () => {
    const named = (name: string) =>
      parseMapsLine(`00400000-00401000 r--p 00000000 fe:00 12 ${" ".repeat(20)}${name}`).name;
    expect(named("/tmp/a b  c")).toBe("/tmp/a b  c");
    expect(named("/tmp/a\\012b")).toBe("/tmp/a\\012b");
    expect(named("/tmp/x (deleted)")).toBe("/tmp/x (deleted)");
    expect(named("[anon:it's mine]")).toBe("[anon:it's mine]");
  });

  it("may lie at the end of the 64-bit space", () => {
    const line = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]";
    expect(parseMapsLine(line).start).toBe(0xffffffffff600000n);
  });

  it.each([
    "",
    "not a line",
    "7f-7e r-xp 0 00:00 0",
    "1000-1000 r-xp 00000000 00:00 0",
    "1000-2000 r?xp 00000000 00:00 0",
    "10000000000000000-20000000000000000 r-xp 0 00:00 0",
    "1000-2000 r-xp 00000000 00:00",
    "1000-2000 r-xp 00000000 00:00 x",
  ])("that is none is an error that names the line: %j", (line) => {
    expect(() => parseMaps(`00400000-00401000 r--p 00000000 fe:00 12\n${line}\n`)).toThrow(FormatError);
    expect(() => parseMaps(`00400000-00401000 r--p 00000000 fe:00 12\n${line}\n`)).toThrow(/line 2/);
  });
});

it("the article's maps are read, with the vDSO at its fixed address", () => {
  const mappings = parseMaps(`08048000-0804c000 r-xp 00000000 08:03 7971106    /bin/cat
bfac3000-bfad9000 rw-p bfac3000 00:00 0          [stack]
ffffe000-fffff000 ---p 00000000 00:00 0          [vdso]
`);
  expect(mappings).toHaveLength(3);
  expect(mappingAt(mappings, 0xffffe400n)?.name).toBe("[vdso]");
  expect(mappingAt(mappings, 0xfffff000n)).toBeUndefined();
});

it("no text is no mappings", () => {
  expect(parseMaps("")).toEqual([]);
});

it("special mappings are explained, files and unnamed memory are not", () => {
  for (const name of ["[vdso]", "[vvar]", "[vvar_vclock]", "[stack]", "[heap]", "/x (deleted)", "[anon:x]"]) {
    expect(explainMapping(name)).toBeTypeOf("string");
  }
  expect(explainMapping("/bin/cat")).toBeUndefined();
  expect(explainMapping("")).toBeUndefined();
});
