import { paddedHex } from "../../bytes/hex.js";
import * as C from "../../elf/constants.js";
import type { ElfFile } from "../../elf/file.js";
import { type BfdSymbol, dynamicSymbols } from "./bfd-symbol.js";
import { bfdTarget } from "./bfd-target.js";
import type { BfdVersion } from "./bfd-version.js";

/**
 * What `objdump -T FILE` of binutils 2.40 prints to its standard output for a file named `fileName`.
 *
 * As objdump, it goes by the section headers alone: where a shared library has none, the text ends after its first
 * line, and a file without a table of dynamic symbols has "no symbols". Throws `FormatError` where a table that it
 * needs is malformed.
 */
export function gnuDynamicSymbols(elf: ElfFile, fileName: string): string {
  const head = `\n${fileName}:     file format ${bfdTarget(elf)}\n\n`;
  const symbols = dynamicSymbols(elf);
  if (!symbols && elf.header.e_type === C.ET_DYN) return head;
  const digits = elf.header.class / 4;
  const lines = symbols?.map((symbol) => `${line(symbol, digits)}\n`).join("");
  return `${head}DYNAMIC SYMBOL TABLE:\n${lines || "no symbols\n"}\n\n`;
}

function line(symbol: BfdSymbol, digits: number): string {
  const { name, sectionName, value, size, alignment, other, version, flags } = symbol;
  const columns = `${paddedHex(value, digits)} ${letters(flags)} ${sectionName}\t${paddedHex(alignment ?? size, digits)}`;
  return `${columns}${versionColumn(version)}${otherColumn(other)} ${name}`;
}

/** The seven columns of letters; two of them are for what ELF does not have. */
function letters(flags: BfdSymbol["flags"]): string {
  const scope = flags.has("local") ? "l" : flags.has("global") ? "g" : flags.has("unique") ? "u" : " ";
  const weak = flags.has("weak") ? "w" : " ";
  const indirect = flags.has("indirect") ? "i" : " ";
  const debugging = flags.has("debugging") ? "d" : "D";
  const kind = flags.has("function") ? "F" : flags.has("file") ? "f" : flags.has("object") ? "O" : " ";
  return `${scope}${weak}  ${indirect}${debugging}${kind}`;
}

/** With the blanks around it; hidden ones in parentheses. */
function versionColumn(version: BfdVersion | undefined): string {
  if (!version) return "";
  return version.hidden ? ` ${`(${version.name})`.padEnd(12)}` : `  ${version.name.padEnd(11)}`;
}

function otherColumn(other: number): string {
  switch (other) {
    case 0:
      return "";
    case C.STV_INTERNAL:
      return " .internal";
    case C.STV_HIDDEN:
      return " .hidden";
    case C.STV_PROTECTED:
      return " .protected";
    default:
      return ` 0x${paddedHex(other, 2)}`;
  }
}
