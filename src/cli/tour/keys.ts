/** What a key asks for; a number is that of a step. */
export type Key =
  | number
  | "on"
  | "next"
  | "back"
  | "up"
  | "down"
  | "page up"
  | "page down"
  | "first"
  | "last"
  | "again"
  | "help"
  | "quit"
  | "interrupt"
  | "suspend";

const KEYS: ReadonlyMap<string, Key> = new Map<string, Key>([
  [" ", "on"],
  ["\r", "on"],
  ["\n", "on"],
  ["n", "next"],
  ["l", "next"],
  ["\u001b[C", "next"],
  ["\u001bOC", "next"],
  ["b", "back"],
  ["p", "back"],
  ["\u007f", "back"],
  ["\u0008", "back"],
  ["\u001b[D", "back"],
  ["\u001bOD", "back"],
  ["k", "up"],
  ["\u001b[A", "up"],
  ["\u001bOA", "up"],
  ["j", "down"],
  ["\u001b[B", "down"],
  ["\u001bOB", "down"],
  ["\u001b[5~", "page up"],
  ["\u001b[6~", "page down"],
  ["\u001b[H", "first"],
  ["\u001b[1~", "first"],
  ["\u001bOH", "first"],
  ["\u001b[F", "last"],
  ["\u001b[4~", "last"],
  ["\u001bOF", "last"],
  ["r", "again"],
  ["?", "help"],
  ["h", "help"],
  ["q", "quit"],
  ["Q", "quit"],
  ["\u0004", "quit"],
  ["\u0003", "interrupt"],
  ["\u001a", "suspend"],
  ["0", 10],
  ...Array.from({ length: 9 }, (_, i): [string, Key] => [String(i + 1), i + 1]),
]);

/** A control sequence of ECMA-48, one of the keypad's, or a character. */
const SEQUENCE = /\p{Cc}\[[0-?]*[ -/]*[@-~]|\p{Cc}O.|[\s\S]/gu;

/** The keys in what a terminal sent, those that mean something here. */
export function keysIn(text: string): Key[] {
  return [...text.matchAll(SEQUENCE)].flatMap(([sequence]) => KEYS.get(sequence) ?? []);
}
