import { type Invocation, UsageError } from "./command.js";

type Options = Pick<Invocation, "flag" | "text">;

function isGiven({ flag, text }: Options, name: string): boolean {
  return flag(name) || text(name) !== undefined;
}

/** Throws {@link UsageError} where an option was given with one of others that would have it ignored. */
export function refuseTogether(options: Options, name: string, others: readonly string[]): void {
  if (!isGiven(options, name)) return;
  const other = others.find((one) => isGiven(options, one));
  if (other !== undefined) throw new UsageError(`--${name} and --${other} exclude each other`);
}

/** Throws {@link UsageError} where one of these options was given without that which it belongs to. */
export function refuseWithout(options: Options, names: readonly string[], owner: string): void {
  const lone = names.find((name) => isGiven(options, name));
  if (lone !== undefined && !isGiven(options, owner)) throw new UsageError(`--${lone} goes with --${owner} only`);
}
