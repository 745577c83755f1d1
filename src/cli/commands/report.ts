import { renderReport } from "../../render/report.js";
import { host } from "../../targets/host.js";
import { hostAbi } from "../../targets/resolve.js";
import type { VdsoImage } from "../../vdso/image.js";
import { type ReportPart, report } from "../../verbs/report.js";
import { type Command, isExpected, UsageError } from "../command.js";
import { quickDecoderFor } from "../decoder.js";
import { ABI_OPTION, withTargets } from "../with-target.js";
import { writeWhole } from "../write-file.js";

export const command: Command = {
  name: "report",
  summary: "every step of the article",
  usage: "[TARGET…] [--html FILE]",
  description:
    "Shows every step of the article for a target: where the vDSO is mapped, what the auxiliary vector says, what the\n" +
    "image is, its functions, and the instructions of its entry with the answer to the article's question. Without a\n" +
    "target: for this machine's own ABI and, where the kernel runs 32-bit programs, for i386 too.",
  options: {
    html: { type: "string", value: "FILE", help: "as one self-contained page; - for standard output" },
    ...ABI_OPTION,
  },
  examples: [
    ["linux-gate report", "of this machine"],
    ["linux-gate report i386", "of linux-gate.so.1 alone"],
    ["linux-gate report 1234 --html gate.html", "of a process, as a page"],
  ],
  arity: [0, 100],
  run: async ({ positionals, text, output, json }) => {
    const file = text("html");
    if (file === "-" && json) throw new UsageError("--json and --html - exclude each other: both are standard output");
    const words = positionals.length > 0 ? positionals : ["self"];
    const asked: ReportPart[] = [];
    for (const word of words) {
      // One of several that cannot be had must not take the others with it.
      asked.push(...(await partsOf(word, text("abi"), (error) => words.length > 1 && isExpected(error))));
    }
    const withI386 = positionals.length === 0 && hostAbi === "x86_64";
    const parts = withI386 ? [...asked, ...(await partsOf("i386", undefined, isAgentError))] : asked;
    // Of files alone, this machine is no part of the story.
    const whole = { ...(parts.some((part) => part.process) && { host: host() }), parts };
    if (file !== undefined) {
      const { renderReportHtml } = await import("../../render/html/page.js");
      const page = renderReportHtml(whole);
      if (file === "-") output.text(page);
      else {
        writeWhole(file, new TextEncoder().encode(page));
        output.remark(`${file}: the report as a page`);
      }
    }
    if (json) output.json({ ...whole, parts: parts.map(withoutImage) });
    else if (file === undefined) output.text(renderReport(whole, output.style));
    return asked.every(({ content }) => content) ? 0 : 2;
  },
};

/** A part without the image's bytes, which `dump` gives; all that was read in them is beside it. */
function withoutImage({ content, ...part }: ReportPart): object {
  if (!content) return part;
  const { explained, symbols } = content;
  return { ...part, content: { explained, symbols } };
}

const decoderOf = ({ abi }: VdsoImage) => quickDecoderFor(abi);

/** Whether a kernel does not run 32-bit programs, or nothing may be started: then the report says so. */
function isAgentError(error: unknown): boolean {
  return error instanceof Error && error.name === "AgentError";
}

/** A part for each image of one target; where it cannot be had and `tell` says so, one that says why. */
async function partsOf(
  word: string,
  abi: string | undefined,
  tell: (error: unknown) => boolean,
): Promise<readonly ReportPart[]> {
  try {
    // What is odd about a target is part of its report.
    return await withTargets(word, { abi, output: { remark: () => {} } }, async (targets) => {
      const parts: ReportPart[] = [];
      for (const target of targets) parts.push(await report(target, decoderOf));
      return parts;
    });
  } catch (error) {
    if (!tell(error) || !(error instanceof Error)) throw error;
    return [{ target: word, problem: error.message, missing: [], notes: [] }];
  }
}
