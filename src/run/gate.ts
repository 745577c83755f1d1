import type { Decoder } from "../isa/instruction.js";
import type { HeldProgram } from "./held-program.js";
import type { MadeImage, ReplacementImage } from "./place.js";

/** What a program gets in place of what the kernel gives it. */
export type Gate =
  /** No vDSO: all its calls are system calls. */
  | { readonly kind: "none" }
  /** Another image; `base` is where. The decoder is one for its ABI. */
  | {
      readonly kind: "image";
      readonly replacement: ReplacementImage;
      readonly decoder: Decoder;
      readonly base?: bigint;
    }
  /** The kernel's own, elsewhere. */
  | { readonly kind: "moved"; readonly base: bigint }
  /** An image that is made for the one program, when it is known where everything lies. */
  | { readonly kind: "made"; readonly made: MadeImage };

/** Puts a gate in force in a held program. Throws what {@link HeldProgram} throws; the program is then to be ended. */
export async function applyGate(program: HeldProgram, gate: Gate): Promise<void> {
  await place(program, gate);
  await program.recordVector();
}

async function place(program: HeldProgram, gate: Gate): Promise<void> {
  if (gate.kind === "none") return program.hideVdso();
  // It reads images, and is loaded for those who have one.
  const { placeImage, placeMade, relocateVdso } = await import("./place.js");
  switch (gate.kind) {
    case "image":
      return placeImage(program, gate.replacement, { base: gate.base, decoder: gate.decoder });
    case "moved":
      return relocateVdso(program, gate.base);
    case "made":
      return placeMade(program, gate.made);
  }
}
