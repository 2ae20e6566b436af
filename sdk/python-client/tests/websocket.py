"""A client of an app, as far as the tests need one: it reads texts, and the connect event of the app under test."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from typing import Any, Optional, Tuple
from urllib.parse import urlsplit


class WebSocket:
    """Connected to `ws://host:port/`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET / HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._socket.sendall(head.encode())
        self._file = self._socket.makefile("rb")
        assert b" 101 " in self._file.readline()
        while self._file.readline() not in (b"\r\n", b""):
            pass
        hello: Any = json.loads(self.text())
        assert hello["event"] == "connect"
        self.id: str = hello["client"]

    def text(self) -> str:
        """The next message, as text."""
        opcode, payload = self.frame()
        assert opcode == 1, (opcode, payload)
        return payload.decode()

    def frame(self) -> Tuple[int, bytes]:
        """The next frame: its kind and what it holds."""
        first, length = self._read(2)
        if length == 126:
            (length,) = struct.unpack("!H", self._read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._read(8))
        return first & 0x0F, self._read(length)

    def closed(self) -> Tuple[int, str]:
        """The code and the reason that the connection is closed with."""
        opcode, payload = self.frame()
        assert opcode == 8, (opcode, payload)
        return struct.unpack("!H", payload[:2])[0], payload[2:].decode()

    def ended(self) -> bool:
        """Whether the connection ends without a close frame."""
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _read(self, length: int) -> bytes:
        read: Optional[bytes] = self._file.read(length)
        assert read is not None and len(read) == length, "the connection ended"
        return read
