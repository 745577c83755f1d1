import { ET_DYN, ET_EXEC } from "../../elf/constants.js";
import { chooseCacheEntry } from "../ld-cache.js";
import { type LoaderAbi, sameAbi } from "./abi.js";
import { hwcapFolders, legacyHwcaps, searchSubfolders } from "./cpu.js";
import type { LoaderTraits } from "./loader.js";
import type { Dso } from "./object.js";
import { baseName, folderOf } from "./path.js";
import type { StoredObject } from "./store.js";
import { expandTokens, hasToken, type Tokens } from "./tokens.js";
import {
  type FoundBy,
  type LoaderSystem,
  type LoadProblem,
  MAX_OBJECTS,
  MAX_PROBES,
  MAX_PROBLEMS,
  type ProgramFile,
  type Resolution,
  type ResolvedObject,
} from "./types.js";
import { checkVersions } from "./versions.js";

/** Bit of DT_FLAGS_1: neither the cache's entries in the default folders nor these are for what the object needs. */
const DF_1_NODEFLIB = 0x800;
/** Bit of DT_FLAGS_1: the object is a program, which no other can need. */
const DF_1_PIE = 0x0800_0000;
const ELFOSABI_SYSV = 0;
const ELFOSABI_GNU = 3;

/** An object in the list that the dynamic linker keeps, its "link map". */
interface Loaded {
  readonly name: string;
  readonly path: string | undefined;
  readonly kind: ResolvedObject["kind"] | "program";
  readonly dso: Dso | undefined;
  /** The object for whose sake it was loaded first: the way up that DT_RPATH takes. */
  readonly loader: Loaded | undefined;
  readonly foundBy: FoundBy | undefined;
  readonly error: string | undefined;
  readonly neededBy: Set<string>;
  done: boolean;
}

type Candidate =
  /** Passed over: nothing there, or built for something else. */
  | { readonly kind: "none"; readonly code: string }
  /** The search ends here: with an object, or with an error. */
  | { readonly kind: "taken"; readonly identity: string; readonly dso: Dso | undefined; readonly error?: string };

type Found = { readonly path: string; readonly by: FoundBy } & Extract<Candidate, { kind: "taken" }>;

class TooMuchWork extends Error {}

/**
 * Resolves one program as glibc's dynamic linker does: names that are loaded already, then DT_RPATH up the chain of
 * loaders, LD_LIBRARY_PATH, DT_RUNPATH, the cache, the default folders; breadth first.
 *
 * Source: glibc 2.36, elf/dl-load.c, elf/dl-deps.c, elf/rtld.c; ld.so(8).
 */
class GlibcResolution {
  readonly #system: LoaderSystem;
  readonly #abi: LoaderAbi;
  readonly #traits: LoaderTraits;
  readonly #main: Loaded;
  readonly #program: ProgramFile;
  readonly #subfolders: readonly string[];
  readonly #hwcapFolders: readonly string[];
  readonly #hwcapBits: bigint | undefined;
  readonly #platform: string | undefined;
  readonly #problems = new Map<string, LoadProblem>();
  readonly #byName = new Map<string, Loaded>();
  readonly #byIdentity = new Map<string, Loaded>();
  /** In the order in which the dynamic linker shows its list: that of loading, but for filters. */
  readonly #chain: Loaded[] = [];
  readonly #libraryPath: readonly string[];
  readonly #folders = new Map<string, readonly string[]>();
  /** Folders of the DT_RPATH or DT_RUNPATH of an object, which has only one of them. */
  readonly #lists = new Map<Loaded, readonly string[]>();
  readonly #firstProbe: number;

  constructor(program: ProgramFile, abi: LoaderAbi, traits: LoaderTraits, system: LoaderSystem) {
    const { header } = program.dso;
    this.#system = system;
    this.#abi = abi;
    this.#traits = traits;
    this.#program = program;
    this.#firstProbe = system.store.probes;
    const legacy = traits.legacyHwcaps ? legacyHwcaps(header, system.cpu, system.platform ?? abi.platform) : undefined;
    this.#platform = system.platform ?? legacy?.platform ?? abi.platform;
    this.#hwcapFolders = traits.hwcapFolders ? hwcapFolders(header, system.cpu) : [];
    this.#hwcapBits = legacy?.bits;
    const names = legacy ? [...legacy.features, ...(this.#platform ? [this.#platform] : []), "tls"] : [];
    this.#subfolders = searchSubfolders(this.#hwcapFolders, names);
    this.#main = this.#loaded({ name: program.path, path: program.path, kind: "program", dso: program.dso });
    this.#libraryPath = system.libraryPath ? this.#searchList(system.libraryPath, /[:;]/, this.#main) : [];
  }

  #loaded(object: Pick<Loaded, "name" | "kind"> & Partial<Loaded>): Loaded {
    const empty = { path: undefined, dso: undefined, loader: undefined, foundBy: undefined, error: undefined };
    return { ...empty, neededBy: new Set(), done: false, ...object };
  }

  #absolute(path: string): string {
    return path.startsWith("/") ? path : `${this.#system.cwd}/${path}`;
  }

  #tokens(object: Loaded): Tokens {
    return {
      ORIGIN: object.path === undefined ? undefined : folderOf(object.path, this.#system.cwd),
      LIB: this.#traits.lib,
      PLATFORM: this.#platform,
    };
  }

  /** The folders of a list, each once, with a slash at the end; an empty one is the working folder. */
  #searchList(list: string, separator: RegExp | string, object: Loaded): readonly string[] {
    const tokens = this.#tokens(object);
    const folders = list.split(separator).flatMap((part) => expandTokens(part, tokens) ?? []);
    return [...new Set(folders.map((folder) => (folder === "" ? "" : withSlash(folder))))];
  }

  #pathOf(object: Loaded, list: string): readonly string[] {
    let folders = this.#lists.get(object);
    if (!folders) {
      // An empty list is none at all, not the working folder.
      folders = list === "" ? [] : this.#searchList(list, ":", object);
      this.#lists.set(object, folders);
    }
    return folders;
  }

  /** Those subfolders of a folder that exist, itself included, in the order of search. */
  #existing(folder: string): readonly string[] {
    let paths = this.#folders.get(folder);
    if (!paths) {
      const { store } = this.#system;
      paths = store.isDirectory(this.#absolute(folder))
        ? this.#subfolders
            .map((subfolder) => folder + subfolder)
            .filter((path) => path === folder || store.isDirectory(this.#absolute(path)))
        : [];
      this.#folders.set(folder, paths);
    }
    return paths;
  }

  /** Whether the file at a path is one that the search stops at. */
  #candidate(path: string): Candidate {
    const { store } = this.#system;
    if (store.probes - this.#firstProbe > MAX_PROBES) throw new TooMuchWork();
    const stored: StoredObject = store.object(this.#absolute(path));
    if ("code" in stored) {
      if (stored.code === "EACCES") this.#problem(`${path}: permission denied (EACCES): passed over`, false);
      return { kind: "none", code: stored.code };
    }
    const { identity, dso } = stored;
    if (!dso) return { kind: "taken", identity, dso: undefined, error: stored.error };
    const own = this.#program.dso.header;
    const theirs = dso.header;
    const error = (text: string): Candidate => ({ kind: "taken", identity, dso: undefined, error: text });
    if (theirs.class !== own.class) return { kind: "none", code: "ENOENT" };
    if (theirs.littleEndian !== own.littleEndian) return error("its byte order is not the program's");
    if (theirs.osabi !== ELFOSABI_SYSV && theirs.osabi !== ELFOSABI_GNU) return error(`its OS ABI is ${theirs.osabi}`);
    if (!sameAbi(theirs, own)) return { kind: "none", code: "ENOENT" };
    if (theirs.e_type !== ET_DYN && theirs.e_type !== ET_EXEC) return error("it is neither a program nor a library");
    return { kind: "taken", identity, dso };
  }

  #searchIn(folders: readonly string[], name: string, by: FoundBy): Found | undefined {
    for (const folder of folders) {
      for (const existing of this.#existing(folder)) {
        const path = existing + name;
        const candidate = this.#candidate(path);
        if (candidate.kind === "taken") return { path, by, ...candidate };
        // Anything else ends the search of this list: the file is there, but something is wrong with it.
        if (candidate.code !== "ENOENT" && candidate.code !== "EACCES") return undefined;
      }
    }
    return undefined;
  }

  #searchRpath(object: Loaded, name: string): Found | undefined {
    const { rpath, runpath } = object.dso ?? {};
    // An object with both has only DT_RUNPATH.
    if (!rpath || runpath !== undefined) return undefined;
    return this.#searchIn(this.#pathOf(object, rpath), name, "rpath");
  }

  #search(name: string, loader: Loaded): Found | undefined {
    if (loader.dso?.runpath === undefined) {
      for (let up: Loaded | undefined = loader; up; up = up.loader) {
        const found = this.#searchRpath(up, name);
        if (found) return found;
      }
    }
    const byVariable = this.#searchIn(this.#libraryPath, name, "LD_LIBRARY_PATH");
    if (byVariable) return byVariable;
    const runpath = loader.dso?.runpath;
    const byRunpath = runpath && this.#searchIn(this.#pathOf(loader, runpath), name, "runpath");
    if (byRunpath) return byRunpath;
    const noDefaults = ((loader.dso?.flags1 ?? 0) & DF_1_NODEFLIB) !== 0;
    const defaults = this.#traits.folders.map((folder) => `${folder}/`);
    const cached = this.#cached(name);
    if (cached !== undefined && !(noDefaults && defaults.some((folder) => cached.startsWith(folder)))) {
      const candidate = this.#candidate(cached);
      if (candidate.kind === "taken") return { path: cached, by: "cache", ...candidate };
    }
    return noDefaults ? undefined : this.#searchIn(defaults, name, "default");
  }

  #cached(name: string): string | undefined {
    const { entries, error } = this.#system.store.cache(this.#traits.cachePath, this.#program.dso.header);
    if (error !== undefined) this.#problem(`${error}: the cache is not used`, false);
    const same = entries.get(name);
    const { cacheFlags: flags } = this.#abi;
    return (
      same && chooseCacheEntry(same, { flags, hwcapFolders: this.#hwcapFolders, hwcapBits: this.#hwcapBits })?.path
    );
  }

  #problem(message: string, fatal: boolean): void {
    if (this.#problems.size < MAX_PROBLEMS && !this.#problems.has(message)) {
      this.#problems.set(message, { message, fatal });
    }
  }

  /** The first object with a name keeps it. */
  #register(object: Loaded, identity?: string): void {
    for (const name of [object.name, object.path, object.dso?.soname]) {
      if (name !== undefined && !this.#byName.has(name)) this.#byName.set(name, object);
    }
    if (identity !== undefined && !this.#byIdentity.has(identity)) this.#byIdentity.set(identity, object);
  }

  #add(object: Loaded, identity?: string): Loaded {
    if (this.#chain.length >= MAX_OBJECTS) throw new TooMuchWork();
    this.#chain.push(object);
    this.#register(object, identity);
    return object;
  }

  /** Finds and loads an object; `undefined` where it is missing. */
  #load(name: string, loader: Loaded, foundBy?: FoundBy): Loaded | undefined {
    const known = this.#byName.get(name);
    if (known) return known;
    let found: Found | undefined;
    if (name.includes("/")) {
      const path = expandTokens(name, this.#tokens(loader));
      const candidate = path === undefined || path === "" ? undefined : this.#candidate(path);
      if (candidate?.kind === "taken") found = { path: path as string, by: "direct", ...candidate };
    } else {
      found = this.#search(name, loader);
    }
    if (!found) return undefined;
    const same = this.#byIdentity.get(found.identity);
    if (same) {
      this.#byName.set(name, same);
      return same;
    }
    const { path, dso, by, identity } = found;
    const error = found.error ?? (dso && loadError(dso));
    return this.#add(
      this.#loaded({ name, path, kind: "library", dso, loader, foundBy: foundBy ?? by, error }),
      identity,
    );
  }

  /** What an entry names after its tokens are expanded, which only names with a slash should have. */
  #linkName(name: string, object: Loaded): string {
    return hasToken(name) ? (expandTokens(name, this.#tokens(object)) ?? name) : name;
  }

  #missing(name: string, loader: Loaded): Loaded {
    // Not registered: each object that needs it makes the dynamic linker look, and say so, again.
    if (this.#chain.length >= MAX_OBJECTS) throw new TooMuchWork();
    const object = this.#loaded({ name, kind: "missing", loader });
    this.#chain.push(object);
    return object;
  }

  #preloads(): Loaded[] {
    const { preload = "", store } = this.#system;
    const { text = "", code } = store.text(this.#traits.preloadPath);
    if (code !== undefined && code !== "ENOENT") this.#problem(`${this.#traits.preloadPath}: ${code}`, false);
    const sources = [
      ["LD_PRELOAD", preload.split(/[ :]+/)],
      [this.#traits.preloadPath, text.replaceAll(/#.*/g, "").split(/[\s:]+/)],
    ] as const;
    const objects: Loaded[] = [];
    for (const [source, names] of sources) {
      for (const name of names.filter(Boolean)) {
        const object = this.#load(name, this.#main, "preload");
        if (!object) {
          this.#problem(`${name} from ${source} is not found: it is not preloaded`, false);
          continue;
        }
        object.neededBy.add(source);
        if (!objects.includes(object) && object.kind === "library") objects.push(object);
      }
    }
    return objects;
  }

  /** The list in which symbols are searched, extended breadth first while it is walked. */
  #walk(list: Loaded[]): void {
    const inList = new Set(list);
    for (let i = 0; i < list.length; ) {
      const object = list[i] as Loaded;
      if (object.done) {
        i += 1;
        continue;
      }
      object.done = true;
      // Filters are put before the object, which moves on; they are walked next.
      let place = i;
      for (const link of object.dso?.links ?? []) {
        const name = this.#linkName(link.name, object);
        const linked = this.#load(name, object) ?? this.#missing(name, object);
        linked.neededBy.add(object.name);
        if (link.kind === "needed") {
          if (!inList.has(linked)) list.push(linked);
          inList.add(linked);
          continue;
        }
        const late = inList.has(linked) ? list.indexOf(linked) : list.length;
        inList.add(linked);
        if (late <= place) continue;
        list.splice(late, 1);
        list.splice(place, 0, linked);
        const inChain = this.#chain.indexOf(linked);
        if (inChain >= 0) {
          this.#chain.splice(inChain, 1);
          this.#chain.splice(this.#chain.indexOf(object), 0, linked);
        }
        place += 1;
      }
    }
  }

  run(interpreterPath: string, interpreterIdentity: string | undefined, interpreterDso: Dso | undefined): Resolution {
    const { virtual, store } = this.#system;
    this.#add(this.#main, this.#program.identity);
    const interpreter = this.#loaded({
      name: this.#program.dso.interpreter ?? interpreterPath,
      path: interpreterPath,
      kind: interpreterIdentity === undefined ? "missing" : "interpreter",
      dso: interpreterDso,
      done: true,
    });
    this.#register(interpreter);
    if (!this.#byName.has(baseName(interpreterPath))) this.#byName.set(baseName(interpreterPath), interpreter);
    if (virtual) this.#add(this.#loaded({ name: virtual.soname, kind: "virtual", done: true }));

    let list: Loaded[] = [this.#main];
    try {
      list = [this.#main, ...this.#preloads()];
      this.#walk(list);
    } catch (error) {
      if (!(error instanceof TooMuchWork)) throw error;
      const objects = this.#chain.length;
      this.#problem(`given up after ${objects} objects and ${store.probes - this.#firstProbe} paths`, true);
    }

    // The dynamic linker puts itself where the first that needs it put it; where none does, it is not in the list.
    const at = list.indexOf(interpreter);
    if (at > 0) {
      const before = list.slice(0, at).findLast(({ kind }) => kind !== "missing") ?? this.#main;
      this.#chain.splice(this.#chain.indexOf(before) + 1, 0, interpreter);
    }
    for (const { path, error } of this.#chain) if (error !== undefined) this.#problem(`${path}: ${error}`, true);
    if (this.#system.versions) this.#checkVersions();
    return {
      libc: "glibc",
      interpreter: interpreterPath,
      objects: this.#chain.filter((object) => object !== this.#main).map(resolved),
      problems: [...this.#problems.values()],
    };
  }

  #checkVersions(): void {
    const versioned = (object: Loaded | undefined) =>
      object?.dso && object.path !== undefined ? { name: object.path, file: this.#absolute(object.path) } : undefined;
    const objects = this.#chain.flatMap((object) => versioned(object) ?? []);
    const problems = checkVersions(objects, this.#system.store, (name) => versioned(this.#byName.get(name)));
    for (const { message, fatal } of problems) this.#problem(message, fatal);
  }
}

/** One slash at the end, whatever there was. */
function withSlash(folder: string): string {
  let end = folder.length;
  while (end > 0 && folder[end - 1] === "/") end -= 1;
  return `${folder.slice(0, end)}/`;
}

function resolved({ name, path, kind, neededBy, foundBy, error }: Loaded): ResolvedObject {
  return {
    name,
    ...(path !== undefined && kind !== "missing" && { path }),
    kind: kind === "program" ? "library" : kind,
    neededBy: [...neededBy],
    ...(foundBy !== undefined && { foundBy }),
    ...(error !== undefined && { error }),
  };
}

/** Why an object that is built for the ABI cannot be a part of a program all the same. */
function loadError(dso: Dso): string | undefined {
  if (!dso.loadable) return "it has no loadable segments";
  if (!dso.dynamic) return "it has no dynamic section";
  if (dso.header.e_type === ET_EXEC) return "it is a program, not a library";
  return dso.flags1 & DF_1_PIE ? "it is a position-independent program, not a library" : undefined;
}

/** Resolves a program of glibc; `interpreterPath` is the dynamic linker that is taken for it. */
export function resolveGlibc(
  program: ProgramFile,
  interpreterPath: string,
  abi: LoaderAbi,
  system: LoaderSystem,
): Resolution {
  const { store } = system;
  const traits = store.traits(interpreterPath, abi);
  const stored = store.object(interpreterPath);
  const identity = "code" in stored ? undefined : stored.identity;
  const dso = "code" in stored ? undefined : stored.dso;
  return new GlibcResolution(program, abi, traits, system).run(interpreterPath, identity, dso);
}
