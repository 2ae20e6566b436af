"""When a request is tried again: against a server that answers as it is told."""

from __future__ import annotations

import json
import socket
import threading
import unittest
from typing import List, Optional, Tuple

import tidegate_client as tg
from tidegate_client import EVERYBODY, Tidegate

DONE = json.dumps({"reached": 1, "missing": []}).encode()


class Script:
    """A server. Each step is an answer, or None: read the request and hang up."""

    def __init__(self, *steps: Optional[bytes]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/under/a/path/"
        self.heads: List[bytes] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._run, args=(list(steps),), daemon=True)
        self._thread.start()

    def _run(self, steps: List[Optional[bytes]]) -> None:
        while steps:
            connection, _ = self._listener.accept()
            self.connections += 1
            with connection, connection.makefile("rb") as file:
                while steps:
                    head = b""
                    while not head.endswith(b"\r\n\r\n"):
                        line = file.readline()
                        if not line:
                            break
                        head += line
                    if not head:
                        break
                    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                    file.read(int(length[0].split(b":")[1]) if length else 0)
                    self.heads.append(head)
                    step = steps.pop(0)
                    if step is None:
                        break
                    connection.sendall(step)
        self._listener.close()

    def end(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def ok(body: bytes = DONE) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def problem(status: int, kind: str) -> bytes:
    document = {"type": f"urn:tidegate:problem:{kind}", "title": "T", "status": status, "detail": "D"}
    body = json.dumps(document).encode()
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/problem+json\r\nRetry-After: 0\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


PROBLEM = {"type": "urn:tidegate:problem:failed", "title": "T", "status": 500, "detail": "D"}


def lines(*documents: object) -> bytes:
    """In pieces that are cut anywhere."""
    text = b"".join(json.dumps(document).encode() + b"\n" for document in documents)
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(text[at:at + 7]), text[at:at + 7]) for at in range(0, len(text), 7))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"


def keys_of(heads: List[bytes]) -> List[bytes]:
    lines = [line for head in heads for line in head.split(b"\r\n")]
    return [line.split(b": ")[1] for line in lines if line.lower().startswith(b"idempotency-key:")]


class Retries(unittest.TestCase):
    def run_script(self, *steps: Optional[bytes]) -> Tuple[Script, Tidegate]:
        script = Script(*steps)
        tidegate = Tidegate(script.url, "tg_x")
        self.addCleanup(tidegate.close)
        return script, tidegate

    def test_a_command_whose_answer_is_lost_is_given_again_with_the_same_key(self) -> None:
        script, tidegate = self.run_script(None, ok())
        self.assertEqual(tidegate.app("chat").send(EVERYBODY, "hello").reached, 1)
        script.end()
        keys = keys_of(script.heads)
        self.assertEqual((len(keys), len(set(keys))), (2, 1))
        self.assertTrue(script.heads[0].startswith(b"POST /under/a/path/v1/apps/default/chat/send HTTP/1.1\r\n"))

    def test_two_commands_have_two_keys_and_one_connection(self) -> None:
        script, tidegate = self.run_script(ok(), ok())
        app = tidegate.app("chat")
        app.send(EVERYBODY, "hello")
        app.send(EVERYBODY, "hello")
        script.end()
        self.assertEqual((len(set(keys_of(script.heads))), script.connections), (2, 1))

    def test_what_was_not_done_because_of_load_is_tried_again(self) -> None:
        for status, kind in [(503, "busy"), (503, "no-gateway"), (429, "too-fast"), (409, "key-in-use")]:
            script, tidegate = self.run_script(problem(status, kind), ok())
            self.assertEqual(tidegate.app("chat").send(EVERYBODY, "hello").reached, 1)
            script.end()

    def test_what_is_wrong_stays_wrong_and_is_not_tried_again(self) -> None:
        script, tidegate = self.run_script(problem(422, "invalid"))
        with self.assertRaises(tg.Invalid):
            tidegate.app("chat").send(EVERYBODY, "hello")
        script.end()
        self.assertEqual(len(script.heads), 1)

    def test_a_merge_whose_answer_is_lost_is_told_and_not_repeated(self) -> None:
        script, tidegate = self.run_script(None)
        with self.assertRaises(tg.Unreachable) as lost:
            tidegate.app("chat").session("a1b2c3d4e5f600000001").patch({})
        script.end()
        self.assertTrue(lost.exception.sent)

    def test_a_deployment_or_an_order_that_was_cut_off_is_told_and_not_repeated(self) -> None:
        asked = [
            lambda app: app.deploy(b"\0asm"),
            lambda app: app.deploy_and_leave(1),
            lambda app: app.roll_back(),
            lambda app: app.cancel(),
            lambda app: app.suspend(),
            lambda app: app.delete(),
        ]
        for ask in asked:
            script, tidegate = self.run_script(None)
            with self.assertRaises(tg.Unreachable) as lost:
                ask(tidegate.app("chat"))
            script.end()
            self.assertEqual((lost.exception.sent, len(script.heads)), (True, 1))

    def test_a_deployment_that_has_not_begun_is_tried_again_and_its_news_end_with_the_last(self) -> None:
        started, ended = {"news": "started", "text": "S"}, {"news": "refused", "text": "R", "problem": PROBLEM}
        script, tidegate = self.run_script(problem(503, "busy"), lines(started, {"news": "newer", "text": "N"}, ended))
        with tidegate.app("chat").deploy_and_watch(b"\0asm", note="a b") as deployment:
            self.assertEqual([news.news for news in deployment], ["started", "newer", "refused"])
            self.assertEqual(list(deployment), [])
            with self.assertRaises(tg.StoreFailed):
                deployment.wait()
        script.end()
        self.assertIn(b"/chat/deployments?wait=progress&note=a+b HTTP/1.1\r\n", script.heads[1])
        self.assertIn(b"application/wasm", script.heads[1])

    def test_news_that_break_off_are_told(self) -> None:
        for answer in (lines({"news": "started", "text": "S"}), lines()[:-2]):
            script, tidegate = self.run_script(answer)
            with self.assertRaises(tg.Unreachable) as lost:
                tidegate.app("chat").deploy(1)
            script.end()
            self.assertTrue(lost.exception.sent)
        script, tidegate = self.run_script(lines(["no object"]))
        with self.assertRaises(tg.UnexpectedAnswer):
            tidegate.app("chat").deploy(1)
        script.end()

    def test_reads_of_operators_are_tried_again(self) -> None:
        node = {"role": "gateway", "name": "g", "newer": 1}
        script, tidegate = self.run_script(None, ok(json.dumps({"nodes": [node]}).encode()))
        self.assertEqual(tidegate.nodes(), [tg.NodeInfo("gateway", "g")])
        script.end()

    def test_tries_end(self) -> None:
        script, tidegate = self.run_script(*[problem(503, "busy")] * 4)
        with self.assertRaises(tg.Busy):
            tidegate.app("chat").count(EVERYBODY)
        script.end()

    def test_a_server_that_is_not_there_has_done_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with Tidegate(f"http://127.0.0.1:{port}", "tg_x", retries=1) as tidegate:
            with self.assertRaises(tg.Unreachable) as error:
                tidegate.app("chat").send(EVERYBODY, "hello")
        self.assertFalse(error.exception.sent)

    def test_a_new_kind_of_problem_is_a_problem_and_a_page_is_none(self) -> None:
        page = b"HTTP/1.1 502 X\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nOops"
        script, tidegate = self.run_script(problem(418, "teapot"), page, ok(b"[]"))
        with self.assertRaises(tg.Problem) as new:
            tidegate.app("chat").count(EVERYBODY)
        self.assertEqual((type(new.exception), new.exception.kind), (tg.Problem, "teapot"))
        for status in (502, 200):
            with self.assertRaises(tg.UnexpectedAnswer) as error:
                tidegate.app("chat").count(EVERYBODY)
            self.assertEqual(error.exception.status, status)
        script.end()

    def test_addresses_that_are_none_are_refused(self) -> None:
        for url in ("127.0.0.1:7480", "ftp://x", "http://", "http://a:b@x", "http://x?y"):
            with self.assertRaises(ValueError, msg=url):
                Tidegate(url, "tg_x")

    def test_messages_are_text_bytes_or_raw(self) -> None:
        with self.assertRaises(TypeError):
            Tidegate("http://127.0.0.1:1", "tg_x").app("chat").send(EVERYBODY, {"no": 1})  # type: ignore[arg-type]


if __name__ == "__main__":
    unittest.main()
