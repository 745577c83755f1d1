/** One entry of an initramfs. */
export interface CpioEntry {
  /** Path without a leading slash. */
  readonly path: string;
  /** File type and permission bits, as in `st_mode`. */
  readonly mode: number;
  /** Contents of a file, or the target of a symbolic link. */
  readonly data?: Uint8Array;
  /** Device numbers of a device node. */
  readonly device?: readonly [major: number, minor: number];
}

/** Pads to the next multiple of 4, as everything in the format is. */
const padding = (length: number): Buffer => Buffer.alloc(-length & 3);

/**
 * An archive in the "newc" format, which the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst),
 * in parts: what is in the entries is not copied.
 */
export function cpio(entries: readonly CpioEntry[]): Uint8Array[] {
  const parts: Uint8Array[] = [];
  const add = (entry: CpioEntry, inode: number): void => {
    const data = entry.data ?? new Uint8Array(0);
    const name = Buffer.from(`${entry.path}\0`);
    const [major, minor] = entry.device ?? [0, 0];
    const fields = [inode, entry.mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, name.length, 0];
    const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
    parts.push(header, name, padding(header.length + name.length), data, padding(data.length));
  };
  entries.forEach((entry, i) => {
    add(entry, i + 1);
  });
  add({ path: "TRAILER!!!", mode: 0 }, entries.length + 1);
  return parts;
}
