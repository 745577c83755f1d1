import { failed } from "./files.js";
import type { ObjectStore } from "./store.js";
import type { LoadProblem } from "./types.js";

/** An object whose versions are to be checked, and what it finds under the names that it needs. */
export interface VersionedObject {
  /** As messages name it. */
  readonly name: string;
  /** Absolute. */
  readonly file: string;
}

/**
 * Checks that every symbol version that an object needs is defined by the object that it is needed of, as glibc does
 * before it relocates anything. `find` gives the loaded object of a name, `undefined` where it is missing or virtual.
 */
export function checkVersions(
  objects: readonly VersionedObject[],
  store: ObjectStore,
  find: (name: string) => VersionedObject | undefined,
): LoadProblem[] {
  const problems: LoadProblem[] = [];
  for (const object of objects) {
    const own = store.versions(object.file);
    if ("error" in own || failed(own)) continue;
    for (const { file, version, weak } of own.needs) {
      const provider = find(file);
      const theirs = provider && store.versions(provider.file);
      if (!provider || !theirs || "error" in theirs || theirs.defines.includes(version)) continue;
      const required = `required by ${object.name}`;
      if (theirs.defines.length === 0) {
        problems.push({ message: `${provider.name}: no version information available (${required})`, fatal: false });
      } else if (!weak) {
        problems.push({ message: `${provider.name}: version \`${version}' not found (${required})`, fatal: false });
      }
    }
  }
  return problems;
}
