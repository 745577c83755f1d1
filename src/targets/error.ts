/** A target cannot serve what was asked of it: it names no process or file, or has no vDSO. */
export class TargetError extends Error {
  override readonly name = "TargetError";
}
