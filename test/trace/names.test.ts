import { describe, expect, it } from "vitest";
import { SHN_UNDEF, STT_FUNC } from "../../src/elf/constants.js";
import { ElfFile } from "../../src/elf/file.js";
import { functionFinder } from "../../src/measure/trace/names.js";
import { imageBytes } from "../support/images.js";

describe("functionFinder()", () => {
  it.each(["amd64__EPYC__amd64", "amd64__EPYC__i386"])(
    "names each function from its first byte to its last: %s",
    (name) => {
      const elf = new ElfFile(imageBytes(name));
      const find = functionFinder(elf);
      const functions = elf.dynamicSymbols.filter(
        ({ type, st_shndx, st_size }) => type === STT_FUNC && st_shndx !== SHN_UNDEF && st_size > 0n,
      );
      expect(functions.length).toBeGreaterThan(4);
      for (const { st_value, st_size } of functions) {
        const first = functions.find((one) => one.st_value === st_value);
        // The image is linked at 0, its file as it is in memory.
        expect(find(Number(st_value))).toBe(`${first?.name}+0x0`);
        expect(find(Number(st_value + st_size) - 1)).toBe(`${first?.name}+0x${(st_size - 1n).toString(16)}`);
      }
      expect(find(0)).toBeUndefined();
      expect(find(1 << 30)).toBeUndefined();
    },
  );
});
