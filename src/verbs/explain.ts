import type { Decoder } from "../isa/instruction.js";
import type { Target } from "../targets/target.js";
import { Code } from "../vdso/code.js";
import { type DataPage, dataPages, dataPagesOfImage } from "../vdso/data-pages.js";
import { Budget } from "../vdso/dataflow.js";
import { type FunctionFacts, functionFacts } from "../vdso/facts.js";
import { type Gate, type GateStep, readGate } from "../vdso/gate.js";
import type { VdsoImage } from "../vdso/image.js";
import { type Identity, identify } from "./identity.js";

/** A step of the gate with its instruction as text. */
export type GateLine = GateStep & { readonly text: string };

/** The gate with its instructions as text. */
export interface ExplainedGate extends Omit<Gate, "steps"> {
  readonly steps: readonly GateLine[];
}

/** What the code of an image does, found in its bytes. */
export interface ExplainResult {
  readonly target: string;
  readonly identity: Identity;
  /** Add to an address as linked to get that in the process. */
  readonly bias?: bigint;
  /** Address of the image's first byte: in the process, or as linked. */
  readonly base: bigint;
  /** The entry, on i386. */
  readonly gate?: ExplainedGate;
  /** By address; empty where the instructions of the ABI are not decoded. */
  readonly functions: readonly FunctionFacts[];
  readonly dataPages: readonly DataPage[];
  readonly decoded: boolean;
  readonly notes: readonly string[];
}

/** Reads the code of a target's image; without a decoder only its identity is told. */
export function explain(target: Target, decoder: Decoder | undefined): ExplainResult {
  const { image, bias } = target;
  const common = {
    target: target.name,
    identity: identify(image),
    ...(bias !== undefined && { bias }),
    base: image.linkBase + (bias ?? 0n),
    notes: target.notes,
  };
  if (!decoder) return { ...common, functions: [], dataPages: [], decoded: false };

  const code = new Code(image.elf, decoder);
  const functions = allFacts(image, code);
  const gate = readGate(image, code);
  return {
    ...common,
    ...(gate && {
      gate: {
        ...gate,
        steps: gate.steps.map((step) => ({ ...step, text: decoder.text(step.instruction, () => undefined) })),
      },
    }),
    functions,
    dataPages: dataPagesOf(target, functions),
    decoded: true,
  };
}

/** What all functions of an image do. */
export function allFacts(image: VdsoImage, code: Code): FunctionFacts[] {
  const budget = new Budget();
  return image.functions.map((one) => functionFacts(image, one, code, budget));
}

/** The pages of kernel data before a target's image: those that the process has, or those that the code reads. */
export function dataPagesOf(target: Target, facts: readonly FunctionFacts[]): DataPage[] {
  return target.location
    ? dataPages(target.location.base, target.location.dataMappings, facts)
    : dataPagesOfImage(facts);
}
