import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Reader } from "../../src/bytes/reader.js";
import { FrameInstructions, signed, unsigned } from "../../src/forge/dwarf.js";
import { parseImage } from "../../src/vdso/image.js";
import { forged, heard, planOf, SHAPES } from "../support/forged.js";
import { imagePath } from "../support/images.js";
import { needs, output } from "../support/referee.js";

const scratch = mkdtempSync(join(tmpdir(), "forge-unwind-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const binutils = needs("objdump", "binutils") && needs("readelf", "binutils");
const elfutils = needs("eu-readelf", "elfutils");

const fileOf = (kind: string, image: Uint8Array): string => {
  const path = join(scratch, `${kind}.dso`);
  writeFileSync(path, image);
  return path;
};

/** A row of an unwind table: where the frame is, and where registers of the caller are. */
type Row = Readonly<Record<string, string>>;

/** A function's rows as `readelf --debug-dump=frames-interp` writes them, by address. */
interface Table {
  readonly start: number;
  readonly end: number;
  readonly rows: ReadonlyMap<number, Row>;
}

/**
 *     00000018 00000028 0000001c FDE cie=00000000 pc=ffffe400..ffffe414
 *        LOC   CFA      ecx   edx   ebp   ra
 *     ffffe400 esp+4    u     u     u     c-4
 */
function tables(path: string): Table[] {
  const found: Table[] = [];
  let names: string[] = [];
  let rows = new Map<number, Row>();
  let initial: Row = {};
  let inFde = false;
  for (const line of output("readelf", "--debug-dump=frames-interp", "-W", path).split("\n")) {
    const fde = / FDE .*pc=([0-9a-f]+)\.\.([0-9a-f]+)/.exec(line);
    if (fde) {
      rows = new Map();
      const start = Number.parseInt(fde[1] as string, 16);
      // A description without instructions of its own has no rows: those of the CIE hold.
      rows.set(start, initial);
      found.push({ start, end: Number.parseInt(fde[2] as string, 16), rows });
      inFde = true;
      continue;
    }
    if (/ CIE /.test(line)) inFde = false;
    const words = line.trim().split(/\s+/);
    if (words[0] === "LOC") names = words.slice(1);
    else if (/^[0-9a-f]{8,16}$/.test(words[0] ?? "") && words.length === names.length + 1) {
      const row = Object.fromEntries(
        names.map((name, i) => [name, words[i + 1] as string]).filter(([, at]) => at !== "u"),
      );
      if (inFde) rows.set(Number.parseInt(words[0] as string, 16), row);
      else initial = row;
    }
  }
  return found;
}

/**
 * What an instruction's row must be: told from what those before it do to the stack, as objdump disassembles them. What
 * is behind a return or a jump away finds the stack as the function did.
 */
function expectedRows(disassembly: readonly string[], start: number, end: number, wide: boolean): Map<number, Row> {
  const word = wide ? 8 : 4;
  /** What lies below the return address: registers, and room without a name. */
  const stack: { readonly register?: string; readonly size: number }[] = [];
  const expected = new Map<number, Row>();
  for (const line of disassembly) {
    const [, address = "", instruction = ""] = /^ *([0-9a-f]+):\t(.*?) *$/.exec(line) ?? [];
    const at = Number.parseInt(address, 16);
    if (!(at >= start && at < end)) continue;
    let depth = word;
    const saved: [string, string][] = [];
    for (const { register, size } of stack) {
      depth += size;
      if (register !== undefined) saved.push([register, `c-${depth}`]);
    }
    const cfa = `${wide ? "rsp" : "esp"}+${depth}`;
    expected.set(at, { CFA: cfa, ...Object.fromEntries(saved), ra: `c-${word}` });
    const [, moved, register] = /^(push|pop) +%(\w+)$/.exec(instruction) ?? [];
    if (moved === "push") stack.push({ register: register as string, size: word });
    if (moved === "pop") expect(stack.pop()?.register).toBe(register);
    const [, change, room = ""] = /^(sub|add) +\$0x([0-9a-f]+),%[er]sp$/.exec(instruction) ?? [];
    if (change === "sub") stack.push({ size: Number.parseInt(room, 16) });
    if (change === "add") expect(stack.pop()).toEqual({ size: Number.parseInt(room, 16) });
    if (/^(ret|jmp +\*)/.test(instruction)) expect(stack).toEqual([]);
  }
  expect(stack).toEqual([]);
  return expected;
}

describe.each([...SHAPES.keys()])("the unwind tables of %s", (kind) => {
  const wide = planOf(kind).abi === "x86_64";
  const image = parseImage(forged(kind));
  const path = fileOf(kind, image.bytes);
  const plain = image.functions.filter(({ role }) => role !== "signal return");
  const signals = image.functions.filter(({ role }) => role === "signal return");

  it.skipIf(!binutils)("have the right row for every instruction", () => {
    const described = tables(path);
    const disassembly = output("objdump", "-d", "--no-show-raw-insn", path).split("\n");
    expect(described).toHaveLength(image.functions.length);
    let count = 0;
    for (const { address, size } of plain) {
      const start = Number(address);
      const table = described.find((one) => one.start === start) as Table;
      expect(table.end).toBe(start + size);
      let row: Row | undefined;
      const instructions = expectedRows(disassembly, start, table.end, wide);
      for (const [at, expected] of instructions) {
        row = table.rows.get(at) ?? row;
        expect({ at, row }).toEqual({ at, row: expected });
        count += 1;
      }
      // No row stands between instructions.
      for (const at of table.rows.keys()) expect(instructions.has(at)).toBe(true);
    }
    expect(count).toBeGreaterThanOrEqual(plain.length * 2);
  });

  it("begin one byte before a signal return, where no other function is", () => {
    for (const { address } of signals) {
      expect(plain.every((one) => one.address + BigInt(one.size) < address || one.address > address)).toBe(true);
      expect(image.bytes[Number(address - image.linkBase) - 1]).toBe(0x90);
    }
    expect(signals).toHaveLength(wide ? 0 : 2);
  });

  if (signals.length > 0) {
    it.skipIf(!binutils)("describe the signal returns as a kernel's own do", () => {
      /** The instructions of the descriptions under `zRS`, without addresses of code. */
      const ofSignals = (file: string): string[] => {
        const text = output("readelf", "--debug-dump=frames", "-W", file);
        const [, ...behind] = text.slice(text.indexOf('"zRS"')).split(/^.* FDE .*$/m);
        return behind.map((one) =>
          (one.match(/DW_CFA_(?!nop).*/g) ?? []).map((line) => line.replace(/ to [0-9a-f]+$/, "")).join("\n"),
        );
      };
      const ours = ofSignals(path);
      expect(ours).toHaveLength(2);
      expect(ours).toEqual(ofSignals(imagePath("686__qemu32__i386")));
    });
  }

  it.skipIf(!elfutils)("are read by eu-readelf without a complaint", () => {
    const { stdout, stderr, status } = heard("eu-readelf", "--debug-dump=frame", path);
    expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
    expect(stdout).not.toMatch(/invalid|unknown|error/i);
    expect(stdout).toContain(`fde_count:        ${image.functions.length}\n`);
    // Each row of the search table names the description that eu-readelf found there.
    expect(stdout.match(/ -> 0x[0-9a-f]+ fde=\[ *[0-9a-f]+\]/g)).toHaveLength(image.functions.length);
  });

  it("have a search table that is sorted and leads to each function's description", () => {
    const { elf } = image;
    const section = (name: string) => elf.section(name) as NonNullable<ReturnType<typeof elf.section>>;
    const hdr = section(".eh_frame_hdr");
    const frames = section(".eh_frame");
    const table = new Reader(elf.sectionBytes(hdr));
    const frame = new Reader(elf.sectionBytes(frames));
    expect(table.bytes.subarray(0, 4)).toEqual(Uint8Array.of(1, 0x1b, 3, 0x3b));
    expect(hdr.sh_addr + 4n + BigInt(table.u32At(4) | 0)).toBe(frames.sh_addr);
    const starts = image.functions.map(({ address, role }) => address - (role === "signal return" ? 1n : 0n));
    expect(table.u32At(8)).toBe(starts.length);
    starts.forEach((start, i) => {
      expect(hdr.sh_addr + BigInt(table.u32At(12 + i * 8) | 0)).toBe(start);
      const description = hdr.sh_addr + BigInt(table.u32At(16 + i * 8) | 0);
      const field = Number(description - frames.sh_addr) + 8;
      expect(frames.sh_addr + BigInt(field) + BigInt(frame.u32At(field) | 0)).toBe(start);
    });
  });
});

describe("the encodings of unwind tables", () => {
  const unsignedValue = (bytes: Uint8Array) => bytes.reduce((sum, byte, i) => sum + (byte & 0x7f) * 2 ** (7 * i), 0);

  it("keep numbers", () => {
    for (const value of [0, 1, 63, 64, 127, 128, 188, 8191, 8192, 16383, 16384, 2 ** 31 - 1]) {
      expect(unsignedValue(unsigned(value))).toBe(value);
      const positive = signed(value);
      expect(unsignedValue(positive)).toBe(value);
      expect((positive.at(-1) ?? 0) & 0x40).toBe(0);
      const negative = signed(-value - 1);
      expect(unsignedValue(negative) - 2 ** (7 * negative.length)).toBe(-value - 1);
      expect((negative.at(-1) ?? 0) & 0x40).toBe(0x40);
    }
    expect(signed(-4)).toEqual(Uint8Array.of(0x7c));
    expect(signed(188)).toEqual(Uint8Array.of(0xbc, 0x01));
  });

  it("advance by what two bytes hold, and refuse more", () => {
    expect(new FrameInstructions().advance(0x3f).bytes).toEqual(Uint8Array.of(0x7f));
    expect(new FrameInstructions().advance(0x40).bytes).toEqual(Uint8Array.of(2, 0x40));
    expect(new FrameInstructions().advance(0xff).bytes).toEqual(Uint8Array.of(2, 0xff));
    expect(new FrameInstructions().advance(0x102).bytes).toEqual(Uint8Array.of(3, 2, 1));
    expect(new FrameInstructions().advance(0xffff).bytes).toEqual(Uint8Array.of(3, 0xff, 0xff));
    expect(() => new FrameInstructions().advance(0x10000)).toThrow(RangeError);
    expect(() => new FrameInstructions().advance(-1)).toThrow(RangeError);
  });
});
