/** What each of the numbers has room for in a code. */
const MOST = 255;

/**
 * LINUX_VERSION_CODE of a kernel version, or of a release that begins with one (`6.18.44-cloud`); `undefined` where
 * there is none. A third number beyond 255 counts as 255, as in the kernel's own (Makefile, "LINUX_VERSION_CODE").
 */
export function kernelVersionCode(text: string): number | undefined {
  const [, major, minor, patch = "0"] = /^(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?![\d.])/.exec(text) ?? [];
  if (major === undefined || minor === undefined) return undefined;
  if (Number(major) > MOST || Number(minor) > MOST) return undefined;
  return (Number(major) << 16) | (Number(minor) << 8) | Math.min(Number(patch), MOST);
}
