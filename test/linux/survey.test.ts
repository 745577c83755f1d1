import { describe, expect, it } from "vitest";
import { MapsScan } from "../../src/linux/survey/maps-scan.js";
import { groupOf, KIND } from "../../src/linux/survey/sight.js";
import { stackVector } from "../../src/linux/survey/stack-vector.js";

const scanned = (text: string, ehdr = 0) => {
  const scan = new MapsScan();
  scan.scan(new TextEncoder().encode(text), text.length, ehdr);
  return scan;
};

describe("a scan of maps", () => {
  it("looks for copies in executable memory without a file, whatever it is called, and in small files", () => {
    const kept = [
      "1000-2000 r-xp 00000000 00:00 0 ",
      "2000-3000 r-xp 00000000 00:00 0",
      "3000-4000 r-xp 00000000 00:00 0                          [anon:a name]",
      "4000-5000 --xp 00000000 00:00 0                          [heap]",
      "5000-7000 r-xp 00000000 00:01 77                         /memfd:x (deleted)",
      "7000-9000 r-xs 00000000 08:01 5                          /tmp/a [vdso]",
    ];
    const left = [
      "10000-11000 r--p 00000000 00:00 0 ",
      "11000-12000 r-xp 00001000 08:01 5                        /usr/lib/libc.so.6",
      "400000-600000 r-xp 00000000 08:01 5                      /usr/bin/go-program",
      "7fff0000-7fff2000 r-xp 00000000 00:00 0                  [vdso]",
      "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]",
    ];
    const scan = scanned([...kept, ...left, ""].join("\n"));
    expect(scan.candidates).toEqual([1, 2, 2, 3, 3, 4, 4, 5, 5, 7, 7, 9].map((page) => page * 4096));
    expect(scan.kept).toEqual([KIND.vdso, 0x7fff0000, 0x7fff2000, 5]);
    expect(scan.overflowed).toBe(false);
  });

  it("says where there was more than it keeps", () => {
    const line = (i: number) => `${(i * 8192).toString(16)}-${(i * 8192 + 4096).toString(16)} r-xp 00000000 00:00 0 \n`;
    const text = (count: number) => Array.from({ length: count }, (_, i) => line(i + 1)).join("");
    expect(scanned(text(256)).overflowed).toBe(false);
    expect(scanned(text(257))).toMatchObject({ overflowed: true, candidates: { length: 512 } });
  });
});

describe("the group of a process", () => {
  it("is told by its image where the kernel's own pages hold it, and nowhere else", () => {
    const image = new Uint8Array(64);
    image[18] = 62;
    expect([groupOf(4, image, true), groupOf(4, image, false), groupOf(8, image, true)]).toEqual(["x32", 4, 8]);
    image[18] = 3;
    expect([groupOf(4, image, true), groupOf(4, new Uint8Array(0), true)]).toEqual([4, 4]);
  });
});

describe("the vector on a stack", () => {
  const RANDOM = 0x7ffc_0000_1239n;
  const vector = [
    { tag: 33, value: 0x7ffc_1000_0000n },
    { tag: 16, value: 5n },
    { tag: 6, value: 4096n },
    { tag: 25, value: RANDOM },
    { tag: 23, value: 0n },
  ];
  const [wordSize, littleEndian] = [8, true] as const;
  /** A stack on which these entries lie `below` bytes under the random bytes. */
  const stack = (entries: readonly { tag: number; value: bigint }[], below = 0) => {
    const bytes = new Uint8Array(4096).fill(0x11);
    const view = new DataView(bytes.buffer);
    const start = 4096 - (entries.length + 1) * 16 - below;
    for (const [i, { tag, value }] of [...entries, { tag: 0, value: 0n }].entries()) {
      view.setBigUint64(start + i * 16, BigInt(tag), true);
      view.setBigUint64(start + i * 16 + 8, value, true);
    }
    const from = RANDOM - (RANDOM % 8n) - 4096n;
    return (address: bigint, size: number) => bytes.slice(Number(address - from), Number(address - from) + size);
  };
  const found = (entries: readonly { tag: number; value: bigint }[], below = 0) =>
    stackVector(vector, stack(entries, below), { wordSize, littleEndian });

  it("is found where the kernel puts it, and where it was shifted", () => {
    expect(found(vector)).toEqual(vector);
    expect(found(vector, 8)).toEqual(vector);
    expect(found(vector, 48)).toEqual(vector);
  });

  it("is found with entries that somebody changed, and with more of them behind", () => {
    const changed = [{ tag: 1, value: 0n }, ...vector.slice(1)];
    expect(found(changed)).toEqual(changed);
    const longer = [...vector, { tag: 33, value: 0x1000n }];
    expect(found(longer)).toEqual(longer);
  });

  it("is absent where it is not there, and where the memory cannot be read", () => {
    expect(found([])).toBeUndefined();
    expect(found([{ tag: 25, value: RANDOM }])).toBeUndefined();
    expect(found(vector.map((one) => (one.tag === 25 ? one : { tag: 7, value: 7n })))).toBeUndefined();
    expect(stackVector(vector, () => undefined, { wordSize, littleEndian })).toBeUndefined();
    expect(stackVector([], stack(vector), { wordSize, littleEndian })).toBeUndefined();
  });
});
