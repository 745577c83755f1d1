import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import iced from "iced-x86";
import { type ForgePlan, type ForgeTools, forgeImage } from "../../src/forge/forge.js";

/** What images are made with. */
export const forgeTools: ForgeTools = {
  iced,
  sha1: (bytes) => new Uint8Array(createHash("sha1").update(bytes).digest()),
};

const kernelVersion = 0x06_12_2c;

/** An image of every kind that can be made. */
export const PLANS: Readonly<Record<"x86_64" | "int80" | "sysenter" | "syscall" | "historical", ForgePlan>> = {
  x86_64: { abi: "x86_64", kernelVersion },
  int80: { abi: "i386", entry: "int $0x80", kernelVersion },
  sysenter: { abi: "i386", entry: "sysenter", kernelVersion },
  syscall: { abi: "i386", entry: "syscall", kernelVersion },
  historical: { abi: "i386", historical: true, kernelVersion },
};

/** The kinds of {@link PLANS}. */
export const KINDS = Object.keys(PLANS) as (keyof typeof PLANS)[];

/** An image of a kind, at another base if one is given. */
export function forged(kind: keyof typeof PLANS, base?: bigint): Uint8Array {
  return forgeImage({ ...PLANS[kind], ...(base !== undefined && { base }) }, forgeTools);
}

/** What a program wrote to both of its outputs, and how it ended. */
export function heard(command: string, ...args: readonly string[]) {
  const env = { ...process.env, LC_ALL: "C", LANG: "C" };
  const { stdout, stderr, status } = spawnSync(command, args, { encoding: "utf8", env, maxBuffer: 1 << 26 });
  return { stdout, stderr, status };
}
