// Debian's kernels for the benchmarks, from the cache that the tests keep.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { root, scratch } from "./measure.mjs";

/** Kernels of each compression that Debian uses; those that cannot be had are left out. */
export async function kernels() {
  const { downloadedDependency, unpackedKernel } = await testSupport("debian");
  const wanted = [
    ["xz", "linux-image-686", { architecture: "i386" }],
    ["lz4", "linux-image-cloud-amd64", { architecture: "amd64" }],
    ["zstd", "linux-image-cloud-amd64", { architecture: "amd64", release: "bookworm-backports" }],
  ];
  const found = [];
  for (const [compression, name, source] of wanted) {
    const deb = await downloadedDependency(name, source);
    const file = deb && (await unpackedKernel(deb));
    if (file) found.push({ compression, deb, file, payload: payloadOf(file, compression) });
  }
  return found;
}

/** A module of the tests' support, compiled. */
async function testSupport(name) {
  const outfile = `${scratch}.${name}.mjs`;
  const entry = join(root, "test/support", `${name}.ts`);
  await build({ entryPoints: [entry], outfile, bundle: true, platform: "node", format: "esm", logLevel: "warning" });
  return import(outfile);
}

/** The compressed stream of a bzImage in a file of its own, as a command-line decompressor wants it. */
function payloadOf(file, compression) {
  const bytes = readFileSync(file);
  const at = ((bytes[0x1f1] || 4) + 1) * 512 + bytes.readUInt32LE(0x248);
  const path = `${scratch}.${compression}`;
  // The last four bytes are the size of the whole, which the kernel's build appends.
  writeFileSync(path, bytes.subarray(at, at + bytes.readUInt32LE(0x24c) - 4));
  return path;
}
