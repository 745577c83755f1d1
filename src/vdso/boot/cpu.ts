import { FormatError } from "../../bytes/error.js";

/** A processor as a kernel sees it at boot. */
export interface Cpu {
  /** As messages name it. */
  readonly name: string;
  readonly machine: "x86" | "arm";
  /** The vendor's twelve letters (x86). */
  readonly vendor?: string;
  readonly family?: number;
  readonly model?: number;
  readonly stepping?: number;
  /** As /proc/cpuinfo names them. */
  readonly flags: ReadonlySet<string>;
  /**
   * The flags are those that a booted kernel shows: its command line and its own corrections have already taken some
   * away and put some there.
   */
  readonly booted: boolean;
}

/** Most characters of a text that is looked at: a machine of a thousand processors writes two megabytes. */
const MAX_TEXT = 16 << 20;

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

/**
 * Reads the text of /proc/cpuinfo: the first processor in it. Only some of its lines need be there.
 *
 * ```
 * vendor_id       : AuthenticAMD
 * cpu family      : 23
 * model           : 1
 * stepping        : 2
 * flags           : fpu vme de pse tsc msr …
 * ```
 *
 * On arm64 the line `Features` has the flags. Throws `FormatError` where there is neither that nor `flags`.
 */
export function parseCpuinfo(text: string, name?: string): Cpu {
  const fields = new Map<string, string>();
  for (const line of text.slice(0, MAX_TEXT).split("\n")) {
    const colon = line.indexOf(":");
    if (colon < 0) continue;
    const key = line.slice(0, colon).trim();
    if (fields.has(key)) {
      // The next processor, which the kernel does not ask.
      if (key === "processor") break;
      continue;
    }
    // A vendor may begin and end with spaces, of which the kernel writes one of its own.
    fields.set(key, line.slice(colon + 1).replace(/^[ \t]|\r$/g, ""));
  }
  const flags = fields.get("flags") ?? fields.get("Features");
  if (flags === undefined) {
    throw new FormatError("Cannot read the text of /proc/cpuinfo: it has neither flags nor Features", 1);
  }
  const vendor = fields.get("vendor_id");
  const family = numberOf(fields.get("cpu family")?.trim());
  const model = numberOf(fields.get("model")?.trim());
  const stepping = numberOf(fields.get("stepping")?.trim());
  const title = fields.get("model name")?.trim();
  return {
    name: name ?? (title ? title : "the processor described"),
    machine: fields.has("flags") ? "x86" : "arm",
    ...(vendor !== undefined && { vendor: vendorName(vendor) }),
    ...(family !== undefined && { family }),
    ...(model !== undefined && { model }),
    ...(stepping !== undefined && { stepping }),
    flags: new Set(flags.split(/\s+/).filter((flag) => flag !== "")),
    booted: true,
  };
}

/** Zhaoxin's vendor has spaces around it, which a text that was edited may have lost. */
function vendorName(text: string): string {
  const trimmed = text.trim();
  return trimmed === "Shanghai" ? "  Shanghai  " : trimmed;
}

/** A short name of a vendor for sentences: `GenuineIntel` stays, spaces go. */
export function vendorWords(vendor: string | undefined): string {
  return vendor === undefined || vendor.trim() === "" ? "an unknown vendor" : vendor.trim();
}
