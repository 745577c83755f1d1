/** Values of the tokens in a path; one that is `undefined` cannot be told, and a path that needs it is dropped. */
export interface Tokens {
  readonly ORIGIN: string | undefined;
  readonly LIB: string | undefined;
  readonly PLATFORM: string | undefined;
}

const TOKEN = /\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM))(?![A-Za-z0-9_])/g;

/** Whether a path has a token that glibc expands. */
export function hasToken(path: string): boolean {
  return path.includes("$") && path.search(TOKEN) >= 0;
}

/**
 * Expands $ORIGIN, $LIB and $PLATFORM, in braces or not, as glibc does: other dollar signs stay. `undefined` where a
 * token has no value. Source: glibc, elf/dl-load.c, `is_dst` and `_dl_dst_substitute`.
 */
export function expandTokens(path: string, tokens: Tokens): string | undefined {
  if (!path.includes("$")) return path;
  let known = true;
  const expanded = path.replace(TOKEN, (_, braced: string | undefined, bare: string | undefined) => {
    const value = tokens[(braced ?? bare) as keyof Tokens];
    if (value === undefined) known = false;
    return value ?? "";
  });
  return known ? expanded : undefined;
}
