import type { Target } from "../targets/target.js";
import { type Identity, identify } from "./identity.js";

/** An image as it was found. */
export interface DumpResult {
  readonly target: string;
  /** All bytes of the mapping, or of the file. */
  readonly bytes: Uint8Array;
  readonly base?: bigint;
  readonly identity: Identity;
  readonly notes: readonly string[];
}

/** The bytes of a target's image, as mapped: what the article's `dd` gave where the address was the same for all. */
export function dump(target: Target): DumpResult {
  return {
    target: target.name,
    bytes: target.image.bytes,
    ...(target.location && { base: target.location.base }),
    identity: identify(target.image),
    notes: target.notes,
  };
}
