import iced from "iced-x86";
import { expect, it } from "vitest";
import { countingCode } from "../../src/run/counter/code.js";
import { countingImage } from "../../src/run/counter/image.js";

it("countingImage is what its source assembles to", () => {
  expect(Buffer.from(countingCode(iced)).toString("base64")).toBe(countingImage);
});
