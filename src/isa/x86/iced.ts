/**
 * The WebAssembly module of the npm package `iced-x86` 1.21.0, called without that package's JavaScript.
 *
 * Loading the package's own JavaScript (0.9 MB) costs several times what its WebAssembly costs, so this room speaks to
 * the module itself, in the calling convention of wasm-bindgen: objects are addresses in its memory that the caller
 * frees, results of more than one word are written to a place that the caller gives. The package's version is pinned exactly,
 * and {@link Iced} checks that everything it calls is there.
 */

/** As much of the global `WebAssembly` as is used here; TypeScript knows it only together with the whole DOM. */
interface WebAssemblyApi {
  readonly Module: { new (bytes: Uint8Array): object; imports(module: object): { module: string; name: string }[] };
  readonly Instance: new (module: object, imports: WasmImports) => { readonly exports: object };
}

type WasmImports = Record<string, Record<string, (...values: number[]) => number>>;

const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyApi };

/** What is called of the module; everything else that it exports is left out when it is loaded. */
interface IcedExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  __wbindgen_malloc(size: number, alignment: number): number;
  __wbindgen_free(address: number, size: number, alignment: number): void;
  decoder_new(result: number, bits: number, data: number, size: number, options: number): void;
  __wbg_decoder_free(decoder: number): void;
  decoder_set_ip(decoder: number, address: bigint): void;
  decoder_set_position(result: number, decoder: number, position: number): void;
  decoder_decodeOut(decoder: number, instruction: number): void;
  decoder_lastError(decoder: number): number;
  instruction_new(): number;
  __wbg_instruction_free(instruction: number): void;
  instruction_code(instruction: number): number;
  instruction_length(instruction: number): number;
  instruction_equals(instruction: number, other: number): number;
  instruction_flowControl(instruction: number): number;
  instruction_opCount(instruction: number): number;
  instruction_opKind(result: number, instruction: number, operand: number): void;
  instruction_opRegister(result: number, instruction: number, operand: number): void;
  instruction_immediate(result: number, instruction: number, operand: number): void;
  instruction_nearBranchTarget(instruction: number): bigint;
  instruction_farBranch32(instruction: number): number;
  instruction_farBranchSelector(instruction: number): number;
  instruction_memoryBase(instruction: number): number;
  instruction_memoryIndex(instruction: number): number;
  instruction_memoryIndexScale(instruction: number): number;
  instruction_memoryDisplacement(instruction: number): bigint;
  instruction_memoryDisplSize(instruction: number): number;
  instruction_memorySegment(instruction: number): number;
  instruction_memorySize(instruction: number): number;
  instruction_isBroadcast(instruction: number): number;
  instruction_opMask(instruction: number): number;
  instruction_zeroingMasking(instruction: number): number;
  instruction_roundingControl(instruction: number): number;
  instruction_suppressAllExceptions(instruction: number): number;
  instruction_hasRepePrefix(instruction: number): number;
  instruction_hasRepnePrefix(instruction: number): number;
  instruction_hasXacquirePrefix(instruction: number): number;
  instruction_hasXreleasePrefix(instruction: number): number;
  memorysizeext_size(memorySize: number): number;
  formatter_new(result: number, syntax: number): void;
  formatter_operandCount(formatter: number, instruction: number): number;
  formatter_getInstructionOperand(result: number, formatter: number, instruction: number, operand: number): void;
  formatter_formatMnemonicOptions(result: number, formatter: number, instruction: number, options: number): void;
  formatter_formatAllOperands(result: number, formatter: number, instruction: number): void;
  formatter_formatRegister(result: number, formatter: number, register: number): void;
}

const NEEDED: ReadonlySet<string> = new Set<keyof IcedExports>([
  "memory",
  "__wbindgen_malloc",
  "__wbindgen_free",
  "decoder_new",
  "__wbg_decoder_free",
  "decoder_set_ip",
  "decoder_set_position",
  "decoder_decodeOut",
  "decoder_lastError",
  "instruction_new",
  "__wbg_instruction_free",
  "instruction_code",
  "instruction_length",
  "instruction_equals",
  "instruction_flowControl",
  "instruction_opCount",
  "instruction_opKind",
  "instruction_opRegister",
  "instruction_immediate",
  "instruction_nearBranchTarget",
  "instruction_farBranch32",
  "instruction_farBranchSelector",
  "instruction_memoryBase",
  "instruction_memoryIndex",
  "instruction_memoryIndexScale",
  "instruction_memoryDisplacement",
  "instruction_memoryDisplSize",
  "instruction_memorySegment",
  "instruction_memorySize",
  "instruction_isBroadcast",
  "instruction_opMask",
  "instruction_zeroingMasking",
  "instruction_roundingControl",
  "instruction_suppressAllExceptions",
  "instruction_hasRepePrefix",
  "instruction_hasRepnePrefix",
  "instruction_hasXacquirePrefix",
  "instruction_hasXreleasePrefix",
  "memorysizeext_size",
  "formatter_new",
  "formatter_operandCount",
  "formatter_getInstructionOperand",
  "formatter_formatMnemonicOptions",
  "formatter_formatAllOperands",
  "formatter_formatRegister",
]);

/** Kinds of operand: iced's `OpKind`. */
export const OpKind = {
  register: 0,
  nearBranch16: 1,
  nearBranch32: 2,
  nearBranch64: 3,
  farBranch16: 4,
  farBranch32: 5,
  immediate8: 6,
  immediate8Second: 7,
  immediate16: 8,
  immediate32: 9,
  immediate64: 10,
  immediate8to16: 11,
  immediate8to32: 12,
  immediate8to64: 13,
  immediate32to64: 14,
  memorySegSi: 15,
  memorySegEsi: 16,
  memorySegRsi: 17,
  memorySegDi: 18,
  memorySegEdi: 19,
  memorySegRdi: 20,
  memoryEsDi: 21,
  memoryEsEdi: 22,
  memoryEsRdi: 23,
  memory: 24,
} as const;

/** How an instruction ends: iced's `FlowControl`. */
export const FlowControl = {
  next: 0,
  unconditionalBranch: 1,
  indirectBranch: 2,
  conditionalBranch: 3,
  return: 4,
  call: 5,
  indirectCall: 6,
  interrupt: 7,
  transaction: 8,
  exception: 9,
} as const;

/**
 * `DecoderOptions.NoInvalidCheck`, as GNU tools decode encodings that a processor refuses, such as a needless `lock`; and
 * `DecoderOptions.MPX`, as they know that extension.
 */
const DECODER_OPTIONS = 1 | 0x8_0000;
/** `DecoderError.NoMoreBytes`. */
const NO_MORE_BYTES = 2;
/** Bytes of the largest result that is not a string: three words, and the padding behind them. */
const RESULT_SIZE = 16;
/** `FormatterSyntax.Gas`. */
const GAS = 0;
/** `FormatMnemonicOptions.NoPrefixes`. */
const NO_PREFIXES = 1;

/** Sections of a WebAssembly module (WebAssembly core specification, 5.5.2). */
const CUSTOM_SECTION = 0;
const EXPORT_SECTION = 7;

/** Reads the unsigned LEB128 numbers of a WebAssembly module. */
class Leb128Cursor {
  readonly #bytes: Uint8Array;
  at: number;

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes;
    this.at = at;
  }

  next(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.#bytes[this.at++];
      if (byte === undefined) throw new Error("the WebAssembly of iced-x86 ends inside a number");
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    return value >>> 0;
  }
}

/** Writes a number as five bytes of LEB128, which is what any 32-bit number fits. */
function paddedLeb128(value: number): number[] {
  return [0, 7, 14, 21, 28].map((shift) => ((value >>> shift) & 0x7f) | (shift < 28 ? 0x80 : 0));
}

/**
 * The module with only those exports that this room calls.
 *
 * V8 compiles a wrapper for each exported function when a module is instantiated; of iced's 762 exports that takes
 * longer than all the rest of loading together.
 */
function withNeededExports(wasm: Uint8Array): Uint8Array {
  const cursor = new Leb128Cursor(wasm, 8);
  const sections: Uint8Array[] = [wasm.subarray(0, 8)];
  while (cursor.at < wasm.length) {
    const start = cursor.at++;
    const size = cursor.next();
    const end = cursor.at + size;
    const id = wasm[start];
    if (id === EXPORT_SECTION) sections.push(neededExports(wasm, cursor, end));
    else if (id !== CUSTOM_SECTION) sections.push(wasm.subarray(start, end));
    cursor.at = end;
  }
  const result = new Uint8Array(sections.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const section of sections) {
    result.set(section, at);
    at += section.length;
  }
  return result;
}

/** The export section that starts at the cursor and ends at `end`, with only the needed exports. */
function neededExports(wasm: Uint8Array, cursor: Leb128Cursor, end: number): Uint8Array {
  const start = cursor.at;
  const text = new TextDecoder("latin1").decode(wasm.subarray(start, end));
  const kept: Uint8Array[] = [];
  for (let count = cursor.next(); count > 0; count--) {
    const entry = cursor.at;
    const size = cursor.next();
    const name = text.slice(cursor.at - start, cursor.at - start + size);
    // Behind the name stand a byte for the kind and the index.
    cursor.at += size + 1;
    cursor.next();
    if (NEEDED.has(name)) kept.push(wasm.subarray(entry, cursor.at));
  }
  const body = [...paddedLeb128(kept.length), ...kept.flatMap((bytes) => [...bytes])];
  return Uint8Array.from([EXPORT_SECTION, ...paddedLeb128(body.length), ...body]);
}

/** The imports that wasm-bindgen gives the module. Only a panic in the module calls any that this room can reach. */
function importsOf(module: object, text: (address: number, size: number) => string): WasmImports {
  const imports: WasmImports = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    imports[from] ??= {};
    imports[from][name] = (address = 0, size = 0) => {
      throw new Error(name === "__wbindgen_throw" ? `iced-x86: ${text(address, size)}` : `iced-x86 called ${name}`);
    };
  }
  return imports;
}

/** One decoder over one piece of code, with the instruction that it decoded last. Must be freed. */
export class IcedDecoder {
  readonly #iced: Iced;
  readonly #exports: IcedExports;
  readonly #decoder: number;
  readonly #instruction: number;

  constructor(iced: Iced, exports: IcedExports, bits: 16 | 32 | 64, code: Uint8Array) {
    this.#iced = iced;
    this.#exports = exports;
    // The decoder takes over the copy and frees it with itself.
    const data = exports.__wbindgen_malloc(code.length, 1) >>> 0;
    new Uint8Array(exports.memory.buffer).set(code, data);
    exports.decoder_new(iced.result, bits, data, code.length, DECODER_OPTIONS);
    this.#decoder = iced.word(0);
    this.#instruction = exports.instruction_new() >>> 0;
  }

  free(): void {
    this.#exports.__wbg_instruction_free(this.#instruction);
    this.#exports.__wbg_decoder_free(this.#decoder);
  }

  /** Decodes the instruction at `position`, which then lies at `address`. */
  decodeAt(position: number, address: bigint): void {
    this.#exports.decoder_set_position(this.#iced.result, this.#decoder, position);
    this.#exports.decoder_set_ip(this.#decoder, BigInt.asIntN(64, address));
    this.#exports.decoder_decodeOut(this.#decoder, this.#instruction);
  }

  /** iced's `Code`: one number for each opcode and form; 0 where the bytes are no instruction. */
  get code(): number {
    return this.#exports.instruction_code(this.#instruction);
  }

  /** Whether decoding failed only because the bytes ended. */
  get truncated(): boolean {
    return this.#exports.decoder_lastError(this.#decoder) === NO_MORE_BYTES;
  }

  get length(): number {
    return this.#exports.instruction_length(this.#instruction);
  }

  get flowControl(): number {
    return this.#exports.instruction_flowControl(this.#instruction);
  }

  /** Whether another decoder decoded the same instruction, wherever it lies and however long it is. */
  isSameAs(other: IcedDecoder): boolean {
    return this.#exports.instruction_equals(this.#instruction, other.#instruction) !== 0;
  }

  get opCount(): number {
    return this.#exports.instruction_opCount(this.#instruction);
  }

  opKind(operand: number): number {
    this.#exports.instruction_opKind(this.#iced.result, this.#instruction, operand);
    return this.#iced.word(0);
  }

  opRegister(operand: number): number {
    this.#exports.instruction_opRegister(this.#iced.result, this.#instruction, operand);
    return this.#iced.word(0);
  }

  /** An immediate operand, sign-extended or not as its kind says, as 64 bits. */
  immediate(operand: number): bigint {
    this.#exports.instruction_immediate(this.#iced.result, this.#instruction, operand);
    return this.#iced.doubleWord();
  }

  get nearBranchTarget(): bigint {
    return BigInt.asUintN(64, this.#exports.instruction_nearBranchTarget(this.#instruction));
  }

  get farBranchOffset(): number {
    return this.#exports.instruction_farBranch32(this.#instruction) >>> 0;
  }

  get farBranchSelector(): number {
    return this.#exports.instruction_farBranchSelector(this.#instruction);
  }

  get memoryBase(): number {
    return this.#exports.instruction_memoryBase(this.#instruction);
  }

  get memoryIndex(): number {
    return this.#exports.instruction_memoryIndex(this.#instruction);
  }

  get memoryIndexScale(): number {
    return this.#exports.instruction_memoryIndexScale(this.#instruction);
  }

  /** The displacement, or the address itself where the base is the program counter; signed. */
  get memoryDisplacement(): bigint {
    return this.#exports.instruction_memoryDisplacement(this.#instruction);
  }

  /** Bytes of the displacement; 0 where the encoding has none. */
  get memoryDisplSize(): number {
    return this.#exports.instruction_memoryDisplSize(this.#instruction);
  }

  get memorySegment(): number {
    return this.#exports.instruction_memorySegment(this.#instruction);
  }

  /** Bytes that a memory operand covers. */
  get memorySize(): number {
    return this.#exports.memorysizeext_size(this.#exports.instruction_memorySize(this.#instruction));
  }

  /** How a memory operand is broadcast, as AT&T syntax writes it: `{1to8}`; empty where it is not. */
  get broadcast(): string {
    if (this.#exports.instruction_isBroadcast(this.#instruction) === 0) return "";
    const text = this.#iced.string((result, formatter) => {
      this.#exports.formatter_formatAllOperands(result, formatter, this.#instruction);
    });
    return /\{1to\d+\}/.exec(text)?.[0] ?? "";
  }

  /** Register of the mask (`%k1`); 0 for none. */
  get opMask(): number {
    return this.#exports.instruction_opMask(this.#instruction);
  }

  get zeroingMasking(): boolean {
    return this.#exports.instruction_zeroingMasking(this.#instruction) !== 0;
  }

  /** iced's `RoundingControl`: 0 for none, then nearest, down, up, toward zero. */
  get roundingControl(): number {
    return this.#exports.instruction_roundingControl(this.#instruction);
  }

  get suppressesExceptions(): boolean {
    return this.#exports.instruction_suppressAllExceptions(this.#instruction) !== 0;
  }

  /** Whether there is an F3 prefix that is not part of the opcode. */
  get hasRepe(): boolean {
    return this.#exports.instruction_hasRepePrefix(this.#instruction) !== 0;
  }

  /** Whether there is an F2 prefix that is not part of the opcode. */
  get hasRepne(): boolean {
    return this.#exports.instruction_hasRepnePrefix(this.#instruction) !== 0;
  }

  get hasXacquire(): boolean {
    return this.#exports.instruction_hasXacquirePrefix(this.#instruction) !== 0;
  }

  get hasXrelease(): boolean {
    return this.#exports.instruction_hasXreleasePrefix(this.#instruction) !== 0;
  }

  /** The mnemonic in AT&T syntax, without prefixes. */
  get mnemonic(): string {
    return this.#remembered("mnemonic", () =>
      this.#iced.string((result, formatter) => {
        this.#exports.formatter_formatMnemonicOptions(result, formatter, this.#instruction, NO_PREFIXES);
      }),
    );
  }

  /** Operands in AT&T order: the numbers by which the other getters know them; `undefined` for one that is implied. */
  operandOrder(): readonly (number | undefined)[] {
    return this.#remembered("order", () => {
      const { formatter, result } = this.#iced;
      const count = this.#exports.formatter_operandCount(formatter, this.#instruction);
      return Array.from({ length: count }, (_, operand) => {
        this.#exports.formatter_getInstructionOperand(result, formatter, this.#instruction, operand);
        return this.#iced.word(0) === 0 ? undefined : this.#iced.word(1);
      });
    });
  }

  /**
   * What the formatter says follows from the opcode and from whether an operand is memory, which decides the letter for
   * its size; but where an 8-bit immediate may be part of the name (`cmpltps`), it is asked each time.
   */
  #remembered<K extends keyof Spelling>(part: K, ask: () => NonNullable<Spelling[K]>): NonNullable<Spelling[K]> {
    let memory = 0;
    for (let operand = this.opCount - 1; operand >= 0; operand--) {
      const kind = this.opKind(operand);
      if (kind === OpKind.immediate8) return ask();
      if (kind === OpKind.memory) memory = 1;
    }
    const spelling = this.#iced.spelling(this.code * 2 + memory);
    spelling[part] ??= ask();
    return spelling[part] as NonNullable<Spelling[K]>;
  }
}

/** How instructions of one form are written. */
interface Spelling {
  mnemonic?: string;
  order?: readonly (number | undefined)[];
}

/** A loaded module. Several decoders may be open at once; nothing in it is shared but its memory. */
export class Iced {
  readonly formatter: number;
  /** Where results of more than one word are written. Each is read before the next call. */
  readonly result: number;
  readonly #exports: IcedExports;
  readonly #spellings = new Map<number, Spelling>();
  readonly #registers = new Map<number, string>();
  #view: DataView;

  /** Takes the bytes of `iced_x86_bg.wasm`. Throws `Error` where they are not those of iced-x86 1.21. */
  constructor(wasm: Uint8Array) {
    const module = new WebAssembly.Module(withNeededExports(wasm));
    const { exports } = new WebAssembly.Instance(
      module,
      importsOf(module, (address, size) => this.#text(address, size)),
    );
    for (const name of NEEDED) {
      if (!(name in exports)) throw new Error(`the WebAssembly of iced-x86 exports no ${name}: it is not version 1.21`);
    }
    this.#exports = exports as unknown as IcedExports;
    this.#view = new DataView(this.#exports.memory.buffer);
    this.result = this.#exports.__wbindgen_malloc(RESULT_SIZE, 8) >>> 0;
    this.#exports.formatter_new(this.result, GAS);
    this.formatter = this.word(0);
  }

  /** Bytes of the module's memory, which grows and never shrinks. */
  get memoryBytes(): number {
    return this.#exports.memory.buffer.byteLength;
  }

  /** Opens a decoder on a copy of `code`; the caller frees it. */
  decoder(bits: 16 | 32 | 64, code: Uint8Array): IcedDecoder {
    return new IcedDecoder(this, this.#exports, bits, code);
  }

  /** What is known of the spelling of a form, to be added to. */
  spelling(form: number): Spelling {
    let spelling = this.#spellings.get(form);
    if (!spelling) {
      spelling = {};
      this.#spellings.set(form, spelling);
    }
    return spelling;
  }

  /** A 32-bit word of the last result. */
  word(index: number): number {
    return this.#memory().getUint32(this.result + index * 4, true);
  }

  /** The last result as 64 bits. */
  doubleWord(): bigint {
    return this.#memory().getBigUint64(this.result, true);
  }

  /** A string result, which is freed. */
  string(write: (result: number, formatter: number) => void): string {
    write(this.result, this.formatter);
    const address = this.word(0);
    const size = this.word(1);
    try {
      return this.#text(address, size);
    } finally {
      this.#exports.__wbindgen_free(address, size, 1);
    }
  }

  /** Name of a register, without `%`. */
  registerName(register: number): string {
    let name = this.#registers.get(register);
    if (name === undefined) {
      name = this.string((result, formatter) => this.#exports.formatter_formatRegister(result, formatter, register));
      name = name.replace("%", "");
      this.#registers.set(register, name);
    }
    return name;
  }

  /** Names are short and ASCII: for these a loop is faster than a TextDecoder and a view for each. */
  #text(address: number, size: number): string {
    const view = this.#memory();
    let text = "";
    for (let i = 0; i < size; i++) text += String.fromCharCode(view.getUint8(address + i));
    return text;
  }

  /** The module's memory moves when it grows. */
  #memory(): DataView {
    if (this.#view.buffer !== this.#exports.memory.buffer) this.#view = new DataView(this.#exports.memory.buffer);
    return this.#view;
  }
}
