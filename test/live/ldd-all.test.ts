import { describe, expect, it } from "vitest";
import { liveCpu, liveFiles } from "../../src/linux/ldso/live.js";
import { lddText } from "../../src/render/ldd.js";
import { lddAll } from "../../src/verbs/ldd.js";
import { needs } from "../support/referee.js";
import { compareAll, programs } from "./ldd-all.mjs";

/** Every so-many-th program: all of them take glibc's ldd minutes. `node test/live/ldd-all.mjs` compares all. */
const STRIDE = 32;

const tools = needs("ldd", "libc-bin");

describe.skipIf(!tools || process.platform !== "linux")("every program of this machine", () => {
  it("has the objects that glibc's ldd lists, at the same paths, and is resolved faster", async () => {
    const paths = programs().filter((_, index) => index % STRIDE === 0);
    const result = await compareAll({ lddAll, lddText, liveFiles, liveCpu }, paths);
    expect(result.differences).toEqual([]);
    expect(result.programs).toBeGreaterThan(10);
    // A few programs pay for all that is read only once; over all of them the ratio is near 100.
    expect(result.referenceMilliseconds / result.milliseconds).toBeGreaterThan(4);
  });
});
