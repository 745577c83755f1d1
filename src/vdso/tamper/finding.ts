/** MITRE ATT&CK's number for what these findings are traces of: VDSO Hijacking. */
export const TECHNIQUE = "T1055.014";

/** How sure a finding is of harm: `high` changes what the process runs; `medium` prepares it, or removes the vDSO. */
export type Severity = "high" | "medium" | "low";

/** What was found. The names are kept: pipelines match on them. */
export type FindingId =
  /** Bytes outside of all sites differ from the reference. */
  | "bytes-changed"
  /** The start of an exported function was made a jump to elsewhere. */
  | "function-hooked"
  /** A site holds what no alternative of the image allows. */
  | "site-changed"
  /** A site holds another permitted alternative than in the other processes, for which the kernel chose once. */
  | "site-differs"
  /** A breakpoint instruction, and nobody traces the process. */
  | "breakpoint-without-tracer"
  /** Another image than the reference, told by its build-id, ABI or size. */
  | "other-image"
  /** What lies at the place of the vDSO is no vDSO image. */
  | "not-an-image"
  /** Pages of the vDSO may be written to by the process itself. */
  | "writable"
  /** The protection of the vDSO is not the kernel's `r-xp`. */
  | "protection-changed"
  /** The process has its own copy of a page: somebody wrote to it, even where the bytes are right by now. */
  | "private-page"
  /** Further mappings that the kernel made as a vDSO, or pieces of one. */
  | "second-vdso"
  /** Executable memory, without a file or of a small one, that starts with a vDSO image. */
  | "vdso-copy"
  /** The vector on the program's stack, which C libraries read, tells of another vDSO than the kernel's record of it. */
  | "stack-vector-differs"
  /** AT_SYSINFO_EHDR points to memory that the kernel did not map as a vDSO. */
  | "sysinfo-ehdr-elsewhere"
  /** The auxiliary vector tells of a vDSO, and there is none. */
  | "vdso-unmapped"
  /** A vDSO is mapped of which the auxiliary vector does not tell. */
  | "sysinfo-ehdr-missing"
  /** AT_SYSINFO is not the image's `__kernel_vsyscall`. */
  | "sysinfo-elsewhere"
  /** The data pages that belong before the image are not there, or in pieces that may be in another order. */
  | "data-missing"
  /** The data pages may be written to, or are not readable as the kernel made them. */
  | "data-protection";

/** One thing that the kernel did not put there. */
export interface Finding {
  readonly id: FindingId;
  readonly severity: Severity;
  readonly technique: typeof TECHNIQUE;
  /** Where, in the process. */
  readonly address?: bigint;
  /** Bytes from the start of the image. */
  readonly offset?: number;
  /** Bytes that it covers. */
  readonly size?: number;
  /** What the reference has there; the first {@link MAX_SHOWN} bytes. */
  readonly expected?: Uint8Array;
  readonly found?: Uint8Array;
  /** The exported function that it lies in. */
  readonly function?: string;
  /** The section, or `ELF header`, or `behind the image`, where it lies in no function. */
  readonly part?: string;
  /** Where a jump that was put there leads. */
  readonly leadsTo?: bigint;
  /** What else is to be said: the mapping's line, the value that was expected. */
  readonly detail?: string;
}

/** Bytes shown of a finding. */
export const MAX_SHOWN = 32;

/** Something that is not as the kernel made it, and known to be legitimate. */
export interface Mark {
  readonly kind: "breakpoint" | "criu" | "rr" | "valgrind" | "traced-copy" | "traced-vector" | "criu-copy";
  readonly address?: bigint;
  readonly function?: string;
  readonly detail?: string;
}

/** What is to be said of one process. */
export interface Judgement {
  readonly findings: readonly Finding[];
  readonly marks: readonly Mark[];
  /** Findings beyond those that are listed. */
  readonly more: number;
}
