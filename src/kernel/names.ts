/** Names that kernels have: vmlinuz-6.1.0-50-amd64, vmlinux, bzImage, Image.gz, zImage, vmlinuz.efi, kernel8.img. */
const KERNEL = /^(vmlinu[xz]|[bz]?Image|kernel\d*\w*\.img)([-._].*)?$/;

/** What begins like one and is something else: a linker script, a header, a signature. */
const OTHER = /\.(sig|sign|hmac|h|S|lds|map|conf|config|txt|md5|sha\d+|o|a|cmd|py)$/;

/** Where a distribution puts images as files: lib/modules/6.1.0/vdso/vdso64.so. */
const VDSO = /(^|\/)vdso\/[^/]*\.so(\.dbg)?$/;

/** Whether a path names a kernel, or an image beside a kernel's modules. */
export function isKernelName(path: string): boolean {
  const name = path.slice(path.lastIndexOf("/") + 1);
  return (KERNEL.test(name) && !OTHER.test(name)) || VDSO.test(path);
}
