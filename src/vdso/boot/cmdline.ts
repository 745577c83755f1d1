/** Numbers and names of features that an option lists. */
export interface FeatureList {
  readonly numbers: ReadonlySet<number>;
  readonly names: ReadonlySet<string>;
}

/** What of a kernel's command line bears on the vDSO. */
export interface KernelOptions {
  readonly clearcpuid: FeatureList;
  readonly setcpuid: FeatureList;
  /** `vdso=`: 0 where it is no number, as the kernel reads it. */
  readonly vdso?: number;
  readonly vdso32?: number;
  /** Both are given, `vdso=` last: 32-bit kernels, which take them for one, keep the last. */
  readonly vdsoIsLast: boolean;
  readonly fred?: string;
  /** `nosep` was given. */
  readonly nosep: boolean;
  /** Options that name no feature that kernels of this release understand, and the like; in sentences. */
  readonly remarks: readonly string[];
}

/** Release that takes names of features beside numbers. */
const NAMES_SINCE = 5019;
const SETCPUID_SINCE = 6015;
/** Release that takes several numbers; stable kernels from October 2020 on do too (4.14.203, 4.19.153, 5.4.73). */
const SEVERAL_SINCE = 5010;
/** The kernel keeps that much of such an option, less its end. */
const MAX_ARGUMENT = 127;

/** The last of the options of a name, as the kernel takes it. */
function option(words: readonly string[], name: string): string | undefined {
  return words.findLast((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** A number as the kernel's simple_strtoul reads it: decimal, octal with 0, hexadecimal with 0x; 0 where it is none. */
function looseNumber(text: string): number {
  const match = /^(?:0[xX]([0-9a-fA-F]+)|0([0-7]+)|(\d+))/.exec(text);
  if (!match) return 0;
  const [, sixteen, eight, ten] = match;
  if (sixteen !== undefined) return Number.parseInt(sixteen, 16);
  return eight !== undefined ? Number.parseInt(eight, 8) : Number.parseInt(ten as string, 10);
}

/**
 * Reads a kernel's command line for what bears on the vDSO. `release` is `major * 1000 + minor`; without one it is
 * read as the newest kernels do.
 *
 * Sources: cpu_parse_early_param in arch/x86/kernel/cpu/common.c, arch/x86/entry/vdso.
 */
export function parseCmdline(text: string, release: number | undefined): KernelOptions {
  const words = text.split(/\s+/);
  const remarks: string[] = [];
  const vdso = option(words, "vdso");
  const vdso32 = option(words, "vdso32");
  const fred = option(words, "fred");
  const clear = option(words, "clearcpuid");
  const set = option(words, "setcpuid");
  const withNames = release === undefined || release >= NAMES_SINCE;
  const settable = release === undefined || release >= SETCPUID_SINCE;
  if (clear?.includes(",") && release !== undefined && release < SEVERAL_SINCE) {
    remarks.push("clearcpuid= took its first number alone before 5.10, until stable kernels of October 2020");
  }
  if (set !== undefined && !settable) remarks.push("setcpuid= has no effect: kernels read it from 6.15 on");
  const lists = (argument: string | undefined, name: string): FeatureList =>
    argument === undefined
      ? { numbers: new Set(), names: new Set() }
      : withNames
        ? namesAndNumbers(argument.slice(0, MAX_ARGUMENT))
        : numbersOnly(argument.slice(0, MAX_ARGUMENT), name, remarks);
  return {
    clearcpuid: lists(clear, "clearcpuid"),
    setcpuid: lists(settable ? set : undefined, "setcpuid"),
    ...(vdso !== undefined && { vdso: looseNumber(vdso) }),
    ...(vdso32 !== undefined && { vdso32: looseNumber(vdso32) }),
    vdsoIsLast: words.findLast((word) => /^vdso(32)?=/.test(word))?.startsWith("vdso=") ?? false,
    ...(fred !== undefined && { fred }),
    nosep: words.includes("nosep"),
    remarks,
  };
}

function namesAndNumbers(argument: string): FeatureList {
  const numbers = new Set<number>();
  const names = new Set<string>();
  for (const item of argument.split(",")) {
    if (/^\+?\d+$/.test(item)) numbers.add(Number(item));
    else if (item !== "") names.add(item);
  }
  return { numbers, names };
}

/** Up to 5.18: numbers alone, up to the first that is none. */
function numbersOnly(argument: string, option: string, remarks: string[]): FeatureList {
  const numbers = new Set<number>();
  for (const item of argument.split(",")) {
    if (!/^(?:0[xX][0-9a-fA-F]+|\d+)$/.test(item)) {
      remarks.push(
        `${option}= takes numbers alone in kernels before 5.19: from ${JSON.stringify(item)} on it is ignored`,
      );
      break;
    }
    numbers.add(looseNumber(item));
  }
  return { numbers, names: new Set() };
}
