// The steps of the article beside the tools that take them elsewhere.
import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { ElfFile, parseImage, resolveTarget, symbolRows } from "../dist/index.js";
import { has, median, ms, ours, RUNS, race, root, row, scratch } from "./measure.mjs";

export function wholeProcesses() {
  const bare = [process.execPath, "-e", "0"];
  const fresh = runsI386() ? "i386" : "x86_64";
  // An i386 image from a file, so that its entry is there on every machine.
  const entryImage = join(root, "test/fixtures/images/host618__native__i386.so");
  const verbs = [
    [["maps"], 1.3],
    [["maps", fresh], 1.3],
    [["auxv", fresh], 1.3],
    [["symbols", fresh], 1.3],
    [["file", fresh], 1.3],
    [["dump", fresh, "-o", join(scratch)], 1.3],
    [["disasm", entryImage, "__kernel_vsyscall"], 1.8],
    [["disasm", fresh, "--gnu"], 1.8],
    [["disasm", fresh], 1.8],
    [["report", fresh], undefined],
  ];
  console.log(`Whole processes beside a bare node -e 0 (${fresh}: a fresh process, started by the agent)`);
  // What starting any process costs a Node program here: some virtual machines make fork dear.
  const spawns = [process.execPath, "-e", 'require("node:child_process").spawnSync("/bin/true")'];
  const [base, spawning, ...times] = race([bare, spawns, ...verbs.map(([args]) => [process.execPath, ours, ...args])]);
  row("node -e 0", ms(base), 1);
  row("node that starts /bin/true", ms(spawning), spawning / base);
  verbs.forEach(([args, wanted], i) => {
    row(
      `linux-gate ${args.map((arg) => (arg.startsWith("/") ? basename(arg) : arg)).join(" ")}`,
      ms(times[i]),
      times[i] / base,
      wanted,
    );
  });
}

function runsI386() {
  return spawnSync(process.execPath, [ours, "maps", "i386"], { stdio: "ignore" }).status === 0;
}

/** The peers that look at a file with the image. */
export function onAFile() {
  spawnSync(process.execPath, [ours, "dump", "-o", scratch], { stdio: "ignore" });
  const pairs = [
    [
      ["objdump", "-T", scratch],
      ["symbols", scratch, "--gnu"],
    ],
    [
      ["nm", "-D", scratch],
      ["symbols", scratch],
    ],
    [
      ["readelf", "--dyn-syms", scratch],
      ["symbols", scratch],
    ],
    [
      ["file", "-b", scratch],
      ["file", scratch],
    ],
    [
      ["objdump", "-d", scratch],
      ["disasm", scratch, "--gnu"],
    ],
    [
      ["llvm-objdump", "-d", scratch],
      ["disasm", scratch, "--gnu"],
    ],
  ].filter(([[peer]]) => has(peer));
  console.log("\nBeside the tools that look at a file (theirs start in a millisecond; Node takes what it takes)");
  for (const [peer, args] of pairs) {
    const [theirs, mine] = race([peer, [process.execPath, ours, ...args]], Math.ceil(RUNS / 2));
    row(`${args[0]} / ${peer.slice(0, 2).join(" ")}`, `${mine.toFixed(1)}/${theirs.toFixed(1)}`, mine / theirs);
  }
}

export async function onAProcess() {
  if (!has("gdb")) {
    console.log("\ngdb is not installed: dump beside gdb is left out");
    return;
  }
  console.log("\nThe image of a running process");
  const sleeper = spawn("sleep", ["1000"], { stdio: "ignore" });
  try {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const line = readFileSync(`/proc/${sleeper.pid}/maps`, "utf8").match(/^([0-9a-f]+)-([0-9a-f]+).*\[vdso\]$/m);
    const dump = `dump memory ${scratch}.gdb 0x${line[1]} 0x${line[2]}`;
    const gdb = ["gdb", "-nx", "-batch", "-p", String(sleeper.pid), "-ex", dump];
    const auxv = ["gdb", "-nx", "-batch", "-p", String(sleeper.pid), "-ex", "info auxv"];
    const mine = [process.execPath, ours, "dump", String(sleeper.pid), "-o", scratch];
    const [theirDump, theirAuxv, myDump, myAuxv] = race(
      [gdb, auxv, mine, [process.execPath, ours, "auxv", String(sleeper.pid)]],
      Math.ceil(RUNS / 2),
    );
    row(
      "dump PID / gdb's attach and dump memory",
      `${myDump.toFixed(1)}/${theirDump.toFixed(1)}`,
      myDump / theirDump,
      0.4,
    );
    row("auxv PID / gdb's info auxv", `${myAuxv.toFixed(1)}/${theirAuxv.toFixed(1)}`, myAuxv / theirAuxv);
    if (has("eu-unstrip")) {
      const [theirs, own] = race(
        [
          ["eu-unstrip", "-n", "-p", String(sleeper.pid)],
          [process.execPath, ours, "ldd", "--pid", String(sleeper.pid)],
        ],
        Math.ceil(RUNS / 2),
      );
      row("ldd --pid / eu-unstrip -n -p", `${own.toFixed(1)}/${theirs.toFixed(1)}`, own / theirs);
    }
  } finally {
    sleeper.kill();
  }
}

/** All programs of /usr/bin that ldd could be asked of. */
export function allPrograms() {
  if (!has("ldd")) return;
  const folder = "/usr/bin";
  const programs = [...new Set(readdirSync(folder).map((name) => join(folder, name)))].filter((path) => {
    try {
      accessSync(path, constants.R_OK | constants.X_OK);
      return (
        statSync(realpathSync(path)).isFile() && readFileSync(path).subarray(0, 4).toString("latin1") === "\x7fELF"
      );
    } catch {
      return false;
    }
  });
  console.log(`\nldd over ${programs.length} programs of ${folder}`);
  const start = process.hrtime.bigint();
  for (const program of programs) spawnSync("ldd", [program], { stdio: "ignore" });
  const theirs = Number(process.hrtime.bigint() - start) / 1e6;
  const mine = median(
    Array.from({ length: 5 }, () => {
      const begin = process.hrtime.bigint();
      spawnSync(process.execPath, [ours, "ldd", ...programs], { stdio: "ignore" });
      return Number(process.hrtime.bigint() - begin) / 1e6;
    }),
  );
  row("glibc's ldd for each / ours in one call", `${theirs.toFixed(0)}/${mine.toFixed(0)}`, theirs / mine, 20, true);
}

export async function library() {
  console.log("\nThe library, warm");
  const target = await resolveTarget("self");
  const bytes = target.image.bytes;
  const once = () => symbolRows(parseImage(bytes, { mapped: true }), 0n).length;
  for (let i = 0; i < 2000; i++) once();
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  collect();
  const before = process.memoryUsage().heapUsed;
  const rounds = 10_000;
  const start = process.hrtime.bigint();
  for (let i = 0; i < rounds; i++) once();
  const micros = Number(process.hrtime.bigint() - start) / 1e3 / rounds;
  collect();
  const grown = process.memoryUsage().heapUsed - before;
  row("parse an image and list its symbols, of 1 ms", `${micros.toFixed(1)} us`, micros / 1000, 1);
  row(`heap after ${rounds} images, of 4 MiB`, `${(grown / 1024).toFixed(0)} KiB`, Math.max(0, grown) / (4 << 20), 1);
  const header = (() => {
    const begin = process.hrtime.bigint();
    for (let i = 0; i < rounds; i++) new ElfFile(bytes);
    return Number(process.hrtime.bigint() - begin) / 1e3 / rounds;
  })();
  row("the ELF header alone, of 1 ms", `${header.toFixed(2)} us`, header / 1000, 1);
  await target.close();
}
