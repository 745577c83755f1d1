import type { Decoder } from "../isa/instruction.js";
import type { Abi } from "../vdso/abi.js";

/** Word sizes of the ABIs whose instructions are decoded. */
const X86_BITS: Partial<Record<Abi, 32 | 64>> = { i386: 32, x86_64: 64, x32: 64 };

/**
 * A decoder for the instructions of an ABI; `undefined` where there is none. The library that decodes is loaded by the
 * first call: that takes longer than everything else a verb does.
 */
export async function decoderFor(abi: Abi): Promise<Decoder | undefined> {
  const bits = X86_BITS[abi];
  if (bits === undefined) return undefined;
  const [{ loadIced }, { createX86Decoder }] = await Promise.all([
    import("../isa/x86/load.js"),
    import("../isa/x86/decode.js"),
  ]);
  return createX86Decoder(loadIced(), bits);
}
