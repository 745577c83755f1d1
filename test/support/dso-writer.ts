import { Writer } from "../../src/bytes/writer.js";
import { buildElf, type SectionPlan } from "../../src/elf/builder.js";
import * as C from "../../src/elf/constants.js";
import type { LoaderFiles } from "../../src/linux/ldso/files.js";

/** What is to be written of an object for a dynamic linker to find its needs. */
export interface DsoPlan {
  readonly needed?: readonly string[];
  readonly soname?: string;
  readonly rpath?: string;
  readonly runpath?: string;
  readonly interpreter?: string;
  readonly class?: 32 | 64;
  readonly littleEndian?: boolean;
  readonly machine?: number;
}

/** An object with a dynamic section and its strings, and nothing else. */
export function buildDso(plan: DsoPlan): Uint8Array {
  const bits = plan.class ?? 64;
  const littleEndian = plan.littleEndian ?? true;
  const strings = new Writer().u8(0);
  const entries: [number, number | "strings"][] = [[C.DT_STRTAB, "strings"]];
  const add = (tag: number, text: string | undefined) => {
    if (text === undefined) return;
    entries.push([tag, strings.length]);
    strings.cstring(text);
  };
  for (const name of plan.needed ?? []) add(C.DT_NEEDED, name);
  add(C.DT_SONAME, plan.soname);
  add(C.DT_RPATH, plan.rpath);
  add(C.DT_RUNPATH, plan.runpath);
  const table = strings.finish();
  entries.push([C.DT_STRSZ, table.length], [C.DT_NULL, 0]);
  const sections: SectionPlan[] = [
    {
      name: ".dynamic",
      type: 6,
      flags: C.SHF_ALLOC,
      align: 8,
      content: {
        size: entries.length * (bits === 64 ? 16 : 8),
        write(layout) {
          const out = new Writer({ littleEndian, wordSize: bits === 64 ? 8 : 4 });
          for (const [tag, value] of entries) {
            out.word(tag).word(value === "strings" ? layout.addressOf(".dynstr") : value);
          }
          return out.finish();
        },
      },
    },
    { name: ".dynstr", type: C.SHT_STRTAB, flags: C.SHF_ALLOC, content: table },
  ];
  if (plan.interpreter !== undefined) {
    const content = new Writer().cstring(plan.interpreter).finish();
    sections.push({ name: ".interp", type: C.SHT_PROGBITS, flags: C.SHF_ALLOC, content });
  }
  const last = (sections.at(-1) as SectionPlan).name;
  return buildElf({
    class: bits,
    littleEndian,
    type: C.ET_DYN,
    machine: plan.machine ?? C.EM_X86_64,
    sections,
    segments: [
      { type: C.PT_LOAD, flags: C.PF_R, covers: ["headers", last], align: 4096 },
      { type: C.PT_DYNAMIC, flags: C.PF_R, covers: [".dynamic", ".dynamic"], align: 8 },
      ...(plan.interpreter === undefined
        ? []
        : [{ type: C.PT_INTERP, flags: C.PF_R, covers: [".interp", ".interp"] as const }]),
    ],
    sectionHeaders: false,
  });
}

/** Files in memory by absolute path; a string in place of the bytes is the error that opening the file gives. */
export function memoryFiles(files: Readonly<Record<string, Uint8Array | string>>): LoaderFiles {
  const folders = new Set<string>(["/"]);
  for (const path of Object.keys(files)) {
    for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1)) folders.add(path.slice(0, at));
  }
  const plain = (path: string) => {
    const parts: string[] = [];
    for (const part of path.split("/")) {
      if (part === "..") parts.pop();
      else if (part !== "" && part !== ".") parts.push(part);
    }
    return `/${parts.join("/")}`;
  };
  return {
    status(given) {
      const path = plain(given);
      if (files[path] !== undefined) return { kind: "file", identity: path };
      return folders.has(path) ? { kind: "directory", identity: path } : { code: "ENOENT" };
    },
    open(given) {
      const bytes = files[plain(given)];
      if (bytes === undefined) return { code: "ENOENT" };
      if (typeof bytes === "string") return { code: bytes };
      return {
        size: bytes.length,
        readAt: (offset, size) => bytes.slice(offset, offset + size),
        close() {},
      };
    },
    realPath: plain,
  };
}
