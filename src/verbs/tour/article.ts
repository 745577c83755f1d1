import type { Exhibit } from "./exhibit.js";

/*
 * What the commands of "What is linux-gate.so.1?" (Johan Petersson, 2005) printed on its author's machine: an x86
 * processor with sysenter, a 32-bit kernel 2.6 and glibc 2.3.5.
 */

/** Address of the object in every process of the article's machine. */
export const ARTICLE_BASE = "ffffe000";

/** The dynamic linker's list of what a shell needs. */
export const LDD: Exhibit = {
  command: "ldd /bin/sh",
  output: [
    "  linux-gate.so.1 =>  (0xffffe000)",
    "  libdl.so.2 => /lib/libdl.so.2 (0xb7fb2000)",
    "  libc.so.6 => /lib/libc.so.6 (0xb7e7c000)",
    "  /lib/ld-linux.so.2 (0xb7fba000)",
  ].join("\n"),
  marks: ["linux-gate.so.1 =>  (0xffffe000)"],
};

/** The memory of a process, its own object at the end. */
export const MAPS: Exhibit = {
  command: "cat /proc/self/maps",
  output: [
    "08048000-0804c000 r-xp 00000000 08:03 7971106    /bin/cat",
    "0804c000-0804d000 rwxp 00003000 08:03 7971106    /bin/cat",
    "0804d000-0806e000 rwxp 0804d000 00:00 0          [heap]",
    "b7e88000-b7e89000 rwxp b7e88000 00:00 0",
    "b7e89000-b7fb8000 r-xp 00000000 08:03 8856588    /lib/libc-2.3.5.so",
    "b7fb8000-b7fb9000 r-xp 0012e000 08:03 8856588    /lib/libc-2.3.5.so",
    "b7fb9000-b7fbc000 rwxp 0012f000 08:03 8856588    /lib/libc-2.3.5.so",
    "b7fbc000-b7fbe000 rwxp b7fbc000 00:00 0",
    "b7fc2000-b7fd9000 r-xp 00000000 08:03 8856915    /lib/ld-2.3.5.so",
    "b7fd9000-b7fdb000 rwxp 00016000 08:03 8856915    /lib/ld-2.3.5.so",
    "bfac3000-bfad9000 rw-p bfac3000 00:00 0          [stack]",
    "ffffe000-fffff000 ---p 00000000 00:00 0          [vdso]",
  ].join("\n"),
  marks: ["ffffe000-fffff000", "[vdso]"],
};

/** The copy of the page, made by a process of its own memory. */
export const DD: Exhibit = {
  command: "dd if=/proc/self/mem of=linux-gate.dso bs=4096 skip=1048574 count=1",
  output: "1+0 records in\n1+0 records out",
  marks: ["1+0 records out"],
};

/** What the copy is. */
export const FILE: Exhibit = {
  command: "file -b linux-gate.dso",
  output: "ELF 32-bit LSB shared object, Intel 80386, version 1 (SYSV), stripped",
  marks: ["ELF 32-bit LSB shared object"],
};

/** What it exports. */
export const SYMBOLS: Exhibit = {
  command: "objdump -T linux-gate.dso",
  output: [
    "linux-gate.dso:     file format elf32-i386",
    "",
    "DYNAMIC SYMBOL TABLE:",
    "ffffe400 l    d  .text  00000000",
    "ffffe460 l    d  .eh_frame_hdr  00000000",
    "ffffe484 l    d  .eh_frame      00000000",
    "ffffe608 l    d  .useless       00000000",
    "ffffe400 g    DF .text  00000014  LINUX_2.5   __kernel_vsyscall",
    "00000000 g    DO *ABS*  00000000  LINUX_2.5   LINUX_2.5",
    "ffffe440 g    DF .text  00000007  LINUX_2.5   __kernel_rt_sigreturn",
    "ffffe420 g    DF .text  00000008  LINUX_2.5   __kernel_sigreturn",
  ].join("\n"),
  marks: ["__kernel_vsyscall", "__kernel_rt_sigreturn", "__kernel_sigreturn"],
};

/** Where the entry begins, and where it ends. */
export const ENTRY_RANGE = { start: "0xffffe400", stop: "0xffffe414" } as const;

const ENTRY_LINES = [
  "ffffe400:       51                      push   %ecx",
  "ffffe401:       52                      push   %edx",
  "ffffe402:       55                      push   %ebp",
  "ffffe403:       89 e5                   mov    %esp,%ebp",
  "ffffe405:       0f 34                   sysenter",
  "ffffe407:       90                      nop",
  "ffffe408:       90                      nop",
  "ffffe409:       90                      nop",
  "ffffe40a:       90                      nop",
  "ffffe40b:       90                      nop",
  "ffffe40c:       90                      nop",
  "ffffe40d:       90                      nop",
  "ffffe40e:       eb f3                   jmp    ffffe403 <__kernel_vsyscall+0x3>",
  "ffffe410:       5d                      pop    %ebp",
  "ffffe411:       5a                      pop    %edx",
  "ffffe412:       59                      pop    %ecx",
  "ffffe413:       c3                      ret",
];

const ENTRY_COMMAND = `objdump -d --start-address=${ENTRY_RANGE.start} --stop-address=${ENTRY_RANGE.stop} linux-gate.dso`;

/** The instructions of the way into the kernel. */
export const ENTRY: Exhibit = {
  command: ENTRY_COMMAND,
  output: [
    "linux-gate.dso:     file format elf32-i386",
    "",
    "Disassembly of section .text:",
    "",
    "ffffe400 <__kernel_vsyscall>:",
    ...ENTRY_LINES,
  ].join("\n"),
  marks: ["sysenter"],
};

/** The same, of which the jump is looked at: what it leads to, and what it stands between. */
export const JUMP: Exhibit = {
  ...ENTRY,
  output: ENTRY_LINES.join("\n"),
  shown: [3, 4, 12, 13],
  marks: ["jmp"],
};
