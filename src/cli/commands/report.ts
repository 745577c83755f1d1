import { renderReport } from "../../render/report.js";
import { host } from "../../targets/host.js";
import { hostAbi } from "../../targets/resolve.js";
import type { VdsoImage } from "../../vdso/image.js";
import { type ReportPart, report } from "../../verbs/report.js";
import type { Command } from "../command.js";
import { quickDecoderFor } from "../decoder.js";
import { withTarget } from "../with-target.js";
import { writeWhole } from "../write-file.js";

export const command: Command = {
  name: "report",
  summary: "every step of the article",
  usage: "[TARGET…] [--html FILE]",
  description:
    "Shows every step of the article for a target: where the vDSO is mapped, what the auxiliary vector says, what the\n" +
    "image is, its functions, and the instructions of its entry with the answer to the article's question. Without a\n" +
    "target: for this machine's own ABI and, where the kernel runs 32-bit programs, for i386 too.",
  options: { html: { type: "string", value: "FILE", help: "write it as one self-contained page instead" } },
  examples: [
    ["linux-gate report", "of this machine"],
    ["linux-gate report i386", "of linux-gate.so.1 alone"],
    ["linux-gate report 1234 --html gate.html", "of a process, as a page"],
  ],
  arity: [0, 100],
  run: async ({ positionals, text, output, json }) => {
    const parts: ReportPart[] = [];
    for (const word of positionals.length > 0 ? positionals : ["self"]) {
      parts.push(await withTarget(word, { remark: () => {} }, (target) => report(target, decoderOf)));
    }
    if (positionals.length === 0 && hostAbi === "x86_64") parts.push(await i386Part());
    // Of files alone, this machine is no part of the story.
    const whole = { ...(parts.some((part) => part.process) && { host: host() }), parts };
    const file = text("html");
    if (file !== undefined) {
      const { renderReportHtml } = await import("../../render/html/page.js");
      writeWhole(file, new TextEncoder().encode(renderReportHtml(whole)));
      output.remark(`${file}: the report as a page`);
    }
    if (json) output.json({ ...whole, parts: parts.map(withoutImage) });
    else if (file === undefined) output.text(renderReport(whole, output.style));
    // Nothing at all to be seen of what was asked for is a failure, not an answer.
    return parts.some(({ content }) => content) ? 0 : 2;
  },
};

/** A part without the image's bytes, which `dump` gives; all that was read in them is beside it. */
function withoutImage({ content, ...part }: ReportPart): object {
  if (!content) return part;
  const { explained, symbols } = content;
  return { ...part, content: { explained, symbols } };
}

const decoderOf = ({ abi }: VdsoImage) => quickDecoderFor(abi);

/** The i386 part of an x86-64 machine's report; where the kernel runs no 32-bit programs, it says that. */
async function i386Part(): Promise<ReportPart> {
  try {
    return await withTarget("i386", { remark: () => {} }, (target) => report(target, decoderOf));
  } catch (error) {
    if (!(error instanceof Error && error.name === "AgentError")) throw error;
    return { target: "a fresh i386 process", problem: error.message, missing: [], notes: [] };
  }
}
