// Deployments and administration against a real cluster: besides what `cluster.test.js` needs, the environment has
// TIDEGATE_OPERATOR_TOKEN, of role `admin` for all tenants, and TIDEGATE_MODULE, a component to deploy.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { Tidegate } from "../dist/push.js";
import { described, recording } from "./recording.js";

const { TIDEGATE_API: url, TIDEGATE_OPERATOR_TOKEN: token, TIDEGATE_MODULE: file } = process.env;
const skip = token ? false : "TIDEGATE_OPERATOR_TOKEN does not name an operator";

/** It goes on until it is cancelled: the traffic that it waits for does not come. */
const CANARY = { percent: 50, for_ms: 3_600_000, events_min: 7 };

test("every operation that is no push does what it says", { skip }, async () => {
  const asked = new Set();
  const tidegate = new Tidegate({ url, token, fetch: recording(asked) });
  const name = `js-${crypto.randomUUID().slice(0, 12)}`;
  const [tenant, app] = [tidegate.tenant(name), tidegate.app("chat", name)];
  const module = new Uint8Array(await readFile(file));

  await tenants(tidegate, tenant, name);
  await apps(tidegate, app, `${name}/chat`);
  await deployments(app, `${name}/chat`, module);
  await canaries(app, module);

  const status = await tidegate.status();
  assert.ok(status.ready && status.roles.length > 0);
  const pusher = new Tidegate({ url, token: process.env.TIDEGATE_TOKEN });
  await assert.rejects(pusher.app("chat", name).delete(), { kind: "forbidden" });
  assert.deepEqual((await app.delete()).apps, [`${name}/chat`]);
  await assert.rejects(app.info(), { kind: "no-such-app" });
  await tenant.delete();
  assert.ok(!(await tidegate.tenants()).some((info) => info.tenant === name));

  const others = described(await tidegate.openapi(), { pushes: false });
  assert.ok(others.length >= 22, String(others));
  assert.deepEqual(others.filter((operation) => !asked.has(operation)), []);
});

async function tenants(tidegate, tenant, name) {
  assert.deepEqual((await tenant.create({ apps_max: 2, slots_max: 6 })).behind, []);
  await assert.rejects(tenant.create(), { kind: "exists" });
  await tenant.configure({ apps_max: null, slots_max: 5 });
  const { quotas, usage, suspended } = await tenant.info();
  assert.deepEqual([quotas, usage.apps, suspended], [{ slots_max: 5 }, 0, false]);
  assert.ok((await tidegate.tenants()).some((info) => info.tenant === name));
  await tenant.suspend();
  assert.equal((await tenant.info()).suspended, true);
  await tenant.resume();
  await assert.rejects(tidegate.tenant("none").info(), { kind: "no-such-tenant" });
  const roles = (await tidegate.nodes()).map(({ role }) => role);
  assert.ok(roles.includes("gateway") && roles.includes("worker"), String(roles));
}

async function apps(tidegate, app, path) {
  const settings = { colour: { plain: "red" }, key: { secret: "s3" } };
  assert.deepEqual((await app.create({ slots: 2, settings })).apps, [path]);
  const { created } = await app.info();
  assert.deepEqual([created.spec.slots, created.spec.settings], [2, { colour: { plain: "red" }, key: "hidden" }]);
  await assert.rejects(app.configure({ slots: 6 }), { kind: "quota" });
  await app.configure({ slots: 3 });
  await app.configure({ slots: 2 });
  await app.suspend();
  assert.equal((await app.info()).created.suspended, true);
  await app.resume();
  assert.ok((await tidegate.apps()).some((info) => info.app === path));
  await assert.rejects(tidegate.app(process.env.TIDEGATE_APP).suspend(), { kind: "fixed" });
}

async function deployments(app, path, module) {
  assert.equal(await app.deploying(), undefined);
  await assert.rejects(app.cancel(), { kind: "not-deploying" });
  await assert.rejects(app.deploy(new Uint8Array([1])), { kind: "bad-module" });
  const report = await app.deploy(module, { note: "the first, à 100 %" });
  assert.deepEqual([report.app, report.outcome, report.slots], [path, "committed", report.switched]);
  assert.deepEqual(report.audit, { lost: 0, repeated: 0, reordered: 0 });
  const first = report.version;
  // By its number, and by its digest.
  const heard = [];
  for await (const news of await app.deployAndWatch(first.number)) heard.push(news);
  assert.deepEqual([heard[0].news, heard.at(-1).news, heard.at(-1).outcome], ["started", "ended", "committed"]);
  assert.ok(heard.every(({ text }) => text));
  assert.deepEqual((await app.deploy(first)).previous, heard[0].version);
  assert.deepEqual((await app.info()).stable, { number: first.number + 2, digest: first.digest });
  const again = await app.rollBack({ note: "back" });
  assert.deepEqual([again.version.number, again.again], [first.number + 3, first.number + 1]);
  assert.equal((await (await app.rollBackAndWatch({ to: first.number })).wait()).again, first.number);
  assert.deepEqual(await app.connections({ uid: "nobody" }), { total: 0, connections: [], missing: [] });
  const logs = await app.logs({ level: "info" });
  assert.ok(logs.lines.some((line) => line.version === first.number));
  assert.deepEqual([logs.missed, logs.missing], [0, []]);
  assert.deepEqual((await app.logs({ after: logs.next })).lines, []);
  const versions = await app.versions(2);
  assert.deepEqual(versions.map(({ version }) => version.number), [first.number + 4, first.number + 3]);
  assert.deepEqual([versions[1].note, versions[1].report], ["back", undefined]);
  const version = await app.version(first.number);
  assert.deepEqual([version.note, version.state], ["the first, à 100 %", { ended: "committed" }]);
  assert.deepEqual(version.report, report);
  await assert.rejects(app.version(first.number + 1000), { kind: "no-such-version" });
}

async function canaries(app, module) {
  const deployment = await app.deployAndWatch(module, { canary: CANARY });
  for (let news = await deployment.next(); news.news !== "canary"; news = await deployment.next());
  const { deploying, workers } = await app.deploying();
  assert.ok(workers.length > 0);
  await assert.rejects(app.deployAndLeave(module), { kind: "deploying" });
  await app.cancel();
  await assert.rejects(deployment.wait(), { kind: "rolled-back", status: 409, detail: /cancelled/ });
  const version = await app.version(deploying.version.number);
  assert.deepEqual([version.canary, Object.keys(version.state.ended)], [CANARY, ["rolled-back"]]);
  // Nobody waits for the end of these.
  assert.equal((await app.deployAndLeave(1, { canary: CANARY })).news, "started");
  await app.cancel();
  assert.deepEqual(Object.keys(await followed(app)), ["rolled-back"]);
  assert.equal((await app.rollBackAndLeave({ to: 1 })).news, "started");
  assert.equal(await followed(app), "committed");
  // Who breaks off hears no more; it goes on.
  for await (const news of await app.deployAndWatch(1)) {
    assert.equal(news.news, "started");
    break;
  }
  assert.equal(await followed(app), "committed");
}

/** How the deployment that goes on ends, by asking. */
async function followed(app) {
  const deadline = Date.now() + 60_000;
  while (await app.deploying()) assert.ok(Date.now() < deadline);
  return (await app.versions(1))[0].state.ended;
}
