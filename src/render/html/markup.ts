import { writtenOut } from "../visible.js";

/**
 * Text that is HTML already. Everything else that is put into a page is escaped by {@link html}, so that what comes
 * from elsewhere cannot reach it as markup by being forgotten.
 */
export class Markup {
  readonly text: string;

  /** Takes text of the program's own for HTML. */
  constructor(text: string) {
    this.text = text;
  }
}

/** What may stand in a template. Absent and `false` stand for nothing. */
export type Part = Markup | string | number | readonly Part[] | undefined | false;

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Longest text from elsewhere that is shown: that of the longest path. */
const MAX_TEXT = 4096;

/**
 * Characters that a page would not show, or would let change what stands beside them: controls, those of text
 * direction, halves of pairs, line separators, and code points that are none.
 */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Cn}\p{Zl}\p{Zp}]/gu;

/** The text with every character visible: a newline becomes `\x0a`, a right-to-left override `\u{202e}`. */
export function visible(text: string): string {
  const cut = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
  return cut.replace(UNSEEN, writtenOut);
}

/** Text for an element or a quoted attribute. */
function escaped(text: string): string {
  return visible(text).replace(/[&<>"']/g, (character) => ENTITIES[character] as string);
}

function render(part: Part): string {
  if (part === undefined || part === false) return "";
  if (part instanceof Markup) return part.text;
  if (typeof part === "string") return escaped(part);
  if (typeof part === "number") return String(part);
  return part.map(render).join("");
}

/** A template of HTML or SVG in which everything put in is escaped, unless it is {@link Markup}. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return new Markup(strings.reduce((text, string, i) => text + render(parts[i - 1]) + string));
}

/** Several lines as the text of a `<title>`, which shows newlines. */
export function lines(texts: readonly string[]): Markup {
  return new Markup(texts.map(escaped).join("\n"));
}
