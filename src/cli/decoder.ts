import type { Decoder } from "../isa/instruction.js";
import { startQuickly } from "../isa/x86/load.js";
import type { Abi } from "../vdso/abi.js";
import { decoderFor } from "../verbs/decoder.js";

/** As `decoderFor`, for a process that ends after a few thousand instructions. */
export function quickDecoderFor(abi: Abi): Promise<Decoder | undefined> {
  startQuickly();
  return decoderFor(abi);
}
