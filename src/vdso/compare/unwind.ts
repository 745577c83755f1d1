import { hexBytes } from "../../bytes/hex.js";
import { Reader } from "../../bytes/reader.js";
import type { ImageCode } from "./blocks.js";

/** How a rule says where its code lies: a signed 32-bit distance from itself (DW_EH_PE_pcrel | DW_EH_PE_sdata4). */
const RELATIVE = 0x1b;

/**
 * The rules for unwinding of an image (`.eh_frame`) in a form that is the same wherever code and rules were shifted:
 * one text a record, where `tokenOf` names the code at an address. `undefined` where there are none, or of a form that
 * kernels do not use.
 *
 * Source: LSB core, "Exception Frames"; DWARF 5, section 6.4.1.
 */
export function normalUnwinding(code: ImageCode, tokenOf: (address: bigint) => string): string[] | undefined {
  const { elf } = code.image;
  const section = elf.section(".eh_frame");
  if (!section) return undefined;
  const reader = new Reader(elf.sectionBytes(section), { littleEndian: elf.header.littleEndian, what: ".eh_frame" });
  const records: string[] = [];
  const relative = new Map<number, boolean>();
  for (let at = 0; at + 4 <= reader.length; ) {
    const length = reader.u32At(at);
    if (length === 0) break;
    const end = at + 4 + length;
    if (length < 4 || end > reader.length) return undefined;
    const parent = reader.u32At(at + 4);
    if (parent === 0) {
      const body = reader.bytesAt(at + 8, length - 4);
      relative.set(at, isRelative(body));
      records.push(`common ${hexBytes(body)}`);
    } else {
      // The distance back to the common part is from the field itself.
      if (relative.get(at + 4 - parent) !== true || length < 12) return undefined;
      const start = section.sh_addr + BigInt(at + 8) + BigInt(reader.i32At(at + 8));
      records.push(`${tokenOf(start)} ${hexBytes(reader.bytesAt(at + 12, length - 8))}`);
    }
    at = end;
  }
  return records;
}

/** Whether the common part of rules says that addresses are relative and narrow; its augmentation is `zR` or `zRS`. */
function isRelative(body: Uint8Array): boolean {
  const [, z, r, s] = body;
  if (z !== 0x7a || r !== 0x52) return false;
  // Behind the name: code and data alignment, return register and length of what follows, one byte each in vDSOs.
  const behind = s === 0x53 ? 5 : 4;
  return body[behind - 1] === 0 && body[behind + 4] === RELATIVE;
}
