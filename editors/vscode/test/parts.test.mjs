import assert from "node:assert/strict";
import { test } from "node:test";

import { asMarkdown, remaining, standing } from "../src/parts.ts";

const line = { text: "alphabet + 1", start: 4 };
const lines = { text: "x\n  y\n  z", start: 0 };

test("what stands before the cursor counts from the start of the suggestion", () => {
  assert.equal(standing(line, "x = alph", 8), 4);
  assert.equal(standing(line, "x = alphabet", 12), 8);
  assert.equal(remaining(line, "x = alph", 8), "abet + 1");
});

test("other text, and a cursor before it, is no part of it", () => {
  assert.equal(standing(line, "x = alpZ", 8), undefined);
  assert.equal(standing(line, "x = alph", 3), undefined);
  assert.equal(remaining(line, "x = alpZ", 8), "");
});

test("what stands behind the cursor does not matter", () => {
  assert.equal(standing(line, "f(x,alph)", 8), 4);
});

test("line ends of the document do not matter", () => {
  assert.equal(standing(lines, "x\r\n  y", 6), 5);
  assert.equal(standing({ ...lines, text: "x\r\n  y\r\n  z" }, "x\n  y", 5), 6);
  assert.equal(remaining({ ...lines, text: "x\r\n  y\r\n  z" }, "x\n  y", 5), "\r\n  z");
});

test("all of it leaves nothing", () => {
  assert.equal(remaining(line, "x = alphabet + 1", 16), "");
});

test("a sentence keeps its marks and its blanks", () => {
  assert.equal(asMarkdown("57% was *not* [enough](x); see coderl.eagerness"), "57\\% was \\*not\\* \\[enough\\]\\(x\\)\\; see coderl\\.eagerness");
});
