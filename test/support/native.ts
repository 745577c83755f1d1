import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { agentImages } from "../../src/agent/images.js";
import type { AgentAbi } from "../../src/agent/protocol.js";

/** Whether this machine's kernel runs programs of an ABI: asked of the agent's program, started without our code. */
export function runsHere(abi: AgentAbi): boolean {
  const scratch = mkdtempSync(join(tmpdir(), "runs-here-"));
  try {
    const program = join(scratch, "agent");
    writeFileSync(program, Buffer.from(agentImages[abi], "base64"), { mode: 0o755 });
    // A shell's own exec says what the kernel said, where the C library's execvp would run a shell instead.
    return spawnSync("bash", ["-c", `exec ${program} 3</dev/null 4>/dev/null`]).status === 0;
  } finally {
    rmSync(scratch, { recursive: true });
  }
}
