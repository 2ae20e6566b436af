"""Deployments and administration against a real cluster: besides what `test_cluster` needs, the environment has
TIDEGATE_OPERATOR_TOKEN, of role `admin` for all tenants, and TIDEGATE_MODULE, a component to deploy."""

from __future__ import annotations

import os
import time
import unittest
import uuid
from pathlib import Path

import tidegate_client as tg
from recording import Recording, described
from tidegate_client import Canary, Tidegate


@unittest.skipUnless("TIDEGATE_OPERATOR_TOKEN" in os.environ, "TIDEGATE_OPERATOR_TOKEN does not name an operator")
class Steering(unittest.TestCase):
    def setUp(self) -> None:
        self.tidegate = Recording(os.environ["TIDEGATE_API"], os.environ["TIDEGATE_OPERATOR_TOKEN"])
        self.addCleanup(self.tidegate.close)
        self.name = f"py-{uuid.uuid4().hex[:12]}"
        self.tenant = self.tidegate.tenant(self.name)
        self.app = self.tidegate.app("chat", self.name)
        self.path = f"{self.name}/chat"
        self.module = Path(os.environ["TIDEGATE_MODULE"]).read_bytes()

    def test_every_operation_that_is_no_push_does_what_it_says(self) -> None:
        self.tenants()
        self.apps()
        self.deployments()
        self.canaries()
        self.ends()
        asked_for = described(self.tidegate.openapi(), pushes=False)
        self.assertGreaterEqual(len(asked_for), 22)
        self.assertEqual(asked_for - self.tidegate.asked, set())

    def tenants(self) -> None:
        made = self.tenant.create({"apps_max": 2, "slots_max": 6})
        self.assertEqual((made.apps, made.behind), ((), ()))
        with self.assertRaises(tg.AlreadyThere):
            self.tenant.create()
        self.tenant.configure({"apps_max": None, "slots_max": 5})
        info = self.tenant.info()
        self.assertEqual((info.tenant, info.quotas, info.usage.apps), (self.name, {"slots_max": 5}, 0))
        self.assertFalse(info.suspended or info.fixed)
        self.assertIn(info, self.tidegate.tenants())
        self.tenant.suspend()
        self.assertTrue(self.tenant.info().suspended)
        self.tenant.resume()
        with self.assertRaises(tg.NoSuchTenant):
            self.tidegate.tenant("none").info()
        nodes = {(node.role, node.name) for node in self.tidegate.nodes()}
        self.assertTrue({"gateway", "worker"} <= {role for role, _ in nodes}, nodes)

    def apps(self) -> None:
        made = self.app.create({"slots": 2, "settings": {"colour": {"plain": "red"}, "key": {"secret": "s3"}}})
        self.assertEqual((made.apps, made.behind), ((self.path,), ()))
        created = self.app.info().created
        assert created is not None
        self.assertEqual((created.spec["slots"], created.spec["settings"]["colour"]), (2, {"plain": "red"}))
        self.assertNotIn("s3", repr(created))
        with self.assertRaises(tg.QuotaReached):
            self.app.configure({"slots": 6})
        self.app.configure({"slots": 3})
        self.app.configure({"slots": 2})
        self.app.suspend()
        created = self.app.info().created
        self.assertTrue(created is not None and created.suspended)
        self.app.resume()
        self.assertEqual([info.app for info in self.tidegate.apps() if info.app.startswith(self.name)], [self.path])
        with self.assertRaises(tg.Fixed):
            self.tidegate.app(os.environ["TIDEGATE_APP"]).suspend()

    def deployments(self) -> None:
        self.assertIsNone(self.app.deploying())
        with self.assertRaises(tg.NotDeploying):
            self.app.cancel()
        with self.assertRaises(tg.BadModule):
            self.app.deploy(b"no component")
        report = self.app.deploy(self.module, note="the first, à 100 %")
        self.assertEqual((report.app, report.outcome, report.slots), (self.path, tg.Outcome("committed"), report.switched))
        self.assertEqual((report.audit, report.previous), (tg.Audit(0, 0, 0), None))
        first = report.version
        # By its number, and by its digest.
        with self.app.deploy_and_watch(first.number) as deployment:
            news = list(deployment)
        self.assertEqual((news[0].news, news[-1].news), ("started", "ended"))
        self.assertTrue(all(part.text for part in news))
        self.assertEqual(self.app.deploy(first).previous, news[0].version)
        self.assertEqual(self.app.info().stable, tg.VersionRef(first.number + 2, first.digest))
        again = self.app.roll_back(note="back")
        self.assertEqual((again.version.number, again.again), (first.number + 3, first.number + 1))
        with self.app.roll_back_and_watch(first.number) as deployment:
            self.assertEqual(deployment.wait().again, first.number)
        self.assertEqual(self.app.connections(), tg.Connections(0, (), ()))
        logs = self.app.logs(level="info")
        self.assertIn(first.number, [line.version for line in logs.lines])
        self.assertEqual((logs.missed, logs.missing), (0, ()))
        self.assertEqual(self.app.logs(after=logs.next).lines, ())
        versions = self.app.versions(limit=2)
        self.assertEqual([version.version.number for version in versions], [first.number + 4, first.number + 3])
        self.assertEqual((versions[1].note, versions[1].report), ("back", None))
        version = self.app.version(first.number)
        self.assertEqual((version.note, version.state), ("the first, à 100 %", tg.State(ended=tg.Outcome("committed"))))
        self.assertEqual(version.report, report)
        with self.assertRaises(tg.NoSuchVersion):
            self.app.version(first.number + 1000)
        with self.assertRaises(tg.NoSuchVersion):
            self.app.deploy(first.number + 1000)

    def canaries(self) -> None:
        # It waits for traffic that does not come, so it goes on until it is cancelled.
        canary = Canary(50, for_ms=3_600_000, events_min=7)
        with self.app.deploy_and_watch(self.module, canary=canary) as deployment:
            self.assertTrue(any(news.news == "canary" for news in deployment))
            deploying = self.app.deploying()
            assert deploying is not None
            self.assertEqual((deploying.app, len(deploying.workers) > 0), (self.path, True))
            with self.assertRaises(tg.DeploymentUnderway):
                self.app.deploy_and_leave(self.module)
            self.app.cancel()
            with self.assertRaises(tg.RolledBack) as ended:
                deployment.wait()
        self.assertIn("cancelled", ended.exception.detail)
        version = self.app.version(deploying.deploying.version.number)
        self.assertEqual((version.canary, version.state.ended and version.state.ended.kind), (canary, "rolled-back"))
        # Nobody waits for the end of these.
        self.assertEqual(self.app.deploy_and_leave(1, canary=canary).news, "started")
        self.app.cancel()
        with self.assertRaises(tg.RolledBack):
            self.follow()
        self.assertEqual(self.app.roll_back_and_leave(1).news, "started")
        self.follow()

    def follow(self) -> None:
        """Waits for the end of the deployment that goes on, by asking."""
        deadline = time.monotonic() + 60
        while self.app.deploying() is not None:
            self.assertLess(time.monotonic(), deadline)
        (last,) = self.app.versions(limit=1)
        assert last.state.ended is not None
        if last.state.ended.kind != "committed":
            raise tg.RolledBack("", "", 409, last.state.ended.reason or "")

    def ends(self) -> None:
        status = self.tidegate.status()
        self.assertTrue(status.ready and status.roles and status.uptime_s >= 0)
        with Tidegate(os.environ["TIDEGATE_API"], os.environ["TIDEGATE_TOKEN"]) as pusher:
            with self.assertRaises(tg.Forbidden):
                pusher.app("chat", self.name).delete()
        self.assertEqual(self.app.delete().apps, (self.path,))
        with self.assertRaises(tg.NoSuchApp):
            self.app.info()
        self.tenant.delete()
        self.assertNotIn(self.name, [info.tenant for info in self.tidegate.tenants()])


if __name__ == "__main__":
    unittest.main()
