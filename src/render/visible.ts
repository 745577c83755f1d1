/**
 * Characters that a terminal obeys instead of showing: controls (C0, DEL, C1), line separators, and those that change
 * the direction of the text beside them.
 */
const OBEYED = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

/**
 * Text of one line as it may be sent to a terminal: what a terminal would obey is written out, an escape as `\x1b`, a
 * right-to-left override as `\u{202e}`. Names come from files and processes that anyone may have made.
 */
export function visible(text: string): string {
  return text.replace(OBEYED, writtenOut);
}

/** A character as its number: `\x1b`, `\u{202e}`. */
export function writtenOut(character: string): string {
  const code = character.codePointAt(0) as number;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}
