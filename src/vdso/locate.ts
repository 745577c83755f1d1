import { AT_SYSINFO, AT_SYSINFO_EHDR, type AuxvEntry, auxvValue } from "../linux/auxv.js";
import { type Mapping, mappingAt } from "../linux/maps.js";

/** Where the vDSO of a process lies. */
export interface VdsoLocation {
  /** Address of its ELF header. */
  readonly base: bigint;
  /** Bytes mapped, as /proc/PID/maps says: never computed from the ELF header, which may say less. */
  readonly size: number;
  /** What told the base. */
  readonly foundBy: "AT_SYSINFO_EHDR" | "[vdso] in maps";
  /** AT_SYSINFO_EHDR, where the vector has it: not the base where the object was moved away or the vector is wrong. */
  readonly sysinfoEhdr?: bigint;
  /** AT_SYSINFO: the address of the entry (i386). */
  readonly sysinfo?: bigint;
  /** The lines of /proc/PID/maps that make up the image: one, unless somebody changed the protection of a page. */
  readonly mappings: readonly Mapping[];
  /** [vvar] and its like, which the code reads. */
  readonly dataMappings: readonly Mapping[];
  /** Further mappings that the kernel calls [vdso]: CRIU leaves such. */
  readonly otherMappings: readonly Mapping[];
}

/** Names under which kernels list the data pages of a vDSO. */
const DATA_NAMES = /^\[(vvar|vvar_vclock|vdso_data)\]$/;

/**
 * Finds the vDSO in a process's own auxiliary vector and mappings.
 *
 * AT_SYSINFO_EHDR decides; the name [vdso] only where the vector says nothing (it could not be read, or a debugger
 * removed the entry) or points to where nothing is mapped (the object was moved). `undefined` where there is none
 * (`vdso=0`, or an emulator without one).
 */
export function locateVdso(
  auxv: readonly AuxvEntry[] | undefined,
  mappings: readonly Mapping[],
): VdsoLocation | undefined {
  const sysinfoEhdr = auxv && auxvValue(auxv, AT_SYSINFO_EHDR);
  const sysinfo = auxv && auxvValue(auxv, AT_SYSINFO);
  const named = mappings.filter(({ name }) => name === "[vdso]");
  const pointedTo = sysinfoEhdr ? mappingAt(mappings, sysinfoEhdr) : undefined;
  const first = pointedTo ?? named[0];
  if (!first) return undefined;

  // A run of adjacent lines of the same name is one object: mprotect splits a mapping.
  const own = [first];
  for (const mapping of mappings.slice(mappings.indexOf(first) + 1)) {
    const last = own.at(-1) as Mapping;
    if (mapping.start !== last.end || mapping.name !== first.name || first.name === "") break;
    own.push(mapping);
  }
  const base = pointedTo && sysinfoEhdr ? sysinfoEhdr : first.start;
  return {
    base,
    size: Number((own.at(-1) as Mapping).end - base),
    foundBy: pointedTo ? "AT_SYSINFO_EHDR" : "[vdso] in maps",
    ...(sysinfoEhdr !== undefined && { sysinfoEhdr }),
    ...(sysinfo !== undefined && { sysinfo }),
    mappings: own,
    dataMappings: mappings.filter(({ name }) => DATA_NAMES.test(name)),
    otherMappings: named.filter((mapping) => !own.includes(mapping)),
  };
}
