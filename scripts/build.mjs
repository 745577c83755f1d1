// Compiles src/ to dist/: the library as modules with their types, and the command line as one file a verb in dist/bin/,
// because reading and compiling the whole program costs a short verb more than all that it does.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const commands = readdirSync(join(root, "src/cli/commands")).map((name) => name.replace(/\.ts$/, ""));

const { status, error } = spawnSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", root], {
  stdio: ["ignore", 2, 2],
});
if (error) throw error;
if (status !== 0) process.exit(status ?? 1);

/** Removes what was compiled of sources that have gone since: the package would have it. */
function prune(compiled, sources) {
  for (const entry of readdirSync(compiled, { withFileTypes: true })) {
    const name = entry.name.replace(/\.(d\.ts|js)$/, "");
    const source = join(sources, entry.isDirectory() ? name : `${name}.ts`);
    const known = existsSync(source) || entry.name.startsWith(".") || ["bin", "wasm"].includes(entry.name);
    if (!known) rmSync(join(compiled, entry.name), { recursive: true });
    else if (entry.isDirectory() && existsSync(source)) prune(join(compiled, entry.name), source);
  }
}

/** Leaves verbs, help and what few need of a verb out of the file of those who load them, to be read when needed. */
const apart = {
  name: "apart",
  setup({ onResolve }) {
    onResolve(
      { filter: /^\.\/(commands\/.*|help|kernel-file|image-gates|place|follow|intercept)\.js$/ },
      ({ path, kind }) =>
        kind === "dynamic-import"
          ? { path: `./${path.split("/").at(-1).replace(/\.js$/, ".cjs")}`, external: true }
          : null,
    );
  },
};

prune(join(root, "dist"), join(root, "src"));
rmSync(join(root, "dist/bin"), { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: [
    "dist/cli/main.js",
    "dist/cli/help.js",
    "dist/cli/image-gates.js",
    "dist/targets/kernel-file.js",
    ...["place", "follow", "intercept"].map((name) => `dist/run/${name}.js`),
    ...commands.map((name) => `dist/cli/commands/${name}.js`),
  ],
  outdir: "dist/bin",
  entryNames: "[name]",
  outExtension: { ".js": ".cjs" },
  bundle: true,
  platform: "node",
  format: "cjs",
  target: "node20.19",
  // import() would start Node's loader of ECMAScript modules.
  supported: { "dynamic-import": false },
  external: ["iced-x86"],
  plugins: [apart],
  minifyWhitespace: true,
  minifySyntax: true,
  define: { "import.meta.url": "moduleUrl" },
  banner: { js: 'const moduleUrl = require("node:url").pathToFileURL(__filename).href;' },
  logLevel: "warning",
});

// The decoders: WebAssembly of packages that are needed for nothing else, beside the licences of what is in them.
const wasm = join(root, "dist/wasm");
const { resolve } = createRequire(import.meta.url);
rmSync(wasm, { recursive: true, force: true });
mkdirSync(wasm, { recursive: true });
copyFileSync(resolve("node-liblzma/wasm/liblzma.wasm"), join(wasm, "liblzma.wasm"));
// zstddec has its module in the text of its program.
const zstddec = readFileSync(resolve("zstddec/stream"), "utf8");
const [, encoded] = /^const wasm = "([A-Za-z0-9+/=]+)";$/m.exec(zstddec) ?? [];
if (!encoded) throw new Error("zstddec has no WebAssembly where it used to be");
writeFileSync(join(wasm, "zstd.wasm"), Buffer.from(encoded, "base64"));
copyFileSync(join(dirname(resolve("zstddec/stream")), "../LICENSE"), join(wasm, "zstd.LICENSE"));
