import { ET_DYN, ET_EXEC } from "../../elf/constants.js";
import { sameAbi } from "./abi.js";
import type { Dso } from "./object.js";
import { baseName } from "./path.js";
import {
  type FoundBy,
  type LoaderSystem,
  type LoadProblem,
  MAX_OBJECTS,
  MAX_PROBES,
  type ProgramFile,
  type Resolution,
  type ResolvedObject,
} from "./types.js";

/** Libraries that are all one file, the dynamic linker itself: a name that starts like this is never looked for. */
const OWN = /^lib(?:c|pthread|rt|m|dl|util|xnet)\./;
const DEFAULT_PATH = "/lib:/usr/local/lib:/usr/lib";
/** Errors after which the next folder is tried; any other ends the search. */
const PASSED_OVER: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR", "EACCES", "ENAMETOOLONG"]);

interface Loaded {
  readonly name: string;
  readonly path: string | undefined;
  readonly kind: ResolvedObject["kind"];
  readonly dso: Dso | undefined;
  readonly loader: Loaded | undefined;
  readonly foundBy: FoundBy | undefined;
  readonly error: string | undefined;
  readonly neededBy: Set<string>;
}

/** Folders of a list that musl separates by colons and newlines; empty ones do not count. */
function foldersOf(list: string): string[] {
  return list.split(/[:\n]/).filter(Boolean);
}

/**
 * DT_RUNPATH, else DT_RPATH, with $ORIGIN expanded; one with any other token does not count. The origin is the folder of
 * the path as written.
 */
function searchPath({ dso, path = "" }: Loaded): string[] {
  const list = dso?.runpath ?? dso?.rpath;
  if (list === undefined) return [];
  const slash = path.lastIndexOf("/");
  const origin = slash < 0 ? "." : path.slice(0, slash);
  const expanded = list.replaceAll(/\$ORIGIN|\$\{ORIGIN\}/g, () => origin);
  return /\$(?!ORIGIN|\{ORIGIN\})/.test(list) ? [] : foldersOf(expanded);
}

/** Why musl cannot map a file. */
function loadError(dso: Dso, program: Dso): string | undefined {
  if (!sameAbi(dso.header, program.header)) return "it is built for another machine";
  if (dso.header.e_type !== ET_DYN && dso.header.e_type !== ET_EXEC) return "it is neither a program nor a library";
  return dso.dynamic ? undefined : "it has no dynamic section";
}

/**
 * Resolves one program as musl's dynamic linker does: LD_LIBRARY_PATH, then DT_RUNPATH or DT_RPATH of the object that
 * needs it and of all that led to it, then the folders in /etc/ld-musl-ARCH.path. The first file of the name is taken,
 * whatever it is.
 *
 * Source: musl 1.2.5, ldso/dynlink.c, `load_library`, `path_open`, `fixup_rpath`.
 */
export function resolveMusl(program: ProgramFile, interpreterPath: string, system: LoaderSystem): Resolution {
  const { store, cwd, virtual } = system;
  const absolute = (path: string) => (path.startsWith("/") ? path : `${cwd}/${path}`);
  const firstProbe = store.probes;
  const problems: LoadProblem[] = [];
  const loaded = (object: Pick<Loaded, "name" | "kind"> & Partial<Loaded>): Loaded => ({
    ...{ path: undefined, dso: undefined, loader: undefined, foundBy: undefined, error: undefined },
    neededBy: new Set(),
    ...object,
  });

  const main = loaded({ name: program.path, path: program.path, kind: "library", dso: program.dso });
  const there = !("code" in store.object(interpreterPath));
  const interpreter = loaded({
    name: program.dso.interpreter ?? interpreterPath,
    path: interpreterPath,
    kind: there ? "interpreter" : "missing",
  });
  const objects: Loaded[] = [interpreter];
  const byShortName = new Map<string, Loaded>();
  const byIdentity = new Map<string, Loaded>([[program.identity, main]]);
  const paths = new Map<Loaded, string[]>();
  const libraryPath = foldersOf(system.libraryPath ?? "");

  /** The folders in PREFIX/etc/ld-musl-ARCH.path, where PREFIX/lib/ld-musl-ARCH.so.1 is the dynamic linker. */
  const systemPath = (): string[] => {
    const folder = interpreterPath.slice(0, interpreterPath.lastIndexOf("/"));
    const prefix = folder.slice(0, Math.max(folder.lastIndexOf("/"), 0));
    const arch = /^ld-musl-(.*)\.so\.1$/.exec(baseName(interpreterPath))?.[1] ?? "";
    const { text, code } = store.text(`${prefix}/etc/ld-musl-${arch}.path`);
    if (text !== undefined) return foldersOf(text);
    return code === "ENOENT" ? foldersOf(DEFAULT_PATH) : [];
  };
  const defaults = systemPath();

  function* candidates(name: string, loader: Loaded | undefined): Generator<readonly [string, FoundBy]> {
    for (const folder of libraryPath) yield [`${folder}/${name}`, "LD_LIBRARY_PATH"];
    for (let up = loader; up; up = up.loader) {
      let folders = paths.get(up);
      if (!folders) {
        folders = searchPath(up);
        paths.set(up, folders);
      }
      const by = up.dso?.runpath === undefined ? "rpath" : "runpath";
      for (const folder of folders) yield [`${folder}/${name}`, by];
    }
    for (const folder of defaults) yield [`${folder}/${name}`, "default"];
  }

  const load = (name: string, loader: Loaded | undefined, foundBy?: FoundBy): Loaded | undefined => {
    if (OWN.test(name) || name === interpreter.name) return interpreter;
    const slash = name.includes("/");
    const known = slash ? undefined : byShortName.get(name);
    if (known) return known;
    for (const [path, by] of slash ? [[name, "direct"] as const] : candidates(name, loader)) {
      if (store.probes - firstProbe > MAX_PROBES) return undefined;
      const stored = store.object(absolute(path));
      if ("code" in stored) {
        if (PASSED_OVER.has(stored.code)) continue;
        return undefined;
      }
      const same = byIdentity.get(stored.identity);
      if (same) {
        if (!slash) byShortName.set(baseName(same.path ?? name), same);
        return same;
      }
      const { dso } = stored;
      const error = dso ? loadError(dso, program.dso) : stored.error;
      if (error !== undefined) problems.push({ message: `${path}: ${error}`, fatal: true });
      const object = loaded({ name, path, kind: "library", dso, loader, foundBy: foundBy ?? by, error });
      objects.push(object);
      byIdentity.set(stored.identity, object);
      if (!slash) byShortName.set(name, object);
      return object;
    }
    return undefined;
  };

  const queue: Loaded[] = [main];
  const queued = new Set<Loaded>([main, interpreter]);
  const enqueue = (object: Loaded) => {
    if (!queued.has(object)) queue.push(object);
    queued.add(object);
  };
  for (const name of (system.preload ?? "").split(/[\s:]+/).filter(Boolean)) {
    const object = load(name, undefined, "preload");
    if (!object) {
      problems.push({ message: `${name} from LD_PRELOAD is not found: it is not preloaded`, fatal: false });
      continue;
    }
    object.neededBy.add("LD_PRELOAD");
    enqueue(object);
  }
  for (let i = 0; i < queue.length; i++) {
    const object = queue[i] as Loaded;
    for (const { kind, name } of object.dso?.links ?? []) {
      if (kind !== "needed") continue;
      if (objects.length >= MAX_OBJECTS || store.probes - firstProbe > MAX_PROBES) break;
      let linked = load(name, object);
      if (!linked) {
        linked = loaded({ name, kind: "missing", loader: object });
        objects.push(linked);
      }
      linked.neededBy.add(object.name);
      enqueue(linked);
    }
  }
  if (objects.length >= MAX_OBJECTS || store.probes - firstProbe > MAX_PROBES) {
    const message = `given up after ${objects.length} objects and ${store.probes - firstProbe} paths`;
    problems.push({ message, fatal: true });
  }
  return {
    libc: "musl",
    interpreter: interpreterPath,
    objects: [
      ...(virtual ? [{ name: virtual.soname, kind: "virtual" as const, neededBy: [] }] : []),
      ...objects.map(({ name, path, kind, neededBy, foundBy, error }) => ({
        name,
        ...(path !== undefined && kind !== "missing" && { path }),
        kind,
        neededBy: [...neededBy],
        ...(foundBy !== undefined && { foundBy }),
        ...(error !== undefined && { error }),
      })),
    ],
    problems,
  };
}
