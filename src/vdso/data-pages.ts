import type { Mapping } from "../linux/maps.js";
import type { FunctionFacts } from "./facts.js";

/** What a page before the image holds. */
export type DataPageKind =
  /** In a time namespace this page has the namespace's offsets instead, and the page below the clock data itself. */
  | "clock data"
  | "clock data and random-number state"
  /** Mapped in time namespaces only, where the first page has the namespace's offsets. */
  | "system clock data (time namespaces only)"
  | "random-number state"
  /** Kept free for architectures that have such data; x86 has none. */
  | "reserved for architecture data"
  | "pvclock (KVM, Xen)"
  | "Hyper-V reference clock"
  /** One of the two above: the code alone does not tell which. */
  | "hypervisor clock"
  | "unknown";

/** One page of the data that a vDSO reads. */
export interface DataPage {
  /** Bytes before the image: -0x6000 is the sixth page before it. */
  readonly offset: bigint;
  readonly kind: DataPageKind;
  /** The mapping that the kernel lists it under, where a process was looked at. */
  readonly mapping?: string;
  /** Functions whose code reads it. */
  readonly readBy: readonly string[];
}

const PAGE = 4096n;

/** Most pages of one mapping that are listed. */
const MAX_PAGES = 64;

/** The page of the image's data that an offset lies in. */
export function pageOf(offset: bigint): bigint {
  return offset - (((offset % PAGE) + PAGE) % PAGE);
}

/**
 * The layouts of the data pages on x86, told apart by what the kernel maps and what the code reads, never by a version:
 *
 * - a mapping [vvar_vclock] (split off in Linux 6.13): clocks of hypervisors lie there; [vvar] has clock data, the page
 *   for time namespaces, random state, and room for architecture data;
 * - none, and one [vvar] of three or four pages (about 4.8 to 6.12): clock data, 128 bytes into its first page, then
 *   pvclock, Hyper-V and, in the newer ones, the page for time namespaces. Older kernels had HPET's registers there.
 *
 * Sources: arch/x86/entry/vdso/vdso-layout.lds.S and vma.c; lib/vdso/datastore.c.
 */
const SPLIT: readonly DataPageKind[] = [
  "clock data",
  "system clock data (time namespaces only)",
  "random-number state",
  "reserved for architecture data",
];
const SPLIT_VCLOCK: readonly DataPageKind[] = ["pvclock (KVM, Xen)", "Hyper-V reference clock"];
const JOINED: readonly DataPageKind[] = [
  "clock data",
  "pvclock (KVM, Xen)",
  "Hyper-V reference clock",
  "system clock data (time namespaces only)",
];

/** The data pages of an image in a process, first to last, with the functions that read each. */
export function dataPages(base: bigint, mappings: readonly Mapping[], facts: readonly FunctionFacts[]): DataPage[] {
  const split = mappings.some(({ name }) => name === "[vvar_vclock]");
  const pages: DataPage[] = [];
  for (const { start, end, name } of mappings) {
    const joined = end - start === 3n * PAGE || end - start === 4n * PAGE ? JOINED : JOINED.slice(0, 1);
    const kinds = split ? (name === "[vvar]" ? SPLIT : SPLIT_VCLOCK) : joined;
    // A page is as large as the target's own; a mapping of more than a few pages is no vDSO's.
    for (let address = start, i = 0; address < end && i < MAX_PAGES; address += PAGE, i++) {
      const offset = address - base;
      const kind = withRandomState(kinds[i] ?? "unknown", offset, facts);
      pages.push({ offset, kind, mapping: name, readBy: readers(offset, facts) });
    }
  }
  return pages;
}

/** The data pages that an image's code reads, where no process shows the mappings. */
export function dataPagesOfImage(facts: readonly FunctionFacts[]): DataPage[] {
  const offsets = new Set(facts.flatMap(pagesOf));
  return [...offsets]
    .sort((a, b) => (a < b ? -1 : 1))
    .map((offset) => ({ offset, kind: kindByUse(offset, facts), readBy: readers(offset, facts) }));
}

/** In Linux 6.11 and 6.12 the state of getrandom lies in the page of the clocks. */
function withRandomState(kind: DataPageKind, offset: bigint, facts: readonly FunctionFacts[]): DataPageKind {
  const random = facts.some((fact) => fact.function.role === "random" && pagesOf(fact).includes(offset));
  return kind === "clock data" && random ? "clock data and random-number state" : kind;
}

function pagesOf({ dataAccesses }: FunctionFacts): bigint[] {
  return dataAccesses.map(({ offset }) => pageOf(offset));
}

function readers(offset: bigint, facts: readonly FunctionFacts[]): string[] {
  return facts.filter((fact) => pagesOf(fact).includes(offset)).map((fact) => fact.function.name);
}

/**
 * What a page holds, from who reads it: the lowest page that clock functions read is the clock data; another one that
 * is read even by functions that need no counter (time, clock_getres) is the one for time namespaces; one that only
 * functions with a counter read is a hypervisor's clock.
 */
function kindByUse(offset: bigint, facts: readonly FunctionFacts[]): DataPageKind {
  const users = facts.filter((fact) => pagesOf(fact).includes(offset));
  if (users.every((fact) => fact.function.role === "random")) return "random-number state";
  const clocks = users.filter((fact) => fact.function.role === "clock");
  if (clocks.length === 0) return "unknown";
  const [first] = facts
    .filter((fact) => fact.function.role === "clock")
    .flatMap(pagesOf)
    .sort((a, b) => (a < b ? -1 : 1));
  if (offset === first) return withRandomState("clock data", offset, facts);
  return clocks.some(({ processorReads }) => processorReads.length === 0)
    ? "system clock data (time namespaces only)"
    : "hypervisor clock";
}
