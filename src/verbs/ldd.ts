import { ET_DYN, ET_EXEC } from "../elf/constants.js";
import type { Cpu } from "../linux/ldso/cpu.js";
import { failed, type LoaderFiles } from "../linux/ldso/files.js";
import type { Dso } from "../linux/ldso/object.js";
import { resolve } from "../linux/ldso/resolve.js";
import { ObjectStore } from "../linux/ldso/store.js";
import type { LoadProblem, Resolution, ResolvedObject, VirtualObject } from "../linux/ldso/types.js";
import { type LinkMapObject, type LinkMapProcess, readLinkMap } from "../linux/link-map.js";
import { type Abi, abiOf } from "../vdso/abi.js";

/** What a program is, as far as its dynamic linker is concerned. */
export type ProgramKind =
  /** It has a dynamic section and needs other objects, or is a library. */
  | "dynamic"
  /** A program that relocates itself and needs no other object. */
  | "static-pie"
  /** A program without a dynamic section, or an ELF file of another kind (an object file, a core). */
  | "static"
  /** Not an ELF file, or a broken one. */
  | "not-elf"
  /** There is no such file, it may not be read, or it is no plain file. */
  | "unreadable";

/** How a program would be loaded. */
export interface LddResult {
  /** As given. */
  readonly program: string;
  readonly kind: ProgramKind;
  readonly abi?: Abi;
  readonly libc?: Resolution["libc"];
  /** The dynamic linker's path. */
  readonly interpreter?: string;
  /** In the dynamic linker's own order; `[]` for a program that needs none. */
  readonly objects: readonly ResolvedObject[];
  readonly problems: readonly LoadProblem[];
  /** What ldd would end with: 1 where nothing can be listed, or the dynamic linker would give up. */
  readonly status: 0 | 1;
}

/** What a resolution depends on beside the program. */
export interface LddOptions {
  /** The files to look among. A store keeps what was read of them from one program to the next. */
  readonly files: LoaderFiles | ObjectStore;
  /** The working folder, absolute. */
  readonly cwd: string;
  /** The processor that the program would run on. */
  readonly cpu: Cpu;
  /** LD_LIBRARY_PATH. */
  readonly libraryPath?: string;
  /** LD_PRELOAD. */
  readonly preload?: string;
  /** $PLATFORM, where it is not the usual one of the ABI. */
  readonly platform?: string;
  /** The virtual object of a process of the ABI; none is listed where this gives `undefined`. */
  readonly virtual?: VirtualObject | ((abi: Abi | undefined) => VirtualObject | undefined);
  /** Whether to check that needed symbol versions are defined; true unless said. */
  readonly versions?: boolean;
}

const DF_1_PIE = 0x0800_0000;

function unreadable(program: string, message: string): LddResult {
  return { program, kind: "unreadable", objects: [], problems: [{ message, fatal: true }], status: 1 };
}

const FAILURES: Readonly<Record<string, string>> = {
  ENOENT: "No such file or directory",
  ENOTDIR: "No such file or directory",
  EACCES: "error: you do not have read permission",
  EPERM: "error: you do not have read permission",
  ELOOP: "too many levels of symbolic links",
};

function kindOf(dso: Dso): ProgramKind {
  const { header, dynamic, links, interpreter, flags1 } = dso;
  if (!dynamic || (header.e_type !== ET_DYN && header.e_type !== ET_EXEC)) return "static";
  const needsNone = !links.some(({ kind }) => kind === "needed");
  const program = (flags1 & DF_1_PIE) !== 0 || (dso.soname === undefined && header.e_entry !== 0n);
  return needsNone && interpreter === undefined && program ? "static-pie" : "dynamic";
}

/**
 * How the program at a path would be loaded: every object that it needs, found as its dynamic linker finds it. Nothing
 * of the program is run. A file that is no program is told by `kind` and `problems`; nothing is thrown for it.
 */
export function ldd(path: string, options: LddOptions): LddResult {
  const store = options.files instanceof ObjectStore ? options.files : new ObjectStore(options.files);
  // As ldd hands it to the dynamic linker, which would look for a name without a slash among the libraries.
  const given = path.includes("/") ? path : `./${path}`;
  const absolute = given.startsWith("/") ? given : `${options.cwd}/${given}`;
  const status = store.status(absolute);
  if (failed(status)) return unreadable(path, `${path}: ${FAILURES[status.code] ?? status.code}`);
  if (status.kind !== "file") return unreadable(path, `${path}: not regular file`);
  const stored = store.object(absolute);
  if ("code" in stored) return unreadable(path, `${path}: ${FAILURES[stored.code] ?? stored.code}`);
  if (!stored.dso) {
    const problems = [{ message: `${path}: ${stored.error}`, fatal: true }];
    return { program: path, kind: "not-elf", objects: [], problems, status: 1 };
  }
  const { dso, identity } = stored;
  const abi = abiOf(dso.header);
  const kind = kindOf(dso);
  const base = { program: path, kind, ...(abi && { abi }) };
  if (kind === "static") return { ...base, objects: [], problems: [], status: 1 };
  if (!dso.links.some((link) => link.kind === "needed")) {
    const { interpreter } = dso;
    return { ...base, ...(interpreter !== undefined && { interpreter }), objects: [], problems: [], status: 0 };
  }

  const virtual = typeof options.virtual === "function" ? options.virtual(abi) : options.virtual;
  const { cwd, cpu, libraryPath, preload, platform } = options;
  const resolution = resolve(
    { path: given, identity, dso },
    {
      store,
      cwd,
      cpu,
      ...(libraryPath !== undefined && { libraryPath }),
      ...(preload !== undefined && { preload }),
      ...(platform !== undefined && { platform }),
      ...(virtual && { virtual }),
      versions: options.versions ?? true,
    },
  );
  if (!resolution) {
    const message = `${path}: machine ${dso.header.e_machine} is not known`;
    return { ...base, objects: [], problems: [{ message, fatal: true }], status: 1 };
  }
  const problems = [...resolution.problems, ...originNote(absolute, dso, store.files)];
  return { ...base, ...resolution, problems, status: problems.some(({ fatal }) => fatal) ? 1 : 0 };
}

/** A program that is started through a symbolic link has its real folder as $ORIGIN; what ldd runs has the link's. */
function originNote(path: string, dso: Dso, files: LoaderFiles): LoadProblem[] {
  if (!/\$\{?ORIGIN/.test(dso.runpath ?? dso.rpath ?? "")) return [];
  const folder = (name: string) => name.slice(0, name.lastIndexOf("/")) || "/";
  const real = files.realPath(path);
  if (real === undefined || files.realPath(folder(path)) === folder(real)) return [];
  return [
    { message: `a symbolic link leads here: when the program is started, $ORIGIN is ${folder(real)}`, fatal: false },
  ];
}

/** How each of several programs would be loaded; what is read of a library serves all that need it. */
export function lddAll(paths: Iterable<string>, options: LddOptions): LddResult[] {
  const files = options.files instanceof ObjectStore ? options.files : new ObjectStore(options.files);
  return Array.from(paths, (path) => ldd(path, { ...options, files }));
}

/** What a process has loaded. */
export interface LoadedResult {
  readonly pid: number;
  readonly program?: string;
  /** `not-started`: the dynamic linker has not made its list yet. */
  readonly kind: "dynamic" | "static" | "not-started";
  /** In link-map order, those of the first namespace first. */
  readonly objects: readonly LinkMapObject[];
  readonly problems: readonly LoadProblem[];
}

/** What a running process has loaded, with addresses, by its own dynamic linker's list. */
export function lddProcess(
  process: LinkMapProcess & { readonly pid: number; readonly program?: string },
): LoadedResult {
  const { pid, program } = process;
  const { kind, objects, problems } = readLinkMap(process);
  return {
    pid,
    ...(program !== undefined && { program }),
    kind,
    objects,
    problems: problems.map((message) => ({ message, fatal: false })),
  };
}
