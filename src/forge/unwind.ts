import { Writer } from "../bytes/writer.js";
import type { ForgedFunction } from "./code.js";
import { FrameInstructions, I386_REGISTERS, signed, unsigned, X86_64_REGISTERS } from "./dwarf.js";

/** DW_EH_PE_*: how addresses are written. Source: Linux Standard Base, "DWARF Exception Header Encoding". */
const PCREL_SDATA4 = 0x1b;
const DATAREL_SDATA4 = 0x3b;
const UDATA4 = 0x03;

/** Bytes of a `.eh_frame_hdr` before its table, and of a row. */
const HDR_SIZE = 12;
const HDR_ROW = 8;

/** Where an unwind table lies, and what it is of. */
interface Places {
  readonly class: 32 | 64;
  /** Address of the `.eh_frame`. */
  readonly ehFrame: bigint;
  /** Address of the `.text`. */
  readonly text: bigint;
}

/** A `.eh_frame`, and the address of each function's description with that of its first byte of code. */
export interface EhFrame {
  readonly bytes: Uint8Array;
  readonly rows: readonly { readonly code: bigint; readonly description: bigint }[];
}

/**
 * The unwind tables of functions: those of signal returns stand apart, under an augmentation that has an `S`. Sizes do
 * not depend on the addresses.
 *
 * Source: Linux Standard Base, "The .eh_frame section".
 */
export function buildEhFrame(functions: readonly ForgedFunction[], places: Places): EhFrame {
  const out = new Writer();
  const rows: { code: bigint; description: bigint }[] = [];
  for (const signal of [false, true]) {
    const group = functions.filter(({ plan }) => plan.signal === signal);
    if (group.length === 0) continue;
    const common = out.length;
    entry(out, places, commonInformation(places, signal));
    for (const one of group) {
      // See assembleText() for the byte in front of a signal return.
      const start = one.start - (signal ? 1 : 0);
      const code = places.text + BigInt(start);
      const description = places.ehFrame + BigInt(out.length);
      rows.push({ code, description });
      const inner = new Writer();
      // Both distances are from the field itself: the second and the third word of the entry.
      inner.u32(out.length + 4 - common).u32(relative(code, description + 8n));
      inner
        .u32(one.end - start)
        .u8(0)
        .raw(changes(one, start));
      entry(out, places, inner);
    }
  }
  return { bytes: out.finish(), rows };
}

/** Writes an entry behind its length, filled up with DW_CFA_nop (zeros). */
function entry(out: Writer, places: Places, inner: Writer): void {
  const word = places.class / 8;
  const size = Math.ceil((4 + inner.length) / word) * word;
  const end = out.length + size;
  out
    .u32(size - 4)
    .raw(inner.finish())
    .padTo(end);
}

function commonInformation(places: Places, signal: boolean): Writer {
  const word = places.class / 8;
  const { stack, returnAddress } =
    places.class === 64
      ? { stack: X86_64_REGISTERS.rsp, returnAddress: X86_64_REGISTERS.rip }
      : { stack: I386_REGISTERS.esp, returnAddress: I386_REGISTERS.eip };
  const inner = new Writer();
  inner
    .u32(0)
    .u8(1)
    .cstring(signal ? "zRS" : "zR");
  inner.raw(unsigned(1)).raw(signed(-word)).u8(returnAddress).raw(unsigned(1)).u8(PCREL_SDATA4);
  // At a function's first instruction the return address is the last word on the stack. In a signal's frame all is
  // said by the functions themselves.
  if (!signal) inner.raw(new FrameInstructions().cfa(stack, word).saved(returnAddress, 1).bytes);
  return inner;
}

/** The call frame instructions of a function; what holds at its first one holds from `start` on. */
function changes(one: ForgedFunction, start: number): Uint8Array {
  const frame = new FrameInstructions();
  let at = start;
  for (const { at: from, instructions } of one.frame) {
    if (from > one.start) {
      frame.advance(from - at);
      at = from;
    }
    frame.append(instructions);
  }
  return frame.bytes;
}

/** Size of {@link buildEhFrameHdr}'s result, in bytes. */
export function ehFrameHdrSize(functions: number): number {
  return HDR_SIZE + functions * HDR_ROW;
}

/** The table by which an unwinder finds a function's description: sorted by address. */
export function buildEhFrameHdr({ rows }: EhFrame, address: bigint, ehFrame: bigint): Uint8Array {
  const out = new Writer();
  out.u8(1).u8(PCREL_SDATA4).u8(UDATA4).u8(DATAREL_SDATA4);
  out.u32(relative(ehFrame, address + 4n)).u32(rows.length);
  for (const { code, description } of [...rows].sort((a, b) => (a.code < b.code ? -1 : 1))) {
    out.u32(relative(code, address)).u32(relative(description, address));
  }
  return out.finish();
}

/** A distance as four bytes, two's complement. */
function relative(to: bigint, from: bigint): number {
  return Number(BigInt.asUintN(32, to - from));
}
