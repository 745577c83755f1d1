import { liveCpu, liveFiles } from "../../linux/ldso/live.js";
import type { VirtualObject } from "../../linux/ldso/types.js";
import { ProcessError } from "../../linux/process.js";
import { lddProblems, lddText, lddTree, loadedText } from "../../render/ldd.js";
import { hostAbi, resolveTarget } from "../../targets/resolve.js";
import { type ProcessTarget, TargetError } from "../../targets/target.js";
import { usualSoname } from "../../vdso/abi.js";
import { type LddResult, type LoadedResult, lddAll, lddProcess } from "../../verbs/ldd.js";
import { type Command, type Invocation, UsageError } from "../command.js";
import { refuseTogether } from "../exclusive.js";
import { isTerminal } from "../output.js";
import { withProcess } from "../with-target.js";

export const command: Command = {
  name: "ldd",
  summary: "the libraries that a program would load",
  usage: "PROGRAM… [--tree] [--root DIR] | --pid PID",
  description:
    "Finds the libraries of programs as their dynamic linker would, without running anything: RPATH and RUNPATH,\n" +
    "LD_LIBRARY_PATH, LD_PRELOAD, ld.so.cache, the default folders; glibc's rules or musl's. The virtual object comes\n" +
    "first, told as what it is. With --pid: what a running process has loaded, by its own dynamic linker's list.",
  options: {
    pid: { type: "string", value: "PID", help: "what this process has loaded, with addresses" },
    tree: { type: "boolean", help: "who needs whom" },
    root: { type: "string", value: "DIR", help: "the file system to look in: a container's or a mounted disk's root" },
    rules: { type: "boolean", help: "with each library, by which rule it was found" },
  },
  examples: [
    ["linux-gate ldd /bin/sh", "as the article begins"],
    ["linux-gate ldd /usr/bin/* --json", "all programs in one go, for a program"],
    ["linux-gate ldd --pid 1234", "what a process has loaded, and where"],
  ],
  arity: [0, Number.MAX_SAFE_INTEGER],
  run: async (invocation) => {
    const pid = invocation.text("pid");
    if ((pid === undefined) === (invocation.positionals.length === 0)) {
      throw new UsageError("name programs, or a process with --pid (linux-gate ldd --help)");
    }
    refuseTogether(invocation, "pid", ["tree", "root", "rules"]);
    refuseTogether(invocation, "tree", ["rules"]);
    if (pid !== undefined && !/^(\d+|self)$/.test(pid)) {
      throw new UsageError(`--pid takes a process id or self, not ${JSON.stringify(pid)} (linux-gate ldd --help)`);
    }
    return pid === undefined ? programs(invocation) : loaded(pid, invocation);
  },
};

async function programs({ positionals, text, flag, output, json }: Invocation): Promise<number> {
  const root = text("root");
  const own = root === undefined ? await ownVirtual() : "unknown";
  const { LD_LIBRARY_PATH: libraryPath, LD_PRELOAD: preload } = root === undefined ? process.env : {};
  const results = lddAll(withProgress(positionals), {
    files: liveFiles(root),
    cwd: root === undefined ? workingFolder() : "/",
    cpu: liveCpu(),
    ...(libraryPath !== undefined && { libraryPath }),
    ...(preload !== undefined && { preload }),
    virtual: (abi) => {
      if (abi === undefined) return undefined;
      return abi === hostAbi && own !== "unknown" ? own : { soname: usualSoname(abi) };
    },
  });
  if (json) output.json({ programs: results });
  else output.text(flag("tree") ? lddTree(results) : lddText(results, { rules: flag("rules") }));
  if (!json) for (const problem of lddProblems(results)) output.remark(problem);
  return exitStatus(results);
}

/** Milliseconds after which the user is told how far it has got. */
const PATIENCE = 1000;

/** The programs, one after the other; where that takes long, standard error says how many are done, if it is a terminal. */
function* withProgress(programs: readonly string[]): Generator<string> {
  const start = performance.now();
  let shown = false;
  for (const [i, program] of programs.entries()) {
    if (i % 16 === 0 && performance.now() - start > PATIENCE && isTerminal(2)) {
      process.stderr.write(`\r${i} of ${programs.length} programs`);
      shown = true;
    }
    yield program;
  }
  if (shown) process.stderr.write("\r\u001b[K");
}

/** 2 where something given is no program that can be read, 1 where one would not start for want of a library. */
function exitStatus(results: readonly LddResult[]): 0 | 1 | 2 {
  if (results.some(({ kind }) => kind === "unreadable" || kind === "not-elf")) return 2;
  return results.every(isSound) ? 0 : 1;
}

/** A static program lacks nothing, though ldd's own status for it is 1. */
function isSound({ kind, status, objects }: LddResult): boolean {
  if (kind === "static") return true;
  return status === 0 && objects.every((object) => object.kind !== "missing" && object.error === undefined);
}

/** The working folder; where it was removed, the way to it that still is one, so that no name is looked up elsewhere. */
function workingFolder(): string {
  try {
    return process.cwd();
  } catch {
    return "/proc/self/cwd";
  }
}

/**
 * The virtual object of this machine's own programs, read from it: `undefined` where they have none (vdso=0), `unknown`
 * where that cannot be told: elsewhere than on Linux, or without /proc.
 */
async function ownVirtual(): Promise<VirtualObject | undefined | "unknown"> {
  if (process.platform !== "linux") return "unknown";
  const self = await resolveTarget("self");
  try {
    if (!self.location) return undefined;
    const { soname } = self.image;
    return soname === undefined ? undefined : { soname };
  } catch (error) {
    if (error instanceof ProcessError || error instanceof TargetError) return "unknown";
    throw error;
  } finally {
    await self.close();
  }
}

function loaded(pid: string, { output, json }: Invocation): Promise<number> {
  return withProcess(pid, output, (target) => {
    const result = loadedBy(target);
    if (json) output.json(result);
    else output.text(loadedText([result]));
    for (const { message } of result.problems) output.remark(message);
    return 0;
  });
}

function loadedBy(target: ProcessTarget): LoadedResult {
  const { location, process: view } = target;
  const soname = location && target.image.soname;
  return lddProcess({
    pid: view.pid,
    auxv: new Map(target.auxv.map(({ tag, value }) => [tag, value])),
    wordSize: target.wordSize,
    littleEndian: view.littleEndian,
    read: (address, size) => view.read(address, size),
    mappings: target.mappings,
    ...(location && {
      vdso: {
        start: location.base,
        end: location.base + BigInt(location.size),
        ...(soname !== undefined && { soname }),
      },
    }),
  });
}
