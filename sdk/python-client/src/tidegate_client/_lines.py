"""An answer of lines that come one by one."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any, Dict, Optional

from ._errors import UnexpectedAnswer, Unreachable
from ._pool import Connection, Pool

#: The server says something every five seconds: a silence that long is a connection that is lost.
_SILENCE_MAX_S = 30.0
#: The longest line that is read: a report tells of every slot.
_LINE_BYTES_MAX = 64 * 1024 * 1024


class Lines:
    """Lines of JSON, of one connection that is given up with the last one."""

    def __init__(
        self,
        pool: Pool,
        connection: Connection,
        response: http.client.HTTPResponse,
        stream: socket.socket,
        until: float,
    ) -> None:
        self._pool = pool
        self._connection: Optional[Connection] = connection
        self._response = response
        self._until = until
        # A connection that ends with its answer has forgotten it.
        self._stream = stream

    def next(self) -> Dict[str, Any]:
        """The next line. Its caller knows which one is the last."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise self._lost("the time was up")
        try:
            self._stream.settimeout(min(left, _SILENCE_MAX_S))
            line = self._response.readline(_LINE_BYTES_MAX + 1)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._lost(str(error) or type(error).__name__) from error
        if not line.endswith(b"\n"):
            raise self._lost("it ended before the last line" if len(line) <= _LINE_BYTES_MAX else "a line is too long")
        try:
            document = json.loads(line)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            self.close()
            raise UnexpectedAnswer(200, f"a line that is none of Tidegate's API: {line[:200]!r}. Is a proxy in between?")
        return document

    def close(self) -> None:
        """Hears no more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._response.close()
            self._pool.drop(connection)

    def _lost(self, why: str) -> Unreachable:
        self.close()
        return Unreachable(f"the deployment goes on unheard, for the connection was lost: {why}", sent=True)
