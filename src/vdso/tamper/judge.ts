import { FormatError } from "../../bytes/error.js";
import { isElf } from "../../elf/header.js";
import { AT_SYSINFO, AT_SYSINFO_EHDR, type AuxvEntry } from "../../linux/auxv.js";
import type { Mapping } from "../../linux/maps.js";
import { parseImage, type VdsoImage } from "../image.js";
import { locateVdso, type VdsoLocation } from "../locate.js";
import { judgeBytes, type Tracer, tracerText } from "./bytes.js";
import { CRIU_JUMP_SIZE, CRIU_MARK_SIZE, criuJumps, criuMark, isComplete } from "./criu.js";
import { type Finding, type FindingId, type Judgement, type Mark, type Severity, TECHNIQUE } from "./finding.js";
import type { Difference, Reference } from "./reference.js";

/** What was seen of one process around its vDSO. */
export interface Seen {
  readonly wordSize: 4 | 8;
  /** AT_SYSINFO_EHDR and AT_SYSINFO, where the vector has them. */
  readonly sysinfoEhdr?: bigint;
  readonly sysinfo?: bigint;
  /** The vector as it stands on the program's stack; absent where it was not found there. */
  readonly stackVector?: readonly AuxvEntry[];
  /** All mappings, or those that are named as the kernel's and that at AT_SYSINFO_EHDR. */
  readonly mappings: readonly Mapping[];
  /** Memory of the process; `undefined` where it cannot be read. */
  readonly read: (address: bigint, size: number) => Uint8Array | undefined;
  /** Pages of which the process has a copy of its own; absent where the system does not tell. */
  readonly privatePages?: readonly bigint[];
  /** Executable memory that is no [vdso] and starts as a vDSO image does. */
  readonly copies?: readonly Mapping[];
  readonly tracer?: Tracer;
}

/** A mapping of data before the image, relative to the image. */
export interface DataMapping {
  readonly name: string;
  /** Bytes from the start of the image: negative. */
  readonly start: bigint;
  readonly end: bigint;
  readonly perms: string;
}

/** What processes are held against. */
export interface Standard {
  /** Images that the user named: the one that is nearest counts. */
  readonly given: readonly Reference[];
  /** The image of other processes of this ABI, which the same kernel patched in the same way. */
  readonly peer?: Reference;
  /** Where the kernel puts the data of this ABI; absent where no process shows it. */
  readonly data?: readonly DataMapping[];
  /** Whether an instruction of a reference starts at an offset; absent where they are not decoded. */
  readonly startsInstruction?: (reference: Reference, offset: number) => boolean;
}

/** Most findings that are listed of one process. */
const MAX_FINDINGS = 64;

/** The largest mapping that is read as an image. */
const MAX_IMAGE = 1 << 20;

/** Protection of the vDSO's code, as every kernel maps it. */
const CODE_PERMS = "r-xp";

/**
 * Says of a process what of its vDSO the kernel did not put there.
 *
 * A process that has no vDSO, neither mapped nor told of in its vector, gives no finding. Nothing is thrown for what the
 * process shows; only references are trusted.
 */
export function judge(seen: Seen, standard: Standard): Judgement {
  const location = locateSeen(seen);
  const stack = onStack(seen);
  if (!location) {
    const valgrind = seen.sysinfoEhdr ? valgrindMark(seen) : undefined;
    const gone = seen.sysinfoEhdr && !valgrind ? [unmapped(seen.sysinfoEhdr)] : [];
    return judgement([...stack.findings, ...gone, ...copies(seen)], [...stack.marks, ...(valgrind ? [valgrind] : [])]);
  }
  const bytes = location.size <= MAX_IMAGE ? seen.read(location.base, location.size) : undefined;
  const criu = bytes && criuProxy(seen, location, bytes, standard);
  if (criu) {
    const findings = [...stack.findings, ...criu.findings, ...protection(location), ...copies(seen)];
    return judgement(findings, [...stack.marks, criu.mark, ...privateMarks(seen, "criu-copy", CRIU_TEXT)]);
  }
  const content = judgeContent(seen, location, bytes, standard);
  const findings = [
    ...stack.findings,
    ...place(seen, location),
    ...protection(location),
    ...data(seen, location, standard),
    ...entry(seen, location, standard),
    ...content.findings,
    ...copies(seen),
  ];
  const touched = new Set(content.findings.map(({ offset }) => (offset ?? -1) >> 12));
  const own = seen.tracer
    ? { marks: privateMarks(seen, "traced-copy", tracerText(seen.tracer)), findings: [] }
    : { marks: [], findings: privateFindings(seen, location, touched) };
  return judgement([...findings, ...own.findings], [...stack.marks, ...content.marks, ...own.marks]);
}

/** The location of the vDSO among what was seen. */
export function locateSeen(seen: Pick<Seen, "sysinfoEhdr" | "sysinfo" | "mappings">): VdsoLocation | undefined {
  const auxv = [
    ...(seen.sysinfoEhdr === undefined ? [] : [{ tag: AT_SYSINFO_EHDR, value: seen.sysinfoEhdr }]),
    ...(seen.sysinfo === undefined ? [] : [{ tag: AT_SYSINFO, value: seen.sysinfo }]),
  ];
  return locateVdso(auxv, seen.mappings);
}

/** Where the kernel puts its data, from a process that is as the kernel made it. */
export function dataLayout(location: VdsoLocation): DataMapping[] {
  return location.dataMappings.map(({ name, start, end, perms }) => ({
    name,
    start: start - location.base,
    end: end - location.base,
    perms,
  }));
}

function judgement(findings: readonly Finding[], marks: readonly Mark[]): Judgement {
  return {
    findings: findings.slice(0, MAX_FINDINGS),
    marks: marks.slice(0, MAX_FINDINGS),
    more: Math.max(0, findings.length - MAX_FINDINGS),
  };
}

function finding(id: FindingId, severity: Severity, address: bigint, detail?: string): Finding {
  return { id, severity, technique: TECHNIQUE, address, ...(detail !== undefined && { detail }) };
}

function unmapped(address: bigint): Finding {
  return finding("vdso-unmapped", "medium", address, "nothing is mapped at AT_SYSINFO_EHDR");
}

/** Where valgrind's tools are linked on 64-bit and 32-bit machines, so that they are out of the way. */
const VALGRIND_BASES: readonly bigint[] = [0x58000000n, 0x38000000n];

/** `/usr/libexec/valgrind/memcheck-amd64-linux`. */
const VALGRIND_TOOL = /\/[a-z]+-(amd64|x86|arm64|arm|ppc\d\d(be|le)?|s390x|mips\d\d|nanomips|riscv64)-linux$/;

/**
 * Valgrind unmaps the vDSO of the programs that it runs, for it has to see their calls. A process whose program lies
 * where valgrind's tools do, under the name of one: that proves little, but unmapping alone does no harm.
 */
function valgrindMark({ mappings }: Seen): Mark | undefined {
  const tool = mappings.find(({ name }) => VALGRIND_TOOL.test(name));
  if (!tool || !VALGRIND_BASES.includes(tool.start)) return undefined;
  return { kind: "valgrind", address: tool.start, detail: `run by ${tool.name}` };
}

const hex = (value: bigint) => `0x${value.toString(16)}`;

function lineText({ start, end, perms, name }: Mapping): string {
  return `${hex(start)}-${hex(end)} ${perms} ${name || "(no name)"}`;
}

/** AT_SYSINFO_EHDR and the mapping that the kernel made must be one. */
function place({ sysinfoEhdr }: Seen, { base, mappings, otherMappings }: VdsoLocation): Finding[] {
  const [own] = mappings as [Mapping];
  const found: Finding[] = [];
  if (!sysinfoEhdr) {
    found.push(finding("sysinfo-ehdr-missing", "medium", base, "[vdso] is mapped, the vector does not tell of it"));
  } else if (base !== sysinfoEhdr) {
    found.push(
      finding("sysinfo-ehdr-elsewhere", "high", sysinfoEhdr, `nothing is mapped there; [vdso] lies at ${hex(base)}`),
    );
  } else if (own.name !== "[vdso]") {
    found.push(finding("sysinfo-ehdr-elsewhere", "high", base, `the memory there is ${lineText(own)}`));
  } else if (own.start !== base) {
    found.push(finding("sysinfo-ehdr-elsewhere", "high", base, `it points into ${lineText(own)}`));
  }
  return [...found, ...otherMappings.map((other) => finding("second-vdso", "medium", other.start, lineText(other)))];
}

/**
 * The program's own copy of the vector must lead where the kernel's record does. Where whoever traces the program has
 * hidden the vDSO from it, that is how some tracers see the calls that it makes.
 */
function onStack({ sysinfoEhdr, sysinfo, stackVector, tracer }: Seen): { findings: Finding[]; marks: Mark[] } {
  if (!stackVector) return { findings: [], marks: [] };
  const findings: Finding[] = [];
  const marks: Mark[] = [];
  for (const [name, tag, recorded] of [
    ["AT_SYSINFO_EHDR", AT_SYSINFO_EHDR, sysinfoEhdr],
    ["AT_SYSINFO", AT_SYSINFO, sysinfo],
  ] as const) {
    // Of several entries, C libraries take the last, others the first.
    const told = stackVector.filter((entry) => entry.tag === tag);
    const record = `the kernel's record has ${recorded === undefined ? "none" : hex(recorded)}`;
    for (const { value } of told) {
      if (value === recorded) continue;
      findings.push(finding("stack-vector-differs", "high", value, `${name} is ${hex(value)}, ${record}`));
    }
    if (told.length > 0 || recorded === undefined) continue;
    if (tracer) marks.push({ kind: "traced-vector", address: recorded, detail: `no ${name}, ${tracerText(tracer)}` });
    else findings.push(finding("stack-vector-differs", "medium", recorded, `it has no ${name}, ${record}`));
  }
  return { findings, marks };
}

function protection({ mappings }: VdsoLocation): Finding[] {
  return mappings
    .filter(({ perms }) => perms !== CODE_PERMS)
    .map((mapping) => {
      const writable = mapping.perms[1] === "w";
      const id = writable ? "writable" : "protection-changed";
      return finding(id, writable ? "high" : "medium", mapping.start, lineText(mapping));
    });
}

/** The data before the image: read-only, and, where other processes show it, in its place. */
function data({ mappings }: Seen, { base, dataMappings }: VdsoLocation, { data: wanted = [] }: Standard): Finding[] {
  const writable = dataMappings
    .filter(({ perms }) => perms[1] === "w")
    .map((mapping) => finding("data-protection", "high", mapping.start, lineText(mapping)));
  const rest = wanted.flatMap((expected): Finding[] => {
    const [start, end] = [base + expected.start, base + expected.end];
    const there = mappings.filter((one) => one.start < end && one.end > start);
    const named = there.filter(({ name }) => name === expected.name);
    const covered = named.reduce((sum, one) => sum + min(one.end, end) - max(one.start, start), 0n);
    if (covered < end - start) {
      const instead = there.find(({ name }) => name !== expected.name);
      const detail = `${expected.name} belongs at ${hex(start)}-${hex(end)}; ${instead ? `there is ${lineText(instead)}` : "nothing is mapped there"}`;
      return [finding("data-missing", "high", start, detail)];
    }
    // Kernels before 5.11 let it be cut, and nothing tells which page of the data a piece shows.
    const pieces = `${expected.name} is in ${named.length} pieces, which may be in another order`;
    return [
      ...(named.length > 1 ? [finding("data-missing", "medium", start, pieces)] : []),
      ...named
        .filter(({ perms }) => perms !== expected.perms && perms[1] !== "w")
        .map((mapping) => finding("data-protection", "medium", mapping.start, lineText(mapping))),
    ];
  });
  return [...writable, ...rest];
}

const min = (one: bigint, other: bigint) => (one < other ? one : other);
const max = (one: bigint, other: bigint) => (one > other ? one : other);

/** On i386 the C library enters the kernel through AT_SYSINFO: it must be `__kernel_vsyscall`. */
function entry({ sysinfo, wordSize }: Seen, { base }: VdsoLocation, { given, peer }: Standard): Finding[] {
  const image = wordSize === 4 ? (peer ?? given.find((one) => one.image.entry))?.image : undefined;
  if (!image?.entry) return [];
  const wanted = base + image.entry.address - image.linkBase;
  if (sysinfo === wanted) return [];
  const is = sysinfo === undefined ? "the vector has no AT_SYSINFO" : `AT_SYSINFO is ${hex(sysinfo)}`;
  return [finding("sysinfo-elsewhere", "high", sysinfo ?? wanted, `${is}, __kernel_vsyscall is at ${hex(wanted)}`)];
}

function copies({ copies: found = [] }: Seen): Finding[] {
  return found.map((mapping) => finding("vdso-copy", "medium", mapping.start, lineText(mapping)));
}

function privateMarks({ privatePages = [] }: Seen, kind: Mark["kind"], detail: string): Mark[] {
  return privatePages.map((address) => ({ kind, address, detail }));
}

function privateFindings({ privatePages = [] }: Seen, { base }: VdsoLocation, touched: ReadonlySet<number>): Finding[] {
  return privatePages
    .filter((address) => !touched.has(Number(address - base) >> 12))
    .map((address) =>
      finding("private-page", "low", address, "the bytes are right, but somebody has written to the page"),
    );
}

/** Holds the bytes against the references. */
function judgeContent(
  seen: Seen,
  location: VdsoLocation,
  bytes: Uint8Array | undefined,
  { given, peer, startsInstruction }: Standard,
): { findings: Finding[]; marks: Mark[] } {
  if (!bytes) {
    const size = `${location.size} bytes cannot be read`;
    return { findings: [finding("not-an-image", "medium", location.base, size)], marks: [] };
  }
  const bits = seen.wordSize * 8;
  const image = parsed(bytes);
  // The process's word size and what others show say which references are meant: its own image may say anything.
  const fitting = given.filter((one) => fits(one, bits, peer));
  const nearest = nearestOf(fitting, bytes, image);
  const all = [...(nearest ? [nearest] : []), ...(peer ? [{ reference: peer, difference: peer.compare(bytes) }] : [])];
  const findings: Finding[] = [];
  const marks: Mark[] = [];
  for (const { reference, difference } of all) {
    const whole = wholeFinding(location, bytes, image, reference, difference);
    const result = whole
      ? { findings: [whole], marks: [] }
      : judgeBytes(bytes, reference, difference, {
          base: location.base,
          ...(seen.tracer && { tracer: seen.tracer }),
          ...(startsInstruction && { startsInstruction: (offset) => startsInstruction(reference, offset) }),
        });
    findings.push(...result.findings.filter((one) => !findings.some((known) => overlap(known, one))));
    marks.push(...result.marks.filter((one) => !marks.some(({ address }) => address === one.address)));
    if (bytes.length < reference.bytes.length && !whole) {
      const missing = finding("vdso-unmapped", "medium", location.base + BigInt(bytes.length));
      const detail = `${bytes.length} of ${reference.bytes.length} bytes are mapped`;
      if (!findings.some(({ id }) => id === "vdso-unmapped")) findings.push({ ...missing, detail });
    }
  }
  return { findings, marks };
}

/** Whether a reference is of the ABI of processes of so many bits. */
export function fits({ image }: Reference, bits: number, peer: Reference | undefined): boolean {
  return peer ? image.abi === peer.image.abi : image.elf.header.class === bits;
}

function overlap(one: Finding, other: Finding): boolean {
  if (one.offset === undefined || other.offset === undefined) return one.id === other.id;
  return one.offset < other.offset + (other.size ?? 1) && other.offset < one.offset + (one.size ?? 1);
}

function parsed(bytes: Uint8Array): VdsoImage | undefined {
  try {
    return parseImage(bytes, { mapped: true });
  } catch (error) {
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}

interface Compared {
  readonly reference: Reference;
  readonly difference: Difference;
}

/** The reference that the user means for these bytes: of the same build, or else the one that differs least. */
function nearestOf(given: readonly Reference[], bytes: Uint8Array, image: VdsoImage | undefined): Compared | undefined {
  const same = given.filter((one) => image && one.image.buildId === image.buildId && one.image.abi === image.abi);
  const compared = (same.length > 0 ? same : given).map((reference) => ({
    reference,
    difference: reference.compare(bytes),
  }));
  return compared.sort((a, b) => a.difference.count - b.difference.count)[0];
}

/** More wrong bytes than this part of an image is no image at all. */
const MOSTLY = 4;

/**
 * As many wrong bytes under another build-id are another build. Fewer are shown one by one: whoever changes an image may
 * change its build-id too.
 */
const REBUILT = 128;

/** One finding for all bytes, where they are another image or none. */
function wholeFinding(
  { base }: VdsoLocation,
  bytes: Uint8Array,
  image: VdsoImage | undefined,
  reference: Reference,
  { count }: Difference,
): Finding | undefined {
  if (count === 0) {
    return bytes.length > reference.bytes.length
      ? finding(
          "other-image",
          "high",
          base,
          `${bytes.length} bytes are mapped, of ${reference.name} ${reference.bytes.length}`,
        )
      : undefined;
  }
  if (!isElf(bytes) && count * MOSTLY > bytes.length) {
    return finding("not-an-image", "high", base, "the bytes are no ELF file");
  }
  const told = image && (image.abi !== reference.image.abi || image.buildId !== reference.image.buildId);
  if ((told && count > REBUILT) || bytes.length > reference.bytes.length) {
    const what = image
      ? `${image.abi}, build-id ${image.buildId ?? "none"}${image.kernelVersion ? `, Linux ${image.kernelVersion.text}` : ""}`
      : "a damaged image";
    const wanted = `${reference.image.abi}, build-id ${reference.image.buildId ?? "none"}`;
    return finding("other-image", "high", base, `${what}; ${reference.name} is ${wanted}`);
  }
  return undefined;
}

const CRIU_TEXT = "restored by CRIU";

/**
 * A process that CRIU restored under another kernel than it was saved under: at AT_SYSINFO_EHDR lies its old image,
 * whose functions jump to the same functions of the running kernel's, which CRIU marked. Anything else about these two
 * than just that is found; `undefined` where it is no such process.
 */
function criuProxy(
  seen: Seen,
  location: VdsoLocation,
  bytes: Uint8Array,
  { given, peer }: Standard,
): { findings: Finding[]; mark: Mark } | undefined {
  const [own] = location.mappings as [Mapping];
  if (own.name === "[vdso]" || location.base !== seen.sysinfoEhdr || !peer) return undefined;
  const image = parsed(bytes);
  const jumps = image ? criuJumps(image) : [];
  const [runtime, ...more] = location.otherMappings;
  if (!image || !runtime || more.length > 0 || jumps.length === 0) return undefined;
  const size = Number(runtime.end - runtime.start);
  const behind = size === peer.bytes.length ? seen.read(runtime.start, size) : undefined;
  if (!behind || criuMark(behind) !== location.base) return undefined;
  // Each jump to the function of its own name, or this is no work of CRIU's.
  const asNamed = jumps.every(({ name, leadsTo }) => {
    const target = peer.image.functions.find((one) => one.name === name);
    return target !== undefined && leadsTo === runtime.start + target.address - peer.image.linkBase;
  });
  if (!asNamed || !isComplete(jumps, image, peer.image)) return undefined;

  const findings = runtime.perms === CODE_PERMS ? [] : protection({ ...location, mappings: [runtime] });
  const plain = behind.slice();
  plain.set(peer.bytes.subarray(0, CRIU_MARK_SIZE));
  findings.push(...judgeBytes(plain, peer, peer.compare(plain), { base: runtime.start }).findings);
  // The old image is of a kernel that does not run here: it can be checked only where its own was given.
  const old = [...given, peer].find((one) => one.image.buildId !== undefined && one.image.buildId === image.buildId);
  if (old) {
    const unjumped = bytes.slice();
    for (const { offset } of jumps) unjumped.set(old.bytes.subarray(offset, offset + CRIU_JUMP_SIZE), offset);
    findings.push(...judgeBytes(unjumped, old, old.compare(unjumped), { base: location.base }).findings);
  }
  const detail = `${CRIU_TEXT}: ${jumps.length} functions jump to the kernel's own at ${hex(runtime.start)}${old ? "" : "; the old image's other bytes could not be checked"}`;
  return { findings, mark: { kind: "criu", address: location.base, detail } };
}
