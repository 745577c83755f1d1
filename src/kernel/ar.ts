import { FormatError } from "../bytes/error.js";
import { Pull } from "./pull.js";

/** The first bytes of every ar archive. */
export const AR_MAGIC = "!<arch>\n";

/** A .deb has three members; signed ones a few more. */
const MAX_MEMBERS = 64;

const HEADER = 60;

/** A member of an ar archive. */
export interface ArMember {
  /** As written, without padding. */
  readonly name: string;
  readonly size: number;
  /** Offset of its bytes. */
  readonly offset: number;
  /** Its bytes; what is not read of them is passed over. */
  readonly body: Pull;
}

/**
 * The members of an ar archive, in order. Source: deb(5), ar(5): a header of 60 bytes of text, bytes padded to two.
 * Throws `FormatError`.
 */
export async function* arMembers(archive: Pull): AsyncGenerator<ArMember, void, undefined> {
  const decoder = new TextDecoder("latin1");
  const magic = await archive.read(AR_MAGIC.length, "ar archive");
  if (decoder.decode(magic) !== AR_MAGIC) throw new FormatError("Cannot read ar archive: it does not start as one", 0);
  for (let count = 0; (await archive.peek(1)).length > 0; count++) {
    const at = archive.offset;
    if (count >= MAX_MEMBERS) throw new FormatError(`Cannot read ar archive: more than ${MAX_MEMBERS} members`, at);
    const header = decoder.decode(await archive.read(HEADER, "ar archive"));
    const digits = header.slice(48, 58).trim();
    if (!header.endsWith("`\n") || !/^\d+$/.test(digits)) {
      throw new FormatError("Cannot read ar archive: no header of a member", at, digits);
    }
    const size = Number(digits);
    const name = header.slice(0, 16).trim().replace(/\/$/, "");
    const offset = archive.offset;
    yield { name, size, offset, body: new Pull(archive.limited(size, `ar member ${JSON.stringify(name)}`)) };
    await archive.skip(size - (archive.offset - offset), "ar archive");
    // The padding of the last member may be missing.
    if (size % 2 === 1 && (await archive.peek(1)).length > 0) await archive.skip(1, "ar archive");
  }
}
