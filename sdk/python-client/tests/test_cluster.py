"""Against a real cluster. It is named by the environment: TIDEGATE_API, TIDEGATE_TOKEN, TIDEGATE_APP, and TIDEGATE_WS with the
addresses of two gateways, whose app tells each client its id; TIDEGATE_CA with a file if its API speaks TLS. The repository's own tests start one and run this."""

from __future__ import annotations

import os
import ssl
import threading
import unittest
from typing import List, Optional

import tidegate_client as tg
from recording import Recording, described
from tidegate_client import EVERYBODY, Tidegate, clients, groups, uids
from websocket import WebSocket


def trusting() -> Optional[ssl.SSLContext]:
    """Who vouches for the API, if it speaks TLS."""
    authority = os.environ.get("TIDEGATE_CA")
    return ssl.create_default_context(cafile=authority) if authority else None


@unittest.skipUnless("TIDEGATE_WS" in os.environ, "TIDEGATE_WS does not name a cluster")
class Cluster(unittest.TestCase):
    def setUp(self) -> None:
        self.tidegate = Recording(os.environ["TIDEGATE_API"], os.environ["TIDEGATE_TOKEN"], tls=trusting())
        self.addCleanup(self.tidegate.close)
        self.app = self.tidegate.app(os.environ["TIDEGATE_APP"])
        sockets = [WebSocket(url) for url in os.environ["TIDEGATE_WS"].split(",")]
        for socket in sockets:
            self.addCleanup(socket.close)
        self.ann, self.bob = sockets
        self.both = clients(self.ann.id, self.bob.id)

    def reached(self, done: tg.Reached) -> int:
        self.assertEqual(done.missing, ())
        return done.reached

    def test_every_operation_of_the_description_does_what_it_says_on_two_gateways(self) -> None:
        a, b = self.ann.id, self.bob.id
        self.messages(a, b)
        self.questions(a, b)
        self.sessions(a)
        self.batches(b)
        close = self.app.close(clients(a), 4001, "kicked", farewell="bye")
        self.assertEqual(self.reached(close), 1)
        self.assertEqual(self.ann.text(), "bye")
        self.assertEqual(self.ann.closed(), (4001, "kicked"))
        self.assertEqual(self.reached(self.app.destroy(clients(b))), 1)
        self.assertTrue(self.bob.ended())
        self.assertEqual(self.reached(self.app.send(self.both, "to nobody")), 0)

        pushes = described(self.tidegate.openapi(), pushes=True)
        self.assertGreaterEqual(len(pushes), 24)
        self.assertEqual(pushes - self.tidegate.asked, set())

    def messages(self, a: str, b: str) -> None:
        app = self.app
        self.assertEqual(self.reached(app.send(self.both, "to both")), 2)
        self.assertEqual((self.ann.text(), self.bob.text()), ("to both", "to both"))
        self.assertEqual(self.reached(app.send(self.both, "but \"ann\" é", but=a)), 1)
        self.assertEqual(self.bob.text(), "but \"ann\" é")
        self.assertEqual(self.reached(app.send(clients(a), b"\x00\xff")), 1)
        self.assertEqual(self.ann.frame(), (2, b"\x00\xff"))
        # A frame of its own making.
        self.assertEqual(self.reached(app.send(clients(a), tg.Raw(b"\x81\x02hi"))), 1)
        self.assertEqual(self.ann.text(), "hi")
        self.assertEqual(self.reached(app.bind(a, "ann")), 1)
        self.assertEqual(self.reached(app.bind([b], 7)), 1)
        self.assertEqual(self.reached(app.join([a, b], ["room", 1])), 2)
        self.assertEqual(self.reached(app.send(groups("room", 1), "room")), 2)
        self.assertEqual(self.reached(app.send(uids("ann", 7), "uids")), 2)
        for socket in (self.ann, self.bob):
            self.assertEqual((socket.text(), socket.text()), ("room", "uids"))
        self.assertEqual(self.reached(app.leave(b, 1)), 1)

    def questions(self, a: str, b: str) -> None:
        app = self.app
        self.assertEqual(app.count(groups("room")), tg.Answer(2, (), None))
        self.assertGreaterEqual(app.count(EVERYBODY).value, 2)
        self.assertEqual(app.count_uids(self.both).value, 2)
        self.assertEqual(app.count_by_group(["room", 1, "none"]).value, {"room": 2, "1": 1, "none": 0})
        self.assertEqual(app.clients(groups(1)).value, [a])
        self.assertEqual(app.uids(self.both).value, ["7", "ann"])
        self.assertEqual(app.groups(clients(a)).value, ["1", "room"])
        self.assertEqual(app.online_uids(["ann", "eve", 7]).value, {"ann": True, "eve": False, "7": True})
        gone = "00000000000000000001"
        self.assertEqual(app.online_clients([b, gone]).value, {b: True, gone: False})
        (found,) = app.select(uids("ann"), ["uid", "groups"]).value
        self.assertEqual((found.client, found.uid, sorted(found.groups or ()), found.session), (a, "ann", ["1", "room"], None))

    def sessions(self, a: str) -> None:
        session = self.app.session(a)
        self.assertEqual(self.reached(session.put({"n": 1, "deep": {"x": 1}})), 1)
        self.assertEqual(self.reached(session.patch({"deep": {"y": 2}})), 1)
        self.assertEqual(session.get().value.session, {"n": 1, "deep": {"x": 1, "y": 2}})
        self.assertEqual(self.reached(session.delete()), 1)
        self.assertEqual(self.reached(self.app.set_session(a, {"n": 2})), 1)
        self.assertEqual(self.reached(self.app.update_session([a], {"m": 3})), 1)
        self.assertEqual((session.get().value.uid, session.get().value.session), ("ann", {"n": 2, "m": 3}))
        self.assertEqual(self.reached(self.app.clear_session(a)), 1)
        self.assertIn(session.get().value.session, (None, {}))
        with self.assertRaises(tg.NoSuchPath):
            self.app.session("00000000000000000001").get()

    def batches(self, b: str) -> None:
        batch = self.app.batch()
        batch.unbind(b).join(b, "late").send(groups("late"), "first").disband("late")
        batch.send(groups("late"), "nobody").set_session(b, [])  # type: ignore[arg-type]
        batch.send(self.both, "second")
        self.assertEqual(len(batch), 7)
        done = batch.push()
        self.assertEqual([effect.reached for effect in done.results], [1, 1, 1, 1, 0, None, 2])
        self.assertIsNotNone(done.results[5].refused)
        self.assertEqual(done.missing, ())
        self.assertEqual((self.bob.text(), self.bob.text()), ("first", "second"))
        self.assertEqual(self.ann.text(), "second")
        # For the rest of the description.
        self.assertEqual(self.reached(self.app.unbind(b)), 1)
        self.assertEqual(self.reached(self.app.disband("none")), 0)

    def test_problems_are_errors_of_their_kind(self) -> None:
        with self.assertRaises(tg.Refused) as refused:
            self.app.set_session(self.ann.id, [])  # type: ignore[arg-type]
        problem = refused.exception
        self.assertEqual((problem.status, problem.kind), (409, "refused"))
        self.assertTrue(problem.type and problem.title and problem.detail)
        with self.assertRaises(tg.NoSuchApp):
            self.tidegate.app("none").send(EVERYBODY, "hello")
        with self.assertRaises(tg.Forbidden):
            self.tidegate.app("test", tenant="acme").send(EVERYBODY, "hello")
        with self.assertRaises(tg.Invalid):
            self.app.close(clients(self.ann.id), 1005)
        with self.assertRaises(tg.BadBody):
            self.app.send(clients("xyz"), "hello")
        with self.assertRaises(tg.TooLarge):
            self.app.send(EVERYBODY, "x" * 3_000_000)
        with Tidegate(os.environ["TIDEGATE_API"], "tg_nonsense", tls=trusting()) as stranger:
            with self.assertRaises(tg.Unauthorized):
                stranger.app("test").count(EVERYBODY)

    def test_a_server_of_an_unknown_authority_is_not_talked_to(self) -> None:
        if trusting() is None:
            return  # It speaks plain HTTP: nobody vouches for it.
        with Tidegate(os.environ["TIDEGATE_API"], os.environ["TIDEGATE_TOKEN"]) as stranger:
            with self.assertRaisesRegex(tg.Unreachable, "CERTIFICATE_VERIFY_FAILED"):
                stranger.app("test").count(EVERYBODY)

    def test_a_command_with_a_key_is_carried_out_once(self) -> None:
        key = f"order-{self.ann.id}"
        for _ in range(2):
            self.assertEqual(self.reached(self.app.once(key).send(clients(self.ann.id), "once")), 1)
        with self.assertRaises(tg.KeyReused):
            self.app.once(key).send(clients(self.ann.id), "another")
        self.app.send(clients(self.ann.id), "twice")
        self.assertEqual((self.ann.text(), self.ann.text()), ("once", "twice"))

    def test_threads_share_connections(self) -> None:
        failures: List[BaseException] = []

        def work() -> None:
            try:
                for _ in range(20):
                    self.assertEqual(self.app.count(clients(self.ann.id)).value, 1)
            except BaseException as error:  # pylint: disable=broad-except
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])


if __name__ == "__main__":
    unittest.main()
