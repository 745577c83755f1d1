import { EM_AARCH64 } from "../../elf/constants.js";
import type { Mechanism } from "../gate.js";
import type { VdsoImage } from "../image.js";
import { type Alternative, type AlternativeTable, alternativesOf, type Site } from "./alternatives.js";
import { wayIn } from "./entry.js";
import { type Feature, featureOf } from "./features.js";
import { releaseOf } from "./rules.js";
import { permittedVariants, type Variant } from "./variants.js";

/** What lies at one site of an image that was mapped. */
export interface SiteInForce {
  readonly address: bigint;
  readonly offset: number;
  readonly length: number;
  readonly functionName?: string;
  readonly alternatives: readonly { readonly alternative: Alternative; readonly feature: Feature }[];
  readonly bytes: Uint8Array;
  /** The alternative that lies there; absent: none does, so that what was there before stayed. */
  readonly alternative?: Alternative;
  /** NOPs that stand in it: names of tables, or `none`. */
  readonly nops?: string;
}

/** A feature as the image shows it. */
export interface SeenFeature {
  readonly feature: Feature;
  /** Absent: a later alternative hides whether it is there. */
  readonly present?: boolean;
  /** Sites that show the opposite of what most show: the image was changed, or is none of a real kernel. */
  readonly contradicted: boolean;
}

/** What a mapped image tells of the boot of its kernel. */
export interface InForce {
  /** In the order of the table. */
  readonly sites: readonly SiteInForce[];
  readonly features: readonly SeenFeature[];
  /** The way into the kernel that the entry takes. */
  readonly mechanism?: Mechanism;
  /** The image was never patched: it is as the kernel's file has it. */
  readonly pristine: boolean;
}

/** Which permitted variant lies at each site; `undefined` where the image has no alternatives that are understood. */
export function readInForce(image: VdsoImage): InForce | undefined {
  const table = alternativesOf(image);
  if (!table) return undefined;
  const sites = table.sites.map((site) => readSite(image, site, table));
  const mechanism = wayIn(image, image.bytes);
  return {
    sites,
    features: seenFeatures(sites),
    ...(mechanism && { mechanism }),
    pristine: isPristine(sites),
  };
}

function readSite(image: VdsoImage, site: Site, table: AlternativeTable): SiteInForce {
  const bytes = image.bytes.subarray(site.offset, site.offset + site.length);
  const match = permittedVariants(site, {
    recordSize: table.recordSize,
    release: releaseOf(image.kernelVersion),
    arm64: image.elf.header.e_machine === EM_AARCH64,
  }).findLast((variant: Variant) => variant.bytes.every((byte, i) => byte === bytes[i]));
  const { alternatives, ...place } = site;
  return {
    ...place,
    alternatives: alternatives.map((alternative) => ({ alternative, feature: featureOf(image, site, alternative) })),
    bytes,
    ...(match?.alternative && { alternative: match.alternative }),
    ...(match && { nops: match.nops }),
  };
}

/** What each site says of its features: the one in force is there, those that would have come later are not. */
function seenFeatures(sites: readonly SiteInForce[]): SeenFeature[] {
  const votes = new Map<number, { readonly feature: Feature; yes: number; no: number }>();
  for (const { alternatives, alternative } of sites) {
    const at = alternatives.findIndex((one) => one.alternative === alternative);
    alternatives.forEach((one, i) => {
      const vote = votes.get(one.feature.number) ?? { feature: one.feature, yes: 0, no: 0 };
      votes.set(one.feature.number, vote);
      if (i < at) return;
      const applied = i === at;
      if (applied !== one.alternative.inverted) vote.yes += 1;
      else vote.no += 1;
    });
  }
  return [...votes.values()].map(({ feature, yes, no }) => ({
    feature,
    ...(yes !== no && { present: yes > no }),
    contradicted: yes > 0 && no > 0,
  }));
}

const NOP = 0x90;

/** A run of two or more single-byte NOPs, with no alternative anywhere, is what hardly any kernel leaves. */
function isPristine(sites: readonly SiteInForce[]): boolean {
  const runs = sites.some(({ bytes }) => bytes.length > 1 && bytes.at(-1) === NOP && bytes.at(-2) === NOP);
  return runs && sites.every(({ alternative }) => alternative === undefined);
}
