/** Exit statuses of a program that starts another, as env(1) has them. */
export const CANNOT_SET_UP = 125;
export const CANNOT_EXECUTE = 126;
export const NOT_FOUND = 127;

/** A program was not started, or was ended before it ran an instruction of its own; the message says why. */
export class RunError extends Error {
  override readonly name = "RunError";
  /** What env(1) would exit with. */
  readonly status: typeof CANNOT_SET_UP | typeof CANNOT_EXECUTE | typeof NOT_FOUND;

  constructor(message: string, status: RunError["status"] = CANNOT_SET_UP, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
  }
}

/** Whether an error is a {@link RunError}. Told by name: a file of the program may have a class of its own. */
export function isRunError(error: unknown): error is RunError {
  return error instanceof Error && error.name === "RunError";
}
