import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { SHT_DYNSYM, SHT_SYMTAB } from "../../src/elf/constants.js";
import { ElfFile } from "../../src/elf/file.js";
import { boundedElf, checkSymbols, MAX_SYMBOLS } from "../../src/measure/file/bounds.js";
import { openPlain } from "../../src/measure/file/live.js";
import { imageBytes } from "../support/images.js";

describe("an ELF file of somebody else's process", () => {
  const bytes = imageBytes("amd64__EPYC__amd64");

  /** The image with 16 bits of its header changed. */
  function changed(offset: number, value: number): Uint8Array {
    const copy = bytes.slice();
    new DataView(copy.buffer).setUint16(offset, value, true);
    return copy;
  }

  it("is refused where its header does not say how many segments or sections there are", () => {
    expect(boundedElf(bytes).header.e_phnum).toBeGreaterThan(0);
    expect(() => boundedElf(changed(56, 0xffff))).toThrow(/ELF segments: there are too many/);
    expect(() => boundedElf(changed(60, 0))).toThrow(/ELF sections: there are too many/);
  });

  it("is refused where it has more symbols than any program", () => {
    const elf = new ElfFile(bytes);
    for (const type of [SHT_SYMTAB, SHT_DYNSYM] as const) expect(() => checkSymbols(elf, type)).not.toThrow();
    const sections = elf.sections.map((section) =>
      section.sh_type === SHT_DYNSYM ? { ...section, sh_size: 24 * (MAX_SYMBOLS + 1) } : section,
    );
    expect(() => checkSymbols({ bytes, header: elf.header, sections }, SHT_DYNSYM)).toThrow(
      /ELF symbols: there are too many/,
    );
  });
});

describe.skipIf(process.platform !== "linux")("openPlain()", () => {
  const scratch = mkdtempSync(join(tmpdir(), "measure-file-"));
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  it("opens a plain file, by a link too", () => {
    const path = join(scratch, "plain");
    writeFileSync(path, "content");
    symlinkSync(path, join(scratch, "link"));
    for (const name of ["plain", "link"]) {
      const file = openPlain(join(scratch, name));
      expect(readFileSync(file, "utf8")).toBe("content");
      closeSync(file);
    }
  });

  it("opens no pipe, whose other end nobody has, no device and no folder", () => {
    const pipe = join(scratch, "pipe");
    expect(spawnSync("mkfifo", [pipe]).status).toBe(0);
    for (const path of [pipe, "/dev/zero", scratch]) expect(() => openPlain(path)).toThrow("no plain file");
    expect(() => openPlain(join(scratch, "none"))).toThrow(/ENOENT/);
  });
});
