import { FormatError } from "../bytes/error.js";
import { Pull } from "./pull.js";

const BLOCK = 512;

/** A file system of kernels and modules has thousands; a hundred thousand headers in a row are made to keep us busy. */
const MAX_MEMBERS = 200_000;

/** Longest name that Linux takes (PATH_MAX), with room; one that is longer is made to fill memory. */
const MAX_NAME = 64 * 1024;

/** Bytes of a pax header's records. */
const MAX_PAX = 1024 * 1024;

/** A member of a tar archive, as its header says. */
export interface TarMember {
  /** As written: it may be absolute or lead out by `..`, and is never to be used as the name of a file. */
  readonly name: string;
  /** Whether it is a file with bytes of its own: no link, folder or device. */
  readonly isFile: boolean;
  readonly size: number;
  /** Offset of its bytes. */
  readonly offset: number;
  /** Its bytes; what is not read of them is passed over. */
  readonly body: Pull;
}

const decoder = new TextDecoder("utf-8");

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
}

const error = (fact: string, offset: number, value?: number | string) =>
  new FormatError(`Cannot read tar archive: ${fact}`, offset, value);

/** A number of a header: octal digits, or (GNU) its high bit set and the rest binary, most significant byte first. */
function numberField(field: Uint8Array, what: string, offset: number): number {
  const first = field[0] as number;
  if (first & 0x80) {
    if (first !== 0x80) throw error(`${what} is negative or beyond any file`, offset, first);
    let value = 0;
    for (const byte of field.subarray(1)) value = value * 256 + byte;
    if (!Number.isSafeInteger(value)) throw error(`${what} is beyond any file`, offset, value);
    return value;
  }
  const digits = text(field).trim();
  if (!/^[0-7]*$/.test(digits)) throw error(`${what} is ${JSON.stringify(digits)}, no octal number`, offset, digits);
  const value = digits === "" ? 0 : Number.parseInt(digits, 8);
  return value;
}

/** Whether the header's checksum is right: the sum of its bytes, the field itself counted as spaces. */
function checksumMatches(header: Uint8Array, offset: number): boolean {
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += header[i] as number;
  return sum === numberField(header.subarray(148, 156), "checksum", offset + 148);
}

/** Whether these bytes start a tar archive: `ustar` where POSIX and GNU put it, and a checksum that is right. */
export function isTar(head: Uint8Array): boolean {
  if (head.length < BLOCK || text(head.subarray(257, 262)) !== "ustar") return false;
  try {
    return checksumMatches(head.subarray(0, BLOCK), 0);
  } catch {
    return false;
  }
}

/** What extension headers say of the member behind them. */
interface Extension {
  name?: string;
  size?: number;
}

/**
 * The members of a tar archive, in order: POSIX ustar and pax, and GNU's long names.
 *
 * Source: POSIX.1-2017, pax, "pax Interchange Format" and "ustar Interchange Format"; GNU tar manual, "Basic Tar
 * Format". Throws `FormatError`.
 */
export async function* tarMembers(archive: Pull): AsyncGenerator<TarMember, void, undefined> {
  let extension: Extension = {};
  for (let count = 0; ; count++) {
    if (count >= MAX_MEMBERS) throw error(`it has more than ${MAX_MEMBERS} members`, archive.offset);
    const at = archive.offset;
    // An archive that ends without its blocks of zeros is read all the same, as tar does.
    if ((await archive.peek(1)).length === 0) return;
    const header = await archive.read(BLOCK, "tar archive");
    if (header.every((byte) => byte === 0)) return;
    if (!checksumMatches(header, at)) throw error("the checksum of a header is wrong", at + 148);
    const type = String.fromCharCode(header[156] as number);
    const size = extension.size ?? numberField(header.subarray(124, 136), "size", at + 124);
    if (type === "L" || type === "x") {
      extension = { ...extension, ...(await readExtension(archive, type, size, at)) };
    } else {
      const isFile = type === "0" || type === "\0" || type === "7";
      const body = new Pull(archive.limited(size, "tar archive"));
      yield { name: extension.name ?? headerName(header), isFile, size, offset: archive.offset, body };
      const taken = archive.offset - at - BLOCK;
      await archive.skip(size - taken, "tar archive");
      extension = {};
    }
    await archive.skip((BLOCK - (size % BLOCK)) % BLOCK, "tar archive");
  }
}

function headerName(header: Uint8Array): string {
  const name = text(header.subarray(0, 100));
  const isPosix = header[262] === 0;
  const prefix = isPosix ? text(header.subarray(345, 500)) : "";
  return prefix === "" ? name : `${prefix}/${name}`;
}

async function readExtension(archive: Pull, type: "L" | "x", size: number, at: number): Promise<Extension> {
  const most = type === "L" ? MAX_NAME : MAX_PAX;
  if (size > most) throw error(`an extension header has ${size} bytes`, at + 124, size);
  const bytes = await archive.read(size, "tar archive");
  return type === "L" ? { name: text(bytes) } : paxRecords(bytes, at + BLOCK);
}

/** The records of a pax header, each `LENGTH KEY=VALUE\n` with the length of all of it. */
function paxRecords(bytes: Uint8Array, offset: number): Extension {
  const extension: Extension = {};
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const digits = space < 0 ? "" : decoder.decode(bytes.subarray(at, Math.min(space, at + 20)));
    const length = Number(digits);
    if (!/^\d+$/.test(digits) || length <= digits.length + 1 || at + length > bytes.length) {
      throw error("a record of a pax header has no length", offset + at, digits);
    }
    const record = decoder.decode(bytes.subarray(space + 1, at + length - 1));
    const equals = record.indexOf("=");
    const key = record.slice(0, equals);
    const value = record.slice(equals + 1);
    if (key === "path") extension.name = value;
    if (key === "size") {
      if (!/^\d{1,15}$/.test(value)) throw error(`a pax header says size ${JSON.stringify(value)}`, offset + at, value);
      extension.size = Number(value);
    }
    at += length;
  }
  return extension;
}
