import { expect, it } from "vitest";
import type { AuxvEntry } from "../../src/linux/auxv.js";
import { parseMaps } from "../../src/linux/maps.js";
import { locateVdso } from "../../src/vdso/locate.js";

const auxv = (ehdr: bigint, sysinfo?: bigint): AuxvEntry[] => [
  ...(sysinfo === undefined ? [] : [{ tag: 32, value: sysinfo }]),
  { tag: 33, value: ehdr },
];
const line = (start: string, end: string, name: string) => `${start}-${end} r-xp 00000000 00:00 0 ${name}\n`;

it("the size is that of the mapping, whatever the image says", () => {
  const found = locateVdso(auxv(0x7000n), parseMaps(line("7000", "b000", "[vdso]")));
  expect(found).toMatchObject({ base: 0x7000n, size: 0x4000, foundBy: "AT_SYSINFO_EHDR" });
});

it("a mapping that was split is one object again", () => {
  const maps = line("7000", "8000", "[vdso]") + line("8000", "9000", "[vdso]") + line("9000", "a000", "/x");
  expect(locateVdso(auxv(0x7000n), parseMaps(maps))).toMatchObject({ size: 0x2000, otherMappings: [] });
});

it("a second mapping elsewhere is told apart", () => {
  const maps = line("5000", "7000", "[vdso]") + line("9000", "b000", "[vdso]");
  const found = locateVdso(auxv(0x9000n), parseMaps(maps));
  expect(found).toMatchObject({ base: 0x9000n, size: 0x2000 });
  expect(found?.otherMappings.map(({ start }) => start)).toEqual([0x5000n]);
});

it("an emulator's vDSO has no name, and is not run together with its neighbours", () => {
  const maps = line("7000", "8000", "") + line("8000", "9000", "");
  expect(locateVdso(auxv(0x7000n), parseMaps(maps))).toMatchObject({ base: 0x7000n, size: 0x1000 });
});

it("an image may start inside a mapping", () => {
  const found = locateVdso(auxv(0x7400n), parseMaps(line("7000", "9000", "")));
  expect(found).toMatchObject({ base: 0x7400n, size: 0x1c00 });
});

it("without a vector, the name decides", () => {
  const maps = parseMaps(line("7000", "9000", "[vdso]"));
  expect(locateVdso(undefined, maps)).toMatchObject({ base: 0x7000n, foundBy: "[vdso] in maps" });
  expect(locateVdso([{ tag: 33, value: 0n }], maps)).toMatchObject({ foundBy: "[vdso] in maps" });
});

it("a process may have none", () => {
  expect(locateVdso([], parseMaps(line("7000", "9000", "/bin/cat")))).toBeUndefined();
  expect(locateVdso(auxv(0x5000n), parseMaps(line("7000", "9000", "/bin/cat")))).toBeUndefined();
  expect(locateVdso(undefined, [])).toBeUndefined();
});

it("AT_SYSINFO and the data pages are told beside it", () => {
  const maps = line("3000", "6000", "[vvar]") + line("6000", "7000", "[vvar_vclock]") + line("7000", "9000", "[vdso]");
  const found = locateVdso(auxv(0x7000n, 0x75e0n), parseMaps(maps));
  expect(found?.sysinfo).toBe(0x75e0n);
  expect(found?.dataMappings.map(({ name }) => name)).toEqual(["[vvar]", "[vvar_vclock]"]);
});
