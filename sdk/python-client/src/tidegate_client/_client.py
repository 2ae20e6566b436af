"""The server, and when a request is tried again."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import ssl
import time
from types import TracebackType
from typing import Any, Callable, Dict, Optional, Type, TypeVar, Union

from ._app import App
from ._lines import Lines
from ._operator import Body, Operator
from ._errors import Busy, KeyInUse, NoGateway, Problem, TooFast, UnexpectedAnswer, Unreachable, error_of
from ._pool import Connection, Pool

T = TypeVar("T")
#: What is done with a good answer; the connection is its own from then on.
Answered = Callable[[Connection, http.client.HTTPResponse, socket.socket], T]
#: The largest answer that is read, in bytes.
_ANSWER_BYTES_MAX = 256 * 1024 * 1024
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
#: Nothing was done, and it may go well in a moment.
_PASSING = (Busy, TooFast, KeyInUse, NoGateway)


class Tidegate(Operator):
    """A server with Tidegate's HTTP API: a register, or a node that runs everything.

    `timeout` is for a whole call in seconds, pauses and further tries included. `retries` is how often a request is tried
    again: when it was not carried out, or when nothing is done twice. `connections` is how many requests are under way at
    most; further threads wait. `tls` is for `https://` addresses with a certificate authority of your own. Proxies that the
    environment names are not used.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        connections: int = 16,
        tls: Optional[ssl.SSLContext] = None,
    ) -> None:
        self._pool = Pool(url, connections, tls)
        self._token = token.strip()
        self._timeout = timeout
        self._retries = retries

    @classmethod
    def from_environment(cls) -> Tidegate:
        """The server of `TIDEGATE_API` (http://127.0.0.1:7480 if there is none) with the token of `TIDEGATE_TOKEN`."""
        token = os.environ.get("TIDEGATE_TOKEN")
        if not token:
            raise ValueError("TIDEGATE_TOKEN is not set: make a token with `tidegate tokens create TENANT`")
        return cls(os.environ.get("TIDEGATE_API", "http://127.0.0.1:7480"), token)

    def app(self, name: str, tenant: str = "default") -> App:
        """An app, to push to and to ask about."""
        return App(self, tenant, name)

    def openapi(self) -> Dict[str, Any]:
        """The server's description of its API, OpenAPI 3.1."""
        return self._ask("GET", "/openapi.json", None, again=True)

    def close(self) -> None:
        """Closes idle connections; they open again if need be."""
        self._pool.close()

    def __enter__(self) -> Tidegate:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: Body,
        *,
        key: Optional[str] = None,
        again: bool,
        timeout: Optional[float] = None,
    ) -> Dict[str, Any]:
        """`again`: it does no harm if it is carried out twice, or it has a key."""
        until = time.monotonic() + (self._timeout if timeout is None else timeout)
        return self._tried(_Request(method, path, body, "application/json", key, again), until, self._understood)

    def _watch(self, method: str, path: str, body: Body, timeout: float) -> Lines:
        """Lines of JSON that come one by one. The request is never given twice."""
        until = time.monotonic() + timeout
        request = _Request(method, path, body, "application/x-ndjson", None, False)

        def lines(connection: Connection, response: http.client.HTTPResponse, stream: socket.socket) -> Lines:
            return Lines(self._pool, connection, response, stream, until)

        return self._tried(request, until, lines)

    def _tried(self, request: _Request, until: float, answered: Answered[T]) -> T:
        tries = 0
        while True:
            try:
                return self._try(request, until, answered)
            except (Problem, Unreachable) as error:
                pause = _pause(error, tries, request.again)
                if pause is None or tries >= self._retries or time.monotonic() + pause >= until:
                    raise
                tries += 1
                time.sleep(pause)

    def _try(self, request: _Request, until: float, answered: Answered[T]) -> T:
        try:
            connection = self._pool.take(until)
        except TimeoutError as error:
            raise Unreachable(str(error), sent=False) from error
        sent, owned = False, True
        try:
            left = max(0.001, until - time.monotonic())
            if connection.sock is None:
                connection.timeout = left
                connection.connect()
                left = max(0.001, until - time.monotonic())
            connection.sock.settimeout(left)
            sent = True
            try:
                headers = {"Authorization": f"Bearer {self._token}", **request.headers}
                connection.request(request.method, self._pool.prefix + request.path, body=request.content, headers=headers)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                pass  # A body that is far too large is not read to its end, and the answer may be there.
            stream = connection.sock
            response = connection.getresponse()
            if response.status // 100 == 2:
                owned = False
                return answered(connection, response, stream)
            with response:
                answer = _read(response)
            wait = _seconds(response.getheader("Retry-After"))
            if not response.will_close:
                owned = False
                self._pool.give_back(connection)
            raise error_of(response.status, response.getheader("Content-Type"), answer, wait)
        except (OSError, http.client.HTTPException) as error:
            what = "was cut off" if sent else "could not be made"
            raise Unreachable(f"the connection to the server {what}: {error or type(error).__name__}", sent) from error
        finally:
            if owned:
                self._pool.drop(connection)

    def _understood(self, connection: Connection, response: http.client.HTTPResponse, _: socket.socket) -> Dict[str, Any]:
        kept = False
        try:
            with response:
                answer = _read(response)
            kept = not response.will_close
        finally:
            if kept:
                self._pool.give_back(connection)
            else:
                self._pool.drop(connection)
        try:
            document = json.loads(answer)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise error_of(response.status, None, answer)
        return document


class _Request:
    """A request, which may be sent several times."""

    def __init__(self, method: str, path: str, body: Body, accept: str, key: Optional[str], again: bool) -> None:
        self.method, self.path, self.again = method, path, again
        self.headers = {"Accept": accept}
        self.content: Optional[bytes] = None
        if isinstance(body, bytes):
            self.content = body
            self.headers["Content-Type"] = "application/wasm"
        elif body is not None:
            self.content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8")
            self.headers["Content-Type"] = "application/json"
        if key is not None:
            self.headers["Idempotency-Key"] = key


def _read(response: http.client.HTTPResponse) -> bytes:
    answer = response.read(_ANSWER_BYTES_MAX + 1)
    if len(answer) > _ANSWER_BYTES_MAX:
        raise UnexpectedAnswer(response.status, f"the answer has more than {_ANSWER_BYTES_MAX} bytes: ask for less")
    return answer


def _seconds(header: Optional[str]) -> float:
    return min(float(header), _LONGEST_PAUSE_S) if header is not None and header.isdigit() else 0.0


def _pause(error: Union[Problem, Unreachable], tries: int, again: bool) -> Optional[float]:
    """How long to wait before the next try, in seconds; None: there must be none."""
    after = 0.0
    if isinstance(error, Unreachable):
        if (error.sent and not again) or isinstance(error.__cause__, ssl.SSLCertVerificationError):
            return None
    elif isinstance(error, _PASSING):
        after = error.retry_after
    else:
        return None
    longest: float = min(_FIRST_PAUSE_S * 2**tries, _LONGEST_PAUSE_S)
    # Half of it is chance, so that many who were refused together do not come back together.
    return after + longest * (0.5 + random.random() / 2)
