import { join } from "node:path";
import { build } from "esbuild";
import type { CpioEntry } from "../support/cpio.js";
import { unpackedPackage } from "../support/debian.js";
import { folderEntries, programEntries, runInGuest } from "../support/guest.js";
import type { CalledBack, PlannedCall } from "./exec-i386-runner.js";
import { BUNDLE, copyDecoder, GUEST_NODE } from "./i386-place.js";

const ROOT = "/linux-gate";

/** Half a minute to a minute, on a machine that has nothing else to do. */
const SECONDS = 220;

/** A guest with a kernel of Debian's in which plans are carried out. */
export class PlanGuest {
  readonly #kernel: string;
  readonly #entries: readonly CpioEntry[];

  private constructor(kernel: string, entries: readonly CpioEntry[]) {
    this.#kernel = kernel;
    this.#entries = entries;
  }

  /** Bundles what carries plans out, from the sources; `undefined` where gdb cannot be had for the guest. */
  static async of(kernel: string, folder: string, programs: readonly CpioEntry[]): Promise<PlanGuest | undefined> {
    const gdb = await unpackedPackage("gdb-minimal");
    if (!gdb) return undefined;
    await build({
      ...BUNDLE,
      entryPoints: ["test/live/exec-i386-runner.ts"],
      outfile: join(folder, "runner.mjs"),
      format: "esm",
    });
    copyDecoder(folder);
    return new PlanGuest(kernel, [
      ...programEntries(process.execPath, "usr/bin/node"),
      ...programEntries(join(gdb, "usr/bin/gdb"), "usr/bin/gdb"),
      ...folderEntries(folder, ROOT),
      ...programs,
    ]);
  }

  /**
   * Boots, and carries a plan out. Of the commands, which run before in a shell, the outputs are given too. The last call
   * may end by a signal, which then ends the process that makes the calls: `status` is that of a shell.
   */
  async run(
    plan: readonly PlannedCall[],
    options: { readonly cpu: string; readonly append?: string; readonly commands: readonly string[] },
  ): Promise<{ readonly calls: readonly CalledBack[]; readonly outputs: readonly string[]; readonly status: number }> {
    const { commands, ...machine } = options;
    const data = Buffer.from(JSON.stringify(plan));
    const files = "/tmp/stdout /tmp/stderr";
    const [out, err] = files.split(" ");
    const outputs = await runInGuest(this.#kernel, {
      ...machine,
      seconds: SECONDS,
      entries: [...this.#entries, { path: "plan.json", mode: 0o100644, data }],
      commands: [
        ...commands,
        `mkfifo /tmp/fifo; export VARIABLE=value
        ${GUEST_NODE} ${ROOT}/runner.mjs /plan.json /tmp/results ${files} >>${out} 2>>${err}
        status=$?; cat /tmp/results; cat ${err} >&2; exit $status`,
      ],
    });
    const last = outputs.at(-1);
    if (!last || last.stdout.length === 0) throw new Error(`no call was made: ${last?.stderr}`);
    const calls = JSON.parse(last.stdout.toString()) as CalledBack[];
    return {
      calls,
      outputs: outputs.slice(0, -1).map(({ stdout, stderr }) => stdout.toString() + stderr),
      status: last.status,
    };
  }
}
