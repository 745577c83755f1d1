import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { agentChecks } from "../agent/live-checks.js";
import type { Check } from "./check.js";
import { choiceChecks } from "./i386-choice-checks.js";
import type { Subjects } from "./i386-subjects.js";

/** Files that the checks leave in their folder, for referees that run elsewhere. */
export const dumps = { i386: "i386.dso", x86_64: "x86_64.dso" } as const;

interface AuxvJson {
  readonly wordSize: number;
  readonly entries: readonly AuxvJsonEntry[];
}

interface AuxvJsonEntry {
  readonly tag: number;
  readonly name: string;
  readonly value: string;
  readonly text?: string;
  readonly features?: readonly string[];
}

const AT_SYSINFO = 32;

/** What must hold where the kernel runs i386 programs, the agent's own promises first. */
export const checks: readonly Check<Subjects>[] = [
  ...agentChecks("i386").map(({ name, run }) => ({ name: `the i386 agent ${name}`, run: () => run() })),
  ...choiceChecks,
  {
    name: "maps PID --raw is, byte for byte, /proc/PID/maps",
    async run(subjects) {
      const { stdout } = await subjects.linuxGate("maps", `${subjects.i386.pid}`, "--raw");
      assert.equal(
        stdout.toString("latin1"),
        (await subjects.run("cat", mapsPath(subjects))).stdout.toString("latin1"),
      );
      assert.match(stdout.toString("latin1"), /^[0-9a-f]{8}-[0-9a-f]{8} r-xp .* \[vdso\]$/m);
    },
  },
  {
    name: "maps PID --json has the rows that awk sees in /proc/PID/maps",
    async run(subjects) {
      const { mappings } = await json<{ mappings: { start: string; end: string; perms: string; name: string }[] }>(
        subjects,
        ...["maps", `${subjects.i386.pid}`],
      );
      // Names may have spaces ("/tmp/a b (deleted)"): what awk's fields lack is in the text of --raw.
      const { stdout } = await subjects.run("awk", "{ print $1, $2, $6 }", mapsPath(subjects));
      const ours = mappings.map(({ start, end, perms, name }) => {
        const digits = (address: string) => address.slice(2).padStart(8, "0");
        return `${digits(start)}-${digits(end)} ${perms} ${name.split(" ")[0]}\n`;
      });
      assert.equal(ours.join(""), stdout.toString());
    },
  },
  {
    name: "dump PID -o FILE writes what gdb dumps of [vdso], and dump i386 the same",
    async run(subjects) {
      const expected = await gdbDump(subjects, subjects.i386.pid, "i386.gdb");
      assert.ok(expected.length >= 4096 && expected.length % 4096 === 0);
      for (const [target, file] of [
        ["i386", dumps.i386],
        [`${subjects.i386.pid}`, "pid.dso"],
      ] as const) {
        await subjects.linuxGate("dump", target, "-o", join(subjects.folder, file));
        assert.ok(readFileSync(join(subjects.folder, file)).equals(expected), `dump ${target} differs`);
      }
    },
  },
  {
    name: "dump self writes what gdb dumps of a 64-bit program's [vdso]",
    async run(subjects) {
      const file = join(subjects.folder, dumps.x86_64);
      await subjects.linuxGate("dump", "self", "-o", file);
      const expected = await gdbDump(subjects, subjects.x86_64.pid, "x86_64.gdb");
      assert.ok(readFileSync(file).equals(expected), "dump self differs");
    },
  },
  {
    name: "auxv PID has the tags, values and strings of gdb's info auxv, in order",
    async run(subjects) {
      const { wordSize, entries } = await json<AuxvJson>(subjects, "auxv", `${subjects.i386.pid}`);
      assert.equal(wordSize, 4);
      const text = await subjects.gdb(subjects.i386.pid, "info auxv");
      // 32   AT_SYSINFO           Special system info/entry points 0xf7f4a550
      // 15   AT_PLATFORM          String identifying platform    0xffb3d6fb "i686"
      const rows = [...text.matchAll(/^(\d+) +(\S+) +.* (0x[0-9a-f]+|\d+)(?: "(.*)")?$/gm)];
      const theirs = rows.map(([, tag, , value, string]) => [Number(tag), BigInt(value as string), string]);
      const ours = entries.map(({ tag, value, text: string }) => [tag, BigInt(value), string]);
      assert.deepEqual([...ours, [0, 0n, undefined]], theirs);
      const named = new Map(entries.map((entry) => [entry.name, entry]));
      assert.equal(named.get("AT_PLATFORM")?.text, "i686");
      assert.equal(named.get("AT_EXECFN")?.text, subjects.i386.program);
      for (const [, tag, name] of rows) if (tag !== "0" && name !== "???") assert.ok(named.has(name as string), name);
    },
  },
  {
    name: "auxv PID has what the C library shows for LD_SHOW_AUXV=1, in order",
    async run(subjects) {
      const { entries } = await json<AuxvJson>(subjects, "auxv", `${subjects.i386.pid}`);
      const rows = [...subjects.i386.shown.matchAll(/^(AT_.+?): +(.*)$/gm)];
      assert.ok(rows.some(([, name]) => name === "AT_SYSINFO"));
      assert.deepEqual(
        rows.map(([, name, value]) => [name?.startsWith("AT_???") ? undefined : name, value]),
        entries.map((entry, i) => [
          // Tags younger than the C library have no name there.
          rows[i]?.[1]?.startsWith("AT_???") ? undefined : entry.name,
          asShown(entry, rows[i]?.[2]),
        ]),
      );
    },
  },
  {
    name: "AT_SYSINFO is the address of __kernel_vsyscall, for gdb too",
    async run(subjects) {
      const pid = `${subjects.i386.pid}`;
      const { symbols } = await json<{ symbols: { name: string; runtimeAddress?: string; address: string }[] }>(
        subjects,
        ...["symbols", pid],
      );
      const entry = symbols.find(({ name }) => name === "__kernel_vsyscall");
      assert.ok(entry);
      const address = await sysinfo(subjects);
      assert.equal(BigInt(entry.runtimeAddress ?? entry.address), address);
      assert.match(await subjects.gdb(subjects.i386.pid, `info symbol ${address}`), /^__kernel_vsyscall in section/m);
    },
  },
  {
    name: "explain finds the way into the kernel that gdb disassembles at AT_SYSINFO",
    async run(subjects) {
      const { gate } = await json<{ gate: { mechanism: string } }>(subjects, "explain", "i386");
      const text = await subjects.gdb(subjects.i386.pid, `x/12i ${await sysinfo(subjects)}`);
      assert.equal(gate.mechanism, /\t(sysenter|syscall|int +\$0x80)/.exec(text)?.[1]?.replace(/ +/, " "));
    },
  },
  ...(
    [
      [["report"], /linux-vdso\.so\.1[\s\S]*linux-gate\.so\.1[\s\S]*__kernel_vsyscall/],
      [["report", "i386"], /linux-gate\.so\.1[\s\S]*__kernel_vsyscall/],
      [["explain", "i386"], /__kernel_vsyscall/],
      [["symbols", "i386"], /__kernel_vsyscall[\s\S]*__vdso_clock_gettime/],
      [["file", "i386"], /^ELF 32-bit LSB shared object, Intel (80386|i386), /],
      [["disasm", "i386"], /__kernel_vsyscall[\s\S]*int +\$0x80/],
    ] as const
  ).map(
    ([words, pattern]): Check<Subjects> => ({
      name: `${words.join(" ")} ends with status 0 and says nothing on standard error`,
      async run(subjects) {
        const { stdout, stderr } = await subjects.linuxGate(...words);
        assert.equal(stderr, "");
        assert.match(stdout.toString(), pattern);
      },
    }),
  ),
];

function mapsPath(subjects: Subjects): string {
  return `/proc/${subjects.i386.pid}/maps`;
}

async function json<T>(subjects: Subjects, ...words: readonly string[]): Promise<T> {
  return JSON.parse((await subjects.linuxGate(...words, "--json")).stdout.toString()) as T;
}

/** What gdb dumps of the mapping [vdso] of a process. */
async function gdbDump(subjects: Subjects, pid: number, name: string): Promise<Buffer> {
  const file = join(subjects.folder, name);
  const maps = readFileSync(`/proc/${pid}/maps`, "latin1");
  const [, start, end] = /^([0-9a-f]+)-([0-9a-f]+) .*\[vdso\]$/m.exec(maps) ?? [];
  await subjects.gdb(pid, `dump memory ${file} 0x${start} 0x${end}`);
  return readFileSync(file);
}

async function sysinfo(subjects: Subjects): Promise<bigint> {
  const text = await subjects.gdb(subjects.i386.pid, "info auxv");
  return BigInt(new RegExp(`^${AT_SYSINFO} .* (0x[0-9a-f]+)$`, "m").exec(text)?.[1] as string);
}

/** A value as the C library shows it: a string, the names of features, or a number in the notation of `shown`. */
function asShown({ name, value, text, features }: AuxvJsonEntry, shown: string | undefined): string | undefined {
  if (name === "AT_HWCAP") return features?.join(" ");
  return text ?? (shown?.startsWith("0x") ? value : BigInt(value).toString());
}
