const utf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * The text of a path that was read one byte a character: UTF-8 where its bytes are valid as such, else unchanged.
 *
 * Linux gives the bytes of a file name no encoding; the interfaces that take the result encode it as UTF-8.
 */
export function pathText(latin1: string): string {
  // Every character of a plain ASCII path means itself.
  let plain = true;
  for (let i = 0; i < latin1.length && plain; i++) plain = latin1.charCodeAt(i) < 0x80;
  if (plain) return latin1;
  try {
    return utf8.decode(Uint8Array.from(latin1, (character) => character.charCodeAt(0)));
  } catch {
    return latin1;
  }
}

/**
 * The folder of a path as a dynamic linker sees it: what stands before the last slash, not normalized, with the working
 * folder in front of a relative path.
 */
export function folderOf(path: string, cwd: string): string {
  const full = path.startsWith("/") ? path : `${cwd.endsWith("/") ? cwd : `${cwd}/`}${path}`;
  const slash = full.lastIndexOf("/");
  return slash <= 0 ? "/" : full.slice(0, slash);
}

/** The last component of a path. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
