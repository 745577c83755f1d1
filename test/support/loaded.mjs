// Runs the sources as one module, without a build: for scripts that are not run by vitest.
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** The exports of several modules of src/, by their paths under it. */
export async function loadSources(...modules) {
  const contents = modules.map((path) => `export * from ${JSON.stringify(`./src/${path}`)};`).join("\n");
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: root, loader: "ts" },
    absWorkingDir: root,
    bundle: true,
    platform: "node",
    format: "esm",
    write: false,
    external: ["iced-x86"],
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}
