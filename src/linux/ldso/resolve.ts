import * as C from "../../elf/constants.js";
import type { ElfHeader } from "../../elf/header.js";
import { loaderAbi, sameAbi } from "./abi.js";
import { resolveGlibc } from "./glibc.js";
import { resolveMusl } from "./musl.js";
import { baseName } from "./path.js";
import type { LoaderSystem, LoadProblem, ProgramFile, Resolution } from "./types.js";

/** ARCH in musl's names of its files. */
function muslArch(header: ElfHeader): string | undefined {
  const wide = header.class === 64;
  switch (header.e_machine) {
    case C.EM_386:
      return "i386";
    case C.EM_X86_64:
      return wide ? "x86_64" : "x32";
    case C.EM_AARCH64:
      return header.littleEndian ? "aarch64" : "aarch64_be";
    case C.EM_ARM:
      return "armhf";
    case C.EM_RISCV:
      return wide ? "riscv64" : "riscv32";
    case C.EM_PPC64:
      return header.littleEndian ? "powerpc64le" : "powerpc64";
    case C.EM_PPC:
      return "powerpc";
    case C.EM_S390:
      return "s390x";
    case C.EM_LOONGARCH:
      return "loongarch64";
    default:
      return undefined;
  }
}

interface Choice {
  readonly libc: "glibc" | "musl";
  readonly path: string;
}

/** The dynamic linker that the program asks for; for a library, the one of the C library that it needs. */
function chooseLoader(program: ProgramFile): Choice | undefined {
  const { interpreter, links, header } = program.dso;
  if (interpreter !== undefined) {
    return { libc: baseName(interpreter).startsWith("ld-musl-") ? "musl" : "glibc", path: interpreter };
  }
  const arch = muslArch(header);
  const forMusl = links.some(({ name }) => name === "libc.so" || name.startsWith("libc.musl-"));
  if (forMusl && arch !== undefined) return { libc: "musl", path: `/lib/ld-musl-${arch}.so.1` };
  const abi = loaderAbi(header);
  return abi && { libc: "glibc", path: abi.loader };
}

const KNOWN_GLIBC = /^(?:ld-linux.*|ld64?)\.so\.\d+$/;

/** Whether a dynamic linker by this name goes by glibc's rules. */
function isGlibc(path: string): boolean {
  return KNOWN_GLIBC.test(baseName(path)) || /^ld-\d+\.\d+\.so$/.test(baseName(path));
}

/**
 * How the program would be loaded, without running anything of it. `undefined` for an ABI that is unknown and a program
 * that names no dynamic linker.
 *
 * The rules are those of the program's own dynamic linker. Where that is not among the files, the one that its ABI
 * prescribes stands in, and a problem says so.
 */
export function resolve(program: ProgramFile, system: LoaderSystem): Resolution | undefined {
  const chosen = chooseLoader(program);
  if (!chosen) return undefined;
  const { store } = system;
  const problems: LoadProblem[] = [];
  const usable = (path: string) => {
    const stored = store.object(path);
    if ("code" in stored) return stored.code;
    if (!stored.dso) return stored.error;
    return sameAbi(stored.dso.header, program.dso.header) ? undefined : "it is built for another machine";
  };
  let path = chosen.path.startsWith("/") ? chosen.path : `${system.cwd}/${chosen.path}`;
  const trouble = usable(path);
  const abi = loaderAbi(program.dso.header);
  if (trouble !== undefined) {
    const fact = `the dynamic linker ${chosen.path} cannot be used (${trouble})`;
    const standIn = chosen.libc === "glibc" && abi && path !== abi.loader && usable(abi.loader) === undefined;
    problems.push({
      message: standIn
        ? `${fact}: the program cannot be started; ${abi.loader} stands in`
        : `${fact}: the program cannot be started here; its ABI's usual folders are searched`,
      fatal: false,
    });
    if (standIn) path = abi.loader;
  } else if (chosen.libc === "glibc" && !isGlibc(chosen.path)) {
    problems.push({ message: `${chosen.path} is not known: it is taken to go by glibc's rules`, fatal: false });
  }
  if (chosen.libc === "musl") {
    const resolution = resolveMusl(program, path, system);
    return { ...resolution, problems: [...problems, ...resolution.problems] };
  }
  if (!abi) return undefined;
  const resolution = resolveGlibc(program, path, abi, system);
  return { ...resolution, problems: [...problems, ...resolution.problems] };
}
