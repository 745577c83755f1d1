import { readdirSync, readFileSync } from "node:fs";
import type { VdsoImage } from "../../vdso/image.js";
import { isVdso, parseImage } from "../../vdso/image.js";
import type { ReferenceImage } from "../../vdso/tamper/reference.js";

/** Folders in which distributions install images, by kernel release and by build-id. */
const MODULES = "/lib/modules";
const BUILD_IDS = "/usr/lib/debug/.build-id";

/** The largest file that is taken for an image: those with debug information are larger than what is mapped. */
const MAX_FILE = 4 << 20;

/**
 * The image of a build-id (lower-case hex) among the files that a distribution installs: /lib/modules/RELEASE/vdso and
 * the debug files by build-id. They are as the kernel was built, before it patched them. `undefined` where there is none.
 */
export function installedImage(buildId: string): ReferenceImage | undefined {
  if (!/^[0-9a-f]{4,128}$/.test(buildId)) return undefined;
  const byBuildId = `${BUILD_IDS}/${buildId.slice(0, 2)}/${buildId.slice(2)}.debug`;
  const files = namesIn(MODULES).flatMap((release) => {
    const folder = `${MODULES}/${release}/vdso`;
    return namesIn(folder)
      .filter((name) => name.endsWith(".so"))
      .map((name) => `${folder}/${name}`);
  });
  for (const path of [...files, byBuildId]) {
    const image = imageAt(path);
    if (image?.buildId === buildId) return { name: path, image, kind: "unpatched" };
  }
  return undefined;
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** An image in a file; `undefined` where there is none, or only what debuggers need of it without its code. */
function imageAt(path: string): VdsoImage | undefined {
  try {
    const bytes = new Uint8Array(readFileSync(path));
    if (bytes.length > MAX_FILE) return undefined;
    const image = parseImage(bytes);
    return isVdso(image.elf) && image.elf.codeSections.length > 0 ? image : undefined;
  } catch {
    return undefined;
  }
}
