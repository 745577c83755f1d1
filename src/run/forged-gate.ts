import { createHash } from "node:crypto";
import type { ClockChange } from "../forge/clock.js";
import { ForgeError } from "../forge/error.js";
import { type ForgePlan, forgeImage } from "../forge/forge.js";
import { wayIn } from "../vdso/boot/entry.js";
import type { Mechanism } from "../vdso/gate.js";
import { CANNOT_SET_UP, RunError } from "./error.js";
import type { Gate } from "./gate.js";
import { kernelReturns, type MadePlace, type SharedTable } from "./place.js";

/** What the image that a program is given is to do. */
export interface ForgeWish {
  /** The way into the kernel (i386); the kernel's own unless said. `historical`: the article's entry, by sysenter. */
  readonly entry?: Mechanism | "historical";
  /** Where calls are counted, by number (i386): a counter of 8 bytes for each, and one for all beyond. */
  readonly count?: { readonly table: SharedTable; readonly length: number };
  /** How clocks are changed, asked when the first program is there. */
  readonly clocks?: (read: MadePlace["clock"]) => Promise<ClockChange>;
  readonly base?: bigint;
}

/**
 * A gate of our own, made for each program that gets it.
 *
 * One of i386 takes the place of the kernel's image, landing pad on landing pad, so that whoever looks for the vDSO finds
 * it. It is mapped beside where it is to lie elsewhere, or calls the kernel's functions.
 */
export function forgedGate(wish: ForgeWish): Gate {
  // It is loaded while the program is being started; that it cannot be is said when it is needed.
  const loading = import("iced-x86");
  loading.catch(() => {});
  const sha1 = (bytes: Uint8Array): Uint8Array => createHash("sha1").update(bytes).digest();
  const { base, clocks, count } = wish;
  const over = clocks === undefined && base === undefined;
  const make = async (place: MadePlace): Promise<Uint8Array> => {
    const iced = await loading;
    const plan = await planFor(wish, place, over);
    try {
      return forgeImage({ ...plan, ...(base !== undefined && { base }) }, { iced, sha1 });
    } catch (error) {
      throw error instanceof ForgeError ? new RunError(error.message, CANNOT_SET_UP, { cause: error }) : error;
    }
  };
  return {
    kind: "made",
    made: { over, ...(base !== undefined && { base }), ...(count && { table: count.table }), make },
  };
}

async function planFor({ entry, count, clocks }: ForgeWish, place: MadePlace, over: boolean): Promise<ForgePlan> {
  const { own, ownBase, ownSize } = place;
  const kernelVersion = own.kernelVersion?.code ?? 0;
  const kernel = new Map(
    own.functions.flatMap(({ name, aliases, address }) =>
      [name, ...aliases].map((one) => [one, ownBase + address - own.linkBase] as const),
    ),
  );
  const changed = clocks && { clocks: { change: await clocks(place.clock), kernel } };
  if (own.abi !== "i386") {
    if (entry === undefined && count === undefined) return { abi: "x86_64", kernelVersion, ...changed };
    throw new RunError(
      `the program is of ${own.abi}: only programs of i386 enter the kernel by an entry that can be chosen or counted`,
    );
  }
  // Beside the kernel's image a fast way comes back to that image, of which no unwinder is told: debuggers lose their way
  // there, and threads that are cancelled do not come to their cleanup.
  const usual = over ? wayIn(own, own.bytes) : undefined;
  const counters = count && place.table !== undefined && { counters: { table: place.table, length: count.length } };
  const places = over && { places: { ...kernelReturns(own), size: ownSize } };
  const common = { abi: "i386", kernelVersion, ...changed, ...counters, ...places } as const;
  if (entry === "historical") return { ...common, historical: true };
  return { ...common, entry: entry ?? usual ?? "int $0x80" };
}
