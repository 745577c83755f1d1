/**
 * The one error that leaves a parser: some bytes, or a line of text, are not what their format says.
 *
 * The message states the fact ("Cannot read ELF header: class is 7"); {@link FormatError.offset} says where and
 * {@link FormatError.value} what was found there. Where the bytes came from (a path, a process) is added by whoever
 * opened them, as the `cause` of an error of their own.
 */
export class FormatError extends RangeError {
  override readonly name = "FormatError";
  /** Offset in bytes from the start of what was parsed; for text, the number of the line, from 1. */
  readonly offset: number;
  /** The value found there, where one value is to blame. */
  readonly value: number | bigint | string | undefined;

  constructor(message: string, offset: number, value?: number | bigint | string) {
    super(`${message} (at offset ${hexOffset(offset)})`);
    this.offset = offset;
    this.value = value;
  }
}

function hexOffset(offset: number): string {
  return offset < 10 ? String(offset) : `0x${offset.toString(16)}`;
}
