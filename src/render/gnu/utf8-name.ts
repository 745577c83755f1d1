/**
 * A name of an ELF file, which is bytes, one a character, as it is to be written: bytes beyond ASCII are UTF-8 by custom.
 */
export function utf8Name(name: string): string {
  for (let i = 0; i < name.length; i++) {
    if (name.charCodeAt(i) > 0x7f) return new TextDecoder().decode(Uint8Array.from(name, (c) => c.charCodeAt(0)));
  }
  return name;
}
