import { hex } from "../bytes/hex.js";
import type { FileRow, ImagesResult, KernelRow } from "../verbs/images.js";
import { plainStyle, type Style } from "./style.js";
import { type Cell, humanSize, table } from "./table.js";
import { visible } from "./visible.js";

/** The images of kernel files as a table for each kernel, under a line that says what it is. */
export function renderImages(result: ImagesResult, style: Style = plainStyle): string {
  const texts = result.files.flatMap((file) =>
    file.kernels.filter(({ images }) => images.length > 0).map((kernel) => kernelText(file, kernel, style)),
  );
  return texts.join("\n");
}

function kernelText(file: FileRow, kernel: KernelRow, style: Style): string {
  const where = kernel.name === undefined ? file.file : `${file.file}: ${kernel.name}`;
  const what = kernel.format === "vDSO image" ? "a vDSO image" : kernelWords(kernel);
  const rows = kernel.images.map(({ identity, offset, file: written }): Cell[] => [
    { text: identity.abi, style: "accent" },
    { text: hex(offset), style: "number" },
    { text: String(identity.size) },
    { text: identity.kernelVersion ?? "" },
    { text: identity.soname ?? "", style: "name" },
    { text: identity.buildId ?? "" },
    ...(written === undefined ? [] : [{ text: written, style: "name" as const }]),
  ]);
  const header = ["ABI", "offset", "size", "version", "SONAME", "build-id"];
  if (kernel.images.some((image) => image.file !== undefined)) header.push("written to");
  const body = table(rows, { header, right: [1, 2], indent: "  ", style });
  return `${style.bold(visible(where))}: ${visible(what)}\n${body}${searchedText(kernel, style)}`;
}

function kernelWords({ format, abi, release, images }: KernelRow): string {
  const layers = images[0]?.path.map((layer) => layer.format) ?? [];
  const inside = layers.slice(layers.indexOf(format) + 1).filter((layer) => layer !== "unknown file");
  return [
    format,
    ...(abi === undefined || format.includes(abi) ? [] : [`of ${abi}`]),
    ...(release === undefined ? [] : [`Linux ${release}`]),
    ...(inside.length === 0 ? [] : [`in it ${inside.join(", ")}`]),
  ].join(", ");
}

function searchedText({ searched, whole, format }: KernelRow, style: Style): string {
  if (format === "vDSO image") return "";
  const how = whole ? "all of it searched" : "searched up to a little behind the last image; --whole searches the rest";
  return `  ${style.dim(`${humanSize(searched)}: ${how}`)}\n`;
}
