import { hex } from "../../bytes/hex.js";
import type { Mapping } from "../../linux/maps.js";
import type { VdsoLocation } from "../../vdso/locate.js";
import { type AddressBar, addressBars, type DrawnRegion } from "../address-map.js";
import { humanSize } from "../table.js";
import { html, lines, type Markup, visible } from "./markup.js";

/** What a mapping is, as the drawing's colours tell it. */
export type MappingKind = "vdso" | "data" | "program" | "library" | "heap" | "stack" | "other";

/** The kinds and what the key calls them. */
export const KIND_WORDS: Readonly<Record<MappingKind, string>> = {
  vdso: "vDSO",
  data: "its data",
  program: "program",
  library: "libraries",
  heap: "heap",
  stack: "stack",
  other: "other memory",
};

/** Lengths are in pixels; only what is along the address space is in per cent, so that text keeps its size. */
const BAR_HEIGHT = 26;
const LANE_HEIGHT = 17;
const TITLE_HEIGHT = 22;
const AXIS_HEIGHT = 18;
const WEDGE_HEIGHT = 46;
const TICK_WIDTH = 2;

/** Below this part of the width a mapping may be too narrow to be seen, and gets a mark. */
const NARROW = 0.005;
/** Mappings of one kind that are nearer than this part of the width are drawn as one. */
const NEAR = 0.0005;
/** Labels of mappings around the vDSO, besides its own. */
const MAX_NEIGHBOURS = 4;
/** Longest name in a label, in characters. */
const MAX_LABEL = 26;
/** Mappings around the vDSO that are still told apart by name. */
const MAX_NAMED = 500;
/** Left of this part of the width a label stands to the right of its line. */
const TURN = 0.6;
/** Width that labels are placed for, in pixels: that of the drawing on a small telephone. */
const NARROWEST = 320;
/** Width of a character in a label, in pixels, or somewhat more. */
const CHARACTER_WIDTH = 7.5;

/** Neighbouring mappings, drawn as one. */
interface Cluster {
  readonly kind: MappingKind;
  readonly names: readonly string[];
  readonly count: number;
  readonly start: bigint;
  readonly end: bigint;
  /** Bytes mapped between start and end. */
  readonly size: bigint;
  readonly perms: string;
  readonly from: number;
  readonly to: number;
}

interface Label {
  readonly at: number;
  readonly kind: MappingKind;
  readonly text: string;
}

const LIBRARY = /\.so(\.[^/]*)?$/;
/** Names like those of files under which the kernel lists memory without one; code in it was made by the program. */
const NO_FILE = /^\/(memfd:|dev\/|SYSV)/;

/**
 * What each mapping is. The program is the file with code that is no library; the kernel tells its own mappings by
 * name.
 */
function kinds(mappings: readonly Mapping[], location: VdsoLocation): (region: DrawnRegion) => MappingKind {
  const files = (perm: string, library: boolean) =>
    mappings
      .filter(
        ({ name, perms }) =>
          name.startsWith("/") && !NO_FILE.test(name) && perms.includes(perm) && LIBRARY.test(name) === library,
      )
      .map(({ name }) => name);
  const programs = new Set(files("x", false));
  const libraries = new Set(files("r", true));
  const ours = new Set(location.otherMappings.map(({ start }) => start));
  return ({ kind, name, start }) => {
    if (kind !== "other") return kind;
    if (ours.has(start)) return "other";
    if (name === "[heap]") return "heap";
    if (name.startsWith("[stack")) return "stack";
    if (programs.has(name)) return "program";
    return libraries.has(name) ? "library" : "other";
  };
}

/** Puts mappings of one key together where less than {@link NEAR} lies between them. */
function cluster(
  regions: readonly DrawnRegion[],
  kindOf: (region: DrawnRegion) => MappingKind,
  keyOf: (region: DrawnRegion) => string,
  permsOf: (region: DrawnRegion) => string,
): Cluster[] {
  const clusters: Cluster[] = [];
  const latest = new Map<string, number>();
  for (const region of regions) {
    const key = keyOf(region);
    const at = latest.get(key);
    const before = at === undefined ? undefined : (clusters[at] as Cluster);
    const { start, end, from, to, name } = region;
    const [perms, size] = [permsOf(region), end - start];
    if (at !== undefined && before && from - before.to < NEAR) {
      clusters[at] = {
        ...before,
        names:
          before.names.includes(name) || before.names.length >= MAX_NEIGHBOURS ? before.names : [...before.names, name],
        count: before.count + 1,
        size: before.size + size,
        perms: before.perms === perms ? perms : "",
        end,
        to,
      };
    } else {
      latest.set(key, clusters.length);
      clusters.push({ kind: kindOf(region), names: [name], count: 1, start, end, size, perms, from, to });
    }
  }
  return clusters;
}

const baseName = (name: string): string => visible(name.slice(name.lastIndexOf("/") + 1)) || "anonymous";

function shortName(name: string): string {
  const characters = [...(name.startsWith("/") ? baseName(name) : visible(name) || "anonymous")];
  return characters.length > MAX_LABEL ? `${characters.slice(0, MAX_LABEL - 1).join("")}…` : characters.join("");
}

function tooltip({ kind, names, count, start, end, size, perms }: Cluster): Markup {
  const title = names.map((name) => name || "anonymous memory").join(", ");
  return lines([
    count > names.length && count > 1 ? `${title}, … (${KIND_WORDS[kind]})` : title,
    `${hex(start)}-${hex(end)}${perms ? ` ${perms}` : ""}`,
    count === 1 ? humanSize(size) : `${count} mappings, ${humanSize(size)}`,
  ]);
}

const percent = (fraction: number): string => `${Number((fraction * 100).toFixed(4))}%`;
const middle = ({ from, to }: Cluster): number => (from + to) / 2;

/** The clusters of a bar: its box, every mapping to scale, and a mark on those that are too narrow to be seen. */
function drawBar(clusters: readonly Cluster[], y: number): Markup {
  // The vDSO last, so that nothing hides it.
  const order: readonly MappingKind[] = ["other", "program", "library", "heap", "stack", "data", "vdso"];
  const sorted = order.flatMap((kind) => clusters.filter((one) => one.kind === kind));
  return html`<rect class="space" x="0" y="${y}" width="100%" height="${BAR_HEIGHT}"/>
${sorted.map((one) => {
  const narrow = one.to - one.from < NARROW;
  const x = percent(middle(one));
  return html`<g class="region ${one.kind}"><title>${tooltip(one)}</title><rect x="${percent(one.from)}" y="${y}" width="${percent(one.to - one.from)}" height="${BAR_HEIGHT}"/>${
    narrow &&
    html`<line class="mark" x1="${x}" y1="${y}" x2="${x}" y2="${y + BAR_HEIGHT}" stroke-width="${TICK_WIDTH}"/>`
  }</g>
`;
})}`;
}

/** A label with the lane that it stands in, 0 next to the bar, and the side of its line that it stands on. */
interface PlacedLabel extends Label {
  readonly lane: number;
  readonly right: boolean;
}

/**
 * Gives each label a lane, so that none ever overlaps another however narrow the page is. A label left of {@link TURN}
 * goes to the right of its line and the others to the left; within each side the lanes are given so that no line
 * crosses a label. The sides share lanes where they cannot meet on the narrowest page.
 */
function placeLabels(labels: readonly Label[]): PlacedLabel[] {
  const sorted = [...labels].sort((a, b) => a.at - b.at);
  const toRight = sorted.filter(({ at }) => at <= TURN).reverse();
  const toLeft = sorted.filter(({ at }) => at > TURN);
  const width = ({ text }: Label) => text.length * CHARACTER_WIDTH;
  const reach = Math.max(...toRight.map((one) => one.at * NARROWEST + width(one)));
  const shared = toLeft.every((one) => one.at * NARROWEST - width(one) > reach);
  return [
    ...toRight.map((one, i) => ({ ...one, right: true, lane: i })),
    ...toLeft.map((one, i) => ({ ...one, right: false, lane: shared ? i : toRight.length + i })),
  ];
}

/** Height of the lanes of some labels. */
function lanesHeight(labels: readonly PlacedLabel[]): number {
  return (Math.max(-1, ...labels.map(({ lane }) => lane)) + 1) * LANE_HEIGHT;
}

/** `distance` keeps the first lane off the bar's edge at `y`; `direction` is -1 above a bar, 1 below it. */
function drawLabels(labels: readonly PlacedLabel[], y: number, distance: number, direction: -1 | 1): Markup {
  const laneY = (lane: number) => y + direction * (distance + (lane + 0.6) * LANE_HEIGHT);
  return html`${labels.map(({ at, kind, lane }) => {
    const x = percent(at);
    return html`<line class="leader ${kind}" x1="${x}" y1="${y}" x2="${x}" y2="${laneY(lane)}"/>
`;
  })}${labels.map(({ at, kind, text, lane, right }) => {
    return html`<text class="label ${kind}" x="${percent(at)}" dx="${right ? 5 : -5}" y="${laneY(lane) + 4}" text-anchor="${right ? "start" : "end"}">${text}</text>
`;
  })}`;
}

function drawAxis(bar: AddressBar, y: number): Markup {
  return html`<text class="axis" x="0" y="${y}">${hex(bar.start)}</text><text class="axis" x="100%" y="${y}" text-anchor="end">${hex(bar.end)}</text>
`;
}

/** One label a kind, at the cluster that holds most of it. */
function spaceLabels(clusters: readonly Cluster[]): Label[] {
  const labelled: readonly MappingKind[] = ["program", "heap", "library", "stack", "vdso"];
  return labelled.flatMap((kind) => {
    const [largest] = clusters.filter((one) => one.kind === kind).sort((a, b) => (a.size > b.size ? -1 : 1));
    if (!largest) return [];
    const program = kind === "program" ? ` ${shortName(largest.names[0] as string)}` : "";
    return [{ at: middle(largest), kind, text: `${KIND_WORDS[kind]}${program}` }];
  });
}

/** The vDSO and its data, and the largest of what lies around them. */
function zoomLabels(clusters: readonly Cluster[]): Label[] {
  const isOurs = ({ kind }: Cluster) => kind === "vdso" || kind === "data";
  const neighbours = clusters
    .filter((one) => !isOurs(one))
    .sort((a, b) => (a.size > b.size ? -1 : 1))
    .slice(0, MAX_NEIGHBOURS);
  return [...clusters.filter(isOurs).slice(0, MAX_NEIGHBOURS * 2), ...neighbours].map((one) => ({
    at: middle(one),
    kind: one.kind,
    text: `${shortName(one.names[0] as string)} ${humanSize(one.size)}`,
  }));
}

/**
 * The address space of a process as a drawing to scale: the whole of it, and below, spread out, the part around the
 * vDSO. `id` makes the ids in it unique in the page.
 *
 * It is as wide as its place. Its colours are those of the page's style sheet, by the classes of {@link MappingKind}.
 */
export function addressMapSvg(mappings: readonly Mapping[], location: VdsoLocation, id: string): Markup {
  const [space, zoom] = addressBars(mappings, location) as [AddressBar, AddressBar];
  const kindOf = kinds(mappings, location);
  const perms = new Map(mappings.map((mapping) => [mapping.start, mapping.perms]));
  const permsOf = ({ start }: DrawnRegion) => perms.get(start) ?? "";
  const inSpace = cluster(space.regions, kindOf, kindOf, permsOf);
  const few = zoom.regions.length <= MAX_NAMED;
  const inZoom = cluster(
    zoom.regions,
    kindOf,
    (region) => (region.kind === "other" ? (few ? region.name : kindOf(region)) : hex(region.start)),
    permsOf,
  );
  const above = placeLabels(spaceLabels(inSpace));
  const below = placeLabels(zoomLabels(inZoom));

  const spaceY = TITLE_HEIGHT + lanesHeight(above) + 4;
  const wedgeY = spaceY + BAR_HEIGHT;
  const zoomY = wedgeY + AXIS_HEIGHT + WEDGE_HEIGHT;
  const axisY = zoomY + BAR_HEIGHT;
  const height = axisY + AXIS_HEIGHT + lanesHeight(below) + 8;

  const span = space.end - space.start;
  const fraction = (address: bigint) => Number(((address - space.start) * 1_000_000n) / span) / 1_000_000;
  const [from, to] = [fraction(zoom.start), fraction(zoom.end)];
  const names = [...location.dataMappings, ...location.mappings].map(({ name, start, end }) => {
    return `${name || "the image"} ${hex(start)}-${hex(end)}`;
  });
  return html`<svg class="map" role="img" aria-labelledby="${id}-title ${id}-desc" width="100%" height="${height}">
<title id="${id}-title">Where the vDSO lies in the address space</title>
<desc id="${id}-desc">Two bars to scale. The first is the whole address space, ${humanSize(span)}; the second is the part of it around the vDSO, ${humanSize(zoom.end - zoom.start)} from ${hex(zoom.start)}. ${names.join("; ")}.</desc>
<text class="heading" x="0" y="14">${space.title}, ${humanSize(span)}</text>
<g class="bar-space">
${drawBar(inSpace, spaceY)}</g>
${drawLabels(above, spaceY, 0, -1)}<svg x="0" y="${wedgeY}" width="100%" height="${zoomY - wedgeY}" viewBox="0 0 1000 100" preserveAspectRatio="none"><polygon class="wedge" points="${from * 1000},0 ${to * 1000},0 1000,100 0,100"/></svg>
<line class="wedge-edge" x1="${percent(from)}" y1="${wedgeY}" x2="0" y2="${zoomY}"/><line class="wedge-edge" x1="${percent(to)}" y1="${wedgeY}" x2="100%" y2="${zoomY}"/>
${drawAxis(space, wedgeY + 13)}<text class="heading" x="50%" y="${zoomY - 14}" text-anchor="middle">${zoom.title}, ${humanSize(zoom.end - zoom.start)}</text>
<g class="bar-zoom">
${drawBar(inZoom, zoomY)}</g>
${drawLabels(below, axisY, AXIS_HEIGHT, 1)}${drawAxis(zoom, axisY + 13)}</svg>`;
}
