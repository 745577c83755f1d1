import type { Decoder } from "../isa/instruction.js";
import type { Mapping } from "../linux/maps.js";
import { type Missing, type ProcessTarget, type Target, TargetError } from "../targets/target.js";
import type { VdsoImage } from "../vdso/image.js";
import type { VdsoLocation } from "../vdso/locate.js";
import { type ExplainResult, explain } from "./explain.js";
import { type SymbolRow, symbolRows } from "./symbols.js";

/** What was learnt of an image. */
export interface ReportContent {
  readonly image: VdsoImage;
  readonly explained: ExplainResult;
  readonly symbols: readonly SymbolRow[];
}

/** What the system shows of a process around its vDSO. */
export interface ReportProcess {
  readonly pid: number;
  /** All mappings, for the drawing; empty where they cannot be read. */
  readonly mappings: readonly Mapping[];
  /** Absent in a process without a vDSO. */
  readonly location?: VdsoLocation;
}

/** The article's steps for one target. */
export interface ReportPart {
  readonly target: string;
  /** Absent for a file. */
  readonly process?: ReportProcess;
  /** Absent where there is no vDSO or it cannot be read: `problem` or `missing` says why. */
  readonly content?: ReportContent;
  readonly problem?: string;
  readonly missing: readonly Missing[];
  readonly notes: readonly string[];
}

/**
 * Finds a target's vDSO, reads it and says what it is: whatever part of that can be done.
 *
 * `decoderOf` gives the decoder of an image's instructions, `undefined` where there is none.
 */
export async function report(
  target: Target,
  decoderOf: (image: VdsoImage) => Promise<Decoder | undefined>,
): Promise<ReportPart> {
  if (target.kind === "process" && target.unreadable !== undefined) {
    const process = { pid: target.process.pid, mappings: [] };
    return { target: target.name, process, problem: target.unreadable, missing: [], notes: target.notes };
  }
  const common = {
    target: target.name,
    ...(target.kind === "process" && { process: processOf(target) }),
    missing: target.kind === "process" ? target.missing : [],
    notes: target.notes,
  };
  if (common.missing.length > 0) return common;
  try {
    const { image, bias } = target;
    const explained = explain(target, await decoderOf(image));
    return { ...common, content: { image, explained, symbols: symbolRows(image, bias) } };
  } catch (error) {
    if (error instanceof TargetError || error instanceof RangeError) return { ...common, problem: error.message };
    throw error;
  }
}

function processOf(target: ProcessTarget): ReportProcess {
  if (target.missing.some(({ what }) => what === "maps")) return { pid: target.process.pid, mappings: [] };
  return {
    pid: target.process.pid,
    mappings: target.mappings,
    ...(target.location && { location: target.location }),
  };
}
