import { spawnSync } from "node:child_process";
import { existsSync, linkSync, mkdirSync, readFileSync, symlinkSync, truncateSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseCpu } from "../../src/linux/ldso/cpu.js";
import { liveCpu, liveFiles } from "../../src/linux/ldso/live.js";
import { lddProblems, lddText, lddTree } from "../../src/render/ldd.js";
import { ldd, lddAll } from "../../src/verbs/ldd.js";
import { runs32, Workshop } from "../support/programs.js";
import { needs } from "../support/referee.js";

const tools = needs("gcc", "gcc") && needs("ldd", "libc-bin");
/** A token as `$NAME` is written in braces. */
const braced = (name: string) => `$\{${name}}`;
const LOADER = "/lib64/ld-linux-x86-64.so.2";

describe.skipIf(!tools || process.arch !== "x64")("programs that are built for each rule", () => {
  const workshop = new Workshop();
  const wide = { builds: false, runs: false };

  /** What glibc's own dynamic linker says, with an environment, without addresses. */
  const theirs = (program: string, env: NodeJS.ProcessEnv = {}, loader = LOADER) => {
    const { stdout, stderr, status } = spawnSync(loader, [program.includes("/") ? program : `./${program}`], {
      cwd: workshop.folder,
      encoding: "utf8",
      env: { LC_ALL: "C", LD_TRACE_LOADED_OBJECTS: "1", LD_WARN: "", LD_LIBRARY_VERSION: "", ...env },
    });
    return { text: stdout.replaceAll(/ \(0x[0-9a-f]+\)$/gm, ""), stderr, status };
  };
  const options = (env: NodeJS.ProcessEnv = {}) => ({
    files: liveFiles(),
    cwd: workshop.folder,
    cpu: liveCpu(),
    virtual: { soname: "linux-vdso.so.1" },
    ...(env.LD_LIBRARY_PATH !== undefined && { libraryPath: env.LD_LIBRARY_PATH }),
    ...(env.LD_PRELOAD !== undefined && { preload: env.LD_PRELOAD }),
  });
  const ours = (program: string, env: NodeJS.ProcessEnv = {}) => ldd(program, options(env));
  const text = (program: string, env: NodeJS.ProcessEnv = {}) =>
    lddText([ours(program, env)]).replaceAll(" (virtual: mapped by the kernel, no file)", "");
  /** Asserts that both say the same, and gives it. */
  const agree = (program: string, env: NodeJS.ProcessEnv = {}) => {
    const reference = theirs(program, env);
    expect(reference.status, reference.stderr).toBe(0);
    expect(text(program, env)).toBe(reference.text);
    return reference.text;
  };

  beforeAll(() => {
    Object.assign(wide, runs32(workshop));
    // inner is needed by outer; each is in a folder of its own and in a second one.
    workshop.library("inner/libinner.so", "-Wl,-soname,libinner.so");
    workshop.library("other/libinner.so", "-Wl,-soname,libinner.so");
    workshop.library("plain/libouter.so", "-Wl,-soname,libouter.so", "inner/libinner.so");
    workshop.library("other/libouter.so", "-Wl,-soname,libouter.so", "inner/libinner.so");
  });
  afterAll(() => workshop.remove());

  const rpath = (list: string) => ["-Wl,--disable-new-dtags", `-Wl,-rpath,${list}`];
  const runpath = (list: string) => ["-Wl,--enable-new-dtags", `-Wl,-rpath,${list}`];

  it("DT_RPATH of the program serves what its libraries need", () => {
    workshop.program("rpath", ...rpath("$ORIGIN/plain:$ORIGIN/inner"), "plain/libouter.so");
    expect(agree("rpath")).toMatch(/libinner\.so => .*\/inner\/libinner\.so/);
    expect(ours("rpath").objects.find(({ name }) => name === "libinner.so")).toMatchObject({
      foundBy: "rpath",
      neededBy: ["libouter.so"],
      kind: "library",
    });
  });

  it("DT_RUNPATH serves only what the object itself needs", () => {
    workshop.program("runpath", ...runpath("$ORIGIN/plain:$ORIGIN/inner"), "plain/libouter.so");
    expect(agree("runpath")).toContain("libinner.so => not found");
    const objects = ours("runpath").objects;
    expect(objects.find(({ name }) => name === "libouter.so")?.foundBy).toBe("runpath");
    expect(objects.find(({ name }) => name === "libinner.so")).toMatchObject({ kind: "missing" });
  });

  it("DT_RPATH of the program is not asked for a library that has DT_RUNPATH", () => {
    workshop.library("withrun/libouter.so", "-Wl,-soname,libouter.so", ...runpath("/nonesuch"), "inner/libinner.so");
    workshop.program("mixed", ...rpath("$ORIGIN/withrun:$ORIGIN/inner"), "withrun/libouter.so");
    expect(agree("mixed")).toContain("libinner.so => not found");
  });

  it("LD_LIBRARY_PATH comes behind DT_RPATH and before DT_RUNPATH", () => {
    const env = { LD_LIBRARY_PATH: `${workshop.path("other")}:${workshop.path("inner")}` };
    expect(agree("rpath", env)).toContain("/plain/libouter.so");
    expect(agree("runpath", env)).toContain("/other/libouter.so");
    expect(ours("runpath", env).objects.find(({ name }) => name === "libouter.so")?.foundBy).toBe("LD_LIBRARY_PATH");
  });

  it.each([
    "other/:inner",
    "other;inner",
    "nonesuch:other//:inner",
    ":other",
    `$ORIGIN/other:${braced("ORIGIN")}/inner`,
    "inner:",
  ])("LD_LIBRARY_PATH may be %s", (list) => {
    agree("runpath", { LD_LIBRARY_PATH: list });
  });

  it("an empty part of a list is the working folder", () => {
    workshop.library("libhere.so", "-Wl,-soname,libhere.so");
    workshop.program("here", "libhere.so");
    expect(agree("here", { LD_LIBRARY_PATH: "" })).toContain("libhere.so => not found");
    expect(agree("here", { LD_LIBRARY_PATH: ":" })).toMatch(/^\tlibhere\.so$/m);
  });

  it.each([
    "$ORIGIN/inner",
    `${braced("ORIGIN")}/inner`,
    "$ORIGIN/../nonesuch:$ORIGIN/./inner",
    "$ORIGINAL/inner:$ORIGIN/inner",
    `$\{ORIGIN/inner:${braced("ORIGIN")}/inner`,
    "$ORIGIN/$NOTHING:$ORIGIN/inner/",
    "inner",
    "/:inner",
  ])("tokens in DT_RPATH are expanded in %s", (list) => {
    workshop.program("tokens", ...rpath(list), "inner/libinner.so");
    agree("tokens");
    agree("./tokens");
    agree(workshop.path("tokens"));
  });

  it("$LIB and $PLATFORM are those of the dynamic linker", () => {
    workshop.library("root/lib/x86_64-linux-gnu/libl.so", "-Wl,-soname,libl.so");
    workshop.library("root/x86_64/libp.so", "-Wl,-soname,libp.so");
    const list = `$ORIGIN/root/$LIB:$ORIGIN/root/${braced("PLATFORM")}`;
    workshop.program("lib", ...rpath(list), "root/lib/x86_64-linux-gnu/libl.so", "root/x86_64/libp.so");
    agree("lib");
  });

  it("subfolders for the processor come before the folder", () => {
    workshop.library("cpu/libcpu.so", "-Wl,-soname,libcpu.so");
    workshop.program("cpu/main", "cpu/libcpu.so", "-Wl,-rpath,$ORIGIN");
    agree("cpu/main");
    for (const folder of ["x86_64", "tls", "tls/x86_64"]) {
      workshop.library(`cpu/${folder}/libcpu.so`, "-Wl,-soname,libcpu.so");
      agree("cpu/main");
    }
    for (const level of ["v2", "v3", "v4"]) {
      workshop.library(`cpu/glibc-hwcaps/x86-64-${level}/libcpu.so`, "-Wl,-soname,libcpu.so");
      agree("cpu/main");
    }
    const old = ldd("cpu/main", { ...options(), cpu: parseCpu("flags\t\t: fpu sse2\n") });
    expect(old.objects.find(({ name }) => name === "libcpu.so")?.path).not.toContain("glibc-hwcaps");
  });

  it("a missing library is listed for each object that needs it", () => {
    workshop.library("gone/libgone.so", "-Wl,-soname,libgone.so");
    workshop.library("gone/libuser.so", "-Wl,-soname,libuser.so", "gone/libgone.so");
    workshop.program("missing", "gone/libgone.so", "gone/libuser.so", "-Wl,-rpath,$ORIGIN/user");
    mkdirSync(workshop.path("user"));
    linkSync(workshop.path("gone/libuser.so"), workshop.path("user/libuser.so"));
    expect(agree("missing").match(/libgone\.so => not found/g)).toHaveLength(2);
  });

  it("a name with a slash is a path", () => {
    workshop.library("slash/libslash.so");
    workshop.program("slash/main", "slash/libslash.so", workshop.path("inner/libinner.so"));
    expect(agree("slash/main")).toMatch(/^\tslash\/libslash\.so$/m);
    expect(ours("slash/main").objects.find(({ name }) => name === "slash/libslash.so")?.foundBy).toBe("direct");
  });

  it("objects that need one another are each loaded once", () => {
    workshop.library("cycle/libone.so", "-Wl,-soname,libone.so");
    workshop.library("cycle/libtwo.so", "-Wl,-soname,libtwo.so", "cycle/libone.so", "-Wl,-rpath,$ORIGIN");
    workshop.library("cycle/libone.so", "-Wl,-soname,libone.so", "cycle/libtwo.so", "-Wl,-rpath,$ORIGIN");
    workshop.program("cycle/main", "cycle/libone.so", "-Wl,-rpath,$ORIGIN");
    agree("cycle/main");
    agree("cycle/libone.so");
    agree("cycle/libtwo.so");
    expect(lddTree([ours("cycle/main")])).toContain("\t\tlibtwo.so => ");
    expect(lddTree([ours("cycle/main")])).toContain("(see above)");
  });

  it("two names of one file are one object", () => {
    workshop.library("twice/libreal.so", "-Wl,-soname,libreal.so");
    workshop.library("twice/libalias.so", "-Wl,-soname,libalias.so");
    workshop.program("twice/main", "twice/libreal.so", "twice/libalias.so", "-Wl,-rpath,$ORIGIN/../names");
    mkdirSync(workshop.path("names"));
    linkSync(workshop.path("twice/libreal.so"), workshop.path("names/libreal.so"));
    symlinkSync("../twice/libreal.so", workshop.path("names/libalias.so"));
    expect(agree("twice/main")).not.toContain("libalias");
  });

  it("the place in the list is that of the first that asks, breadth first", () => {
    workshop.library("order/libc1.so", "-Wl,-soname,libc1.so");
    workshop.library("order/libb1.so", "-Wl,-soname,libb1.so", "order/libc1.so", "-Wl,-rpath,$ORIGIN");
    workshop.library("order/libb2.so", "-Wl,-soname,libb2.so", "-lm", LOADER);
    workshop.program("order/main", "order/libb1.so", "order/libb2.so", "-Wl,-rpath,$ORIGIN");
    agree("order/main");
    workshop.compile("int f;", "-shared", "-fPIC", "-nostdlib", "-Wl,--no-as-needed", "-o", "order/first.so", LOADER);
    expect(agree("order/first.so")).toMatch(/^\t\/lib64\/ld-linux.*\n\tlinux-vdso/);
  });

  it("filters and auxiliary filters stand before what they filter", () => {
    workshop.library("filter/libaux.so", "-Wl,-soname,libaux.so");
    workshop.library("filter/libbase.so", "-Wl,-soname,libbase.so", "-Wl,-f,libaux.so", "-Wl,-f,libgone.so", "-lm");
    workshop.library("filter/libtop.so", "-Wl,-soname,libtop.so", "-Wl,-F,libbase.so");
    workshop.program("filter/main", "filter/libtop.so", "filter/libbase.so");
    expect(agree("filter/main", { LD_LIBRARY_PATH: workshop.path("filter") })).toContain("libaux.so => ");
  });

  it("preloaded objects come first, and one that is missing is told", () => {
    agree("rpath", { LD_PRELOAD: "libm.so.6" });
    agree("rpath", { LD_PRELOAD: `${workshop.path("other/libinner.so")}:libm.so.6 ` });
    const env = { LD_PRELOAD: "libnonesuch.so libm.so.6" };
    agree("rpath", env);
    expect(ours("rpath", env)).toMatchObject({
      status: 0,
      problems: [{ message: "libnonesuch.so from LD_PRELOAD is not found: it is not preloaded", fatal: false }],
    });
    expect(ours("rpath", env).objects.find(({ name }) => name === "libm.so.6")).toMatchObject({
      foundBy: "preload",
      neededBy: ["LD_PRELOAD"],
    });
  });

  it("DF_1_NODEFLIB keeps out of the default folders and the cache's entries in them", () => {
    workshop.program("nodeflib", "-Wl,-z,nodefaultlib");
    expect(agree("nodeflib")).toContain("libc.so.6 => not found");
  });

  it("the name of the virtual object is answered by it, whatever files there are", () => {
    workshop.library("vdso/linux-vdso.so.1", "-Wl,-soname,linux-vdso.so.1");
    workshop.program("vdso/main", "vdso/linux-vdso.so.1", "-Wl,-rpath,$ORIGIN");
    agree("vdso/main");
    const virtual = ours("vdso/main").objects.filter(({ name }) => name === "linux-vdso.so.1");
    expect(virtual).toEqual([{ name: "linux-vdso.so.1", kind: "virtual", neededBy: ["vdso/main"] }]);
  });

  it("a version that no library defines is told as the dynamic linker tells it", () => {
    const source = "int f(void){return 1;} int g(void){return 1;}";
    workshop.write("old.map", "OLD_1 { global: f; };\n");
    workshop.write("new.map", "OLD_1 { global: f; };\nNEW_2 { global: g; } OLD_1;\n");
    workshop.compile(
      source,
      "-shared",
      "-fPIC",
      "-o",
      "v/libv.so",
      "-Wl,-soname,libv.so",
      "-Wl,--version-script,new.map",
    );
    workshop.compile(
      "int f(void),g(void);int main(void){return f()+g();}",
      "-o",
      "v/main",
      "v/libv.so",
      "-Wl,-rpath,$ORIGIN",
    );
    expect(ours("v/main").problems).toEqual([]);
    workshop.compile(
      "int f(void){return 1;}",
      "-shared",
      "-fPIC",
      "-o",
      "v/libv.so",
      "-Wl,-soname,libv.so",
      "-Wl,--version-script,old.map",
    );
    const reference = theirs("v/main");
    const [problem] = ours("v/main").problems;
    expect(problem?.message).toContain("version `NEW_2' not found (required by ");
    expect(`${reference.text}${reference.stderr}`).toContain(problem?.message);
  });

  it("static programs and what is no program are named as ldd names them", () => {
    workshop.program("static", "-static");
    workshop.program("staticpie", "-static-pie");
    workshop.compile("int x;", "-c", "-o", "object.o");
    workshop.write("script", "#!/bin/sh\n");
    workshop.write("empty", "");
    workshop.compile("int x;", "-shared", "-fPIC", "-nostdlib", "-o", "alone.so");
    const paths = ["static", "staticpie", "object.o", "script", "empty", "alone.so", "nonesuch", "plain"];
    const results = lddAll(paths, options());
    for (const [i, path] of paths.entries()) {
      const reference = spawnSync("ldd", [path], {
        cwd: workshop.folder,
        encoding: "utf8",
        env: { ...process.env, LC_ALL: "C" },
      });
      expect(results[i]?.status, path).toBe(reference.status);
      const words = lddText([results[i] as (typeof results)[0]]);
      expect(words === "" ? reference.stderr : `${reference.stdout}${reference.stderr}`, path).toContain(words);
    }
    expect(results.map(({ kind }) => kind)).toEqual([
      "static",
      "static-pie",
      "static",
      "not-elf",
      "not-elf",
      "dynamic",
      "unreadable",
      "unreadable",
    ]);
    expect(lddProblems(results)).toContain("nonesuch: No such file or directory");
    expect(lddProblems(results)).toContain("plain: not regular file");
  });

  it("several programs have a heading each", () => {
    expect(lddText(lddAll(["rpath", "runpath"], options()))).toMatch(/^rpath:\n\tlinux-vdso.*\n(?:.*\n)*runpath:\n\t/);
  });

  it("libraries of another class are passed over", () => {
    if (!wide.builds) return;
    workshop.compile("int libinner_so;", "-m32", "-shared", "-fPIC", "-nostdlib", "-o", "narrow/libinner.so");
    const env = { LD_LIBRARY_PATH: `${workshop.path("narrow")}:${workshop.path("inner")}:${workshop.path("plain")}` };
    expect(agree("runpath", env)).toContain("/inner/libinner.so");
  });

  it("an i386 program is resolved by its own dynamic linker's folders", () => {
    if (!wide.builds || !existsSync("/lib/ld-linux.so.2")) return;
    workshop.compile("int main(void) { return 0; }", "-m32", "-o", "narrow/main", "-Wl,--no-as-needed", "-lm");
    const result = ldd("narrow/main", {
      ...options(),
      virtual: (abi) => (abi === "i386" ? { soname: "linux-gate.so.1" } : undefined),
    });
    expect(result).toMatchObject({ abi: "i386", kind: "dynamic", status: 0, interpreter: "/lib/ld-linux.so.2" });
    expect(result.objects.map(({ name }) => name)).toEqual([
      "linux-gate.so.1",
      "libm.so.6",
      "libc.so.6",
      "/lib/ld-linux.so.2",
    ]);
    for (const { path, kind } of result.objects) {
      if (kind !== "virtual") expect(readFileSync(path as string)[4]).toBe(1);
    }
    if (!wide.runs) return;
    const reference = theirs("narrow/main", {}, "/lib/ld-linux.so.2");
    expect(lddText([result]).replaceAll(/ \(virtual.*\)/g, "")).toBe(reference.text);
  });

  it("a program for a machine that has no files here is resolved as far as they go", () => {
    const bytes = Uint8Array.from(readFileSync(workshop.path("rpath")));
    new DataView(bytes.buffer).setUint16(18, 183, true);
    workshop.write("foreign", bytes);
    const result = ours("foreign");
    expect(result).toMatchObject({ abi: "aarch64", kind: "dynamic", status: 0 });
    expect(result.objects.filter(({ kind }) => kind === "library")).toEqual([]);
    expect(result.objects.find(({ name }) => name === "libc.so.6")?.kind).toBe("missing");
    expect(lddProblems([result])[0]).toContain("cannot be used");
  });

  it("a program reached through a symbolic link says what its $ORIGIN will be", () => {
    mkdirSync(workshop.path("links"));
    symlinkSync("../rpath", workshop.path("links/rpath"));
    agree("links/rpath");
    expect(lddProblems([ours("links/rpath")]).join()).toContain(`$ORIGIN is ${workshop.folder}`);
  });

  describe("hostile files", () => {
    it("garbage and directories in a library's place are told, and the rest is still shown", () => {
      workshop.write(
        "bad/libinner.so",
        "garbage that is long enough to be looked at as an ELF header, which it is not at all",
      );
      const env = { LD_LIBRARY_PATH: `${workshop.path("bad")}:${workshop.path("plain")}` };
      const result = ours("runpath", env);
      expect(theirs("runpath", env).status).toBe(127);
      expect(result.status).toBe(1);
      expect(result.objects.find(({ name }) => name === "libinner.so")?.error).toContain("not 7f 45 4c 46");
      expect(result.objects.some(({ name }) => name === "libc.so.6")).toBe(true);
      mkdirSync(workshop.path("dir/libinner.so"), { recursive: true });
      expect(
        ours("runpath", { LD_LIBRARY_PATH: `${workshop.path("dir")}:${workshop.path("plain")}` }).problems,
      ).toEqual([{ message: `${workshop.path("dir/libinner.so")}: it is a directory`, fatal: true }]);
    });

    it("a FIFO is not waited for, neither as program nor as library", () => {
      mkdirSync(workshop.path("fifo"));
      spawnSync("mkfifo", [workshop.path("fifo/libinner.so")]);
      expect(ours("fifo/libinner.so")).toMatchObject({ kind: "unreadable", status: 1 });
      const env = { LD_LIBRARY_PATH: `${workshop.path("fifo")}:${workshop.path("plain")}` };
      expect(ours("runpath", env).objects.find(({ name }) => name === "libinner.so")?.error).toBe(
        "it is not a plain file",
      );
    });

    it("a loop of symbolic links is no library and no program", () => {
      symlinkSync("loop", workshop.path("loop"));
      expect(ours("loop")).toMatchObject({ kind: "unreadable", status: 1 });
      mkdirSync(workshop.path("loops"));
      symlinkSync("libinner.so", workshop.path("loops/libinner.so"));
      agree("runpath", { LD_LIBRARY_PATH: `${workshop.path("loops")}:${workshop.path("plain")}` });
    });

    it("programs needed as libraries are refused", () => {
      workshop.library("pie/libpie.so", "-Wl,-soname,libpie.so");
      workshop.program("pie/main", "pie/libpie.so", "-Wl,-rpath,$ORIGIN");
      workshop.program("pie/libpie.so", "-pie");
      expect(theirs("pie/main").status).toBe(127);
      expect(ours("pie/main")).toMatchObject({ status: 1 });
      workshop.program("pie/libpie.so", "-static");
      expect(theirs("pie/main").status).toBe(127);
      expect(ours("pie/main")).toMatchObject({ status: 1 });
    });

    it("every truncation of a program gives a result", () => {
      const bytes = readFileSync(workshop.path("rpath"));
      for (let size = 0; size < bytes.length; size += 97) {
        const path = workshop.write("cut", bytes.subarray(0, size));
        expect(["not-elf", "static", "dynamic", "static-pie"]).toContain(ours(path).kind);
      }
    });

    it("every byte of a program's headers may be wrong", () => {
      const bytes = readFileSync(workshop.path("rpath"));
      for (let at = 0; at < 900; at += 10) {
        const broken = Uint8Array.from(bytes);
        broken[at] = 0xff;
        broken[at + 1] = 0xff;
        ours(workshop.write("broken", broken));
      }
    });

    it("a file of terabytes is not read", () => {
      const path = workshop.write("sparse", readFileSync(workshop.path("rpath")));
      truncateSync(path, 2 ** 42);
      expect(ours(path).kind).toBe("dynamic");
    });
  });

  const musl = needs("musl-gcc", "musl-tools");
  describe.skipIf(!musl)("programs of musl", () => {
    const LD = "/lib/ld-musl-x86_64.so.1";
    /** Lines of musl's own --list. */
    const list = (program: string, env: NodeJS.ProcessEnv = {}) =>
      spawnSync(LD, ["--list", program], { cwd: workshop.folder, encoding: "utf8", env })
        .stdout.replaceAll(/ \(0x[0-9a-f]+\)$/gm, "")
        .split("\n")
        .filter((line) => line && !line.includes(LD));
    const muslOurs = (program: string, env: NodeJS.ProcessEnv = {}) =>
      ours(program, env)
        .objects.filter(({ kind }) => kind === "library")
        .map(({ name, path }) => `\t${name} => ${path}`);
    const build = (source: string, ...args: string[]) =>
      workshop.compileWith("musl-gcc", source, "-Wl,--no-as-needed", ...args);

    beforeAll(() => {
      build("int inner;", "-shared", "-fPIC", "-o", "musl/in/libin.so", "-Wl,-soname,libin.so");
      build("int inner;", "-shared", "-fPIC", "-o", "musl/else/libin.so", "-Wl,-soname,libin.so");
      build("int outer;", "-shared", "-fPIC", "-o", "musl/out/libout.so", "-Wl,-soname,libout.so", "musl/in/libin.so");
      build(
        "int main(void){return 0;}",
        "-o",
        "musl/main",
        "musl/out/libout.so",
        ...runpath(`$ORIGIN/out:${braced("ORIGIN")}/in`),
      );
    });

    it("DT_RUNPATH serves what libraries need too, and libc.so is the dynamic linker", () => {
      const result = ours("musl/main");
      expect(result).toMatchObject({ libc: "musl", status: 0, kind: "dynamic", interpreter: LD });
      expect(muslOurs("musl/main")).toEqual(list("musl/main"));
      expect(muslOurs("musl/main")).toHaveLength(2);
      expect(result.objects[1]).toMatchObject({ kind: "interpreter", path: LD });
      expect(result.objects[1]?.neededBy).toContain("musl/main");
    });

    it("LD_LIBRARY_PATH comes before everything", () => {
      const env = { LD_LIBRARY_PATH: `${workshop.path("musl/else")}::nonesuch` };
      expect(muslOurs("musl/main", env)).toEqual(list("musl/main", env));
      expect(muslOurs("musl/main", env).join()).toContain("/musl/else/libin.so");
      expect(muslOurs("musl/main", { LD_PRELOAD: "libin.so", ...env })).toEqual(
        list("musl/main", { LD_PRELOAD: "libin.so", ...env }),
      );
    });

    it("other tokens make DT_RUNPATH void, and a missing library is told", () => {
      build("int main(void){return 0;}", "-o", "musl/void", "musl/out/libout.so", ...runpath("$ORIGIN/out:$LIB"));
      expect(
        ours("musl/void")
          .objects.filter(({ kind }) => kind === "missing")
          .map(({ name }) => name),
      ).toEqual(["libout.so"]);
      expect(list("musl/void")).toEqual([]);
    });
  });
});
