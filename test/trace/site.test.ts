import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Writer } from "../../src/bytes/writer.js";
import type { Mapping } from "../../src/linux/maps.js";
import { type CodeSpace, findSite, roleOf } from "../../src/run/counter/site.js";
import { needs, output } from "../support/referee.js";

const mapping = (start: bigint, name: string, more: Partial<Mapping> = {}): Mapping => ({
  ...{ start, end: start + 0x1000n, perms: "r-xp", offset: 0x4000n, device: "0:1", name },
  inode: name.startsWith("/") ? 7n : 0n,
  ...more,
});
const LIBC = 0x7f0000000000n;
const VDSO = 0x7ff000000000n;
const PROGRAM = 0x555555554000n;
const LIBRARY = 0x7f1000000000n;
const HEAP = 0x600000n;
const GATE = 0xf7fc1000n;

/** A process whose code has calls (`call *%rax`) right before these addresses and nowhere else. */
function space(...returns: readonly bigint[]): CodeSpace {
  const mappings = [
    mapping(HEAP, "[heap]", { perms: "rw-p" }),
    mapping(PROGRAM, "/usr/bin/program"),
    mapping(GATE, "[vdso]"),
    mapping(LIBC, "/lib/libc.so.6"),
    mapping(LIBRARY, "/opt/libown.so (deleted)"),
    mapping(VDSO, "[vdso]"),
  ];
  const read = (address: bigint, size: number) => {
    const bytes = new Uint8Array(size);
    if (returns.includes(address + BigInt(size))) bytes.set([0xff, 0xd0], size - 2);
    return bytes;
  };
  return { mappings, read };
}

function stack(wordSize: 4 | 8, ...words: readonly bigint[]): Uint8Array {
  const to = new Writer({ littleEndian: true, wordSize });
  for (const word of words) to.word(word);
  return to.finish();
}

describe("findSite()", () => {
  it("passes over the C library, data, and what is no return address", () => {
    const words = [1n, HEAP + 8n, LIBC + 0x40n, PROGRAM + 0x10n, PROGRAM + 0x20n, LIBRARY + 0x30n];
    const of = space(LIBC + 0x40n, PROGRAM + 0x20n, LIBRARY + 0x30n);
    const site = findSite({ abi: "x86_64", instruction: LIBC + 0x100n, stack: stack(8, ...words) }, of);
    expect(site).toEqual({
      entered: { role: "libc", name: "/lib/libc.so.6", offset: 0x40fen, inode: 7n },
      caller: { role: "file", name: "/usr/bin/program", offset: 0x401fn, inode: 7n },
      slot: { offset: 32, value: PROGRAM + 0x20n },
    });
  });

  it("takes code that enters the kernel itself for the caller, and the vDSO's for a call that fell back", () => {
    const own = findSite(
      { abi: "x86_64", instruction: LIBRARY + 0x100n, stack: stack(8, PROGRAM + 0x20n) },
      space(PROGRAM + 0x20n),
    );
    expect([own.caller?.name, own.slot, own.entered]).toEqual(["/opt/libown.so (deleted)", undefined, own.caller]);
    const fell = findSite(
      { abi: "x86_64", instruction: VDSO + 0x100n, stack: stack(8, PROGRAM + 0x20n) },
      space(PROGRAM + 0x20n),
    );
    expect([fell.entered.role, fell.entered.offset, fell.caller?.name]).toEqual(["vdso", 0xfen, "/usr/bin/program"]);
  });

  it("tells of i386, where all calls come from the vDSO's gate, who called that", () => {
    const libc32 = mapping(0xf7d00000n, "/lib32/libc.so.6");
    const program32 = mapping(0x8048000n, "/usr/bin/program");
    const inside = [GATE + 0x80n, 0xf7d00040n, 0x8048020n];
    const of = space(...inside);
    const code = { ...of, mappings: [...of.mappings, libc32, program32] };
    const at = (...words: bigint[]) =>
      findSite({ abi: "i386", instruction: GATE + 0x559n, stack: stack(4, ...words) }, code);
    const direct = at(1n, 2n, 3n, 0xf7d00040n, 0n, 0x8048020n);
    expect([direct.entered.role, direct.caller?.name, direct.slot?.offset]).toEqual(["libc", "/usr/bin/program", 20]);
    const fell = at(1n, 2n, 3n, GATE + 0x80n, 0xf7d00040n, 0x8048020n);
    expect([fell.entered.role, fell.caller?.name]).toEqual(["vdso", "/usr/bin/program"]);
  });

  it("prefers the call that leads to the function it was in to what earlier calls left on the stack", () => {
    // At 0x100 the program calls its own code, at 0x200 by a linkage table's entry at 0x800 a function at 0x40 of libc.
    const image = new Uint8Array(0x2000);
    const put = (at: number, ...bytes: number[]) => image.set(bytes, at);
    const i32 = (value: number) => [...new Uint8Array(Int32Array.of(value).buffer)];
    put(0xfb, 0xe8, ...i32(0x300 - 0x100));
    put(0x1fb, 0xe8, ...i32(0x800 - 0x200));
    put(0x800, 0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, ...i32(0x1010 - 0x80a));
    put(0x1010, ...new Uint8Array(BigUint64Array.of(LIBC + 0x40n).buffer));
    // At 0x400 it calls what jumps to that entry in place of calling it; at 0x500 it calls by a pointer.
    put(0x3fb, 0xe8, ...i32(0x700 - 0x400));
    put(0x710, 0xe9, ...i32(0x800 - 0x715));
    put(0x4fe, 0xff, 0xd0);
    const of: CodeSpace = {
      mappings: space().mappings,
      read: (address, size) => {
        const at = Number(address - PROGRAM);
        return at >= 0 && at + size <= image.length ? image.subarray(at, at + size) : undefined;
      },
    };
    const caller = (...returns: bigint[]) => {
      const words = returns.map((at) => PROGRAM + at);
      return findSite({ abi: "x86_64", instruction: LIBC + 0x60n, stack: stack(8, ...words) }, of).slot?.value;
    };
    expect(caller(0x100n, 0x500n, 0x200n)).toBe(PROGRAM + 0x200n);
    expect(caller(0x100n, 0x500n, 0x400n)).toBe(PROGRAM + 0x400n);
    expect(caller(0x100n, 0x500n)).toBe(PROGRAM + 0x500n);
    expect(caller(0x100n)).toBe(PROGRAM + 0x100n);
  });

  it("finds nobody on a stack that has none, or that cannot be read", () => {
    const none = findSite({ abi: "x86_64", instruction: LIBC + 0x100n, stack: stack(8, 1n, 2n) }, space());
    expect([none.caller, none.slot]).toEqual([undefined, undefined]);
    const empty = findSite(
      { abi: "x86_64", instruction: LIBC + 0x100n, stack: new Uint8Array(3) },
      { mappings: [], read: () => undefined },
    );
    expect(empty).toEqual({ entered: { role: "memory", name: "", offset: 0n, inode: 0n } });
  });

  it.skipIf(![needs("objdump", "binutils"), needs("gcc", "gcc")].every(Boolean))(
    "takes for return addresses all that objdump finds right behind a call",
    () => {
      const library = output("gcc", "-print-file-name=libc.so.6").trim();
      const lines = output("objdump", "-d", "--no-show-raw-insn", "-j", ".text", library).split("\n");
      const instructions = lines.flatMap((line) => {
        const [, address, text] = /^ *([0-9a-f]+):\t(.*)$/.exec(line) ?? [];
        return address && text ? [{ address: BigInt(`0x${address}`), text }] : [];
      });
      const returns = instructions.flatMap(({ text }, i) => {
        const next = instructions[i + 1];
        return next && /^(notrack |bnd )?call/.test(text) ? [next.address] : [];
      });
      expect(returns.length).toBeGreaterThan(1000);
      const section = /^ *\d+ \.text +\S+ +([0-9a-f]+) +\S+ +([0-9a-f]+)/m.exec(output("objdump", "-h", library));
      // The C library is linked so that code lies at its offset in the file.
      expect(Number(`0x${section?.[1]}`)).toBe(Number(`0x${section?.[2]}`));
      const bytes = readFileSync(library);
      const code: CodeSpace = {
        mappings: [
          mapping(0n, "/opt/other.so", { end: BigInt(bytes.length), offset: 0n }),
          mapping(LIBC, "/lib/libc.so.6"),
        ],
        read: (address, size) => bytes.subarray(Number(address), Number(address) + size),
      };
      const missed = returns.filter((address) => {
        const site = findSite({ abi: "x86_64", instruction: LIBC + 0x100n, stack: stack(8, address) }, code);
        return site.slot?.value !== address;
      });
      expect(missed).toEqual([]);
    },
  );
});

describe("roleOf()", () => {
  it.each([
    [
      "libc",
      "/lib/x86_64-linux-gnu/libc.so.6 /lib/libc-2.31.so /lib/libpthread.so.0 /lib/librt-2.17.so /lib/ld-musl-x86_64.so.1 /lib/libc.musl-x86_64.so.1",
    ],
    ["dynamic linker", "/lib64/ld-linux-x86-64.so.2 /lib/ld-2.31.so /lib/ld-linux.so.2"],
    ["file", "/usr/bin/ld /usr/lib/libcrypt.so.1 /usr/lib/librtmp.so.1 /usr/lib/libcap.so.2 /usr/bin/libc"],
    ["memory", "[heap] [anon:jit] //anon"],
  ])("%s: %s", (role, names) => {
    for (const name of names.split(" ")) {
      expect([name, roleOf({ name: name === "//anon" ? "" : name })]).toEqual([name, role]);
    }
  });
});
