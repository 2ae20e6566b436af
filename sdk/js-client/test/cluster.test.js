// Against a real cluster. It is named by the environment: TIDEGATE_API, TIDEGATE_TOKEN, TIDEGATE_APP, and TIDEGATE_WS with the
// addresses of two gateways, whose app tells each client its id and sends back what it says. The repository's own tests start
// one and run this.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Connection, Tidegate } from "../dist/index.js";
import { described, recording } from "./recording.js";

const { TIDEGATE_API: url, TIDEGATE_TOKEN: token, TIDEGATE_APP: name, TIDEGATE_WS: addresses } = process.env;
const skip = addresses ? false : "TIDEGATE_WS does not name a cluster";

/** A client: a connection whose messages are waited for one by one. */
class Client {
  constructor(url) {
    this.heard = [];
    this.wanted = [];
    this.connection = new Connection({ url, pauses: { firstMs: 20, longestMs: 100 } });
    this.connection.on("message", (data) => (this.wanted.shift() ?? ((one) => this.heard.push(one)))(data));
    this.closed = new Promise((resolve) => this.connection.on("closed", resolve));
    this.waiting = new Promise((resolve) => this.connection.on("waiting", resolve));
  }

  next() {
    return this.heard.length ? Promise.resolve(this.heard.shift()) : new Promise((resolve) => this.wanted.push(resolve));
  }

  async id() {
    const hello = JSON.parse(await this.next());
    assert.equal(hello.event, "connect");
    return hello.client;
  }
}

async function clients(context) {
  const all = addresses.split(",").map((address) => new Client(address));
  context.after(() => all.forEach(({ connection }) => connection.close()));
  return [...all, ...(await Promise.all(all.map((client) => client.id())))];
}

/** What it reached, if no gateway is missing. */
async function reached(done) {
  const { reached, missing } = await done;
  assert.deepEqual(missing, []);
  return reached;
}

/** What is known, if no gateway is missing. */
async function known(asked) {
  const { value, missing } = await asked;
  assert.deepEqual(missing, []);
  return value;
}

test("every operation of the description does what it says on two gateways", { skip }, async (context) => {
  const asked = new Set();
  const tidegate = new Tidegate({ url, token, fetch: recording(asked) });
  const app = tidegate.app(name);
  const [ann, bob, a, b] = await clients(context);
  const both = { clients: [a, b] };

  assert.equal(await reached(app.send(both, "to both")), 2);
  assert.deepEqual([await ann.next(), await bob.next()], ["to both", "to both"]);
  assert.equal(await reached(app.send(both, "but ann é", { except: a })), 1);
  assert.equal(await bob.next(), "but ann é");
  assert.equal(await reached(app.send({ clients: a }, new Uint8Array([0, 255]))), 1);
  assert.deepEqual(new Uint8Array(await ann.next()), new Uint8Array([0, 255]));
  assert.equal(await reached(app.bind(a, "ann")), 1);
  assert.equal(await reached(app.bind([b], 7)), 1);
  assert.equal(await reached(app.join([a, b], ["js-room", "js-1"])), 2);
  assert.equal(await reached(app.send({ groups: ["js-room", "js-1"] }, "room")), 2);
  assert.equal(await reached(app.send({ uids: ["ann", 7] }, "uids")), 2);
  for (const client of [ann, bob]) assert.deepEqual([await client.next(), await client.next()], ["room", "uids"]);
  assert.equal(await reached(app.leave(b, "js-1")), 1);

  assert.equal(await known(app.count({ groups: "js-room" })), 2);
  assert.equal(await known(app.countUids(both)), 2);
  assert.deepEqual(await known(app.countByGroup(["js-room", "js-1", "none"])), { "js-room": 2, "js-1": 1, none: 0 });
  assert.deepEqual(await known(app.clients({ groups: ["js-1"] })), [a]);
  assert.deepEqual(await known(app.uids(both)), ["7", "ann"]);
  assert.deepEqual(await known(app.groups({ clients: a })), ["js-1", "js-room"]);
  assert.deepEqual(await known(app.online({ uids: ["ann", "eve", 7] })), { ann: true, eve: false, 7: true });
  const gone = "00000000000000000001";
  assert.deepEqual(await known(app.online({ clients: [b, gone] })), { [b]: true, [gone]: false });
  const [found] = await known(app.select({ uids: "ann" }, ["uid"]));
  assert.deepEqual(found, { client: a, uid: "ann" });

  const session = app.session(a);
  assert.equal(await reached(session.put({ n: 1, deep: { x: 1 } })), 1);
  assert.equal(await reached(session.patch({ deep: { y: 2 } })), 1);
  assert.deepEqual((await known(session.get())).session, { n: 1, deep: { x: 1, y: 2 } });
  assert.equal(await reached(session.delete()), 1);
  assert.equal(await reached(app.setSession(a, { n: 2 })), 1);
  assert.equal(await reached(app.updateSession([a], { m: 3 })), 1);
  const info = await known(session.get());
  assert.deepEqual([info.client, info.uid, info.session], [a, "ann", { n: 2, m: 3 }]);
  assert.equal(await reached(app.clearSession(a)), 1);
  await assert.rejects(app.session(gone).get(), { kind: "no-such-path" });

  const batch = app.batch().unbind(b).join(b, "js-late").send({ groups: "js-late" }, "first").disband("js-late");
  batch.send({ groups: "js-late" }, "nobody").setSession(b, []).send(both, "second");
  assert.equal(batch.length, 7);
  const { results, missing } = await batch.push();
  assert.deepEqual(results.map(({ reached }) => reached), [1, 1, 1, 1, 0, undefined, 2]);
  assert.ok(results[5].refused && missing.length === 0);
  assert.deepEqual([await bob.next(), await bob.next(), await ann.next()], ["first", "second", "second"]);
  assert.equal(await reached(app.unbind(b)), 1);
  assert.equal(await reached(app.disband("none")), 0);

  assert.equal(await reached(app.close({ clients: a }, { code: 4001, reason: "kicked", farewell: "bye" })), 1);
  assert.equal(await ann.next(), "bye");
  assert.deepEqual(await ann.closed, { code: 4001, reason: "kicked" });
  assert.equal(await reached(app.destroy({ clients: b })), 1);
  assert.equal((await bob.waiting).closed.code, 1006);
  assert.notEqual(await bob.id(), b, "it came back");

  const pushes = described(await tidegate.openapi(), { pushes: true });
  assert.ok(pushes.length >= 24, String(pushes));
  assert.deepEqual(pushes.filter((operation) => !asked.has(operation)), []);
});

test("what waits is sent when the connection comes, and the app answers", { skip }, async (context) => {
  const [ann] = await clients(context);
  assert.equal(ann.connection.send("hello"), "sent");
  assert.equal(await ann.next(), "hello");
  const early = new Client(addresses.split(",")[0]);
  context.after(() => early.connection.close());
  assert.equal(early.connection.send("early"), "queued");
  await early.id();
  assert.equal(await early.next(), "early");
});

test("problems tell what, where and how to mend it", { skip }, async (context) => {
  const [, , a] = await clients(context);
  const app = new Tidegate({ url, token }).app(name);
  await assert.rejects(app.setSession(a, []), { kind: "refused", status: 409 });
  await assert.rejects(new Tidegate({ url, token }).app("none").count("all"), { kind: "no-such-app" });
  await assert.rejects(new Tidegate({ url, token }).app(name, "acme").count("all"), { kind: "forbidden" });
  await assert.rejects(new Tidegate({ url, token: "tg_nonsense" }).app(name).count("all"), { kind: "unauthorized" });
  for (let time = 0; time < 2; time += 1) assert.equal(await reached(app.once(`js-${a}`).send({ clients: a }, "once")), 1);
  await assert.rejects(app.once(`js-${a}`).send({ clients: a }, "another"), { kind: "key-reused" });
});
