import { isElf } from "../../elf/header.js";
import type { Decoder } from "../../isa/instruction.js";
import { hostLittleEndian, LiveProcess } from "../../linux/live.js";
import type { Mapping } from "../../linux/maps.js";
import { ProcessError } from "../../linux/process.js";
import { allPids, type Hidden, otherThread, privatePages, Survey, tracerOf } from "../../linux/survey/live.js";
import { MAX_COPY_FILE } from "../../linux/survey/maps-scan.js";
import { FLAG, type Group, groupOf, HEAD, isKernels, KIND, type Sight, sameNumbers } from "../../linux/survey/sight.js";
import { stackVector } from "../../linux/survey/stack-vector.js";
import { ProcessTarget, TargetError } from "../../targets/target.js";
import type { Abi } from "../../vdso/abi.js";
import { isVdso, parseImage } from "../../vdso/image.js";
import { makerOf } from "../../vdso/maker.js";
import {
  type DataMapping,
  dataLayout,
  fits,
  judge,
  locateSeen,
  type Seen,
  type Standard,
} from "../../vdso/tamper/judge.js";
import { Reference, type ReferenceImage } from "../../vdso/tamper/reference.js";
import type { ImageSeen, ProcessVerdict, Verdict, VerifySummary } from "./result.js";

/** How processes are verified. */
export interface VerifierOptions {
  /** Images that the user named. */
  readonly given?: readonly ReferenceImage[];
  /** Starts a process of an ABI that does nothing, to see what the kernel gives it; `undefined` where it cannot. */
  readonly fresh?: (abi: Abi) => Promise<{ readonly pid: number; close(): void } | undefined>;
  /** Gives an image from a file of the distribution's, by its build-id. */
  readonly installed?: (buildId: string) => ReferenceImage | undefined;
  /** The decoder of an ABI: tells where a breakpoint may lie. */
  readonly decoder?: (abi: Abi) => Promise<Decoder | undefined>;
  /** Whether there will be more passes, for which files are kept open. */
  readonly again?: boolean;
}

/** One look at processes. */
export interface VerifyPass {
  /** In the order in which they were looked at. */
  readonly verdicts: readonly ProcessVerdict[];
  readonly summary: VerifySummary;
}

const HIDDEN: Readonly<Record<Exclude<Hidden, "starting" | "unclear">, Verdict>> = {
  "kernel thread": "kernel-thread",
  zombie: "zombie",
  vanished: "vanished",
  refused: "refused",
};

const NOTHING = { findings: [], marks: [], more: 0 } as const;

/** What processes of one word size are held against, and what a process that is plainly as it should be looks like. */
interface Norm {
  readonly standard: Standard;
  /** Absent where no image of other processes can be had. */
  readonly shape?: Float64Array;
  readonly image?: Uint8Array;
  /** Whether that image is one that the given references allow. */
  readonly sound: boolean;
  readonly seen?: ImageSeen;
}

/**
 * Verifies the vDSO of processes, again and again.
 *
 * Each process is looked at in haste and compared with what is known to be right, which nearly all are. Of any other it
 * is said only what a second, thorough look shows, for the first may have met it between two programs.
 */
export class Verifier {
  readonly #options: VerifierOptions;
  readonly #given: readonly Reference[];
  readonly #survey: Survey;
  readonly #norms = new Map<Group, Norm>();
  readonly #starts = new Map<Reference, (offset: number) => boolean>();
  readonly #notes = new Set<string>();

  /** Throws `FormatError` where a given image is damaged. */
  constructor(options: VerifierOptions = {}) {
    this.#options = options;
    this.#given = (options.given ?? []).map((one) => new Reference(one));
    this.#survey = new Survey({ keepOpen: options.again ?? false });
  }

  /** Looks at processes, all unless ids are given. */
  async pass(pids: readonly number[] = allPids()): Promise<VerifyPass> {
    const looks: (Sight | Hidden)[] = [];
    const ids: number[] = [];
    this.#survey.pass(
      {
        seen: (pid, sight) => {
          ids.push(pid);
          looks.push(sight);
        },
        hidden: (pid, why) => {
          ids.push(pid);
          looks.push(why);
        },
      },
      pids,
    );
    const known = new Map<Sight, Pick<ProcessVerdict, "verdict" | "abi" | "buildId"> | undefined>();
    const verdicts: ProcessVerdict[] = [];
    for (let i = 0; i < ids.length; i++) {
      const [pid, look] = [ids[i] as number, looks[i] as Sight | Hidden];
      if (typeof look === "object") {
        if (!known.has(look)) known.set(look, await this.#plainly(look));
        const plain = known.get(look);
        verdicts.push(plain ? { pid, ...plain, ...NOTHING } : await this.#thoroughly(pid));
      } else if (look === "starting" || look === "unclear") verdicts.push(await this.#thoroughly(pid));
      else verdicts.push({ pid, verdict: HIDDEN[look], ...NOTHING });
    }
    return { verdicts, summary: this.#summary(verdicts) };
  }

  /** Lets go of all processes. */
  close(): void {
    this.#survey.close();
  }

  #summary(verdicts: readonly ProcessVerdict[]): VerifySummary {
    const counts: Partial<Record<Verdict, number>> = {};
    for (const { verdict } of verdicts) counts[verdict] = (counts[verdict] ?? 0) + 1;
    return {
      processes: verdicts.length,
      counts,
      findings: verdicts.reduce((sum, { findings, more }) => sum + findings.length + more, 0),
      images: [...this.#norms.values()].flatMap(({ seen }) => (seen ? [seen] : [])),
      notes: [...this.#notes],
    };
  }

  /** The verdict of what is as it should be; `undefined` where a thorough look is needed. */
  async #plainly(sight: Sight): Promise<Pick<ProcessVerdict, "verdict" | "abi" | "buildId"> | undefined> {
    const flags = sight.shape[1] as number;
    if (sight.shape.length === HEAD && (flags & (FLAG.ehdr | FLAG.otherStack | FLAG.unsearched)) === 0) {
      return { verdict: "no-vdso" };
    }
    const { shape, image, sound, seen } = await this.#normOf(groupOfSight(sight));
    if (!shape || !image || !seen || !sound) return undefined;
    if (!sameNumbers(shape, sight.shape) || Buffer.compare(image, sight.image) !== 0) return undefined;
    return {
      verdict: verdictOfMaker(seen),
      abi: seen.abi,
      ...(seen.buildId !== undefined && { buildId: seen.buildId }),
    };
  }

  async #normOf(group: Group): Promise<Norm> {
    const known = this.#norms.get(group);
    if (known) return known;
    const norm = await this.#makeNorm(group);
    this.#norms.set(group, norm);
    return norm;
  }

  async #makeNorm(group: Group): Promise<Norm> {
    const fresh = group === "x32" ? undefined : await this.#freshSight(group);
    const common = mostCommon(this.#survey.sights, group);
    const [sight, name] = fresh ? fresh : [common, "the image of most processes"];
    if (!sight) return { standard: { given: this.#given }, sound: false };
    let peer: Reference;
    try {
      peer = new Reference({
        name,
        image: parseImage(new Uint8Array(sight.image), { mapped: true }),
        kind: "same boot",
      });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#notes.add(`${name} cannot be read as an image: ${error.message}`);
      return { standard: { given: this.#given }, sound: false };
    }
    const given = [...this.#given, ...this.#installed(peer)];
    if (given.length > 0 && !given.some((one) => fits(one, group === 8 ? 64 : 32, peer))) {
      this.#notes.add(`what was named has no image of ${peer.image.abi}: its processes were held against each other`);
    }
    const starts = await this.#startsOf([peer, ...given]);
    const standard: Standard = { given, peer, data: dataOf(sight), startsInstruction: starts };
    const soundBytes = judge(seenOf(sight), standard);
    const { abi, soname, buildId, kernelVersion } = peer.image;
    const maker = makerOf(peer.image);
    return {
      standard,
      shape: withoutCopies(sight.shape),
      image: sight.image,
      sound: soundBytes.findings.length === 0,
      seen: {
        abi,
        ...(soname !== undefined && { soname }),
        ...(buildId !== undefined && { buildId }),
        ...(kernelVersion && { kernelVersion: kernelVersion.text }),
        ...(maker && { maker }),
        references: [name, ...given.filter((one) => one.image.abi === abi).map((one) => one.name)],
      },
    };
  }

  #installed({ image: { buildId } }: Reference): Reference[] {
    if (this.#given.length > 0 || buildId === undefined) return [];
    const image = this.#options.installed?.(buildId);
    return image ? [new Reference(image)] : [];
  }

  /** What a fresh process of the machine's ABI of this width shows. */
  async #freshSight(wordSize: 4 | 8): Promise<[Sight, string] | undefined> {
    const abi = FRESH_ABIS[wordSize];
    const fresh = await this.#options.fresh?.(abi);
    if (!fresh) {
      this.#notes.add(`no fresh ${abi} process could be started: processes were held against each other`);
      return undefined;
    }
    const survey = new Survey({ keepOpen: false });
    try {
      let found: Sight | undefined;
      survey.pass({ seen: (_pid, sight) => (found = sight), hidden: () => {} }, [fresh.pid]);
      return found && found.shape[0] === wordSize && found.image.length > 0
        ? [found, `a fresh ${abi} process`]
        : undefined;
    } finally {
      survey.close();
      fresh.close();
    }
  }

  /** For references whose ABI is decoded: whether an instruction starts at an offset. */
  async #startsOf(references: readonly Reference[]): Promise<(reference: Reference, offset: number) => boolean> {
    for (const reference of references) {
      const decoder = await this.#options.decoder?.(reference.image.abi);
      if (decoder) this.#starts.set(reference, instructionStarts(reference, decoder));
    }
    return (reference, offset) => this.#starts.get(reference)?.(offset) ?? true;
  }

  /** Looks at one process without haste; what it shows at that one moment is what is said of it. */
  async #thoroughly(pid: number): Promise<ProcessVerdict> {
    const live = new LiveProcess(pid);
    const target = new ProcessTarget(`process ${pid}`, live);
    try {
      const { comm, state, kernelThread } = live.state();
      const ended = state === "Z" || state === "X";
      const thread = ended ? otherThread(pid) : undefined;
      // otherThread gives one with memory, so that this goes no deeper.
      if (thread !== undefined) return { ...(await this.#thoroughly(thread)), pid, name: comm };
      if (ended) return { pid, name: comm, verdict: "zombie", ...NOTHING };
      if (kernelThread) return { pid, name: comm, verdict: "kernel-thread", ...NOTHING };
      const seen = seenOfTarget(target);
      const norm = await this.#normOf(groupOfSeen(seen));
      const judged = judge(seen, norm.standard);
      const image = locateSeen(seen) && imageOf(target);
      return {
        pid,
        name: comm,
        verdict: verdictOf(judged, seen, norm),
        ...(image && { abi: image.abi }),
        ...(image?.buildId !== undefined && { buildId: image.buildId }),
        ...judged,
      };
    } catch (error) {
      return { pid, ...whyNot(error), ...NOTHING };
    } finally {
      await target.close();
    }
  }
}

/** The ABIs of a machine of which a fresh process can be started, by word size. */
const FRESH_ABIS = { 4: "i386", 8: "x86_64" } as const;

function verdictOfMaker({ maker }: ImageSeen): Verdict {
  return maker === "gVisor" || maker === "qemu-user" ? "emulated" : "ok";
}

function verdictOf({ findings, marks }: ReturnType<typeof judge>, seen: Seen, norm: Norm): Verdict {
  if (findings.some(({ severity }) => severity === "high")) return "tampered";
  if (findings.length > 0) return "suspicious";
  for (const kind of ["criu", "rr", "valgrind", "breakpoint", "traced-copy"] as const) {
    if (marks.some((mark) => mark.kind === kind)) return kind;
  }
  if (marks.some(({ kind }) => kind === "traced-vector")) return "traced-copy";
  if (!locateSeen(seen)) return "no-vdso";
  return norm.seen ? verdictOfMaker(norm.seen) : "ok";
}

function whyNot(error: unknown): Pick<ProcessVerdict, "verdict" | "why"> {
  if (error instanceof ProcessError) {
    if (error.code === "ESRCH" || error.code === "ENOENT") return { verdict: "vanished" };
    const refused = error.code === "EACCES" || error.code === "EPERM";
    return { verdict: refused ? "refused" : "unreadable", why: error.message };
  }
  if (error instanceof TargetError || error instanceof RangeError) return { verdict: "unreadable", why: error.message };
  throw error;
}

/**
 * The sight that most processes of a word size show. One of untouched pages comes first however few show it: what the
 * kernel's own pages hold is what the kernel put there.
 */
function mostCommon(sights: Iterable<Sight>, group: Group): Sight | undefined {
  let best: Sight | undefined;
  for (const sight of sights) {
    if (sight.image.length === 0 || groupOfSight(sight) !== group) continue;
    if (!best || rank(sight) > rank(best)) best = sight;
  }
  return best;
}

function rank(sight: Sight): number {
  return sight.count + (isKernels(sight) ? Number.MAX_SAFE_INTEGER / 2 : 0);
}

function groupOfSight(sight: Sight): Group {
  return groupOf(sight.shape[0] as 4 | 8, sight.image, isKernels(sight));
}

function groupOfSeen(seen: Seen): Group {
  const location = locateSeen(seen);
  const kernels = location?.mappings[0]?.name === "[vdso]" && seen.privatePages?.length === 0;
  const header = location && seen.read(location.base, location.size);
  return groupOf(seen.wordSize, header ?? new Uint8Array(0), kernels);
}

/** A shape without what may be copies: they belong to the program (that of a fresh process is a small file itself). */
function withoutCopies(shape: Float64Array): Float64Array {
  return shape.filter((_, i) => i < HEAD || shape[i - ((i - HEAD) % 4)] !== KIND.copy);
}

/** What a sight would be in a process whose image lies at a place that no real one has. */
const PLACE = 0x4000_0000;

const NAMES: Readonly<Record<number, string>> = {
  [KIND.vdso]: "[vdso]",
  [KIND.vvar]: "[vvar]",
  [KIND.vvarClock]: "[vvar_vclock]",
  [KIND.vdsoData]: "[vdso_data]",
};

function seenOf({ shape, image }: Sight): Seen {
  const mappings: Mapping[] = [];
  for (let i = HEAD; i < shape.length; i += 4) {
    const bits = shape[i + 3] as number;
    const perms = `${bits & 1 ? "r" : "-"}${bits & 2 ? "w" : "-"}${bits & 4 ? "x" : "-"}${bits & 8 ? "s" : "p"}`;
    mappings.push({
      start: BigInt(PLACE + (shape[i + 1] as number)),
      end: BigInt(PLACE + (shape[i + 2] as number)),
      perms,
      offset: 0n,
      device: "00:00",
      inode: 0n,
      name: NAMES[shape[i] as number] ?? "",
    });
  }
  const flags = shape[1] as number;
  return {
    wordSize: shape[0] as 4 | 8,
    ...((flags & FLAG.ehdr) !== 0 && { sysinfoEhdr: BigInt(PLACE) }),
    ...((flags & FLAG.sysinfo) !== 0 && { sysinfo: BigInt(PLACE + (shape[2] as number)) }),
    mappings,
    privatePages: [...Array(31).keys()]
      .filter((i) => ((shape[3] as number) >>> i) & 1)
      .map((i) => BigInt(PLACE + i * 4096)),
    read: (address, size) => {
      const start = Number(address) - PLACE;
      return start >= 0 && start + size <= image.length ? image.subarray(start, start + size) : undefined;
    },
  };
}

function dataOf(sight: Sight): DataMapping[] {
  const location = locateSeen(seenOf(sight));
  return location ? dataLayout(location) : [];
}

/** All that is judged of a process, read anew. */
function seenOfTarget(target: ProcessTarget): Seen {
  const { auxv, mappings, location } = target;
  const value = (tag: number) => auxv.find((entry) => entry.tag === tag)?.value;
  const [sysinfoEhdr, sysinfo] = [value(33), value(32)];
  const pid = target.process.pid;
  // Read at the moment that the target keeps: so that the image and what lies around it are of one program.
  const image = location ? readOf(() => target.imageBytes) : undefined;
  const read = (address: bigint, size: number) =>
    location && address === location.base && size === location.size
      ? image
      : readOf(() => target.process.read(address, size));
  const pages = location && privatePages(pid, location.base, location.size);
  const tracer = tracerOf(pid);
  const onStack = stackVector(auxv, read, { wordSize: target.wordSize, littleEndian: hostLittleEndian });
  return {
    wordSize: target.wordSize,
    ...(sysinfoEhdr !== undefined && { sysinfoEhdr }),
    ...(sysinfo !== undefined && { sysinfo }),
    ...(onStack && { stackVector: onStack }),
    mappings,
    read,
    ...(pages && { privatePages: pages }),
    copies: mappings.filter((mapping) => mapping.start !== location?.base && isCopy(mapping, read)),
    ...(tracer && { tracer }),
  };
}

function readOf(read: () => Uint8Array): Uint8Array | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof ProcessError || error instanceof TargetError) return undefined;
    throw error;
  }
}

/** Most bytes of a mapping that are looked at for a copy of an image. */
const MAX_COPY = 1 << 16;

/** Whether executable memory, without a file or of a small one, holds a vDSO image. */
function isCopy({ start, end, perms, name, inode, offset }: Mapping, read: Seen["read"]): boolean {
  if (perms[2] !== "x" || name === "[vdso]") return false;
  if (inode !== 0n && (offset !== 0n || end - start > MAX_COPY_FILE)) return false;
  const head = read(start, 4);
  if (!head || !isElf(head)) return false;
  const size = Number(end - start < BigInt(MAX_COPY) ? end - start : BigInt(MAX_COPY));
  const bytes = read(start, size);
  try {
    return bytes !== undefined && isVdso(parseImage(bytes, { mapped: true }).elf);
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

function imageOf(target: ProcessTarget) {
  try {
    return target.image;
  } catch (error) {
    if (error instanceof RangeError || error instanceof ProcessError || error instanceof TargetError) return undefined;
    throw error;
  }
}

/** Offsets at which instructions of a reference start, found when first asked for. */
function instructionStarts({ image, bytes }: Reference, decoder: Decoder): (offset: number) => boolean {
  let starts: Set<number> | undefined;
  const find = (): Set<number> => {
    const found = new Set<number>();
    for (const { address, size } of image.functions) {
      const offset = Number(address - image.linkBase);
      const code = bytes.subarray(offset, offset + size);
      for (const instruction of decoder.decode(code, address)) found.add(Number(instruction.address - image.linkBase));
    }
    return found;
  };
  const inFunction = (offset: number) =>
    image.functions.some(({ address, size }) => {
      const start = Number(address - image.linkBase);
      return offset >= start && offset < start + size;
    });
  return (offset) => {
    // Code between the exported functions is not followed: where its instructions start is not known.
    if (!inFunction(offset)) return true;
    starts ??= find();
    return starts.has(offset);
  };
}
