"""The server, and when a request is tried again."""

from __future__ import annotations

import http.client
import json
import os
import random
import ssl
import time
from types import TracebackType
from typing import Any, Dict, Mapping, Optional, Type, Union

from ._app import App
from ._errors import Busy, KeyInUse, NoGateway, Problem, TooFast, UnexpectedAnswer, Unreachable, error_of
from ._pool import Pool

#: The largest answer that is read, in bytes.
_ANSWER_BYTES_MAX = 256 * 1024 * 1024
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
#: Nothing was done, and it may go well in a moment.
_PASSING = (Busy, TooFast, KeyInUse, NoGateway)


class Tidegate:
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
        body: Optional[Mapping[str, Any]],
        *,
        key: Optional[str] = None,
        again: bool,
    ) -> Dict[str, Any]:
        """`again`: it does no harm if it is carried out twice, or it has a key."""
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        content = None
        if body is not None:
            content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8")
            headers["Content-Type"] = "application/json"
        until = time.monotonic() + self._timeout
        tries = 0
        while True:
            try:
                return self._ask_once(method, path, content, headers, until)
            except (Problem, Unreachable) as error:
                pause = _pause(error, tries, again)
                if pause is None or tries >= self._retries or time.monotonic() + pause >= until:
                    raise
                tries += 1
                time.sleep(pause)

    def _ask_once(
        self, method: str, path: str, content: Optional[bytes], headers: Dict[str, str], until: float
    ) -> Dict[str, Any]:
        try:
            connection = self._pool.take(until)
        except TimeoutError as error:
            raise Unreachable(str(error), sent=False) from error
        kept, sent = False, False
        try:
            left = max(0.001, until - time.monotonic())
            if connection.sock is None:
                connection.timeout = left
                connection.connect()
                left = max(0.001, until - time.monotonic())
            connection.sock.settimeout(left)
            sent = True
            try:
                connection.request(method, self._pool.prefix + path, body=content, headers=headers)
            except (BrokenPipeError, ConnectionResetError):
                pass  # A body that is too large is not read to its end, and the answer may be there.
            with connection.getresponse() as response:
                answer = response.read(_ANSWER_BYTES_MAX + 1)
                kept = len(answer) <= _ANSWER_BYTES_MAX and not response.will_close
            return _understood(response, answer)
        except (OSError, http.client.HTTPException) as error:
            what = "was cut off" if sent else "could not be made"
            raise Unreachable(f"the connection to the server {what}: {error or type(error).__name__}", sent) from error
        finally:
            if kept:
                self._pool.give_back(connection)
            else:
                self._pool.drop(connection)


def _understood(response: http.client.HTTPResponse, answer: bytes) -> Dict[str, Any]:
    if len(answer) > _ANSWER_BYTES_MAX:
        raise UnexpectedAnswer(response.status, f"the answer has more than {_ANSWER_BYTES_MAX} bytes: ask for less")
    if response.status != 200:
        wait = _seconds(response.getheader("Retry-After"))
        raise error_of(response.status, response.getheader("Content-Type"), answer, wait)
    try:
        document = json.loads(answer)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise error_of(response.status, None, answer)
    return document


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
