// Assembles the agent, the code that it measures with and the loop that it counts with, and writes src/agent/images.ts,
// src/measure/images.ts and src/run/counter/image.ts. To be run after the compiler, whose output it imports:
//
//   npx tsc -p . && node scripts/build-agent.mjs
//
// The images are source that is checked in: starting an agent, and measuring, then need neither an assembler nor a file
// that might not be where the running program was bundled to. A test assembles them anew and compares.
import { writeFileSync } from "node:fs";
import iced from "iced-x86";
import { agentCode, agentElf } from "../dist/agent/program.js";
import { WORD_SIZE } from "../dist/agent/protocol.js";
import { measuringCode } from "../dist/measure/code.js";
import { countingCode } from "../dist/run/counter/code.js";

const abis = Object.keys(WORD_SIZE);

/** Bytes as lines of base64, an array's elements. */
function lines(bytes, indent) {
  const base64 = Buffer.from(bytes).toString("base64");
  return base64
    .match(/.{1,100}/g)
    .map((line) => `${indent}"${line}",\n`)
    .join("");
}

const images = abis.map((abi) => {
  const image = agentElf(abi, agentCode(iced, abi));
  return `  /** ${image.length} bytes. */\n  ${abi}: [\n${lines(image, "    ")}  ].join(""),\n`;
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

const codes = abis.map((abi) => {
  const { bytes, routines } = measuringCode(iced, abi);
  const places = Object.entries(routines).map(([name, offset]) => `      ${name}: ${offset},\n`);
  return `  /** ${bytes.length} bytes. */
  ${abi}: {
    base64: [
${lines(bytes, "      ")}    ].join(""),
    routines: {
${places.join("")}    },
  },
`;
});

writeFileSync(
  new URL("../src/measure/images.ts", import.meta.url),
  `// Written by scripts/build-agent.mjs from code.ts.
import type { AgentAbi } from "../agent/protocol.js";
import type { MeasuringCode } from "./layout.js";

/** The measuring code of each ABI, in base64, and where its routines are. */
export const measuringImages: Readonly<
  Record<AgentAbi, { readonly base64: string; readonly routines: MeasuringCode["routines"] }>
> = {
${codes.join("")}};
`,
);

const loop = countingCode(iced);
writeFileSync(
  new URL("../src/run/counter/image.ts", import.meta.url),
  `// Written by scripts/build-agent.mjs from code.ts.

/** The counting loop: ${loop.length} bytes of x86-64, in base64. */
export const countingImage: string = [
${lines(loop, "  ")}].join("");
`,
);
