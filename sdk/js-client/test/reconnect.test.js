import assert from "node:assert/strict";
import { test } from "node:test";

import { Queue, bytesOf, pauseMs, verdictOf } from "../dist/reconnect.js";

test("each code that Tidegate closes clients with has its verdict", () => {
  const verdicts = {
    1000: "stop", 1001: "again", 1002: "stop", 1006: "again", 1007: "stop", 1008: "again", 1009: "stop", 1011: "again",
    1012: "again", 1013: "later", 3000: "stop", 4001: "stop", 4008: "again", 4999: "stop",
  };
  for (const [code, verdict] of Object.entries(verdicts)) {
    assert.equal(verdictOf({ code: Number(code), reason: "" }), verdict, code);
  }
});

test("pauses double up to the longest, half of each is chance, and no room means longer ones", () => {
  const pauses = { firstMs: 500, longestMs: 30_000, laterMs: 5_000 };
  assert.deepEqual([0, 1, 2, 6, 1_000].map((failures) => pauseMs(pauses, "again", failures, 0)), [250, 500, 1_000, 15_000, 15_000]);
  assert.equal(pauseMs(pauses, "again", 0, 1), 500);
  assert.deepEqual([0, 1, 9].map((failures) => pauseMs(pauses, "later", failures, 1)), [5_000, 10_000, 30_000]);
});

test("a queue holds no more messages and bytes than it may, and gives what has no room", () => {
  const newest = new Queue({ messages: 2, bytes: 10, policy: "drop-newest" });
  assert.deepEqual([newest.push("a"), newest.push("b"), newest.push("c")], [[], [], ["c"]]);
  assert.deepEqual([newest.shift(), newest.shift(), newest.shift(), newest.bytes], ["a", "b", undefined, 0]);
  const oldest = new Queue({ messages: 3, bytes: 10, policy: "drop-oldest" });
  assert.deepEqual([oldest.push("aaaa"), oldest.push("bbbb"), oldest.push("cccccc")], [[], [], ["aaaa"]]);
  assert.deepEqual(oldest.push("x".repeat(11)), ["x".repeat(11)]);
  assert.deepEqual([oldest.length, oldest.bytes], [2, 10]);
  assert.deepEqual(new Queue({ messages: 0, bytes: 10, policy: "drop-oldest" }).push("a"), ["a"]);
  assert.deepEqual([bytesOf("é"), bytesOf(new Uint8Array(3)), bytesOf(new ArrayBuffer(2))], [2, 3, 2]);
});
