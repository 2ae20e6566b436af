"""Connections that are used again, by any number of threads."""

from __future__ import annotations

import http.client
import os
import select
import ssl
import threading
import time
import weakref
from typing import List, Optional, Tuple
from urllib.parse import urlsplit

#: The server closes a connection that is silent for 60 s: one that may be about to end is not used again.
_IDLE_MAX_S = 45.0


Connection = http.client.HTTPConnection


class Pool:
    """At most `size` connections to one server; who finds none free waits."""

    def __init__(self, url: str, size: int, tls: Optional[ssl.SSLContext]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of Tidegate's API: it begins with http:// or https://")
        if parts.username or parts.query or parts.fragment:
            raise ValueError(f"the address of Tidegate's API is scheme, host, port and perhaps a path: {url!r}")
        if size < 1:
            raise ValueError("a pool has at least one connection")
        self.prefix = parts.path.rstrip("/")
        self._host, self._port = parts.hostname, parts.port
        self._size = size
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(size)
        self._idle: List[Tuple[http.client.HTTPConnection, float]] = []
        if hasattr(os, "register_at_fork"):
            pool = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forget(pool))

    def take(self, until: float) -> http.client.HTTPConnection:
        """A connection that is open, or one that opens when it is first used. Raises TimeoutError."""
        if not self._room.acquire(timeout=max(0.0, until - time.monotonic())):
            raise TimeoutError(f"all {self._size} connections were busy: raise `connections`")
        while True:
            with self._lock:
                idle = self._idle.pop() if self._idle else None
            if idle is None:
                return self._new()
            kept, since = idle
            if time.monotonic() - since < _IDLE_MAX_S and not _has_ended(kept):
                return kept
            kept.close()

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        """Keeps a connection whose answer was read to its end, for whoever comes next."""
        if connection.sock is not None:
            with self._lock:
                self._idle.append((connection, time.monotonic()))
        self._room.release()

    def drop(self, connection: http.client.HTTPConnection) -> None:
        """Closes a connection that is in an unknown state."""
        connection.close()
        self._room.release()

    def close(self) -> None:
        """Closes what is idle. What is in use is closed by who uses it or kept as before."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _new(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port)

    # After a fork the connections are the parent's, and so may be a lock that is held.
    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(self._size)
        self._idle = []


def _forget(pool: weakref.ReferenceType[Pool]) -> None:
    alive = pool()
    if alive is not None:
        alive._forget()


# Nothing is to be read of an idle connection but its end.
def _has_ended(connection: http.client.HTTPConnection) -> bool:
    if connection.sock is None:
        return True
    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(connection.sock, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([connection.sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True
