import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Connection } from "../dist/connection.js";

/** A socket that does what the test says. */
class Fake {
  static all = [];
  readyState = 0;
  bufferedAmount = 0;
  sent = [];
  closed = null;

  constructor(url) {
    this.url = url;
    Fake.all.push(this);
  }

  send(data) { this.sent.push(data); }
  close(code) { this.closed = code ?? 1005; }
  open() { this.readyState = 1; this.onopen({}); }
  say(data) { this.onmessage({ data }); }
  end(code, reason = "") { this.readyState = 3; this.onclose({ code, reason }); }
}

const soon = () => new Promise((resolve) => setImmediate(resolve));
const last = () => Fake.all.at(-1);

/** A connection whose events are written down, and whose time stands still. */
async function started(context, options = {}) {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  context.after(() => mock.timers.reset());
  Fake.all = [];
  const connection = new Connection({ url: "ws://x/", WebSocket: Fake, ...options });
  const events = [];
  for (const what of ["open", "message", "waiting", "closed", "dropped"]) connection.on(what, (event) => events.push([what, event]));
  await soon();
  return { connection, events };
}

test("what is sent before there is a connection waits for it, behind the greeting", async (context) => {
  const { connection, events } = await started(context, { greeting: async () => "login" });
  assert.equal(connection.send("first"), "queued");
  last().open();
  await soon();
  assert.equal(connection.send("second"), "sent");
  assert.deepEqual(last().sent, ["login", "first", "second"]);
  assert.deepEqual(events, [["open", { again: false }]]);
  last().say("hi");
  assert.deepEqual(events.at(-1), ["message", "hi"]);
});

test("it comes back after a pause that grows until the server says something", async (context) => {
  const { connection, events } = await started(context);
  for (const most of [500, 1_000, 2_000]) {
    last().open();
    await soon();
    last().end(1001, "the gateway stops");
    const [what, { ms, closed }] = events.at(-1);
    assert.deepEqual([what, closed], ["waiting", { code: 1001, reason: "the gateway stops" }]);
    assert.ok(ms >= most / 2 && ms <= most, `${ms} of ${most}`);
    assert.equal(connection.state, "waiting");
    mock.timers.tick(Math.ceil(ms));
    await soon();
  }
  assert.equal(Fake.all.length, 4);
  last().open();
  await soon();
  assert.deepEqual(events.at(-1), ["open", { again: true }]);
  last().say("hi");
  last().end(1006);
  assert.ok(events.at(-1)[1].ms <= 500);
  connection.retry();
  await soon();
  assert.equal(Fake.all.length, 5);
});

test("it stays away when the code says so, and drops what waits", async (context) => {
  const { connection, events } = await started(context);
  connection.send("never");
  last().end(4001, "kicked");
  assert.deepEqual(events, [["dropped", "never"], ["closed", { code: 4001, reason: "kicked" }]]);
  assert.equal(connection.send("too late"), "dropped");
  mock.timers.tick(600_000);
  await soon();
  assert.equal(Fake.all.length, 1);
});

test("an app may have another opinion about codes", async (context) => {
  const { events } = await started(context, { verdict: ({ code }) => (code === 4001 ? "later" : "stop") });
  last().end(4001);
  assert.equal(events.at(-1)[0], "waiting");
  assert.ok(events.at(-1)[1].ms >= 2_500);
});

test("a server that is silent is asked, and left if it does not answer", async (context) => {
  const heartbeat = { everyMs: 1_000, message: () => "ping", answerWithinMs: 100 };
  const { connection, events } = await started(context, { heartbeat });
  const socket = last();
  socket.open();
  await soon();
  mock.timers.tick(999);
  assert.deepEqual(socket.sent, []);
  mock.timers.tick(1);
  assert.deepEqual(socket.sent, ["ping"]);
  socket.say("pong");
  mock.timers.tick(1_000);
  assert.deepEqual(socket.sent, ["ping", "ping"]);
  mock.timers.tick(100);
  assert.equal(connection.state, "waiting");
  assert.equal(events.at(-1)[1].closed.code, 1006);
  assert.notEqual(socket.closed, null);
  // What it still says is not heard.
  const heard = events.length;
  socket.say("late");
  socket.end(1000);
  assert.equal(events.length, heard);
});

test("connecting has an end, and so has an address that is not to be had", async (context) => {
  const { connection } = await started(context, { openWithinMs: 50 });
  mock.timers.tick(50);
  assert.equal(connection.state, "waiting");
  connection.close();
  mock.timers.reset();
  const without = await started(context, { url: async () => { throw new Error("no ticket"); } });
  assert.match(without.events.at(-1)[1].closed.reason, /no ticket/);
  without.connection.close();
});

test("there is a limit to what waits in the socket, too", async (context) => {
  const { connection, events } = await started(context, { bufferedBytesMax: 10, queue: { messages: 1, policy: "drop-oldest" } });
  assert.deepEqual([connection.send("a"), connection.send("b")], ["queued", "queued"]);
  assert.deepEqual(events.at(-1), ["dropped", "a"]);
  last().open();
  await soon();
  last().bufferedAmount = 8;
  assert.deepEqual([connection.send("xx"), connection.send("xxx")], ["sent", "dropped"]);
});

test("close is final", async (context) => {
  const { connection, events } = await started(context);
  last().open();
  await soon();
  const stop = connection.on("closed", () => connection.close());
  connection.close(4000, "bye");
  connection.close();
  stop();
  assert.deepEqual([connection.state, last().closed], ["closed", 4000]);
  assert.equal(events.filter(([what]) => what === "closed").length, 1);
});
