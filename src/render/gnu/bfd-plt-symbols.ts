import { Reader } from "../../bytes/reader.js";
import * as C from "../../elf/constants.js";
import type { ElfFile } from "../../elf/file.js";
import type { Section } from "../../elf/section.js";
import type { BfdRelocation } from "./bfd-relocation.js";
import type { BfdSymbol } from "./bfd-symbol.js";

const PLT_SECTIONS: readonly string[] = [".plt", ".plt.got", ".plt.sec", ".plt.bnd"];

/** Entries of x86 linkage tables end with the jump, or with what a first call needs behind it. */
const LONG_ENTRY = 16;
const SHORT_ENTRY = 8;

/** The jump of one entry: the address of the place that holds its destination, and the size of the entry. */
function entryAt(
  reader: Reader,
  at: number,
  section: Section,
  bits: 32 | 64,
  global: bigint,
): { slot: bigint; size: number } | undefined {
  let jump = at;
  // endbr64, endbr32
  const marked = at + 4 <= reader.length && (reader.u32At(at) & 0xfeffffff) >>> 0 === 0xfa1e0ff3;
  if (marked) jump += 4;
  if (jump < reader.length && reader.u8At(jump) === 0xf2) jump += 1;
  if (jump + 6 > reader.length || reader.u8At(jump) !== 0xff) return undefined;
  const form = reader.u8At(jump + 1);
  const value = reader.i32At(jump + 2);
  const long = marked || jump > at || (jump + 6 < reader.length && reader.u8At(jump + 6) === 0x68);
  const size = long ? LONG_ENTRY : SHORT_ENTRY;
  if (form === 0x25 && bits === 64) return { slot: section.sh_addr + BigInt(jump + 6 + value), size };
  if (form === 0x25) return { slot: BigInt(value >>> 0), size };
  if (form === 0xa3 && bits === 32) return { slot: BigInt.asUintN(32, global + BigInt(value)), size };
  return undefined;
}

/**
 * The symbols `name@plt` that binutils makes up for the entries of the linkage tables of a dynamically linked x86
 * file: of each entry, the symbol whose address the dynamic linker puts where the entry jumps through.
 */
export function pltSymbols(elf: ElfFile, relocations: readonly BfdRelocation[]): BfdSymbol[] {
  const { e_machine } = elf.header;
  if ((e_machine !== C.EM_386 && e_machine !== C.EM_X86_64) || relocations.length === 0) return [];
  const bits = e_machine === C.EM_386 ? 32 : 64;
  const global = (elf.section(".got.plt") ?? elf.section(".got"))?.sh_addr ?? 0n;
  const bySlot = new Map(relocations.map((relocation) => [relocation.address, relocation]));
  const symbols: BfdSymbol[] = [];
  for (const name of PLT_SECTIONS) {
    const section = elf.section(name);
    if (!section || section.sh_type === C.SHT_NOBITS) continue;
    const reader = new Reader(elf.sectionBytes(section), { what: `ELF section ${name}` });
    for (let at = 0; at < reader.length; ) {
      const entry = entryAt(reader, at, section, bits, global);
      const relocation = entry && bySlot.get(entry.slot);
      if (relocation) symbols.push(pltSymbol(relocation, section, at));
      at += entry?.size ?? LONG_ENTRY;
    }
  }
  return symbols;
}

function pltSymbol({ symbol, addend }: BfdRelocation, section: Section, at: number): BfdSymbol {
  return {
    name: `${symbol?.name ?? "*ABS*"}${addend === 0n ? "" : `+0x${addend.toString(16)}`}@plt`,
    section,
    sectionName: section.name,
    value: section.sh_addr + BigInt(at),
    size: 0n,
    other: 0,
    flags: new Set(["function", "global", "synthetic"]),
  };
}
