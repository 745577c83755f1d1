import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/bytes/error.js";
import { identify, sniff } from "../../src/kernel/format.js";
import { decompress } from "../../src/kernel/load.js";
import { decompressBlock } from "../../src/kernel/lzo.js";
import { Pull } from "../../src/kernel/pull.js";
import { imageBytes } from "../support/images.js";
import {
  arm64Image,
  available,
  bzImage,
  chunks,
  compressed,
  compressors,
  deb,
  filler,
  search,
  tar,
  vmlinux,
  withSize,
  zboot,
  zImage,
} from "../support/kernels.js";

const image = imageBytes("amd64__i386__embedded");
const layout = { size: 0x8000, images: [[0x3000, image]] as const };
const kernel = vmlinux(layout);
const names = compressors.filter(available);

/** Bytes with some changed, and perhaps cut short. */
function mutations(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  return fc
    .record({
      // The first bytes have the structure.
      changes: fc.array(
        fc.tuple(fc.oneof(fc.nat(Math.min(600, bytes.length - 1)), fc.nat(bytes.length - 1)), fc.nat(255)),
        { maxLength: 8 },
      ),
      length: fc.oneof({ weight: 3, arbitrary: fc.constant(bytes.length) }, fc.nat(bytes.length)),
    })
    .map(({ changes, length }) => {
      const copy = bytes.slice(0, length);
      for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
      return copy;
    });
}

/** What every search must come to: a result, with nothing but sentences with offsets among its problems. */
async function searched(bytes: Uint8Array): Promise<void> {
  const found = await search(bytes, { whole: true, maxSize: 16 << 20 });
  for (const { message } of found.problems) expect(message).toMatch(/^Cannot .*\(at offset /);
  for (const one of found.images) expect(one.image.bytes.length).toBeLessThanOrEqual(1 << 20);
}

const payloads = names.map((name) => [name, compressed(kernel, name)] as const);
const containers: readonly (readonly [string, Uint8Array])[] = [
  ["vmlinux", kernel],
  ...payloads.map(([name, payload]) => [name, payload] as const),
  ...payloads.map(
    ([name, payload]) => [`bzImage with ${name}`, bzImage(withSize(payload, kernel.length), "6.1")] as const,
  ),
  ["EFI zboot image", zboot(payloads[0]?.[1] ?? kernel, "gzip")],
  ["arm64 Image", arm64Image(layout)],
  ["zImage", zImage(payloads[0]?.[1] ?? kernel)],
  [
    "Debian package",
    deb(
      tar([
        { name: "./boot/", type: "5" },
        { name: "./boot/vmlinuz-1", bytes: kernel },
      ]),
    ),
  ],
  [
    "GNU and pax names",
    deb(
      tar([
        { name: "././@LongLink", type: "L", bytes: new TextEncoder().encode("./boot/vmlinuz-long\0") },
        { name: "x", bytes: kernel },
        { name: "pax", type: "x", bytes: new TextEncoder().encode("24 path=./boot/vmlinuz-2\n") },
        { name: "y", bytes: kernel },
      ]),
    ),
  ],
];

describe.each(containers)("a search of %s", (_, bytes) => {
  it("ends with a result whatever bytes are changed or missing", async () => {
    await fc.assert(fc.asyncProperty(mutations(bytes), searched), { numRuns: 40 });
  });
});

describe("every length", () => {
  it.each(names)("of a %s stream that is cut short ends in a FormatError, or was the end", async (name) => {
    const bytes = compressed(filler(600), name);
    const read = async (length: number) => {
      const parts: Uint8Array[] = [];
      for await (const part of decompress(name, new Pull(chunks(bytes.subarray(0, length), 64))))
        parts.push(part.slice());
      return Buffer.concat(parts);
    };
    expect([...(await read(bytes.length))]).toEqual([...filler(600)]);
    for (let length = 0; length < bytes.length; length++) {
      const result = await read(length).catch((error: unknown) => error);
      if (result instanceof Buffer) expect(result.equals(filler(600).subarray(0, result.length))).toBe(true);
      else expect(result).toBeInstanceOf(FormatError);
    }
  });

  it("of a header is identified or not, without an error", () => {
    for (const [, bytes] of containers) {
      for (let length = 0; length < 700; length++) {
        identify(bytes.subarray(0, length));
        sniff(bytes.subarray(0, length));
      }
    }
  });
});

it("LZO1X blocks of any bytes decompress or are refused with FormatError, inside their room", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
      try {
        expect(decompressBlock(bytes, new Uint8Array(1000))).toBeLessThanOrEqual(1000);
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError);
      }
    }),
    { numRuns: 2000 },
  );
});
