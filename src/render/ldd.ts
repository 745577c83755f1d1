import type { ResolvedObject } from "../linux/ldso/types.js";
import type { LinkMapObject } from "../linux/link-map.js";
import type { LddResult, LoadedResult } from "../verbs/ldd.js";
import { visible } from "./visible.js";

const VIRTUAL = "virtual: mapped by the kernel, no file";

/** What is told of a program's libraries beside their paths. */
export interface LddTextOptions {
  /** By which rule each was found. */
  readonly rules?: boolean;
}

function objectLine(object: ResolvedObject, options: LddTextOptions = {}): string {
  return visible(objectWords(object, options));
}

function objectWords({ name, path, kind, error, foundBy }: ResolvedObject, { rules = false }: LddTextOptions): string {
  const rule = rules && foundBy !== undefined ? ` (${foundBy})` : "";
  const trouble = `${rule}${error === undefined ? "" : ` (${error})`}`;
  switch (kind) {
    case "virtual":
      return `${name} (${VIRTUAL})`;
    case "missing":
      return `${name} => not found`;
    case "library":
    case "interpreter":
      return path === undefined || path === name ? `${name}${trouble}` : `${name} => ${path}${trouble}`;
  }
}

/** The lines below a program's name, as ldd prints them but for the addresses, which only a running process has. */
function programLines(result: LddResult, options: LddTextOptions = {}): string[] {
  switch (result.kind) {
    case "unreadable":
      return [];
    case "static":
    case "not-elf":
      return ["\tnot a dynamic executable"];
    case "static-pie":
      return ["\tstatically linked"];
    case "dynamic":
      if (result.objects.length === 0 && result.status === 0) return ["\tstatically linked"];
      return result.objects.map((object) => `\t${objectLine(object, options)}`);
  }
}

function text(blocks: readonly { readonly title: string; readonly lines: readonly string[] }[]): string {
  const titled = blocks.length > 1;
  return blocks
    .flatMap(({ title, lines }) => [...(titled ? [`${visible(title)}:`] : []), ...lines])
    .map((line) => `${line}\n`)
    .join("");
}

/**
 * What ldd prints to standard output for these programs: `NAME => PATH` a line, under `PROGRAM:` where there are several.
 */
export function lddText(results: readonly LddResult[], options: LddTextOptions = {}): string {
  return text(results.map((result) => ({ title: result.program, lines: programLines(result, options) })));
}

/** The problems of these programs, a line each, for standard error. */
export function lddProblems(results: readonly LddResult[]): string[] {
  return results.flatMap(({ program, problems }) =>
    problems.map(({ message }) => visible(message.startsWith(program) ? message : `${program}: ${message}`)),
  );
}

/** Who needs whom: each object below the first that asks for it, and as a reference below the others. */
export function lddTree(results: readonly LddResult[]): string {
  return text(results.map((result) => ({ title: result.program, lines: treeLines(result) })));
}

function treeLines(result: LddResult): string[] {
  if (result.objects.length === 0) return programLines(result);
  const children = new Map<string, ResolvedObject[]>();
  const roots: ResolvedObject[] = [];
  for (const object of result.objects) {
    // The virtual object and preloaded ones are asked for by no other object.
    if (object.neededBy.length === 0 || object.foundBy === "preload") roots.push(object);
    for (const name of new Set(object.neededBy)) {
      const below = children.get(name);
      if (below) below.push(object);
      else children.set(name, [object]);
    }
  }
  // The program goes by the path that the dynamic linker was given.
  const program = children.get(result.program) ?? children.get(`./${result.program}`) ?? [];
  const lines: string[] = [];
  const shown = new Set<ResolvedObject>();
  const stack = [...roots, ...program].reverse().map((object) => ({ object, depth: 1 }));
  for (let next = stack.pop(); next; next = stack.pop()) {
    const { object, depth } = next;
    const below = children.get(object.name) ?? [];
    const again = shown.has(object) && below.length > 0;
    lines.push(`${"\t".repeat(depth)}${objectLine(object)}${again ? " (see above)" : ""}`);
    if (shown.has(object)) continue;
    shown.add(object);
    for (const child of below.toReversed()) stack.push({ object: child, depth: depth + 1 });
  }
  return lines;
}

const address = (value: bigint, wide: boolean) => `0x${value.toString(16).padStart(wide ? 16 : 8, "0")}`;

/** What processes have loaded, in link-map order, each with its address, as ldd writes it. */
export function loadedText(results: readonly LoadedResult[]): string {
  return text(
    results.map((result) => ({
      title: result.program === undefined ? String(result.pid) : `${result.pid} ${result.program}`,
      lines: loadedLines(result),
    })),
  );
}

function loadedLines({ kind, objects }: LoadedResult): string[] {
  const wide = objects.some(({ dynamic }) => dynamic > 0xffff_ffffn);
  const lines = objects.filter((object) => object.kind !== "program").map((object) => loadedLine(object, wide));
  switch (kind) {
    case "static":
      return ["\tstatically linked", ...lines];
    case "not-started":
      return ["\tthe dynamic linker has not made its list yet"];
    case "dynamic":
      return lines;
  }
}

function loadedLine({ name, kind, start, bias, namespace }: LinkMapObject, wide: boolean): string {
  const where = address(start ?? bias, wide);
  const space = namespace === 0 ? "" : ` (namespace ${namespace})`;
  return `\t${visible(name)} (${where})${kind === "virtual" ? ` (${VIRTUAL})` : ""}${space}`;
}
