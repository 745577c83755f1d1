// Assembles the agent and writes src/agent/images.ts. To be run after the compiler, whose output it imports:
//
//   npx tsc -p . && node scripts/build-agent.mjs
//
// The images are source that is checked in: starting an agent then needs neither an assembler nor a file that might
// not be where the running program was bundled to. A test assembles them anew and compares.
import { writeFileSync } from "node:fs";
import iced from "iced-x86";
import { agentCode, agentElf } from "../dist/agent/program.js";
import { WORD_SIZE } from "../dist/agent/protocol.js";

const images = Object.keys(WORD_SIZE).map((abi) => {
  const image = agentElf(abi, agentCode(iced, abi));
  const base64 = Buffer.from(image).toString("base64");
  const lines = base64.match(/.{1,100}/g);
  const list = lines.map((line) => `    "${line}",\n`).join("");
  return `  /** ${image.length} bytes. */\n  ${abi}: [\n${list}  ].join(""),\n`;
});

writeFileSync(
  new URL("../src/agent/images.ts", import.meta.url),
  `// Written by scripts/build-agent.mjs from program.ts.
import type { AgentAbi } from "./protocol.js";

/** The agent of each ABI: a static ELF program, in base64. */
export const agentImages: Readonly<Record<AgentAbi, string>> = {
${images.join("")}};
`,
);
