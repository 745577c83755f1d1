import { type ForgePlan, type ForgeTools, forgeImage } from "../forge/forge.js";
import { parseImage } from "../vdso/image.js";
import { type Identity, identify } from "./identity.js";
import { type SymbolRow, symbolRows } from "./symbols.js";

/** An image that was made. */
export interface ForgeResult {
  readonly bytes: Uint8Array;
  /** Address of its first byte, as linked. */
  readonly base: bigint;
  readonly identity: Identity;
  readonly symbols: readonly SymbolRow[];
}

/** Makes an image, and reads it as any other. Throws `ForgeError` where it cannot be made as it was asked for. */
export function forge(plan: ForgePlan, tools: ForgeTools): ForgeResult {
  const bytes = forgeImage(plan, tools);
  const image = parseImage(bytes);
  return { bytes, base: image.linkBase, identity: identify(image), symbols: symbolRows(image, undefined) };
}
