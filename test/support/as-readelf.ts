import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { Reader } from "../../src/bytes/reader.js";
import * as C from "../../src/elf/constants.js";
import { ElfFile } from "../../src/elf/file.js";
import { type Note, readNotes } from "../../src/elf/note.js";
import type { Section } from "../../src/elf/section.js";
import type { ElfSymbol } from "../../src/elf/symbol.js";
import { type ReadelfFacts, readelf, sectionFlagLetters, sectionTypeName, symbolWords } from "./readelf.js";

/**
 * Expects that a file is read as readelf reads it: header, segments, sections, dynamic section, symbols, versions and
 * notes.
 */
export function expectAsReadelf(path: string): void {
  const facts = readelf(path);
  const elf = new ElfFile(new Uint8Array(readFileSync(path)));
  compareHeader(elf, facts);
  expect(
    elf.segments.map((segment) => ({
      type: segment.p_type,
      offset: segment.p_offset,
      vaddr: segment.p_vaddr,
      paddr: segment.p_paddr,
      filesz: segment.p_filesz,
      memsz: segment.p_memsz,
      flags: segment.p_flags,
      align: segment.p_align,
    })),
  ).toEqual(facts.segments);
  compareSections(elf, facts);
  compareDynamic(elf, facts);
  compareSymbols(elf, facts);
  compareVersions(elf, facts);
  compareNotes(elf, facts);
}

function compareHeader({ header }: ElfFile, { header: facts }: ReadelfFacts): void {
  expect(`ELF${header.class}`).toBe(facts.Class);
  expect(facts.Data).toBe(`2's complement, ${header.littleEndian ? "little" : "big"} endian`);
  expect(header.e_type).toBe({ REL: 1, EXEC: 2, DYN: 3, CORE: 4 }[facts.Type?.split(" ")[0] as "REL"]);
  expect(header.abiversion).toBe(Number(facts["ABI Version"]));
  expect(header.e_version).toBe(Number(facts.Version));
  expect(header.e_entry).toBe(BigInt(facts["Entry point address"] as string));
  const numbers = {
    "Start of program headers": header.e_phoff,
    "Start of section headers": header.e_shoff,
    Flags: header.e_flags,
    "Size of this header": header.e_ehsize,
    "Size of program headers": header.e_phentsize,
    "Number of program headers": header.e_phnum,
    "Size of section headers": header.e_shentsize,
    "Number of section headers": header.e_shnum,
    "Section header string table index": header.e_shstrndx,
  };
  const said = Object.keys(numbers).map((key) => [key, Number(/^\w+/.exec(facts[key] ?? "")?.[0])]);
  expect(Object.fromEntries(said)).toEqual(numbers);
}

function compareSections(elf: ElfFile, { sections: facts }: ReadelfFacts): void {
  const ours = elf.sections.map((section, i) => ({
    name: section.name,
    type: sectionTypeName(section.sh_type) ?? facts[i]?.type,
    addr: section.sh_addr,
    offset: section.sh_offset,
    size: section.sh_size,
    entsize: section.sh_entsize,
    flags: sectionFlagLetters(section.sh_flags),
    link: section.sh_link,
    info: section.sh_info,
    align: Number(section.sh_addralign),
  }));
  expect(ours).toEqual(facts.map((section) => ({ ...section, flags: section.flags.replace(/[lop]/g, "") })));
}

function compareDynamic(elf: ElfFile, { dynamic: facts }: ReadelfFacts): void {
  // readelf shows the DT_NULL that ends the table.
  expect(elf.dynamic.map(({ d_tag }) => d_tag)).toEqual(facts.slice(0, elf.dynamic.length).map(({ tag }) => tag));
  expect(facts.slice(elf.dynamic.length).map(({ tag }) => tag)).toEqual(facts.length > 0 ? [C.DT_NULL] : []);
  elf.dynamic.forEach(({ d_val }, i) => {
    const text = facts[i]?.text ?? "";
    if (/^(0x[0-9a-f]+|\d+)( \(bytes\))?$/.test(text)) expect(d_val).toBe(BigInt(text.split(" ")[0] as string));
  });
  const strings = (label: string) =>
    facts.filter(({ text }) => text.startsWith(label)).map(({ text }) => text.slice(label.length).slice(1, -1));
  expect(elf.needed).toEqual(strings("Shared library: "));
  expect(elf.soname).toBe(strings("Library soname: ")[0]);
}

function compareSymbols(elf: ElfFile, { symbols: facts }: ReadelfFacts): void {
  expect(elf.dynamicSymbols.map((symbol) => symbolFacts(elf, symbol))).toEqual(facts.get(".dynsym") ?? []);
  const withoutVersions = elf.symbols.map(({ version: _, ...symbol }) => symbolFacts(elf, symbol));
  expect(withoutVersions).toEqual(facts.get(".symtab") ?? []);
}

/** A symbol in the words of readelf. */
export function symbolFacts(elf: ElfFile, symbol: ElfSymbol) {
  return {
    value: symbol.st_value,
    size: symbol.st_size,
    type: symbolWords.type[symbol.type],
    bind: symbolWords.bind[symbol.bind],
    visibility: symbolWords.visibility[symbol.st_other & 3],
    section: symbolWords.section(symbol.st_shndx),
    name: Buffer.from(symbolName(elf, symbol), "latin1").toString(),
  };
}

function symbolName(elf: ElfFile, symbol: ElfSymbol): string {
  // readelf names the symbol of a section after it.
  if (symbol.type === C.STT_SECTION && symbol.name === "") return elf.sections[symbol.st_shndx]?.name ?? "";
  const { version } = symbol;
  // The symbol that bears the name of a version is not written twice.
  if (!version || version.kind === "base" || version.name === symbol.name) return symbol.name;
  const isDefault = version.kind === "defined" && !version.hidden;
  return `${symbol.name}${isDefault ? "@@" : "@"}${version.name}`;
}

function compareVersions(elf: ElfFile, facts: ReadelfFacts): void {
  expect(
    elf.versionDefinitions.map(({ vd_flags, vd_ndx, name, parents }) => ({
      flags: ["none", "BASE", "WEAK", "BASE | WEAK"][vd_flags],
      index: vd_ndx,
      name,
      parents,
    })),
  ).toEqual(facts.definitions);
  expect(elf.versionNeeds.map(({ file, name, vna_other }) => ({ file, name, version: vna_other }))).toEqual(
    facts.needs,
  );
}

function compareNotes(elf: ElfFile, { notes: facts }: ReadelfFacts): void {
  const written = (notes: readonly Note[]) => notes.map(({ name, desc }) => ({ owner: name, size: desc.length }));
  const notesOf = (section: Section) => {
    const reader = new Reader(elf.sectionBytes(section), { littleEndian: elf.header.littleEndian });
    return readNotes(reader, Number(section.sh_addralign));
  };
  const sections = elf.sections.filter(({ sh_type }) => sh_type === C.SHT_NOTE);
  expect(written(sections.flatMap(notesOf))).toEqual(facts.map(({ owner, size }) => ({ owner, size })));
  const hex = facts.map(({ text }) => /Build ID: (\w+)/.exec(text)?.[1]).find((id) => id !== undefined);
  expect(elf.buildId && Buffer.from(elf.buildId).toString("hex")).toBe(hex);

  // Segments have the notes that are loaded, though not always in the order of the sections.
  if (!elf.segments.some(({ p_type }) => p_type === C.PT_NOTE)) return;
  const loaded = sections.filter(({ sh_flags }) => (sh_flags & BigInt(C.SHF_ALLOC)) !== 0n).flatMap(notesOf);
  const sorted = (notes: readonly Note[]) =>
    written(notes)
      .map((note) => JSON.stringify(note))
      .sort();
  expect(sorted(elf.notes)).toEqual(sorted(loaded));
}
