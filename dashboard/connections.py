"""Connections: how many there may be, and how long and how large the head of a request.

uvicorn bounds idle connections and nothing before: a client that opens a thousand connections and sends each header
byte by byte (slowloris) would hold them for ever. Bodies have their own limits where they are read.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
RETRY_AFTER_S = 5


class BoundedProtocol(HttpToolsProtocol):
    """One connection of ours; the limits are class attributes, set by `bounded_protocol`."""

    most_connections = 1_000
    head_timeout_s = 10.0

    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does this only for sockets that were made with IPPROTO_TCP, which ours was not. Without it an answer's
        # second packet waits 40 ms for the client's delayed acknowledgement of the first.
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.most_connections:
            self._refuse(503, "Service Unavailable", "too many connections", f"retry-after: {RETRY_AFTER_S}\r\n")
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.transport.is_closing() or self._handed_over():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(431, "Request Header Fields Too Large", f"the head exceeds {MOST_HEAD_BYTES} bytes")
        elif self.timeout_keep_alive_task is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()  # bytes that begin no request must not keep a connection open

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._await_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._cancel()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._too_slow)

    def _handed_over(self) -> bool:
        """The connection has become a WebSocket: another protocol speaks on it now."""
        return self.transport.get_protocol() is not self

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._handed_over():
            return
        self._refuse(408, "Request Timeout", f"no request within {self.head_timeout_s:g} s")

    def _cancel(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int, phrase: str, reason: str, more: str = "") -> None:
        self._cancel()
        if self.transport.is_closing():
            return
        body = f"{reason}\n".encode()
        head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}{more}connection: close\r\n\r\n".encode() + body)
        self.transport.close()


def bounded_protocol(most_connections: int, head_timeout_s: float) -> type[Any]:
    """The protocol class with these limits, for `uvicorn.Config(http=...)`."""
    return type(
        "ConsoleProtocol",
        (BoundedProtocol,),
        {"most_connections": most_connections, "head_timeout_s": head_timeout_s},
    )
