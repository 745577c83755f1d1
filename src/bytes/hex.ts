/** Two lower-case hex digits a byte, with `separator` between the bytes. */
export function hexBytes(bytes: Uint8Array, separator = ""): string {
  let text = "";
  for (let i = 0; i < bytes.length; i++) {
    if (i > 0) text += separator;
    text += (bytes[i] as number).toString(16).padStart(2, "0");
  }
  return text;
}

/** `0x` and lower-case hex digits, without padding: how addresses are written in text and in JSON. */
export function hex(value: number | bigint): string {
  return value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;
}

/** Lower-case hex digits padded with zeros to `width`, without `0x`. */
export function paddedHex(value: number | bigint, width: number): string {
  return value.toString(16).padStart(width, "0");
}
