import type { CallSite, Place } from "../../run/counter/site.js";
import type { TracedCall } from "./calls.js";

export type { Place } from "../../run/counter/site.js";

/** How often one place made one call. */
export interface TalliedCall extends TracedCall {
  readonly entered: Place;
  /** Absent where it is not known, and where places became too many to be told apart. */
  readonly caller?: Place;
  readonly calls: number;
}

/** Places that are told apart: a hostile program makes as many as it likes. */
const MOST_PLACES = 10_000;

const OTHERS: Place = { role: "memory", name: "", offset: 0n, inode: 0n };

/** Counts calls by what they are and where they come from; takes no more memory for more of the same. */
export class Tally {
  readonly #counts = new Map<string, { readonly tallied: Omit<TalliedCall, "calls">; calls: number }>();

  add(call: TracedCall, { entered, caller }: Pick<CallSite, "entered" | "caller">, times: number): void {
    const key = keyOf(call, entered, caller);
    const known = this.#counts.get(key);
    if (known) known.calls += times;
    else if (this.#counts.size >= MOST_PLACES && entered !== OTHERS) this.add(call, { entered: OTHERS }, times);
    else this.#counts.set(key, { tallied: { ...call, entered, ...(caller && { caller }) }, calls: times });
  }

  /** What has been counted, the most frequent first. */
  calls(): TalliedCall[] {
    return [...this.#counts.values()]
      .map(({ tallied, calls }) => ({ ...tallied, calls }))
      .sort((a, b) => b.calls - a.calls);
  }
}

function keyOf({ abi, call }: TracedCall, entered: Place, caller: Place | undefined): string {
  const place = (one: Place | undefined) => (one ? `${one.inode} ${one.offset} ${one.name}` : "");
  return [abi, call, place(entered), place(caller)].join("\n");
}
