// When a request is tried again: against a server that answers as it is told.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

import { Problem, Tidegate, UnexpectedAnswer, Unreachable } from "../dist/push.js";

const DONE = [200, "application/json", JSON.stringify({ reached: 1, missing: [] })];

function problem(status, kind) {
  const document = { type: `urn:tidegate:problem:${kind}`, title: "T", status, detail: "D" };
  return [status, "application/problem+json", JSON.stringify(document)];
}

function lines(...documents) {
  return [200, "application/x-ndjson", documents.map((document) => `${JSON.stringify(document)}\n`).join("")];
}

/** A server with these answers; null: it reads the request and hangs up. */
async function script(context, ...steps) {
  const requests = [];
  const server = createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      const { method, url, headers } = request;
      const [key, type] = [headers["idempotency-key"], headers["content-type"]];
      requests.push({ method, url, key, type, body: Buffer.concat(parts).toString() });
      const step = steps.shift();
      if (!step) return request.socket.destroy();
      const [status, kind, body] = step;
      response.writeHead(status, { "Content-Type": kind, "Retry-After": "0" });
      // In pieces that are cut anywhere.
      const bytes = Buffer.from(body);
      for (let at = 0; at < bytes.length; at += 7) response.write(bytes.subarray(at, at + 7));
      response.end();
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => { server.closeAllConnections(); server.close(); });
  const tidegate = new Tidegate({ url: `http://127.0.0.1:${server.address().port}/under/a/path/`, token: "tg_x" });
  return { app: tidegate.app("chat"), requests };
}

test("a command whose answer is lost is given again with the same key", async (context) => {
  const { app, requests } = await script(context, null, DONE);
  assert.equal((await app.send("all", "hello")).reached, 1);
  assert.equal(requests.length, 2);
  assert.ok(requests[0].key && requests[0].key === requests[1].key);
  assert.equal(requests[0].url, "/under/a/path/v1/apps/default/chat/send");
});

test("two commands have two keys, and one of the caller's is taken as it is", async (context) => {
  const { app, requests } = await script(context, DONE, DONE, DONE);
  await app.send("all", "hello");
  await app.send("all", "hello");
  await app.once("order-66").send("all", "hello");
  assert.equal(new Set(requests.map(({ key }) => key)).size, 3);
  assert.equal(requests[2].key, "order-66");
});

test("what was not done because of load is tried again", async (context) => {
  for (const [status, kind] of [[503, "busy"], [503, "no-gateway"], [429, "too-fast"], [409, "key-in-use"]]) {
    const { app } = await script(context, problem(status, kind), DONE);
    assert.equal((await app.send("all", "hello")).reached, 1, kind);
  }
});

test("what is wrong stays wrong and is not tried again", async (context) => {
  const { app, requests } = await script(context, problem(422, "invalid"));
  const refused = await app.send("all", "hello").catch((error) => error);
  assert.ok(refused instanceof Problem);
  assert.deepEqual([refused.kind, refused.status, refused.title, refused.detail], ["invalid", 422, "T", "D"]);
  assert.equal(requests.length, 1);
});

test("a merge whose answer is lost is told and not repeated", async (context) => {
  const { app, requests } = await script(context, null);
  const lost = await app.session("a1b2c3d4e5f600000001").patch({}).catch((error) => error);
  assert.ok(lost instanceof Unreachable && lost.sent);
  assert.equal(requests.length, 1);
});

test("a deployment or an order that was cut off is told and not repeated", async (context) => {
  const asked = [
    (app) => app.deploy(new Uint8Array([0])), (app) => app.deployAndLeave(1), (app) => app.rollBack(), (app) => app.cancel(),
    (app) => app.suspend(), (app) => app.delete(),
  ];
  for (const ask of asked) {
    const { app, requests } = await script(context, null);
    const lost = await ask(app).catch((error) => error);
    assert.ok(lost instanceof Unreachable && lost.sent, String(lost));
    assert.equal(requests.length, 1);
  }
});

test("a deployment that has not begun is tried again, and its news end with the last", async (context) => {
  const started = { news: "started", text: "S" };
  const last = { news: "refused", text: "R", problem: { type: "urn:tidegate:problem:failed", title: "T", status: 500, detail: "D" } };
  const { app, requests } = await script(context, problem(503, "busy"), lines(started, { news: "newer", text: "é".repeat(9) }, last));
  const deployment = await app.deployAndWatch(new Uint8Array([0, 255]), { note: "a b" });
  const heard = [];
  for await (const { news, text } of deployment) heard.push([news, text]);
  assert.deepEqual(heard, [["started", "S"], ["newer", "é".repeat(9)], ["refused", "R"]]);
  await assert.rejects(deployment.wait(), { kind: "failed", status: 500 });
  assert.equal(requests[1].url, "/under/a/path/v1/apps/default/chat/deployments?wait=progress&note=a+b");
  assert.equal(requests[1].type, "application/wasm");
});

test("news that break off are told", async (context) => {
  const [status, type, text] = lines({ news: "started", text: "S" });
  for (const answer of [[status, type, text], [status, type, text.slice(0, -5)]]) {
    const { app } = await script(context, answer);
    const lost = await app.deploy(1).catch((error) => error);
    assert.ok(lost instanceof Unreachable && lost.sent, String(lost));
  }
  const { app } = await script(context, lines(["no object"]));
  await assert.rejects(app.deploy(1), UnexpectedAnswer);
});

test("tries end, and so does the time", async (context) => {
  const { app } = await script(context, ...Array.from({ length: 4 }, () => problem(503, "busy")));
  await assert.rejects(app.count("all"), { kind: "busy" });
  const stuck = createServer(() => {});
  await new Promise((resolve) => stuck.listen(0, "127.0.0.1", resolve));
  context.after(() => { stuck.closeAllConnections(); stuck.close(); });
  const url = `http://127.0.0.1:${stuck.address().port}`;
  const late = await new Tidegate({ url, token: "tg_x", timeoutMs: 200 }).app("chat").count("all").catch((error) => error);
  assert.ok(late instanceof Unreachable && late.sent, String(late));
});

test("a server that is not there has done nothing", async () => {
  const gone = createServer();
  await new Promise((resolve) => gone.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${gone.address().port}`;
  await new Promise((resolve) => gone.close(resolve));
  const error = await new Tidegate({ url, token: "tg_x", retries: 1 }).app("chat").send("all", "hello").catch((error) => error);
  assert.ok(error instanceof Unreachable && !error.sent, String(error));
});

test("a new kind of problem is a problem, and a page is none", async (context) => {
  const page = [502, "text/html", "Oops"];
  const { app } = await script(context, problem(418, "teapot"), page, [200, "application/json", "[]"]);
  await assert.rejects(app.count("all"), { name: "Problem", kind: "teapot" });
  await assert.rejects(app.count("all"), (error) => error instanceof UnexpectedAnswer && error.status === 502);
  await assert.rejects(app.count("all"), (error) => error instanceof UnexpectedAnswer && error.status === 200);
});

test("addresses that are none are refused", () => {
  for (const url of ["127.0.0.1:7480", "ftp://x", "http://", "http://a:b@x", "http://x?y"]) {
    assert.throws(() => new Tidegate({ url, token: "tg_x" }), TypeError, url);
  }
});

test("bytes are sent as base64", async (context) => {
  const { app, requests } = await script(context, DONE, DONE);
  await app.send({ groups: [1] }, new Uint8Array(100_000).fill(255), { except: "a1b2c3d4e5f600000001" });
  await app.send("all", { raw: new Uint8Array([1]) });
  const [first, second] = requests.map(({ body }) => JSON.parse(body));
  assert.deepEqual(Buffer.from(first.base64, "base64"), Buffer.alloc(100_000, 255));
  assert.deepEqual([first.to, first.except, second.raw], [{ groups: [1] }, "a1b2c3d4e5f600000001", "AQ=="]);
});
