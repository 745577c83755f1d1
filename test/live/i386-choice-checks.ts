import assert from "node:assert/strict";
import { closeSync, existsSync, openSync, readFileSync, writeSync } from "node:fs";
import { release } from "node:os";
import { type Agent, startAgent } from "../../src/agent/live.js";
import { LiveProcess } from "../../src/linux/live.js";
import { ProcessTarget } from "../../src/targets/target.js";
import type { Check } from "./check.js";
import type { Subjects } from "./i386-subjects.js";

interface VerifyLine {
  readonly kind: "process" | "summary";
  readonly pid: number;
  readonly verdict: string;
  readonly abi: string;
  readonly findings: readonly { readonly id: string; readonly function?: string }[];
}

interface InForceJson {
  readonly mechanism: string;
}

const MPROTECT = 125;
const PROT_ALL = 7;

/** What must hold of the choice at boot, and of its verification, where the kernel runs i386 programs. */
export const choiceChecks: readonly Check<Subjects>[] = [
  {
    name: "verify finds an i386 process as the kernel made it",
    async run(subjects) {
      const { stdout } = await subjects.linuxGate("verify", `${subjects.i386.pid}`, "--json");
      const [one] = linesOf(stdout);
      assert.deepEqual([one?.pid, one?.verdict, one?.abi], [subjects.i386.pid, "ok", "i386"]);
    },
  },
  {
    name: "verify holds processes of both ABIs against the file of the kernel that runs, where it is at hand",
    async run(subjects) {
      const file = `/boot/vmlinuz-${release()}`;
      if (!existsSync(file)) return;
      const pids = [`${subjects.i386.pid}`, `${subjects.x86_64.pid}`];
      const { stdout } = await subjects.linuxGate("verify", ...pids, "--against", file, "--json");
      const found = linesOf(stdout).map(({ abi, verdict }) => [abi, verdict]);
      assert.deepEqual(found, [
        ["i386", "ok"],
        ["x86_64", "ok"],
      ]);
      assert.ok(stdout.toString().includes(file));
    },
  },
  {
    name: "predict tells of an i386 process which way in its kernel chose, and so which vendor it saw",
    async run(subjects) {
      const { stdout } = await subjects.linuxGate("predict", `${subjects.i386.pid}`, "--json");
      const { mechanism } = JSON.parse(stdout.toString()) as InForceJson;
      const vendor = /^vendor_id\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "latin1"))?.[1];
      const ways: Readonly<Record<string, string>> = {
        AuthenticAMD: "syscall",
        HygonGenuine: "syscall",
        GenuineIntel: "sysenter",
        CentaurHauls: "sysenter",
      };
      assert.equal(mechanism, ways[vendor ?? ""] ?? "int $0x80");
    },
  },
  {
    name: "verify finds a byte that was changed in __kernel_vsyscall of an i386 process, and nothing of another",
    run: (subjects) =>
      withVictim(async (agent, base, entry) => {
        poke(agent.pid, base + entry, 0x50);
        const { stdout } = await subjects.linuxGateEnding(
          1,
          ...["verify", `${agent.pid}`, `${subjects.i386.pid}`, "--json"],
        );
        const [victim, other] = linesOf(stdout);
        const [found] = victim?.findings ?? [];
        assert.deepEqual([found?.id, found?.function], ["bytes-changed", "__kernel_vsyscall"]);
        assert.equal(other?.verdict, "ok");
      }),
  },
  {
    name: "verify finds the vDSO of an i386 process that was made writable",
    run: (subjects) =>
      withVictim(async (agent, base) => {
        // A kernel may refuse to make it so: then there is nothing to find.
        const refused = (await agent.call(MPROTECT, base, 0x1000, PROT_ALL)) !== 0n;
        const { stdout } = await subjects.linuxGateEnding(refused ? 0 : 1, "verify", `${agent.pid}`, "--json");
        const ids = linesOf(stdout)[0]?.findings.map(({ id }) => id);
        assert.equal(ids?.includes("writable"), !refused);
      }),
  },
];

/** What verify says of each process. */
function linesOf(stdout: Buffer): VerifyLine[] {
  const lines = stdout.toString().trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as VerifyLine).filter(({ kind }) => kind === "process");
}

/** Starts an i386 process; gives where its vDSO lies, and how far behind that its entry. */
async function withVictim(use: (agent: Agent, base: bigint, entry: bigint) => Promise<void>): Promise<void> {
  const agent = await startAgent("i386");
  const target = new ProcessTarget("victim", new LiveProcess(agent.pid));
  try {
    const { image, location } = target;
    assert.ok(location && image.entry);
    await use(agent, location.base, image.entry.address - image.linkBase);
  } finally {
    await target.close();
    await agent.close();
  }
}

/** Changes a byte of another process's memory, whatever its protection. */
function poke(pid: number, address: bigint, byte: number): void {
  const memory = openSync(`/proc/${pid}/mem`, "r+");
  try {
    writeSync(memory, Uint8Array.of(byte), 0, 1, Number(address));
  } finally {
    closeSync(memory);
  }
}
