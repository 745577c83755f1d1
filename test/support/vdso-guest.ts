import { join } from "node:path";
import type { Abi } from "../../src/vdso/abi.js";
import { type BootArchitecture, boot, boots } from "./boot.js";
import type { CpioEntry } from "./cpio.js";
import { type Architecture, downloadedDependency, type Source, unpackedKernel, unpackedPackage } from "./debian.js";
import { fileEntry } from "./guest.js";

/** What a process saw of its vDSO. */
export interface ProcessView {
  /** As in `/proc/PID/auxv`. */
  readonly auxv: Uint8Array;
  /** As in `/proc/PID/maps`. */
  readonly maps: string;
  /** The bytes of the mapping `[vdso]`, where there is one. */
  readonly vdso?: Uint8Array;
}

/** What a booted kernel showed. */
export interface KernelView {
  /** `/proc/cmdline`, without the line's end. */
  readonly cmdline: string;
  /** `/proc/cpuinfo`. */
  readonly cpuinfo: string;
  /** A process of each ABI that the kernel runs. */
  readonly processes: ReadonlyMap<Abi, ProcessView>;
}

/** A kernel of Debian's and what is needed to boot it. */
export interface VdsoGuest {
  /** The package's file. */
  readonly deb: string;
  /** The kernel's file, as it lies in `/boot`. */
  readonly kernel: string;
  /** The ABIs whose programs are tried. */
  readonly abis: readonly Abi[];
  /** Boots it on a processor (as for qemu's `-cpu`), with more parameters of the kernel's where given. */
  view(cpu: string, append?: string): Promise<KernelView>;
}

/** Whose programs a kernel may run, its own first, and the architecture that Debian has them in. */
const PROGRAMS = {
  i386: [["i386", "i386"]],
  amd64: [
    ["x86_64", "amd64"],
    ["i386", "i386"],
  ],
  arm64: [
    ["aarch64", "arm64"],
    ["arm", "armhf"],
  ],
} as const satisfies Record<BootArchitecture, readonly (readonly [Abi, Architecture])[]>;

/** MiB that suffice for these kernels and one small program. */
const MEMORY = 192;

/** The first boots take two to five seconds on a machine that has nothing else to do. */
const SECONDS = 60;

/** Emulated processors now and then fault where real ones do not: then there is nothing to judge, and it boots again. */
const TRIES = 2;

/** Quiet but for the end, and without self-tests and searches that take as long as all the rest. */
const QUICK = "loglevel=1 cryptomgr.notests noisapnp";

/**
 * Fetches the kernel that a metapackage of Debian's stands for, and a small program of each ABI that it runs.
 * `undefined` where something is missing; standard error says what.
 */
export async function vdsoGuest(
  metapackage: string,
  source: Source & { readonly architecture: BootArchitecture },
): Promise<VdsoGuest | undefined> {
  const { architecture } = source;
  if (!boots(architecture)) return undefined;
  const deb = await downloadedDependency(metapackage, source);
  const kernel = deb && (await unpackedKernel(deb));
  if (!kernel) return undefined;
  const programs: CpioEntry[] = [];
  for (const [abi, port] of PROGRAMS[architecture]) {
    const folder = await unpackedPackage("busybox-static", port);
    if (!folder) return undefined;
    programs.push(fileEntry(join(folder, "bin/busybox"), `bin/${abi}/busybox`));
  }
  const abis = PROGRAMS[architecture].map(([abi]) => abi);
  const proc = { path: "proc", mode: 0o040755 };
  const entries = [script("init", initScript(abis)), script("view", VIEW_SCRIPT), proc, ...programs];
  const view = async (cpu: string, append = ""): Promise<KernelView> => {
    const machine = { architecture, cpu, memory: MEMORY, kernel, entries, append: `${QUICK} ${append}` };
    for (let tries = 1; ; tries++) {
      const { lines, said } = await boot({ ...machine, lines: 1, seconds: SECONDS });
      const [console = ""] = lines;
      if (console.includes("@@end\n")) return kernelView(console, abis);
      const failure = `a guest on ${cpu} did not come to its end\n${said}${console.slice(-3000)}`;
      if (tries === TRIES) throw new Error(failure);
      process.stderr.write(`${failure}\nbooting it again\n`);
    }
  };
  return { deb, kernel, abis, view };
}

function script(path: string, text: string): CpioEntry {
  return { path, mode: 0o100755, data: Buffer.from(text) };
}

/** The first program: what the kernel says, and what a process of each ABI sees, in base64 between marks. */
function initScript(abis: readonly Abi[]): string {
  const own = `/bin/${abis[0]}/busybox`;
  return `#!${own} sh
${own} mount -t proc proc /proc
for file in cmdline cpuinfo; do echo "@@$file"; ${own} base64 /proc/$file; done
for abi in ${abis.join(" ")}; do /bin/$abi/busybox sh /view $abi; done
echo "@@end"
${own} reboot -f
`;
}

/** A process of one ABI that shows itself. */
const VIEW_SCRIPT = `b=/bin/$1/busybox
for file in auxv maps; do echo "@@$1 $file"; $b base64 /proc/$$/$file; done
while read -r range rest; do
  case $rest in *"[vdso]") start=$((0x\${range%-*})) end=$((0x\${range#*-})) ;; esac
done </proc/$$/maps
if [ -n "$start" ]; then
  echo "@@$1 vdso"
  $b dd if=/proc/$$/mem bs=4096 skip=$((start / 4096)) count=$(((end - start) / 4096)) 2>/dev/null | $b base64
fi
`;

function kernelView(console: string, abis: readonly Abi[]): KernelView {
  const parts = new Map<string, Buffer>();
  for (const [, name, text] of console.matchAll(/^@@([^\n]+)\n([A-Za-z0-9+/=\n]*)/gm)) {
    parts.set(name as string, Buffer.from(text as string, "base64"));
  }
  const text = (name: string) => parts.get(name)?.toString("latin1") ?? "";
  const processes = new Map<Abi, ProcessView>();
  for (const abi of abis) {
    const [auxv, vdso] = [parts.get(`${abi} auxv`), parts.get(`${abi} vdso`)];
    if (auxv) processes.set(abi, { auxv, maps: text(`${abi} maps`), ...(vdso && { vdso }) });
  }
  return { cmdline: text("cmdline").trimEnd(), cpuinfo: text("cpuinfo"), processes };
}
